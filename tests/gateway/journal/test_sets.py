"""Many predictions meet their outcomes at once just as one by one: the loop that it equals is `OutcomeJoin`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.journal.join import Association, OutcomeJoin
from gateway.journal.sets import Located, SetJoin
from gateway.records import Address, Cursor, OutcomeRecord, Purpose
from tests.journals import draft, journal_in, record

NAMES = st.sampled_from([None, "a", "b", "c", "Ω"])
TIMES = st.integers(0, 40)


@st.composite
def chunks(draw: st.DrawFn) -> tuple[int, list[str | None] | None, list[int], list[int] | None, Purpose, int]:
    """Writer, association ids, first rows of the requests, own times, purpose, the time that is added to the last."""
    n_rows = draw(st.integers(1, 5))
    names = draw(st.none() | st.lists(NAMES, min_size=n_rows, max_size=n_rows))
    starts = [0, *sorted(draw(st.sets(st.integers(1, 4), max_size=2)))]
    times = draw(st.none() | st.lists(TIMES, min_size=n_rows, max_size=n_rows))
    purpose: Purpose = draw(st.sampled_from(["live", "live", "live", "test"]))
    return draw(st.integers(0, 1)), names, [s for s in starts if s < n_rows], times, purpose, draw(st.integers(0, 9))


OUTCOMES = st.tuples(
    st.tuples(st.integers(0, 1), st.integers(1, 9), st.integers(0, 6)) | st.sampled_from(["a", "b", "c", "Ω", "d"]),
    st.sampled_from([0, 1]),
    TIMES,
    st.integers(0, 3),
    st.sampled_from(["default", "z"]),
    st.sampled_from(["loans", "loans", "loans", "cars"]),
    st.integers(1, 2),
)  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(
    made=st.lists(chunks(), min_size=1, max_size=9),
    said=st.lists(OUTCOMES, max_size=25),
    policy=st.sampled_from(["latest", "first", "all"]),
    seen=st.none() | st.tuples(st.integers(0, 9), st.integers(0, 9)),
    upto=st.none() | st.tuples(st.integers(0, 25), st.integers(0, 25)),
    by_us=st.none() | TIMES,
)
def test_it_equals_the_join_row_by_row(made, said, policy: Association, seen, upto, by_us) -> None:  # type: ignore[no-untyped-def]
    with tempfile.TemporaryDirectory() as folder, journal_in(Path(folder)) as journal:
        writers, ledger, at_us = [journal.writer(), journal.writer()], journal.ledger(), 0
        for which, names, starts, times, purpose, later in made:
            at_us += later
            n_rows = 5 if names is None and times is None else len(names or times or ())
            writers[which].append(
                [draft(n_rows, associations=names, starts=[s for s in starts if s < n_rows],
                       predicted_at_us=times, purpose=purpose, at_us=at_us)]
            )  # fmt: skip
        for number, (to, outcome, observed_us, row, source, model, receiver) in enumerate(said, 1):
            target = to if isinstance(to, str) else Address(writers[to[0]].writer, to[1], to[2])
            one: OutcomeRecord = record(outcome, observed_us, to=target, row=row, source=source, model=model)
            ledger.append_outcomes(receiver, number, [one])

        reader = journal.reader()
        seen_cursor: Cursor | None = None if seen is None else {w.writer: n for w, n in zip(writers, seen, strict=True)}
        upto_cursor: Cursor | None = None if upto is None else {1: upto[0], 2: upto[1]}
        located = [
            Located(head.writer, head.seq, reader.chunk(head.writer, head.seq))
            for writer in writers
            for head in reader.heads(writer.writer, 0, 100)
            if head.purpose == "live" and (seen_cursor is None or head.seq <= seen_cursor[writer.writer])
        ]
        by_row = OutcomeJoin(reader, ledger, seen_cursor)
        expected = [by_row.effective(each.writer, each.seq, each.chunk, policy, upto_cursor, by_us) for each in located]
        # outcomes that name a row which their chunk does not have belong to no prediction
        expected = [
            {row: one for row, one in of_chunk.items() if row < each.chunk.n_rows}
            for of_chunk, each in zip(expected, located, strict=True)
        ]
        join = SetJoin(reader, ledger, "loans", policy, seen=seen_cursor, upto=upto_cursor, by_us=by_us)
        assert join.records(located) == expected
        alone = [join.records([each])[0] for each in located]
        assert alone == expected
        found = join.effective(located)
        flat = [one for of_chunk in expected for _, one in sorted(of_chunk.items())]
        assert found.outcome.tolist() == [one.outcome for one in flat]
        assert found.observed_us.tolist() == [one.observed_at_us for one in flat]


def test_what_is_committed_while_a_table_is_read_does_not_count() -> None:
    with tempfile.TemporaryDirectory() as folder, journal_in(Path(folder)) as journal:
        writer, ledger = journal.writer(), journal.ledger()
        (seq,) = writer.append([draft(2, associations=["a", None])])
        first, second = record(0, 5, to="a"), record(1, 6, to=Address(writer.writer, seq, 1))
        ledger.append_outcomes(1, 1, [first])
        reader, through = journal.reader(), ledger.last_outcome()
        located = [Located(writer.writer, seq, reader.chunk(writer.writer, seq))]
        ledger.append_outcomes(1, 2, [second, record(1, 7, to="a")])
        of_then = SetJoin(reader, ledger, "loans", "latest", through=through).records(located)
        of_now = SetJoin(reader, ledger, "loans", "latest").records(located)
        assert [{row: one.outcome for row, one in found.items()} for found in (*of_then, *of_now)] == [
            {0: 0},
            {0: 1, 1: 1},
        ]
