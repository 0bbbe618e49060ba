"""Outcomes meet predictions when somebody reads, by address or by association id."""

from __future__ import annotations

from gateway.journal.join import Association, OutcomeJoin
from gateway.records import Address
from tests.journals import Journal, draft, record


def joined(journal: Journal, key: tuple[int, int], policy: Association = "latest") -> dict[int, int | float | str]:
    """Row → effective outcome of a chunk."""
    reader = journal.reader()
    found = OutcomeJoin(reader, journal.ledger()).effective(*key, reader.chunk(*key), policy)
    return {row: outcome.outcome for row, outcome in found.items()}


def test_an_outcome_by_address_belongs_to_its_row(journal: Journal) -> None:
    writer, ledger = journal.writer(), journal.ledger()
    writer.append([draft(3), draft(3)])
    ledger.append_outcomes(
        1, 1, [record(1, to=Address(writer.writer, 1, 2)), record(0, to=Address(writer.writer, 2, 0))]
    )
    assert joined(journal, (writer.writer, 1)) == {2: 1}
    assert joined(journal, (writer.writer, 2)) == {0: 0}


def test_the_effective_outcome_has_the_highest_time_then_source_then_digest(journal: Journal) -> None:
    writer, ledger = journal.writer(), journal.ledger()
    writer.append([draft(2)])
    to = Address(writer.writer, 1, 0)
    late_first = [record(1, 9, to=to), record(0, 5, to=to, source="z"), record(0, 9, to=to, source="a")]
    ledger.append_outcomes(1, 1, late_first)
    assert joined(journal, (writer.writer, 1)) == {0: 1}
    ledger.append_outcomes(1, 2, [record(0, 9, to=to, source="e")])
    assert joined(journal, (writer.writer, 1)) == {0: 0}
    tied = Address(writer.writer, 1, 1)
    ledger.append_outcomes(1, 3, [record(0, 9, to=tied), record(1, 9, to=tied)])
    effective = joined(journal, (writer.writer, 1))[1]
    other = Journal(journal.store.with_name("other"))
    other.ledger().append_outcomes(1, 1, [record(1, 9, to=tied)])
    other.ledger().append_outcomes(1, 2, [record(0, 9, to=tied)])
    twin = other.writer()
    twin.append([draft(2)])
    assert joined(other, (twin.writer, 1)) == {1: effective}
    other.close()


def test_an_association_id_names_the_latest_prediction_before_the_outcome_or_as_the_policy_says(
    journal: Journal,
) -> None:
    writer, ledger = journal.writer(), journal.ledger()
    writer.append([draft(associations=["a"], at_us=at_us) for at_us in (10, 20, 30)])
    ledger.append_outcomes(1, 1, [record(1, 25, to="a")])
    expected = {"latest": [2], "first": [1], "all": [1, 2]}
    policies: list[Association] = ["latest", "first", "all"]
    for policy in policies:
        seqs = [seq for seq in (1, 2, 3) if joined(journal, (writer.writer, seq), policy)]
        assert seqs == expected[policy]


def test_an_early_outcome_waits_for_the_next_prediction(journal: Journal) -> None:
    writer, ledger = journal.writer(), journal.ledger()
    ledger.append_outcomes(1, 1, [record(1, 5, to="a")])
    writer.append([draft(associations=["b"], at_us=10), draft(associations=["a"], at_us=10)])
    writer.append([draft(associations=["a"], at_us=20)])
    assert [joined(journal, (writer.writer, seq)) for seq in (1, 2, 3)] == [{}, {0: 1}, {}]
    assert [joined(journal, (writer.writer, seq), "all") for seq in (1, 2, 3)] == [{}, {0: 1}, {}]


def test_a_row_number_counts_among_the_rows_of_the_request_that_carry_the_id(journal: Journal) -> None:
    writer, ledger = journal.writer(), journal.ledger()
    names: list[str | None] = ["a", None, "b", "a", "a"]
    writer.append([draft(5, associations=names, starts=(0, 4), at_us=10)])
    ledger.append_outcomes(1, 1, [record(1, 20, to="a"), record(0, 20, to="a", row=1), record(1, 20, to="b")])
    assert joined(journal, (writer.writer, 1)) == {2: 1, 4: 1}
    assert joined(journal, (writer.writer, 1), "first") == {0: 1, 2: 1, 3: 0}
    assert joined(journal, (writer.writer, 1), "all") == {0: 1, 2: 1, 3: 0, 4: 1}


def test_outcomes_are_counted_up_to_a_cursor_of_receipts(journal: Journal) -> None:
    writer, ledger, reader = journal.writer(), journal.ledger(), journal.reader()
    writer.append([draft()])
    to = Address(writer.writer, 1, 0)
    ledger.append_outcomes(1, 1, [record(1, 5, to=to)])
    ledger.append_outcomes(2, 1, [record(0, 6, to=to)])
    join, chunk = OutcomeJoin(reader, ledger), reader.chunk(writer.writer, 1)

    def at(upto: dict[int, int] | None) -> list[int | float | str]:
        return [one.outcome for one in join.effective(writer.writer, 1, chunk, "latest", upto).values()]

    assert (at(None), at({1: 1, 2: 1}), at({1: 1}), at({})) == ([0], [0], [1], [])
    history = join.history(writer.writer, 1, chunk, "latest")
    assert [one.outcome for one in history[0]] == [1, 0]


def test_a_load_test_that_repeats_association_ids_takes_no_outcome_from_live_requests(journal: Journal) -> None:
    writer, ledger = journal.writer(), journal.ledger()
    writer.append([draft(associations=["a"], at_us=10)])
    writer.append([draft(associations=["a"], at_us=20, purpose="test")])
    ledger.append_outcomes(1, 1, [record(1, 30, to="a")])
    assert joined(journal, (writer.writer, 1)) == {0: 1}
    assert joined(journal, (writer.writer, 2)) == {0: 1}


def test_outcomes_of_another_model_are_not_of_this_one(journal: Journal) -> None:
    writer, ledger = journal.writer(), journal.ledger()
    writer.append([draft(associations=["a"], at_us=10)])
    ledger.append_outcomes(1, 1, [record(1, 30, to="a", model="cars")])
    assert joined(journal, (writer.writer, 1)) == {}


def test_a_cohort_is_joined_again_as_if_no_later_prediction_had_been_made(journal: Journal) -> None:
    writer, ledger, reader = journal.writer(), journal.ledger(), journal.reader()
    writer.append([draft(associations=["a"], at_us=10)])
    ledger.append_outcomes(1, 1, [record(1, 25, to="a")])
    chunk = reader.chunk(writer.writer, 1)
    assert 0 in OutcomeJoin(reader, ledger).effective(writer.writer, 1, chunk, "latest")
    writer.append([draft(associations=["a"], at_us=20)])  # late, and nearer to the outcome
    assert OutcomeJoin(reader, ledger).effective(writer.writer, 1, chunk, "latest") == {}
    as_it_was = OutcomeJoin(reader, ledger, seen={writer.writer: 1})
    assert 0 in as_it_was.effective(writer.writer, 1, chunk, "latest")
