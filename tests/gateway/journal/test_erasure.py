"""Erasure: not a byte is left of what was sent, and everything else is as it was."""

from __future__ import annotations

import random
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.chunk import encode
from gateway.errors import JournalDamaged
from gateway.journal import Draft
from gateway.journal.cold import is_stub
from gateway.journal.compaction import compact
from gateway.journal.erasure import Erased, erase
from gateway.journal.join import OutcomeJoin
from gateway.journal.sqlite import CLEAN, opened, rows
from gateway.journal.survey import survey
from gateway.records import Address
from registry.types import Policy
from tests.faults import Faults
from tests.journals import Journal, draft, journal_in, record
from tests.killing import killed_copies

LATER_US = 2**60
DAY_US = 86_400_000_000
POLICY = Policy(maturity_s=0).association
WHO, WHAT = "customer-4711-of-the-bank", "a street that nobody else lives in"
"""An id, and what was sent with it."""


def lived_in(store: Path, *, cold: bool = False) -> None:
    """Two writers, each with two days of chunks of three rows; WHO is in two chunks of each, with two outcomes."""
    with journal_in(store) as journal:
        ledger = journal.ledger()
        for _ in range(2):
            with closing(journal.writer()) as writer:
                for n in range(8):
                    names = [f"a{n}", WHO if n in (2, 6) else None, f"b{n}"]
                    made = draft(
                        3, at_us=n * DAY_US // 4, starts=(0, 2), associations=names, city=WHAT if n in (2, 6) else "x"
                    )
                    facts = replace(
                        made.chunk.requests,
                        principals=["bob", "eve"],
                        traces=[f"t-{WHO}" if n in (2, 6) else "t1", "t2"],
                    )
                    writer.append([Draft(replace(made.chunk, requests=facts), made.layout)])
        ledger.append_outcomes(1, 1, [record(1, 5, to=WHO), record(0, 5, to="a2")])
        ledger.append_outcomes(1, 2, [record(0, 9 * DAY_US, to=WHO), record(1, 5, to=Address(1, 3, 1))])
        if cold:
            assert compact(store, LATER_US, least_bytes=0).n_chunks == 16


def left_of(store: Path, *texts: str) -> list[str]:
    """The files in which some of these bytes are, in logs too."""
    files = [path for path in store.rglob("*") if path.is_file() and not path.name.endswith("-shm")]
    return sorted(path.name for path in files if any(text.encode() in path.read_bytes() for text in texts))


def joined(journal: Journal) -> list[Any]:
    """Every row with the outcome that counts, whatever the row is called."""
    reader, ledger = journal.reader(), journal.ledger()
    join = OutcomeJoin(reader, ledger)
    return [
        (seq, row, found.outcome, found.observed_at_us)
        for writer in (1, 2)
        for seq in range(1, 9)
        for row, found in join.effective(writer, seq, reader.chunk(writer, seq), POLICY).items()
    ]


@pytest.mark.parametrize("cold", [False, True])
def test_nothing_of_it_is_left_and_all_else_is_as_it_was(tmp_path: Path, cold: bool) -> None:
    store = tmp_path / "store"
    lived_in(store, cold=cold)
    assert left_of(store, WHO)
    with journal_in(store) as journal:
        reader = journal.reader()
        before = {(w, seq): reader.chunk(w, seq) for w in (1, 2) for seq in range(1, 9)}
        outcomes = joined(journal)
        assert erase(store, "loans", WHO) == Erased(n_rows=4, n_chunks=4, n_neighbours=8, n_outcomes=2)
        assert left_of(store, WHAT) == []
        assert left_of(store, WHO) == []

        reader = journal.reader()
        assert reader.associated("loans", WHO) == []
        named = {(name or "") for w, seq in before for name in reader.chunk(w, seq).requests.associations or ()}
        (name,) = (name for name in named if name.startswith("erased-"))
        assert [at for at, _ in reader.associated("loans", name)] == [
            Address(1, 3, 1), Address(2, 3, 1), Address(1, 7, 1), Address(2, 7, 1),
        ]  # fmt: skip
        for (writer, seq), chunk in before.items():
            now = reader.chunk(writer, seq)
            if seq not in (3, 7):
                assert now == chunk
                continue
            assert (now.inputs, now.erased, now.outputs) == (None, True, chunk.outputs)
            assert now.requests.associations == [f"a{seq - 1}", name, f"b{seq - 1}"]
            assert (now.requests.principals, now.requests.traces) == (["", "eve"], [None, "t2"])
        assert joined(journal) == outcomes
        assert survey(store).faults == []


