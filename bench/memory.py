"""Memory of a system's processes, by role: proportional set size, so that what they share counts once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path


def pss_bytes(roles: Mapping[int, str]) -> dict[str, int]:
    """Bytes of each role's processes, now.

    Args:
        roles: process id → role, as `processes.roles` returns it.

    A process that has ended, or that does not let itself be looked at, is not counted.
    """
    used: Counter[str] = Counter()
    for pid, role in roles.items():
        with suppress(OSError):
            used[role] += read(Path(f"/proc/{pid}/smaps_rollup").read_text())
    return dict(used)


def read(rollup: str) -> int:
    """The `Pss:` line of a smaps_rollup, in bytes; 0 without one."""
    for line in rollup.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1_024
    return 0
