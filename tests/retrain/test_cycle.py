"""The cycle decides: the same on whatever day it looks, however often it was interrupted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.actors import logistic
from tests.seasons import LEFT, N_ROWS, QUICK, RIGHT, TRUTH, WEAK, WRONG, ends, lives
from tests.stage import FIRST, ME, Stage, at, staged

SEASON = 36


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A weak champion, nobody else yet."""
    with staged(tmp_path / "store") as made:
        made.declare(QUICK)
        made.champion(logistic(WEAK))
        yield made


def test_a_better_challenger_is_promoted_with_its_evidence_and_an_audit_row(stage: Stage) -> None:
    better = stage.challenger(logistic(TRUTH))
    lives(stage, range(SEASON), {better: TRUTH})
    ends(stage, SEASON)
    stage.close_all()
    assert stage.registry.lineup("m").champion == better
    assert stage.registry.lineup("m").previous == 1
    (decision,) = [d for d in stage.registry.decisions("m") if d.kind == "promote"]
    assert decision.by == "rule"
    assert decision.evidence is not None
    assert decision.evidence["verdict"] == "better"
    assert decision.evidence["sentence"] == decision.reason
    assert [row.action for row in stage.registry.audit("m")][-1] == "promote"
    assert stage.registry.reign("m").number == 2


def test_one_that_is_as_good_is_not_promoted(tmp_path: Path) -> None:
    with staged(tmp_path / "store") as stage:
        stage.declare(QUICK)
        stage.champion(logistic(LEFT))
        equal = stage.challenger(logistic(RIGHT))
        lives(stage, range(50), {equal: RIGHT})
        ends(stage, 50)
        stage.close_all()
        assert stage.promotions() == []
        assert stage.entry(equal)["verdict"] in ("collecting", "no_difference")
        assert stage.entry(equal)["n_matured"] == 50 * N_ROWS


def test_one_that_is_worse_is_called_worse_and_stays_where_it_is(stage: Stage) -> None:
    worse = stage.challenger(logistic(WRONG))
    lives(stage, range(SEASON), {worse: WRONG})
    ends(stage, SEASON)
    stage.close_all()
    assert stage.promotions() == []
    assert stage.entry(worse)["verdict"] == "worse"


def test_of_two_that_are_better_the_surer_one_is_promoted(stage: Stage) -> None:
    good, best = stage.challenger(logistic((0.8, 0.8))), stage.challenger(logistic(TRUTH))
    lives(stage, range(SEASON), {good: (0.8, 0.2), best: TRUTH})
    ends(stage, SEASON)
    stage.close_all()
    assert [version for version, _ in stage.promotions()] == [best]


def test_promotion_is_on_the_same_bucket_when_the_worker_was_away_and_closes_all_at_once(tmp_path: Path) -> None:
    decisions = []
    for name, every in (("daily", 1), ("weekly", 7), ("once", 10_000)):
        with staged(tmp_path / name) as stage:
            stage.declare(QUICK)
            stage.champion(logistic(WEAK))
            better = stage.challenger(logistic(TRUTH))
            cycle = stage.cycle()

            def look(day: int, stage: Stage = stage, every: int = every, cycle: Any = cycle) -> None:
                if day % every == every - 1:
                    stage.close_all(cycle)

            lives(stage, range(SEASON), {better: TRUTH}, each_day=look)
            ends(stage, SEASON)
            stage.close_all(cycle)
            (promotion,) = [d for d in stage.registry.decisions("m") if d.kind == "promote"]
            assert promotion.evidence is not None
            decisions.append((stage.promotions(), promotion.evidence["log_e"], promotion.reason))
    assert decisions[0] == decisions[1] == decisions[2]


def test_a_worker_that_starts_anew_at_every_step_decides_the_same(tmp_path: Path) -> None:
    outcomes = []
    for name in ("through", "anew"):
        with staged(tmp_path / name) as stage:
            stage.declare(QUICK)
            stage.champion(logistic(WEAK))
            better = stage.challenger(logistic(TRUTH))
            lives(stage, range(SEASON), {better: TRUTH})
            ends(stage, SEASON)
            if name == "through":
                stage.close_all()
            else:
                while stage.cycle().step():
                    pass
            buckets = [replace(b, closed_at=at(0)) for r in (1, 2) for b in stage.registry.closed_buckets("m", r)]
            outcomes.append((stage.promotions(), buckets))
    assert outcomes[0] == outcomes[1]


