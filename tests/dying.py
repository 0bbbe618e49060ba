"""A retrain worker that is killed: the cycle of a store in a process of its own, ended with -9 at a chosen time."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

from tests.stage import staged

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.dying"])


def run_cycle(folder: Path, dies_after_s: float | None) -> int | None:
    """Let a new worker close and decide all that is due; returns its exit code, -9 where it was killed before.

    `dies_after_s`: from its first step on, which may be in the middle of any transaction.
    """
    worker = PROCESSES.Process(target=_close_all, args=(folder, dies_after_s))
    worker.start()
    worker.join()
    code = worker.exitcode
    worker.close()
    return code


def _close_all(folder: Path, dies_after_s: float | None) -> None:
    with staged(folder) as stage:
        cycle = stage.cycle()
        if dies_after_s is not None:
            threading.Thread(target=_die, args=(dies_after_s,), daemon=True).start()
        stage.close_all(cycle)


def _die(after_s: float) -> None:
    time.sleep(after_s)
    os.kill(os.getpid(), signal.SIGKILL)