def test_ids_are_told_apart_in_full_and_by_model(journal: Journal) -> None:
    with closing(journal.writer()) as writer:
        writer.append([draft(2, associations=["ab", "abc"]), draft(associations=["ab"], model="cards")])
    journal.ledger().append_outcomes(1, 1, [record(1, 5, to="ab"), record(1, 5, to="ab", model="cards")])
    assert erase(journal.store, "loans", "ab") == Erased(1, 1, 1, 1)
    assert erase(journal.store, "loans", "ab") == Erased()
    reader = journal.reader()
    assert (len(reader.associated("loans", "abc")), len(reader.associated("cards", "ab"))) == (1, 1)
    assert len(journal.ledger().outcomes_of_association("cards", "ab")) == 1


def test_an_id_that_only_outcomes_have_is_erased_too(journal: Journal) -> None:
    journal.writer()
    journal.ledger().append_outcomes(1, 1, [record(1, 5, to=WHO)])
    assert erase(journal.store, "loans", WHO).n_outcomes == 1
    assert left_of(journal.store, WHO) == []


def test_whoever_has_read_it_a_moment_ago_can_read_it_anew(journal: Journal) -> None:
    """A server keeps the latest chunks; and a reader that holds the stub of a file which has just gone looks again."""
    with closing(journal.writer()) as writer:
        writer.append([draft(associations=[WHO], city=WHAT), draft(at_us=1, city="x")])
    compact(journal.store, LATER_US, least_bytes=0)
    reader = journal.reader()
    assert reader.chunk(1, 1).inputs is not None
    (db,) = reader.connections(1, 0)
    stubs = rows(db, "SELECT seq, model, at_us, body FROM chunk ORDER BY seq")
    assert all(is_stub(stored[-1]) for stored in stubs)
    erase(journal.store, "loans", WHO)
    assert reader.chunk(1, 1).inputs is not None  # the control
    assert reader.chunk(1, 1, anew=True).inputs is None
    assert reader.unpacked(db, stubs[1]) == draft(at_us=1, city="x").chunk


def test_pages_that_were_split_keep_nothing(journal: Journal) -> None:
    """An index that grew in no order: of a page that is split a part moves, and must not stay where it was, too."""
    chance = random.Random(1)
    names = [f"{chance.randrange(10**12):012d}-{WHO}" for _ in range(4_000)]
    with closing(journal.ledger()) as ledger:
        for n in range(0, len(names), 40):
            ledger.append_outcomes(1, n + 1, [record(1, 5, to=name) for name in names[n : n + 40]])
    erased = names[:300]
    for name in erased:
        assert erase(journal.store, "loans", name).n_outcomes == 1
    content = (journal.store / "journal.db").read_bytes()
    assert [name for name in erased if name.encode() in content] == []
    assert all(name.encode() in content for name in names[300:])


def test_a_file_from_before_is_made_clean_first(journal: Journal) -> None:
    """It may hold what was moved or deleted long ago."""
    with closing(journal.writer()) as writer:
        writer.append([draft(associations=[WHO], city=WHAT)])
    journal.ledger().append_outcomes(1, 1, [record(1, 5, to=WHO)])
    for path in (journal.store / "journal.db", journal.predictions / "1.1.db"):
        with closing(opened(path)) as db:  # as it was, and as it then deleted
            db.execute("PRAGMA application_id = 0; CREATE TABLE was (what TEXT)")
            db.execute("INSERT INTO was VALUES (?); DROP TABLE was", (f"{WHAT} {WHO}",))
    journal.close()
    assert left_of(journal.store, WHO) == ["1.1.db", "journal.db"]
    erase(journal.store, "loans", WHO)
    assert left_of(journal.store, WHO, WHAT) == []
    with closing(opened(journal.store / "journal.db")) as db:
        assert db.pragma("application_id") == CLEAN


