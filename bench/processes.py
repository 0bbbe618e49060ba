"""The processes of a system: which there are, what each is for, and where they may run."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # it ships no types

SERVER = "server"
"""The role of every process of a system that is not ours."""


def roles(root: int) -> dict[int, str]:
    """Process id → role, for a process and all of its descendants.

    Ours are `supervisor`, `gateway`, `shadow`, `challenger` (the children of shadow) and `retrain`.
    """
    parent = psutil.Process(root)
    found = {root: SERVER}
    for child in parent.children():
        role = _told(child)
        if role is not None:
            found[root] = "supervisor"
        found[child.pid] = role or SERVER
        with suppress(psutil.NoSuchProcess):
            below = "challenger" if role == "shadow" else role or SERVER
            found |= {each.pid: below for each in child.children(recursive=True)}
    return found


def pin(pid: int, core: int) -> None:
    """Have every thread of a process run on one core only; what it starts later inherits that."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(task.name), {core})


def stop(root: int, patience_s: float = 15.0) -> None:
    """Ask a process to end; after that, kill what is left of it and of its descendants."""
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(root)
        below = parent.children(recursive=True)
        parent.terminate()
        _, left = psutil.wait_procs([parent, *below], timeout=patience_s)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=patience_s)


def _told(process: psutil.Process) -> str | None:
    """The role that `understudy serve` told a child on its command line."""
    with suppress(psutil.NoSuchProcess, json.JSONDecodeError):
        last = (process.cmdline() or [""])[-1]
        if last.startswith("{"):
            role: str | None = json.loads(last).get("role")
            return role
    return None
