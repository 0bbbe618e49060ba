"""How the files are kept: synced as promised, their logs bounded, made once, and never believed when damaged."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from gateway.chunk import encode
from gateway.errors import JournalDamaged
from gateway.journal.sqlite import check_library, checkpoint, connect
from gateway.journal.writer import SCHEMA
from tests.journals import LAYOUT, PATIENCE_S, Journal, draft, mirrored, seqs, until

ROOT = Path(__file__).parents[3]

COUNT_SYNCS = """
import json, sys
from pathlib import Path
import apsw
from gateway.config import JournalSettings
from gateway.journal import open_ledger, open_writer
from gateway.records import OutcomeRecord
from tests.journals import draft

synced = []

class Counting(apsw.VFSFile):
    def __init__(self, name, flags):
        super().__init__("unix", name, flags)
        self._name = Path(name if isinstance(name, str) else name.filename()).name

    def xSync(self, flags):
        synced.append(self._name)
        super().xSync(flags)

class Vfs(apsw.VFS):
    def __init__(self):
        super().__init__("counting", "unix", makedefault=True)

    def xOpen(self, name, flags):
        return Counting(name, flags)

vfs = Vfs()
store, settings = Path(sys.argv[1]), JournalSettings(durability=sys.argv[2], checkpoint_s=3_600)
ledger = open_ledger(store, settings)
writer = open_writer(store, settings, ledger, kind="gateway", now_us=0)
writer.append([draft()])
n_synced = []
for n in range(5):
    before = len(synced)
    writer.append([draft()] * (n + 1))
    ledger.append_outcomes(1, n + 1, [OutcomeRecord("loans", None, "a", 0, n, "default", n, True, n)])
    n_synced.append(synced[before:])
print(json.dumps(n_synced))
"""


@pytest.mark.parametrize(("durability", "expected"), [("process", []), ("power", ["1.1.db-wal", "journal.db-wal"])])
def test_each_commit_is_synced_once_with_power_and_never_with_process(
    journal: Journal, durability: str, expected: list[str]
) -> None:
    command = [sys.executable, "-c", COUNT_SYNCS, str(journal.store), durability]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=ROOT).stdout
    assert json.loads(said) == [expected] * 5


@pytest.mark.parametrize(("durability", "synchronous"), [("process", 1), ("power", 2)])
def test_synchronous_is_normal_or_full_and_only_the_owner_checkpoints(
    tmp_path: Path, durability: str, synchronous: int
) -> None:
    db = connect(tmp_path / "x.db", SCHEMA, durability=durability, busy_s=0.005)  # type: ignore[arg-type]
    assert db.pragma("synchronous") == synchronous
    assert db.pragma("journal_mode") == "wal"
    assert db.pragma("wal_autocheckpoint") == 0
    db.close()


def test_the_library_is_one_that_cannot_corrupt_a_wal() -> None:
    check_library()


def wal_bytes(journal: Journal, name: str) -> int:
    path = journal.predictions / f"{name}-wal"
    return path.stat().st_size if path.exists() else 0


def test_the_write_ahead_log_is_bounded_while_readers_read(journal: Journal) -> None:
    limit = 300_000
    writer = journal.writer(checkpoint_s=0.005, max_wal_bytes=limit, busy_s=PATIENCE_S)
    control = journal.writer(checkpoint_s=3_600, max_wal_bytes=limit)
    reader = journal.reader()
    for n in range(1, 301):
        for one in (writer, control):
            one.append([draft(city="x" * 10_000, at_us=n)])
        assert reader.chunk(writer.writer, n).at_us == n

    def files() -> list[str]:  # several, where the reader was caught holding a log and the writer went on in a new file
        return [path.name for path in journal.predictions.glob(f"{writer.writer}.*.db")]

    until(lambda: all(wal_bytes(journal, name) <= limit for name in files()), "the logs are cut back")
    assert wal_bytes(journal, f"{control.writer}.1.db") > 3_000_000  # the control must not be bounded
    assert sum((journal.predictions / name).stat().st_size for name in files()) > 2_000_000
    assert seqs(reader, writer.writer) == seqs(reader, control.writer) == list(range(1, 301))


def test_a_checkpoint_copies_the_log_into_the_file_and_cuts_it_only_above_its_limit(journal: Journal) -> None:
    writer = journal.writer(checkpoint_s=3_600)
    for _ in range(20):
        writer.append([draft(city="x" * 10_000)])
    path = journal.predictions / f"{writer.writer}.1.db"
    size, log = path.stat().st_size, wal_bytes(journal, path.name)
    checkpoint(path, max_wal_bytes=log)
    assert path.stat().st_size > size + 200_000
    assert wal_bytes(journal, path.name) == log
    checkpoint(path, max_wal_bytes=log - 1)
    assert wal_bytes(journal, path.name) == 0
    checkpoint(path, max_wal_bytes=0)
    checkpoint(path.with_name("nowhere.db"), max_wal_bytes=0)
    assert not path.with_name("nowhere.db").exists()


def test_a_checkpoint_waits_for_nobody(journal: Journal) -> None:
    writer = journal.writer(checkpoint_s=3_600)
    writer.append([draft(city="x" * 10_000)])
    path = journal.predictions / f"{writer.writer}.1.db"
    reading, writing = apsw.Connection(str(path)), apsw.Connection(str(path))
    reading.execute("BEGIN; SELECT count(*) FROM chunk").get  # noqa: B018 (holds a snapshot)
    writing.execute("BEGIN IMMEDIATE")
    log = wal_bytes(journal, path.name)
    checkpoint(path, max_wal_bytes=0)
    assert wal_bytes(journal, path.name) == log
    reading.close(True)
    writing.close(True)
    checkpoint(path, max_wal_bytes=0)
    assert wal_bytes(journal, path.name) == 0


def test_a_closed_writer_leaves_no_log_behind_even_while_somebody_reads(journal: Journal) -> None:
    writer, reader = journal.writer(checkpoint_s=3_600), journal.reader()
    writer.append([draft(city="x" * 10_000)])
    assert seqs(reader, writer.writer) == [1]
    writer.close()
    assert wal_bytes(journal, f"{writer.writer}.1.db") == 0
    assert seqs(reader, writer.writer) == [1]


OPEN = """
import sys
from pathlib import Path
from gateway.config import JournalSettings
from gateway.journal import open_ledger, open_writer
from tests.journals import draft

