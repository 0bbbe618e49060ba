"""Power that goes at the worst moment: whatever was not synced is lost, and with `power` nothing acknowledged is.

SQLite writes through a VFS that keeps, beside each file, what of it had been synced. At each acknowledgement the power
goes: a store is put together of that alone, opened, and must hold all that was acknowledged by then. `process` is the
control: it promises nothing of the kind, and must lose.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.errors import NotFound
from tests.journals import journal_in

ROOT = Path(__file__).parents[3]
WRITE = """
import asyncio, json, sys
from pathlib import Path
import apsw
from gateway.config import JournalSettings
from gateway.journal import GroupAppender, LoopAppender, open_ledger, open_writer
from gateway.records import Address, OutcomeRecord
from tests.journals import draft

store, cuts, durability = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
synced = {}

class Recording(apsw.VFSFile):
    def __init__(self, name, flags):
        super().__init__("unix", name, flags)
        self._path = Path(name if isinstance(name, str) else name.filename())

    def xSync(self, flags):
        super().xSync(flags)
        synced[self._path] = self._path.read_bytes()

class Vfs(apsw.VFS):
    def __init__(self):
        super().__init__("recording", "unix", makedefault=True)

    def xOpen(self, name, flags):
        return Recording(name, flags)

    def xDelete(self, name, sync_dir):
        super().xDelete(name, sync_dir)
        synced.pop(Path(name), None)

vfs = Vfs()
acknowledged = []

def power_goes(what):
    acknowledged.append(what)
    for path, content in list(synced.items()):  # of one moment: the checkpointer syncs meanwhile
        if path.name.endswith(("-shm", "-journal")):
            continue
        copy = cuts / str(len(acknowledged)) / path.relative_to(store)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(content)

async def main():
    settings = JournalSettings(durability=durability, checkpoint_s=0.02)
    ledger = open_ledger(store, settings)
    writer = open_writer(store, settings, ledger, kind="gateway", now_us=0)
    loop = asyncio.get_running_loop()
    appender = GroupAppender(writer, loop) if durability == "power" else LoopAppender(writer)
    for n in range(1, 31):
        answered = loop.create_future()
        appender.append([draft(at_us=n, city="x" * (97 * n % 5_000))], answered.set_result)
        fate = await answered
        power_goes(["chunk", fate[0]])
        if n % 3 == 0:
            ledger.append_outcomes(1, n, [OutcomeRecord("loans", Address(1, n, 0), None, 0, n, "me", n, True, n)])
            power_goes(["outcome", n])
        await asyncio.sleep(0.002)  # checkpoints happen in between, at some moments or others
    appender.close()
    ledger.close()

asyncio.run(main())
print(json.dumps(acknowledged))
"""


def missing_after_each_cut(tmp_path: Path, durability: str) -> list[int]:
    """For each acknowledgement: how many of those up to it are gone when the power goes then."""
    store, cuts = tmp_path / "store", tmp_path / "cuts"
    command = [sys.executable, "-c", WRITE, str(store), str(cuts), durability]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=ROOT).stdout
    acknowledged = json.loads(said)
    assert len(acknowledged) == 40
    return [_n_missing(cuts / str(n), acknowledged[:n]) for n in range(1, len(acknowledged) + 1)]


def _n_missing(store: Path, acknowledged: list[tuple[str, int]]) -> int:
    n_missing = 0
    store.mkdir(parents=True, exist_ok=True)
    with journal_in(store) as journal:
        reader, ledger = journal.reader(), journal.ledger()
        for what, number in acknowledged:
            if what == "outcome":
                n_missing += [each.outcome for each in ledger.outcomes_of_chunk(1, number)] != [number]
                continue
            try:
                n_missing += reader.chunk(1, number).at_us != number
            except NotFound:
                n_missing += 1
    return n_missing


def test_with_power_nothing_acknowledged_is_lost_whenever_the_power_goes(tmp_path: Path) -> None:
    assert missing_after_each_cut(tmp_path, "power") == [0] * 40


def test_the_control_that_survives_a_killed_process_only_loses_by_the_power(tmp_path: Path) -> None:
    assert sum(n > 0 for n in missing_after_each_cut(tmp_path, "process")) > 20


@pytest.mark.slow
@pytest.mark.parametrize("again", range(25))
def test_a_thousand_cuts(tmp_path: Path, again: int) -> None:
    assert missing_after_each_cut(tmp_path, "power") == [0] * 40
