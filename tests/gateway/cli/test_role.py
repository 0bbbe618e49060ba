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
before = AUTOGROUP.read_text().split()
give_way()
print(os.nice(0), *before, *AUTOGROUP.read_text().split())
"""


@pytest.mark.skipif(not AUTOGROUP.exists(), reason="the kernel does not group by sessions")
@pytest.mark.parametrize("own_session", [True, False])
def test_the_session_is_niced_only_where_it_is_the_workers_own(own_session: bool) -> None:
    command = [sys.executable, "-c", GIVE_WAY]
    root = Path(__file__).parents[3]
    ran = subprocess.run(
        command, start_new_session=own_session, stdout=subprocess.PIPE, text=True, check=True, cwd=root
    )
    nice, *before, _, _, after = ran.stdout.split()
    assert int(nice) >= NICE
    assert (after == str(NICE)) if own_session else (after == before[-1])  # a terminal stays as it was
