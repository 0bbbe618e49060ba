"""A process that is killed before any one of its writes, or in the middle of it, leaves whole states only."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.chunk import STATUSES
from gateway.config import JournalSettings
from gateway.journal import Ledger, open_ledger, open_writer
from tests.journals import LAYOUT, Journal, draft, journal_in, mirrored, record, seqs
from tests.killing import killed_copies

Killed = Callable[[Callable[[Path], None], bool], Iterator[tuple[Journal, int]]]
SETTINGS = JournalSettings(checkpoint_s=3_600)


@contextmanager
def acting(store: Path) -> Iterator[tuple[Ledger, Callable[[int], None]]]:
    """The ledger of a store, and what acknowledges a step: it is said in a file."""
    said = os.open(store / "said", os.O_CREAT | os.O_WRONLY)

    def acknowledge(seq: int) -> None:
        os.write(said, b"%d\n" % seq)

    yield open_ledger(store, SETTINGS), acknowledge


def append(store: Path) -> None:
    with acting(store) as (ledger, acknowledge):
        writer = open_writer(store, SETTINGS, ledger, kind="gateway", now_us=0)
        for seq in (1, 2, 3):
            writer.append([draft(at_us=seq, associations=["a"], city="x" * 3_000)])
            acknowledge(seq)


def mirror(store: Path) -> None:
    with acting(store) as (ledger, acknowledge):
        for seq in (1, 2, 3):
            statuses = ["scored", "lag"] if seq % 2 else ["scored", "scored"]
            before = {1: seq - 1} if seq > 1 else {}
            ledger.store_shadow("loans", 2, [mirrored(1, seq, statuses)], LAYOUT, before, {1: seq})
            acknowledge(seq)


def take_outcomes(store: Path) -> None:
    with acting(store) as (ledger, acknowledge):
        for seq in (1, 2, 3):
            ledger.append_outcomes(1, seq, [record(value, value) for value in (10 * seq, 10 * seq + 1)])
            acknowledge(seq)


@pytest.fixture
def killed(tmp_path: Path) -> Killed:
    """Does something again and again, killed at every write; yields each store with the last step acknowledged."""

    def stores(act: Callable[[Path], None], made: bool) -> Iterator[tuple[Journal, int]]:
        template = tmp_path / "template"
        template.mkdir()
        if made:
            Journal(template).ledger().close()
        for store in killed_copies(act, template, tmp_path / "killed"):
            with journal_in(store) as journal:
                said = (store / "said").read_text().split() if (store / "said").exists() else []
                yield journal, int(said[-1]) if said else 0

    return stores


def test_a_writer_killed_at_any_write_loses_nothing_acknowledged_and_disturbs_no_reader(
    killed: Killed,
) -> None:
    outcomes = []
    for journal, acknowledged in killed(append, True):
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
    killed: Killed,
) -> None:
    outcomes = []
    for journal, acknowledged in killed(mirror, True):
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
    killed: Killed,
) -> None:
    outcomes = []
    for journal, acknowledged in killed(take_outcomes, True):
        ledger = journal.ledger()
        done = ledger.outcome_cursor().get(1, 0)
        assert acknowledged <= done <= acknowledged + 1
        known = [record.outcome for record in ledger.outcomes_of_chunk(1, 1)]
        assert known == [value for seq in range(1, done + 1) for value in (10 * seq, 10 * seq + 1)]
        outcomes.append(done)
    assert set(outcomes) == {0, 1, 2, 3}


def test_a_ledger_killed_while_it_is_made_can_be_made_again(
    killed: Killed,
) -> None:
    n_stores = 0
    for journal, _ in killed(take_outcomes, False):
        writer = journal.writer()
        assert writer.append([draft()]) == range(1, 2)
        n_stores += 1
    assert n_stores > 20
