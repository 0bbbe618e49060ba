"""Whatever works on the files of a store, killed at each of its writes in turn.

`python -m tests.killing ACT TEMPLATE FOLDER EVERY` makes the copies; each try is a fork of one process that has
everything imported, and SQLite writes through a VFS that kills it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import apsw

import gateway.journal.cold_file  # noqa: F401  # what is imported before the first fork is no step of it

ROOT = Path(__file__).parents[1]
MOST_STEPS = 2_000
_EVENTS = {"open", "os.rename", "os.remove", "os.mkdir"}


def killed_copies(act: Callable[[Path], None], template: Path, folder: Path, every: int = 1) -> list[Path]:
    """Copies of a store, one for each step of `act` (every n-th) at which it was killed, and one where it was not.

    `act`: a function of a module of tests. A step is a write of SQLite, which happens by half, or a file that is
    opened, renamed, removed or made.
    """
    told = f"{act.__module__}:{act.__name__}", str(template), str(folder), str(every)
    subprocess.run([sys.executable, "-m", __name__, *told], check=True, cwd=ROOT)
    return sorted(folder.iterdir(), key=lambda path: int(path.name))


class _Steps:
    """Counts, and kills."""

    def __init__(self, dies_at: int) -> None:
        self._left = dies_at

    def take(self, half: Callable[[], None] = lambda: None) -> None:
        self._left -= 1
        if self._left == 0:
            half()
            os.kill(os.getpid(), signal.SIGKILL)


class _Dying(apsw.VFSFile):
    def __init__(self, steps: _Steps, name: Any, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        self._steps = steps

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802  # apsw's names
        write = super().xWrite
        self._steps.take(lambda: write(data[: len(data) // 2], offset))
        write(data, offset)


class _Vfs(apsw.VFS):
    def __init__(self, steps: _Steps) -> None:
        super().__init__("dying", "unix", makedefault=True)
        self._steps = steps

    def xOpen(self, name: Any, flags: list[int]) -> _Dying:  # noqa: N802
        return _Dying(self._steps, name, flags)


def _main(act: Callable[[Path], None], template: Path, folder: Path, every: int) -> None:
    for dies_at in range(1, MOST_STEPS, every):
        store = folder / str(dies_at)
        shutil.copytree(template, store)
        pid = os.fork()
        if pid == 0:
            _be_killed(act, store, _Steps(dies_at))
            os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0:
            return


def _be_killed(act: Callable[[Path], None], store: Path, steps: _Steps) -> None:
    sys.addaudithook(lambda event, _: steps.take() if event in _EVENTS else None)
    vfs = _Vfs(steps)  # lives as long as the files that are opened through it
    act(store)
    del vfs


if __name__ == "__main__":
    module, _, function = sys.argv[1].partition(":")
    _main(getattr(import_module(module), function), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
