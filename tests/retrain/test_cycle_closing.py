"""When a bucket closes, and which of its rows count."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import apsw
import numpy as np
import pytest
from msgspec.structs import replace

from gateway.columns import Array
from retrain.kept import stored_sums
from tests.actors import logistic
from tests.seasons import N_ROWS, QUICK, TRUTH, WEAK, answers, ends, lives, rows_of
from tests.stage import ME, Stage, at_us, staged

SEASON = 36


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A weak champion, nobody else yet."""
    with staged(tmp_path / "store") as made:
        made.declare(QUICK)
        made.champion(logistic(WEAK))
        yield made


# --- when a bucket closes


def test_a_bucket_closes_only_when_it_is_due_and_every_writer_and_challenger_is_past_it(stage: Stage) -> None:
    better = stage.challenger(logistic(TRUTH))
    other = stage.another_writer()
    rows, happened = rows_of(0)
    stage.clock(0.5)
    addresses = stage.predict(0.5, rows)
    stage.predict(0.6, rows, writer=other)
    cycle = stage.cycle()
    stage.outcomes(addresses, happened, 0.9)

    assert not cycle.step()  # not due
    stage.clock(1.999)
    stage.beat(1.999)
    other.heartbeat(0)
    stage.shadow(better, answers(TRUTH))
    assert not cycle.step()  # a moment before it is due
    stage.clock(2)
    assert not cycle.step()  # the other writer has promised nothing
    stage.beat(1, other)
    assert cycle.step()
    assert stage.closed() == [0]
    assert not cycle.step()


def test_a_bucket_waits_for_a_challenger_that_is_behind_but_not_for_a_retired_one(stage: Stage) -> None:
    slow = stage.challenger(logistic(TRUTH))
    rows, happened = rows_of(0)
    stage.clock(0.5)
    stage.outcomes(stage.predict(0.5, rows), happened, 0.9)
    ends(stage, 0)
    cycle = stage.cycle()
    assert not cycle.step()
    stage.registry.retire("m", slow, reason="too slow", by=ME)
    assert cycle.step()
    assert stage.closed() == [0]


def test_a_bucket_of_which_a_challenger_has_not_all_is_void_for_it(stage: Stage) -> None:
    """Whoever is retired half way and enlisted again may not be judged by the half that it answered in time."""
    slow = stage.challenger(logistic(TRUTH))
    rows, happened = rows_of(0)
    addresses = stage.predict(0.25, rows[:20])
    stage.shadow(slow, answers(TRUTH))
    addresses += stage.predict(0.5, rows[20:])
    stage.registry.retire("m", slow, reason="too slow", by=ME)
    stage.outcomes(addresses, happened, 0.9)
    ends(stage, 0)
    stage.close_all()
    (bucket,) = stage.registry.closed_buckets("m", 1)
    assert bucket.sums == {slow: b""}


def test_a_killed_writer_holds_nothing_up(stage: Stage) -> None:
    rows, happened = rows_of(0)
    other = stage.another_writer()
    stage.outcomes(stage.predict(0.5, rows), happened, 0.9)
    stage.predict(0.2, rows, writer=other)
    ends(stage, 0)
    assert not stage.cycle().step()
    other.close()  # its lock goes, as it would by kill -9
    assert stage.cycle().step()


def test_days_without_traffic_close_in_calendar_order(stage: Stage) -> None:
    for day in (0, 3):
        rows, happened = rows_of(day)
        stage.outcomes(stage.predict(day + 0.5, rows), happened, day + 0.9)
    ends(stage, 3)
    stage.close_all()
    assert stage.closed() == [0, 1, 2, 3]


def test_a_late_chunk_is_counted_and_is_never_evidence(stage: Stage) -> None:
    better = stage.challenger(logistic(TRUTH))
    lives(stage, range(2), {better: TRUTH})
    ends(stage, 1)
    stage.close_all()
    kept = stage.registry.closed_buckets("m", 1)
    rows, happened = rows_of(99)
    late = stage.predict(0.5, rows, stamped=3)
    stage.outcomes(late, happened, 3)
    stage.shadow(better, answers(TRUTH))
    ends(stage, 2)
    stage.close_all(cycle := stage.cycle())
    assert stage.registry.closed_buckets("m", 1)[: len(kept)] == kept
    document = stage.registry.evidence("m")
    assert document is not None
    assert document["n_late_rows"] == N_ROWS
    assert stage.entry(better)["n_matured"] == 2 * N_ROWS
    again = stage.cycle()  # counted from the journal again after a restart, not twice
    assert not cycle.step()
    assert not again.step()
    after = stage.registry.evidence("m")
    assert after is not None
    assert after["n_late_rows"] == N_ROWS