def test_a_worker_that_ended_between_closing_and_deciding_decides_upon_that_bucket(stage: Stage) -> None:
    """Closing and promoting are two transactions: kill -9 between them must not move the decision to a later day."""
    better = stage.challenger(logistic(TRUTH))
    lives(stage, range(SEASON), {better: TRUTH})
    ends(stage, SEASON)
    cycle = stage.cycle()
    while not stage.promotions():
        before = stage.registry.closed_buckets("m", 1)
        assert cycle.step()
    ((_, decided_upon),) = stage.promotions()
    promoting = stage.registry.closed_buckets("m", 1)[-1]
    assert promoting.bucket == decided_upon

    with staged(stage.folder.with_name("killed")) as again:
        again.declare(QUICK)
        again.champion(logistic(WEAK))
        again.challenger(logistic(TRUTH))
        lives(again, range(SEASON), {better: TRUTH})
        ends(again, SEASON)
        for bucket in (*before, promoting):  # as the first worker had left it when it was killed
            again.registry.close_bucket(
                "m", 1, bucket.bucket, closed_at=bucket.closed_at, prediction_cursor=bucket.prediction_cursor,
                outcome_cursor=bucket.outcome_cursor, sums=bucket.sums,
            )  # fmt: skip
        again.cycle().step()
        assert again.promotions() == [(better, decided_upon)]


def test_somebody_who_changes_the_lineup_in_between_delays_no_decision(stage: Stage) -> None:
    better = stage.challenger(logistic(TRUTH))
    lives(stage, range(SEASON), {better: TRUTH})
    ends(stage, SEASON)
    stage.close_all(cycle := stage.cycle())
    ((_, bucket),) = stage.promotions()

    with staged(stage.folder.with_name("changed")) as again:
        again.declare(QUICK)
        again.champion(logistic(WEAK))
        again.challenger(logistic(TRUTH))
        lives(again, range(SEASON), {better: TRUTH})
        ends(again, SEASON)
        cycle = again.cycle()
        while again.registry.closed_buckets("m", 1)[-1:] == [] or again.closed()[-1] < bucket - FIRST - 1:
            cycle.step()
        again.challenger(logistic((9.0, 9.0)))  # a new generation, seen by the cycle or not
        again.close_all(cycle)
        assert again.promotions() == [(better, bucket)]


def test_a_second_promotion_follows_in_a_later_reign(stage: Stage) -> None:
    good = stage.challenger(logistic((0.4, 0.6)))
    lives(stage, range(SEASON), {good: (0.4, 0.6)}, each_day=lambda _: stage.close_all())
    ends(stage, SEASON)
    stage.close_all()
    assert stage.registry.lineup("m").champion == good
    best = stage.challenger(logistic((1.0, 1.01)))
    lives(stage, range(SEASON + 2, 2 * SEASON + 12), {best: TRUTH, 1: WEAK})  # 1 is the previous champion
    ends(stage, 2 * SEASON + 12)
    stage.close_all()
    assert [version for version, _ in stage.promotions()] == [good, best]
    assert stage.registry.lineup("m").champion == best
    assert [reign.champion for reign in stage.registry.reigns("m")] == [1, good, best]
    assert stage.closed(1)[-1] + 1 == stage.closed(2)[0]


def test_evidence_starts_from_zero_with_each_reign(stage: Stage) -> None:
    better = stage.challenger(logistic(TRUTH))
    lives(stage, range(10), {better: TRUTH})
    ends(stage, 10)
    stage.close_all()
    assert stage.entry(better)["n_matured"] == 10 * N_ROWS
    stage.registry.set_policy("m", replace(QUICK, min_outcomes=300), by=ME)
    lives(stage, range(12, 15), {better: TRUTH})
    ends(stage, 15)
    stage.close_all()
    assert stage.entry(better)["n_matured"] == 3 * N_ROWS


def test_a_manual_policy_never_promotes_and_says_that_it_would(tmp_path: Path) -> None:
    with staged(tmp_path / "store") as stage:
        stage.declare(replace(QUICK, promotion="one"))
        stage.champion(logistic(WEAK))
        better = stage.challenger(logistic(TRUTH))
        lives(stage, range(SEASON), {better: TRUTH})
        ends(stage, SEASON)
        stage.close_all()
        assert stage.promotions() == []
        assert stage.registry.lineup("m").champion == 1
        assert stage.entry(better)["verdict"] == "better"


def test_a_third_challenger_waits_for_the_next_reign(stage: Stage) -> None:
    first = stage.challenger(logistic(LEFT))
    second = stage.challenger(logistic(RIGHT))
    third = stage.challenger(logistic(TRUTH))
    lives(stage, range(SEASON), {first: LEFT, second: RIGHT, third: TRUTH})
    ends(stage, SEASON)
    stage.close_all()
    assert third not in [version for version, _ in stage.promotions()[:1]]
    assert all(third not in bucket.sums for bucket in stage.registry.closed_buckets("m", 1))


def test_a_waiting_challenger_says_so_and_holds_nothing_up(stage: Stage) -> None:
    for weights in (LEFT, RIGHT, TRUTH):
        last = stage.challenger(logistic(weights))
    lives(stage, range(3), {2: LEFT, 3: RIGHT})  # the third is never mirrored
    ends(stage, 3)
    stage.close_all()
    assert stage.closed() == [0, 1, 2, 3][: len(stage.closed())]
    assert len(stage.closed()) >= 3
    assert "waits for the next reign" in stage.entry(last)["sentence"]
    assert stage.entry(last)["n_waiting"] == 0
