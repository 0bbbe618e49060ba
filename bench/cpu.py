"""CPU time of a system's processes, by role, from /proc."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

TICK_US = 1e6 / os.sysconf("SC_CLK_TCK")


def cpu_us(roles: Mapping[int, str]) -> dict[str, float]:
    """Microseconds that were used by each role's processes so far, with those of their ended children.

    Args:
        roles: process id → role, as `processes.roles` returns it.
    """
    used: Counter[str] = Counter()
    for pid, role in roles.items():
        with suppress(OSError):  # it has ended; its parent has its time
            used[role] += _ticks(Path(f"/proc/{pid}/stat").read_text())
    return {role: ticks * TICK_US for role, ticks in used.items()}


def difference(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """What was used in between; a role that was not there before started at nothing."""
    return {role: after[role] - before.get(role, 0.0) for role in after}


def _ticks(stat: str) -> int:
    """User and system time, own and of waited-for children: fields 14-17 of proc(5), counted after the name."""
    return sum(map(int, stat.rpartition(")")[2].split()[11:15]))