print("ready", flush=True)
for name in sys.stdin:
    store, settings = Path(name.strip()), JournalSettings()
    ledger = open_ledger(store, settings)
    writer = open_writer(store, settings, ledger, kind="gateway", now_us=0)
    writer.append([draft()])
    print(writer.writer, flush=True)
    writer.close()
    ledger.close()
"""


def test_processes_that_start_together_in_an_empty_store_all_get_a_journal(tmp_path: Path) -> None:
    n_processes, n_stores = 3, 8
    command = [sys.executable, "-c", OPEN]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    children = [subprocess.Popen(command, text=True, cwd=ROOT, **pipes) for _ in range(n_processes)]  # type: ignore[call-overload]
    try:
        assert [child.stdout.readline() for child in children] == ["ready\n"] * n_processes
        for n in range(n_stores):
            for child in children:
                child.stdin.write(f"{tmp_path / str(n)}\n")
                child.stdin.flush()
            assert sorted(int(child.stdout.readline()) for child in children) == [1, 2, 3]
    finally:
        for child in children:
            child.communicate()
    assert [child.returncode for child in children] == [0] * n_processes


def test_a_flipped_byte_of_a_stored_chunk_is_found_when_it_is_read(journal: Journal) -> None:
    writer, ledger = journal.writer(), journal.ledger()
    writer.append([draft(at_us=n, city="x" * 50, associations=["a"]) for n in (1, 2, 3)])
    ledger.store_shadow("loans", 2, [mirrored(writer.writer, 1, ["scored"])], LAYOUT, {}, {writer.writer: 1})
    journal.close()
    flip(journal.predictions / f"{writer.writer}.1.db", encode(draft(at_us=2, city="x" * 50, associations=["a"]).chunk))
    flip(journal.store / "journal.db", encode(mirrored(writer.writer, 1, ["scored"]).chunk))
    reader, ledger = journal.reader(), journal.ledger()
    assert [reader.chunk(writer.writer, seq).at_us for seq in (1, 3)] == [1, 3]
    for read in (
        lambda: reader.chunk(writer.writer, 2),
        lambda: reader.associated("loans", "a"),
        lambda: ledger.shadow_chunk(writer.writer, 1, 2),
        lambda: ledger.shadow_chunks(writer.writer, 1),
    ):
        with pytest.raises(JournalDamaged, match="checksum"):
            read()


def flip(path: Path, stored: bytes) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(stored) + len(stored) // 2] ^= 1
    path.write_bytes(content)


def test_a_destroyed_page_is_called_damage(journal: Journal) -> None:
    writer = journal.writer()
    writer.append([draft(city="x" * 5_000) for _ in range(20)])
    journal.close()
    path = journal.predictions / f"{writer.writer}.1.db"
    content = path.read_bytes()
    path.write_bytes(content[:4_096] + b"\xee" * (len(content) - 4_096))
    with pytest.raises(JournalDamaged, match=path.name):
        journal.reader().heads(writer.writer, 0, 10)
    path.write_bytes(b"\xee" * len(content))
    other = journal.writer()
    other.append([draft()])
    gone, there = journal.reader().writers()
    assert gone.is_unreadable
    assert path.name in (gone.problem or "")
    assert (there.last_seq, there.problem) == (1, None)  # nobody else's predictions are less readable by it
