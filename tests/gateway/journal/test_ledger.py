"""The shared file: each shadow chunk once, with its cursor and its account; each outcome once."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.chunk import SKIPPED, STATUSES, Layout
from gateway.errors import Conflict, JournalUnavailable, SettingsRefused
from gateway.journal import Ledger
from gateway.records import Address, Cursor, OutcomeRecord
from registry.types import OutputTensor
from tests.journals import LAYOUT, Journal, journal_in, mirrored, record


def fates(ledger: Ledger, *records: OutcomeRecord) -> list[str]:
    return [ledger.append_outcomes(1, seq, [one])[0] for seq, one in enumerate(records, 1)]


def test_a_shadow_chunk_is_stored_with_its_cursor_and_its_account(journal: Journal) -> None:
    ledger, other = journal.ledger(), journal.ledger()
    first, second = mirrored(1, 1, ["scored", "error"]), mirrored(1, 4, ["paused", "lag"], generation=2)
    ledger.store_shadow("loans", 2, [first, second], LAYOUT, {}, {1: 5})
    assert other.cursor("loans", 2) == {1: 5}
    assert other.shadow_chunk(1, 1, 2) == first.chunk
    assert other.shadow_chunks(1, 4) == {2: second.chunk}
    assert other.layout(second.chunk.layout) == LAYOUT
    assert other.shadow_chunk(1, 2, 2) is None
    assert other.shadow_chunk(1, 1, 3) is None
    assert other.cursor("loans", 3) == other.cursor("cars", 2) == {}
    count = other.mirror_count("loans", 2, range(1, 3))
    assert (count.eligible, count.scored, count.failed, count.skipped) == (4, 1, 2, 1)
    assert count.reasons == {"error": 1, "paused": 1, "lag": 1}


@pytest.mark.parametrize("before", [{}, {1: 4}, {1: 6}, {1: 5, 2: 1}, {2: 5}])
def test_storing_from_a_cursor_that_was_moved_is_a_conflict_and_stores_nothing(
    journal: Journal, before: Cursor
) -> None:
    ledger = journal.ledger()
    ledger.store_shadow("loans", 2, [mirrored(1, 5, ["scored"])], LAYOUT, {}, {1: 5})
    for _ in range(2):
        with pytest.raises(Conflict, match="version 2 of 'loans'"):
            ledger.store_shadow("loans", 2, [mirrored(1, 6, ["scored"])], LAYOUT, before, {1: 6})
    assert ledger.cursor("loans", 2) == {1: 5}
    assert ledger.shadow_chunk(1, 6, 2) is None
    assert ledger.mirror_count("loans", 2, range(1, 2)).eligible == 1
    ledger.store_shadow("loans", 2, [mirrored(1, 6, ["scored"])], LAYOUT, {1: 5}, {1: 6})
    assert ledger.mirror_count("loans", 2, range(1, 2)).eligible == 2


def test_a_chunk_that_is_stored_already_is_neither_replaced_nor_counted_again(journal: Journal) -> None:
    ledger = journal.ledger()
    first = mirrored(1, 1, ["scored", "scored"])
    ledger.store_shadow("loans", 2, [first], LAYOUT, {}, {1: 1})
    again = [mirrored(1, 1, ["lag", "lag"]), mirrored(1, 2, ["scored"])]
    ledger.store_shadow("loans", 2, again, LAYOUT, {1: 1}, {1: 2})
    assert ledger.shadow_chunk(1, 1, 2) == first.chunk
    count = ledger.mirror_count("loans", 2, range(1, 2))
    assert (count.eligible, count.scored, count.reasons) == (3, 3, {})


def test_each_version_has_a_cursor_and_an_account_of_its_own(journal: Journal) -> None:
    ledger = journal.ledger()
    wide = Layout(LAYOUT.schema, (OutputTensor("y", "float32"), OutputTensor("z", "float32")))
    ledger.store_shadow("loans", 2, [mirrored(1, 1, ["scored"])], LAYOUT, {}, {1: 1})
    ledger.store_shadow("loans", 3, [mirrored(1, 1, ["error"])], wide, {}, {1: 1, 2: 7})
    ledger.store_shadow("loans", 3, [], wide, {1: 1, 2: 7}, {1: 3, 2: 7})
    assert (ledger.cursor("loans", 2), ledger.cursor("loans", 3)) == ({1: 1}, {1: 3, 2: 7})
    assert list(ledger.shadow_chunks(1, 1)) == [2, 3]
    assert ledger.mirror_count("loans", 2, range(1, 2)).scored == 1
    assert ledger.mirror_count("loans", 3, range(1, 2)).failed == 1
    assert ledger.layout(wide.digest) == wide


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.lists(st.sampled_from(STATUSES), min_size=1, max_size=6)), max_size=12))
def test_the_account_is_exactly_the_statuses_of_the_stored_chunks(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[tuple[int, list[str]]]
) -> None:
    with journal_in(tmp_path_factory.mktemp("account")) as journal:
        ledger = journal.ledger()
        for seq, (generation, statuses) in enumerate(chunks, 1):
            before = {1: seq - 1} if seq > 1 else {}
            ledger.store_shadow("loans", 2, [mirrored(1, seq, statuses, generation)], LAYOUT, before, {1: seq})
        for generations in (range(1, 4), range(2, 3), range(3, 3)):
            said = [s for generation, statuses in chunks if generation in generations for s in statuses]
            count = ledger.mirror_count("loans", 2, generations)
            assert count.eligible == count.scored + count.failed + count.skipped == len(said)
            assert count.scored == said.count("scored")
            assert count.skipped == sum(s in SKIPPED for s in said)
            assert count.reasons == {s: said.count(s) for s in set(said) - {"scored"}}


def test_an_outcome_delivered_again_is_a_duplicate_and_stored_once(journal: Journal) -> None:
    ledger = journal.ledger()
    one, named = record(1, 5), record("yes", 5, to="loan-1")
    assert ledger.append_outcomes(1, 1, [one, named, one]) == ["new", "new", "duplicate"]
    assert ledger.append_outcomes(2, 9, [one, named]) == ["duplicate", "duplicate"]
    (kept,) = ledger.outcomes_of_chunk(1, 1)
    assert (kept.outcome, kept.receipt) == (1, (1, 1))
    (kept,) = ledger.outcomes_of_association("loans", "loan-1")
    assert (kept.outcome, kept.association_id, kept.address) == ("yes", "loan-1", None)


def test_another_target_source_time_or_value_is_another_fact(journal: Journal) -> None:
    said = [
        record(1, 5), record(1, 6), record(0, 6), record(1, 5, source="branch"), record(1, 5, to=Address(1, 1, 1)),
        record(1, 5, to=Address(2, 1, 0)), record(1, 5, to="a"), record(1, 5, to="a", row=1), record(1.0, 5, to="b"),
        record("1", 5, to="b"), record(1, 5, to="a", model="cars"),
    ]  # fmt: skip
    ledger = journal.ledger()
    assert fates(ledger, *said) == [
        "new", "new", "correction", "correction", "new", "new", "new", "new", "new", "correction", "new",
    ]  # fmt: skip
    assert fates(ledger, *said) == ["duplicate"] * len(said)


def test_a_correction_is_another_value_and_not_only_another_time_or_source(journal: Journal) -> None:
    ledger = journal.ledger()
    assert fates(ledger, record(1, 5), record(1, 9), record(1, 9, source="branch")) == ["new", "new", "new"]
    assert fates(ledger, record(0, 9)) == ["correction"]


def test_without_a_stated_time_any_known_value_of_that_source_is_a_duplicate(journal: Journal) -> None:
    ledger = journal.ledger()
    assert fates(
        ledger,
        record(1, 5, stated=False),
        record(1, 9, stated=False),
        record(0, 10, stated=False),
        record(1, 11, stated=False),
        record(1, 11, stated=False, source="branch"),
        record(1, 12),
        record(1, 13, stated=False),
    ) == ["new", "duplicate", "correction", "duplicate", "correction", "correction", "duplicate"]
    assert [(kept.observed_at_us, kept.stated) for kept in ledger.outcomes_of_chunk(1, 1)] == [
        (5, False), (10, False), (11, False), (12, True),
    ]  # fmt: skip


def test_outcomes_are_read_by_whole_receipts_in_order(journal: Journal) -> None:
    ledger = journal.ledger()
    for seq in (1, 2, 4):
        ledger.append_outcomes(7, seq, [record(n, 10 * seq + n, to=f"{seq}.{n}") for n in range(3)])
    ledger.append_outcomes(8, 1, [record(9, 9, to="other")])
    assert ledger.outcome_cursor() == {7: 4, 8: 1}
    found = [one.receipt[1] for one in ledger.outcomes_since(7, 0, 4)]
    assert found == [1, 1, 1, 2, 2, 2]
    assert [one.outcome for one in ledger.outcomes_since(7, 2, 1)] == [0, 1, 2]
    assert ledger.outcomes_since(7, 4, 10) == ledger.outcomes_since(9, 0, 10) == []


def test_values_come_back_as_what_they_were(journal: Journal) -> None:
    ledger = journal.ledger()
    values: list[int | float | str] = [0, 1, -3, 0.1, 1e300, 5e-324, "", "süß\0", "1", 2**62]
    for n, value in enumerate(values):
        ledger.append_outcomes(1, n + 1, [record(value, to=Address(1, 1, n))])
    kept = ledger.outcomes_of_chunk(1, 1)
    assert [(one.outcome, type(one.outcome)) for one in kept] == [(value, type(value)) for value in values]
    assert [one.row for one in kept] == list(range(len(values)))


def test_one_outcome_that_cannot_be_stored_leaves_the_whole_receipt_out(journal: Journal) -> None:
    ledger = journal.ledger()
    with pytest.raises((OverflowError, JournalUnavailable)):
        ledger.append_outcomes(1, 1, [record(1), record(1, 2**70)])
    assert ledger.outcomes_of_chunk(1, 1) == []
    assert ledger.append_outcomes(1, 1, [record(1)]) == ["new"]


def test_a_setting_is_settled_by_the_first_that_keeps_it(journal: Journal) -> None:
    ledger, other = journal.ledger(), journal.ledger()
    ledger.settle("cohorts.bucket_s", 10, keep=False)
    ledger.settle("cohorts.bucket_s", 86_400)
    other.settle("cohorts.bucket_s", 86_400)
    for keep in (True, False):
        with pytest.raises(SettingsRefused, match=r"cohorts\.bucket_s: expected 86400, .* got 3600"):
            other.settle("cohorts.bucket_s", 3_600, keep=keep)