def test_a_log_that_is_being_read_is_told(journal: Journal) -> None:
    writer = journal.writer(checkpoint_s=3_600)
    writer.append([draft(associations=[WHO], city=WHAT)])
    with closing(opened(journal.predictions / "1.1.db")) as slow:
        cursor = slow.execute("SELECT seq FROM chunk UNION ALL SELECT seq FROM chunk")
        next(cursor)
        made = erase(journal.store, "loans", WHO, patience_s=0.05)
        assert made.held == ["1.1.db"]
        assert left_of(journal.store, WHAT) == ["1.1.db-wal"]
        cursor.close()
    assert writer.append([draft(at_us=1)]) == range(2, 3)  # the writer goes on below it
    assert survey(journal.store).faults == [
        "journal.db: 1 erasures of 'loans' were begun and not finished: erase again"
    ]
    assert erase(journal.store, "loans", WHO) == Erased()
    assert left_of(journal.store, WHAT, WHO) == []
    assert survey(journal.store).faults == []


def test_what_cannot_be_read_cannot_be_erased_and_is_told_until_it_is(tmp_path: Path) -> None:
    store = tmp_path / "store"
    lived_in(store, cold=True)
    (first, *_) = sorted((store / "cold").rglob("1.1.*.parquet"))
    content = first.read_bytes()
    first.write_bytes(content[:200] + b"x" + content[201:])
    with pytest.raises(JournalDamaged):
        erase(store, "loans", WHO)
    assert "journal.db: 1 erasures of 'loans' were begun and not finished: erase again" in survey(store).faults
    first.write_bytes(content)
    assert erase(store, "loans", WHO).n_chunks == 4
    assert survey(store).faults == []


# --- killed


def erase_who(store: Path) -> None:
    erase(store, "loans", WHO)


def erased_killed_at_every(nth: int, folder: Path) -> int:
    """Erase again and again, killed at every n-th step, and then once more; returns how often it was killed."""
    template, stores = folder / "template", folder / "killed"
    lived_in(template, cold=True)
    with journal_in(template) as journal:
        outcomes = joined(journal)
    left = killed_copies(erase_who, template, stores, nth)
    for store in left:
        with journal_in(store) as journal:
            assert joined(journal) == outcomes or survey(store).faults
        erase(store, "loans", WHO)
        assert left_of(store, WHO, WHAT) == []
        assert survey(store).faults == []
        with journal_in(store) as journal:
            assert joined(journal) == outcomes
        shutil.rmtree(store)
    return len(left) - 1


def test_killed_at_some_step_the_same_call_goes_on(tmp_path: Path) -> None:
    assert erased_killed_at_every(23, tmp_path) > 5


@pytest.mark.slow
def test_killed_at_any_step_the_same_call_goes_on(tmp_path: Path, kept: Faults) -> None:
    n = erased_killed_at_every(1, tmp_path)
    kept.record(
        "kill -9 of an erasure, at each of its writes",
        n,
        f"{n:,} times the same call went on; then 0 bytes left in files and logs, and every outcome at its row",
        "without it the bytes are there, in pages that were split too",
    )


def test_a_chunk_is_not_rewritten_twice(journal: Journal) -> None:
    with closing(journal.writer()) as writer:
        writer.append([draft(2, associations=["a", WHO])])
    erase(journal.store, "loans", WHO)
    assert erase(journal.store, "loans", "a") == Erased(1, 1, 0, 0)  # its inputs went with those of its neighbour
    chunk = journal.reader().chunk(1, 1)
    assert encode(chunk)
    assert all((name or "").startswith("erased-") for name in chunk.requests.associations or ())