def test_an_outcome_after_the_closing_changes_nothing_that_is_closed(stage: Stage) -> None:
    better = stage.challenger(logistic(TRUTH))
    rows, happened = rows_of(0)
    addresses = stage.predict(0.5, rows)
    stage.outcomes(addresses[:50], happened[:50], 0.9)
    stage.shadow(better, answers(TRUTH))
    ends(stage, 0)
    stage.close_all()
    stage.outcomes(addresses[50:], happened[50:], 3)
    stage.close_all()
    assert stage.entry(better)["n_matured"] == 50
    (sums,) = stored_sums(stage.registry.closed_buckets("m", 1), better)
    assert (sums.n, sums.n_due) == (50, N_ROWS)


def test_a_generation_that_the_cycle_has_not_heard_of_is_not_closed_over(stage: Stage) -> None:
    """A gateway may serve by a new lineup before this worker has seen it: those rows are their challenger's too."""
    rows, happened = rows_of(0)
    first = stage.predict(0.2, rows)
    ends(stage, 0)
    cycle = stage.cycle()
    cycle._refresh()  # a step begins
    better = stage.challenger(logistic(TRUTH))
    second = stage.predict(0.5, rows, stamped=2)
    stage.outcomes(first + second, happened * 2, 0.9)
    assert not cycle._served(cycle._desks["m"], stage.reader.writers(), at_us(2))  # and goes on
    stage.shadow(better, answers(TRUTH))
    stage.close_all(cycle)
    (sums,) = stored_sums(stage.registry.closed_buckets("m", 1), better)
    assert sums.n == N_ROWS


# --- what counts


def test_more_than_five_per_cent_skipped_voids_a_bucket_and_says_so(stage: Stage) -> None:
    better = stage.challenger(logistic(TRUTH))
    rows, happened = rows_of(0, 100)
    addresses = stage.predict(0.3, rows[:94])
    stage.shadow(better, answers(TRUTH))
    addresses += stage.predict(0.5, rows[94:])
    stage.shadow(better, answers(TRUTH), status="paused")
    stage.outcomes(addresses, happened, 0.9)
    ends(stage, 0)
    stage.close_all()
    (bucket,) = stage.registry.closed_buckets("m", 1)
    assert bucket.sums == {better: b""}
    assert stage.entry(better)["n_void_buckets"] == 1
    assert stage.entry(better)["n_matured"] == 0


def test_five_per_cent_skipped_are_left_out_and_the_rest_counts(stage: Stage) -> None:
    better = stage.challenger(logistic(TRUTH))
    rows, happened = rows_of(0, 100)
    addresses = stage.predict(0.3, rows[:95])
    stage.shadow(better, answers(TRUTH))
    addresses += stage.predict(0.5, rows[95:])
    stage.shadow(better, answers(TRUTH), status="expired")
    stage.outcomes(addresses, happened, 0.9)
    ends(stage, 0)
    stage.close_all()
    (sums,) = stored_sums(stage.registry.closed_buckets("m", 1), better)
    assert (sums.n_due, sums.n) == (95, 95)


def test_what_was_sampled_out_is_left_out_whatever_its_share(stage: Stage) -> None:
    better = stage.challenger(logistic(TRUTH))
    rows, happened = rows_of(0, 100)
    addresses = stage.predict(0.3, rows)
    stage.shadow(better, answers(TRUTH), status="sampled_out")
    stage.outcomes(addresses, happened, 0.9)
    ends(stage, 0)
    stage.close_all()
    assert stored_sums(stage.registry.closed_buckets("m", 1), better) == []


