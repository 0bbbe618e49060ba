"""Whatever works on the files of a store, killed at each of its writes in turn."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
_KILL = """
import os, shutil, signal, sys
from pathlib import Path
import apsw
import gateway.journal.compaction, gateway.journal.erasure, gateway.journal.cold_file

template, folder, act, every = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
EVENTS = {"open", "os.rename", "os.remove", "os.mkdir"}
n_steps = 0

def step(half=lambda: None):
    global n_steps
    n_steps += 1
    if n_steps == dies_at:
        half()
        os.kill(os.getpid(), signal.SIGKILL)

class Dying(apsw.VFSFile):
    def __init__(self, name, flags):
        super().__init__("unix", name, flags)

    def xWrite(self, data, offset):
        step(lambda: super(Dying, self).xWrite(data[: len(data) // 2], offset))
        super().xWrite(data, offset)

class Vfs(apsw.VFS):
    def __init__(self):
        super().__init__("dying", "unix", makedefault=True)

    def xOpen(self, name, flags):
        return Dying(name, flags)

for dies_at in range(1, 2_000, every):
    store = folder / str(dies_at)
    shutil.copytree(template, store)
    pid = os.fork()
    if pid == 0:
        sys.addaudithook(lambda event, _: step() if event in EVENTS else None)
        vfs = Vfs()
        exec(act)
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0:
        sys.exit()
"""


def killed_copies(template: Path, folder: Path, act: str, every: int) -> list[Path]:
    """Copies of a store, one for each step of `act` (every n-th) at which it was killed, and one where it was not.

    `act`: Python that works on `store`. A step is a write of SQLite, which happens by half, or a file that is opened,
    renamed, removed or made; each try is a fork of one process that has everything imported.
    """
    subprocess.run([sys.executable, "-c", _KILL, template, folder, act, str(every)], check=True, cwd=ROOT)
    return list(folder.iterdir())
