"""When nothing can be written nothing is acknowledged, and afterwards appends go on without a gap or a double."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest

from gateway.errors import JournalUnavailable
from gateway.records import Address, OutcomeRecord
from tests.journals import LAYOUT, Journal, draft, mirrored, seqs

FAIL = """
import json, os, resource, sys
from pathlib import Path
import apsw
from gateway.config import JournalSettings
from gateway.errors import JournalUnavailable
from gateway.journal import open_ledger, open_writer
from gateway.records import Address, OutcomeRecord
from tests.journals import draft

how, store, durability = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
failing = ""

class Failing(apsw.VFSFile):
    def __init__(self, name, flags):
        super().__init__("unix", name, flags)

    def xRead(self, amount, offset):
        if failing == "everything":
            raise apsw.IOError("no disk")
        return super().xRead(amount, offset)

    def xWrite(self, data, offset):
        if failing == "everything":
            raise apsw.IOError("no disk")
        super().xWrite(data, offset)

    def xSync(self, flags):
        if failing:
            raise apsw.IOError("no sync")
        super().xSync(flags)

class Vfs(apsw.VFS):
    def __init__(self):
        super().__init__("failing", "unix", makedefault=True)

    def xOpen(self, name, flags):
        return Failing(name, flags)

def fail(on):
    global failing
    if how == "full":
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        sizes = [p.stat().st_size for p in store.rglob("*.db*") if not p.name.endswith("-shm")]
        resource.setrlimit(resource.RLIMIT_FSIZE, (max(sizes) + 9_000 if on else hard, hard))
    else:
        failing = how if on else ""

vfs = Vfs()
settings = JournalSettings(durability=durability, checkpoint_s=3_600)
ledger = open_ledger(store, settings)
writer = open_writer(store, settings, ledger, kind="gateway", now_us=0)
acknowledged, refused = [], []

def append(*names):
    drafts = [draft(associations=[name], city="x" * 3_000) for name in names]
    try:
        seqs = writer.append(drafts)
    except JournalUnavailable as error:
        refused.append([*names, str(error)])
    else:
        acknowledged.extend(zip(seqs, names))

def outcome(value):
    record = OutcomeRecord("loans", Address(1, 1, 0), None, 0, "x" * 3_000 + str(value), "default", value, True, value)
    try:
        ledger.append_outcomes(1, value, [record])
    except JournalUnavailable as error:
        refused.append([value, str(error)])

append("a"), append("b", "c"), outcome(1)
for n in range(2):
    fail(True)
    for i in range(4):
        append(f"one {n}.{i}"), append(f"two {n}.{i}", f"three {n}.{i}"), outcome(100 + 10 * n + i)
    try:
        writer.heartbeat(10 + n)
    except JournalUnavailable as error:
        refused.append(["heartbeat", str(error)])
    fail(False)
    append(f"after {n}"), append(f"later {n}", f"last {n}"), outcome(200 + n)
writer.heartbeat(99)
writer.close()
ledger.close()
print(json.dumps({"writer": writer.writer, "acknowledged": acknowledged, "refused": refused}))
"""


@pytest.mark.parametrize(
    ("how", "durability"),
    [("full", "process"), ("everything", "process"), ("full", "power"), ("everything", "power"), ("sync", "power")],
)
def test_a_disk_that_fails_for_a_while_costs_refusals_and_nothing_else(
    how: str, durability: str, journal: Journal
) -> None:
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", FAIL, how, str(journal.store), durability]
    said: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=root).stdout)
    refused = [name for *names, _ in said["refused"] for name in names]
    assert len([name for name in refused if isinstance(name, str)]) > 5
    assert len([name for name in refused if isinstance(name, int)]) > 2
    assert not [name for name in refused if "after" in str(name) or "last" in str(name) or str(name).startswith("20")]
    assert all("journal_unavailable" in why for *_, why in said["refused"])
    reader, number = journal.reader(), said["writer"]
    stored = {seq: (reader.chunk(number, seq).requests.associations or [""])[0] for seq in seqs(reader, number)}
    assert list(stored) == list(range(1, len(stored) + 1))
    assert dict(said["acknowledged"]) == stored
    assert len(set(stored.values())) == len(stored)
    assert not set(stored.values()) & set(refused)
    for seq, name in stored.items():
        assert reader.associated("loans", str(name)) == [(Address(number, seq, 0), 0)]
    assert reader.writers()[0].watermark_us == 99
    known = {record.observed_at_us for record in journal.ledger().outcomes_of_chunk(1, 1)}
    assert known >= {1, 200, 201}
    assert not known & set(refused)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Somebody else writes to this file, and does not end."""
    db = apsw.Connection(str(path))
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        db.close(True)


def test_a_locked_predictions_file_refuses_within_its_patience_and_goes_on_afterwards(journal: Journal) -> None:
    writer, reader = journal.writer(busy_s=0.005), journal.reader()
    writer.append([draft()])
    with locked(journal.predictions / f"{writer.writer}.1.db"):
        for drafts in ([draft(at_us=1)], [draft(at_us=1), draft(at_us=1)], [draft(at_us=1, associations=["a"])]):
            with pytest.raises(JournalUnavailable, match="journal_unavailable: busy"):
                writer.append(drafts)
        with pytest.raises(JournalUnavailable):
            writer.heartbeat(5)
        assert seqs(reader, writer.writer) == [1]
    assert writer.append([draft(at_us=2), draft(at_us=2)]) == range(2, 4)
    assert [reader.chunk(writer.writer, seq).at_us for seq in seqs(reader, writer.writer)] == [0, 2, 2]
    assert reader.writers()[0].watermark_us == 2
    assert reader.associated("loans", "a") == []


def test_a_locked_ledger_refuses_everything_within_its_patience_and_goes_on_afterwards(journal: Journal) -> None:
    ledger = journal.ledger(outcomes_busy_s=0.005)
    record = OutcomeRecord("loans", Address(1, 1, 0), None, 0, 1, "default", 1, True, 1)
    journal.predictions.mkdir()
    with locked(ledger.path):
        with pytest.raises(JournalUnavailable):
            ledger.append_outcomes(1, 1, [record])
        with pytest.raises(JournalUnavailable):
            ledger.store_shadow("loans", 2, [mirrored(1, 1, ["scored"])], LAYOUT, {}, {1: 1})
        with pytest.raises(JournalUnavailable):
            ledger.new_writer("gateway", 0, journal.predictions)
        assert ledger.outcomes_of_chunk(1, 1) == []
        assert ledger.cursor("loans", 2) == {}
    assert ledger.append_outcomes(1, 1, [record]) == ["new"]
    ledger.store_shadow("loans", 2, [mirrored(1, 1, ["scored"])], LAYOUT, {}, {1: 1})
    assert ledger.cursor("loans", 2) == {1: 1}


def test_a_folder_that_is_gone_refuses_and_names_the_file(journal: Journal) -> None:
    writer = journal.writer()
    moved = journal.predictions.rename(journal.store / "elsewhere")
    with pytest.raises(JournalUnavailable, match=rf"{writer.writer}\.1\.db"):
        writer.append([draft()])
    moved.rename(journal.predictions)
    assert writer.append([draft()]) == range(1, 2)