def test_failed_rows_take_the_loss_of_a_guess(stage: Stage) -> None:
    better = stage.challenger(logistic(TRUTH))
    rows, happened = rows_of(0)
    stage.outcomes(stage.predict(0.5, rows), happened, 0.9)

    def half(rows: Array) -> Array:
        said = answers(TRUTH)(rows)
        said[:30] = np.nan
        return said

    stage.shadow(better, half)
    ends(stage, 0)
    stage.close_all()
    (sums,) = stored_sums(stage.registry.closed_buckets("m", 1), better)
    assert (sums.n, sums.n_failed) == (N_ROWS, 30)


def test_a_missing_outcome_is_missing_or_what_the_policy_declares(tmp_path: Path) -> None:
    found = []
    for default in (None, 0):
        with staged(tmp_path / str(default)) as stage:
            stage.declare(replace(QUICK, default_outcome=default))
            stage.champion(logistic(WEAK))
            better = stage.challenger(logistic(TRUTH))
            rows, happened = rows_of(0)
            stage.outcomes(stage.predict(0.5, rows)[:40], happened[:40], 0.9)
            stage.shadow(better, answers(TRUTH))
            ends(stage, 0)
            stage.close_all()
            (sums,) = stored_sums(stage.registry.closed_buckets("m", 1), better)
            found.append((sums.n, sums.n_due, sums.class_counts[0]))
    n_zeros = happened[:40].count(0)
    assert found == [(40, N_ROWS, n_zeros), (N_ROWS, N_ROWS, n_zeros + 20)]


def test_load_tests_are_never_evidence(stage: Stage) -> None:
    better = stage.challenger(logistic(TRUTH))
    rows, happened = rows_of(0)
    stage.outcomes(stage.predict(0.5, rows), happened, 0.9)
    stage.outcomes(stage.predict(0.6, rows, purpose="test"), happened, 0.9)
    stage.shadow(better, answers(TRUTH))
    ends(stage, 0)
    stage.close_all()
    (sums,) = stored_sums(stage.registry.closed_buckets("m", 1), better)
    assert sums.n_due == N_ROWS


def test_what_came_after_its_time_does_not_count_although_the_worker_came_later_still(stage: Stage) -> None:
    better = stage.challenger(logistic(TRUTH))
    rows, happened = rows_of(0)
    addresses = stage.predict(0.5, rows)
    stage.outcomes(addresses[:40], happened[:40], 0.9)
    stage.outcomes(addresses[40:], happened[40:], 5.0)
    stage.shadow(better, answers(TRUTH))
    ends(stage, 10)
    stage.close_all()
    (sums,) = stored_sums(stage.registry.closed_buckets("m", 1), better)
    assert (sums.n, sums.n_due) == (40, N_ROWS)


def test_a_damaged_chunk_voids_its_bucket_and_holds_up_no_other(stage: Stage) -> None:
    better = stage.challenger(logistic(TRUTH))
    lives(stage, range(2), {better: TRUTH})
    (head, _), *_ = stage.chunks()
    db = apsw.Connection(str(stage.folder / "predictions" / f"{head.writer}.1.db"))
    db.execute("UPDATE chunk SET body = zeroblob(length(body)) WHERE seq = ?", (head.seq,))
    db.close()
    stage.reader._recent.clear()  # it has read the chunk while it was whole
    ends(stage, 2)
    stage.close_all()
    assert stage.closed()[:2] == [0, 1]
    assert len(stored_sums(stage.registry.closed_buckets("m", 1), better)) == 1
    assert stage.entry(better)["n_void_buckets"] == 1


def test_a_date_that_is_centuries_off_costs_no_closing_for_each_day_in_between(stage: Stage) -> None:
    rows, _ = rows_of(0)
    long_ago = -700_000  # the year 108
    stage.predict(long_ago, rows[:1])
    stage.predict(0.5, rows[:5])
    stage.clock(3)
    stage.beat(3)
    stage.close_all()
    assert stage.closed()[0] == long_ago
    assert len(stage.closed()) < 10
    assert stage.closed()[-1] == 1
    stage.predict(-5, rows[:4])  # of a day that was passed over: it is late, and counted
    stage.close_all()
    document = stage.registry.evidence("m")
    assert document is not None
    assert document["n_late_rows"] == 4
