"""The parts of a bench: bodies, memory, processor time, processes, and wrk."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil  # type: ignore[import-untyped]  # it ships no types
import pytest

from bench import processes
from bench.bodies import bodies, requests
from bench.cpu import cpu_us, difference
from bench.load_wrk import written, wrk
from bench.memory import pss_bytes, read
from bench.models import FEATURES
from tests.bench.server import scripted

ROWS = np.array([[0.1 * i + row for i in range(len(FEATURES))] for row in range(3)], np.float32)
BURNING = "import sys\nprint('on', flush=True)\nwhile True: pass"


def test_every_wire_says_the_same_row() -> None:
    (tensor, *_), (named, *_), (plain, *_) = (
        [json.loads(body) for body in bodies(ROWS, wire)] for wire in ("tensor", "named", "rows")
    )
    assert tensor["inputs"][0]["shape"] == [1, 30]
    assert tensor["inputs"][0]["data"] == list(named["inputs"].values()) == plain["inputs"][0]
    assert list(named["inputs"]) == list(FEATURES)
    assert np.array_equal(np.array(plain["inputs"], np.float32), ROWS[:1])


def test_requests_are_whole() -> None:
    (request,) = requests("/p", [b"{}"], {"x-understudy-test": "1"})
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.splitlines()[0] == b"POST /p HTTP/1.1"
    assert b"content-length: 2" in head
    assert b"x-understudy-test: 1" in head
    assert body == b"{}"


def test_pss_is_read_in_bytes() -> None:
    assert read("Rss:    10 kB\nPss:    7 kB\nPss_Dirty:  3 kB\n") == 7_168
    assert read("") == 0
    assert pss_bytes({os.getpid(): "me", 2**22 + 1: "nobody"})["me"] > 1_000_000


def test_a_process_is_seen_using_cpu_is_pinned_and_is_stopped() -> None:
    child = subprocess.Popen([sys.executable, "-c", BURNING], stdout=subprocess.PIPE)
    assert child.stdout is not None
    try:
        child.stdout.readline()
        core = min(os.sched_getaffinity(0))
        processes.pin(child.pid, core)
        assert os.sched_getaffinity(child.pid) == {core}
        roles = processes.roles(child.pid)
        assert roles == {child.pid: processes.SERVER}
        before = cpu_us(roles)
        while not difference(before, cpu_us(roles))[processes.SERVER]:
            pass  # it burns until the clock of /proc has moved
    finally:
        processes.stop(child.pid)
        child.stdout.close()
    child.wait()
    assert not psutil.pid_exists(child.pid)


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_wrk_sends_the_bodies_and_counts_what_is_no_answer(tmp_path: Path) -> None:
    core = max(os.sched_getaffinity(0))
    with scripted({5: 503}) as server:
        found = wrk(server.address, "/p", written(tmp_path, "b", [b"{}", b"[]"]), connections=2, seconds=1, core=core)
        assert server.n_requests >= found.n_requests > 10
    assert found.n_bad_status == found.n_errors == 1
    assert 0 < found.p50_us <= found.p99_us <= found.max_us
    assert 0 < found.busy < 1.5
