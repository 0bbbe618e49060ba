"""What sees to it that no process of a training outlives the one that started it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time

_PR_SET_PDEATHSIG = 1
"""Of prctl(2), on Linux: the signal that a process is sent when the thread that started it ends."""


def end_group_with_parent() -> None:
    """Have the group of this process end when the other end of its stdin is closed; nobody else reads that any more.

    A thread sees to the group. Native code may keep every thread from running for hours: the process itself is then
    ended by the kernel, where that can be asked for it.
    """
    pipe, nothing = os.dup(0), os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)

    def watch() -> None:
        os.read(pipe, 1)
        os.killpg(0, signal.SIGKILL)  # with the processes of a search

    _end_by_the_kernel()
    threading.Thread(target=watch, name="parent", daemon=True).start()


def end_with(parent: int) -> None:
    """In a process of a search: end soon after the one that started it, which may be killed while this one is busy."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    _end_by_the_kernel()
    threading.Thread(target=watch, name="parent", daemon=True).start()


def _end_by_the_kernel() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
