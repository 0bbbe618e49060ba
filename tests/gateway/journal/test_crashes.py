"""A process that is killed before any one of its writes, or in the middle of it, leaves whole states only.

Each try is a fork of one process that has everything imported; SQLite writes through a VFS that kills it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.chunk import STATUSES
from tests.journals import Journal, draft, journal_in, seqs

KILL = """
import os, shutil, signal, sys
from pathlib import Path
import apsw
from gateway.config import JournalSettings
from gateway.journal import open_ledger, open_writer
from gateway.records import Address, OutcomeRecord
from tests.journals import LAYOUT, draft, mirrored

what, template, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
settings = JournalSettings(checkpoint_s=3_600)
n_writes = 0

class Dying(apsw.VFSFile):
    def __init__(self, name, flags):
        super().__init__("unix", name, flags)

    def xWrite(self, data, offset):
        global n_writes
        n_writes += 1
        if n_writes == dies_at:
            super().xWrite(data[: len(data) // 2], offset)
            os.kill(os.getpid(), signal.SIGKILL)
        super().xWrite(data, offset)

class Vfs(apsw.VFS):
    def __init__(self):
        super().__init__("dying", "unix", makedefault=True)

    def xOpen(self, name, flags):
        return Dying(name, flags)

def record(value):
    return OutcomeRecord("loans", Address(1, 1, 0), None, 0, value, "default", value, True, value)

def act(store, said):
    ledger = open_ledger(store, settings)
    if what == "append":
        writer = open_writer(store, settings, ledger, kind="gateway", now_us=0)
        for seq in (1, 2, 3):
            writer.append([draft(at_us=seq, associations=["a"], city="x" * 3_000)])
            os.write(said, b"%d\\n" % seq)
    elif what == "mirror":
        for seq in (1, 2, 3):
            statuses = ["scored", "lag"] if seq % 2 else ["scored", "scored"]
            ledger.store_shadow(
                "loans", 2, [mirrored(1, seq, statuses)], LAYOUT, {1: seq - 1} if seq > 1 else {}, {1: seq}
            )
            os.write(said, b"%d\\n" % seq)
    else:
        for seq in (1, 2, 3):
            ledger.append_outcomes(1, seq, [record(10 * seq), record(10 * seq + 1)])
            os.write(said, b"%d\\n" % seq)

for dies_at in range(1, 1_000):
    store = folder / str(dies_at)
    shutil.copytree(template, store)
    said = os.open(store / "said", os.O_CREAT | os.O_WRONLY)
    pid = os.fork()
    if pid == 0:
        vfs = Vfs()
        act(store, said)
        os._exit(0)
    os.close(said)
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0:
        sys.exit()
"""


@pytest.fixture
def killed(tmp_path: Path) -> Callable[[str, bool], Iterator[tuple[Journal, int]]]:
    """Does something again and again, killed at every write; yields each store with the last step acknowledged."""

    def stores(what: str, made: bool) -> Iterator[tuple[Journal, int]]:
        template, folder = tmp_path / "template", tmp_path / "killed"
        template.mkdir()
        if made:
            Journal(template).ledger().close()
        root = Path(__file__).parents[3]
        subprocess.run([sys.executable, "-c", KILL, what, template, folder], check=True, cwd=root)
        for store in sorted(folder.iterdir(), key=lambda path: int(path.name)):
            with journal_in(store) as journal:
                said = (store / "said").read_text().split()
                yield journal, int(said[-1]) if said else 0

    return stores


def test_a_writer_killed_at_any_write_loses_nothing_acknowledged_and_disturbs_no_reader(
    killed: Callable[[str, bool], Iterator[tuple[Journal, int]]],
) -> None:
    outcomes = []
    for journal, acknowledged in killed("append", True):
        reader = journal.reader()
        alive = journal.writer()
        alive.append([draft(at_us=77)])
        for state in reader.writers():
            read = seqs(reader, state.writer)
            assert read == list(range(1, state.last_seq + 1))
            if state.writer != alive.writer:
                assert not state.alive
                assert acknowledged <= state.last_seq <= acknowledged + 1
                assert [reader.chunk(state.writer, seq).at_us for seq in read] == read
                assert len(reader.associated("loans", "a")) == len(read)
        outcomes.append(acknowledged)
    assert set(outcomes) == {0, 1, 2, 3}
    assert len(outcomes) > 20


def test_chunks_cursor_and_counts_agree_wherever_the_mirror_is_killed(
    killed: Callable[[str, bool], Iterator[tuple[Journal, int]]],
) -> None:
    outcomes = []
    for journal, acknowledged in killed("mirror", True):
        ledger = journal.ledger()
        done = ledger.cursor("loans", 2).get(1, 0)
        assert acknowledged <= done <= acknowledged + 1
        stored = [ledger.shadow_chunk(1, seq, 2) for seq in (1, 2, 3)]
        assert [chunk is not None for chunk in stored] == [seq <= done for seq in (1, 2, 3)]
        statuses = [STATUSES[code] for chunk in stored if chunk is not None for code in chunk.status]
        count = ledger.mirror_count("loans", 2, range(1, 2))
        assert (count.eligible, count.scored, count.failed, count.skipped) == (
            len(statuses), statuses.count("scored"), statuses.count("lag"), 0,
        )  # fmt: skip
        outcomes.append(done)
    assert set(outcomes) == {0, 1, 2, 3}
    assert len(outcomes) > 8


def test_a_receipt_of_outcomes_is_stored_whole_or_not_at_all(
    killed: Callable[[str, bool], Iterator[tuple[Journal, int]]],
) -> None:
    outcomes = []
    for journal, acknowledged in killed("outcomes", True):
        ledger = journal.ledger()
        done = ledger.outcome_cursor().get(1, 0)
        assert acknowledged <= done <= acknowledged + 1
        known = [record.outcome for record in ledger.outcomes_of_chunk(1, 1)]
        assert known == [value for seq in range(1, done + 1) for value in (10 * seq, 10 * seq + 1)]
        outcomes.append(done)
    assert set(outcomes) == {0, 1, 2, 3}


def test_a_ledger_killed_while_it_is_made_can_be_made_again(
    killed: Callable[[str, bool], Iterator[tuple[Journal, int]]],
) -> None:
    n_stores = 0
    for journal, _ in killed("outcomes", False):
        writer = journal.writer()
        assert writer.append([draft()]) == range(1, 2)
        n_stores += 1
    assert n_stores > 20
