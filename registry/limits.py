"""What a limited child may use, and how it gives up the rest. Set by the child itself, before anything is loaded.

A limit that the system does not have, or does not accept, is left out: the child says which ones hold.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING or sys.platform != "win32":
    import resource

_N_FILES_TO_START = 64


class ChildLimits(Struct, frozen=True):
    """The limits of one child; None leaves that one out.

    `cpu_s` is of the whole life of the child, so that it suits admission and not a challenger that serves for weeks.
    """

    memory_bytes: int | None = 2**30
    cpu_s: int | None = None
    nice: int = 19
    max_reply_bytes: int = 2**28
    max_output_bytes: int = 4_096


def hold(limits: ChildLimits) -> tuple[str, ...]:
    """Takes the limits on; returns the names of those that hold from now on."""
    wanted: list[tuple[str, int, int]] = [
        ("no core dump", resource.RLIMIT_CORE, 0),
        ("no file written", resource.RLIMIT_FSIZE, 0),
        ("few files", resource.RLIMIT_NOFILE, _N_FILES_TO_START),
    ]
    if limits.memory_bytes is not None:
        wanted.append(("memory", resource.RLIMIT_AS, limits.memory_bytes))
    if limits.cpu_s is not None:
        wanted.append(("processor", resource.RLIMIT_CPU, limits.cpu_s))
    return tuple(name for name, kind, value in wanted if _hold(kind, value))


def settle(limits: ChildLimits) -> tuple[str, ...]:
    """What can only be given up once all modules are imported; returns the names of those that hold from now on.

    No file and no socket can be opened any more. The priority sinks only now, as on a busy machine a start at the
    lowest one takes longer than anybody waits.
    """
    held = ("no file opened",) if _hold(resource.RLIMIT_NOFILE, 0) else ()
    if limits.nice == 0:
        return held
    os.nice(limits.nice)
    return (*held, "nice")


def _hold(kind: int, value: int) -> bool:
    # the processor's hard limit lies a second further: reached at once, it would kill without saying why
    hard = value + 1 if kind == resource.RLIMIT_CPU else value
    try:
        resource.setrlimit(kind, (value, hard))
    except (OSError, ValueError):
        return False
    return True
