"""A worker gives way to others, and takes nobody with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gateway.cli.role import AUTOGROUP, NICE

GIVE_WAY = """
import os
from gateway.cli.role import AUTOGROUP, give_way
before = AUTOGROUP.read_text().strip()  # "/autogroup-12 nice 0"; empty where the session is in no group
give_way()
for said in os.nice(0), before, AUTOGROUP.read_text().strip():
    print(said)
"""


@pytest.mark.skipif(not AUTOGROUP.exists(), reason="the kernel does not group by sessions")
@pytest.mark.parametrize("own_session", [True, False])
def test_the_session_is_niced_only_where_it_is_the_workers_own(own_session: bool) -> None:
    command = [sys.executable, "-c", GIVE_WAY]
    root = Path(__file__).parents[3]
    ran = subprocess.run(
        command, start_new_session=own_session, stdout=subprocess.PIPE, text=True, check=True, cwd=root
    )
    nice, before, after = ran.stdout.split("\n")[:3]
    assert int(nice) >= NICE
    niced = own_session and before
    assert after.endswith(f" nice {NICE}") if niced else after == before  # a terminal stays as it was
