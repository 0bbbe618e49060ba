"""A replay's bet is made only by who joins a reign after it, and then it is part of all that is decided there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from gateway.clock import JournalClock
from registry.replay import Asked, Span, TrainingWindow
from registry.types import Backtest, Replay, TrainingReport
from retrain.bundle import Wanted, bundled
from retrain.evidence import Rule, compare
from retrain.informed import informed, units_of
from tests.actors import logistic
from tests.replays import asked, reported
from tests.retrain.test_replay import pairs_of
from tests.seasons import LEFT, QUICK, RIGHT, TRUTH, ends, lives
from tests.stage import FIRST, ME, Stage, at, staged

GENERIC = Rule(base_rate=0.3, reference_loss=0.5)
N_DAYS = 50


def suggesting(number: int, bet: float | None, **more: Any) -> Replay:
    """A replay of version 3 that ended in generation 5, and suggests a bet against version 1."""
    span = Span(at(0), at(1), at(2), {}, {}, {})
    question = Asked(span, TrainingWindow(None, at(-1)), "ann", "to see", at(2))
    suggested = None if bet is None else {"bet": bet}
    match = {"champion": 1, "metric": {"units": units_of(GENERIC)}, "suggested_bet": suggested}
    made = Replay("m", number, 3, question, "done", {"champions": [match]}, at(3), ended_generation=5)
    return replace(made, **more)


def bet_of(*replays: Replay, rule: Rule = GENERIC, champion: int = 1, first_generation: int = 6) -> float | None:
    return informed(rule, replays, 3, champion, first_generation).informed_bet


def test_it_counts_only_where_it_had_ended_before_the_first_generation_of_the_version() -> None:
    assert bet_of(suggesting(1, 0.4)) == 0.4
    for late in (5, 4, 1):  # it joined in the generation in which the replay ended, or before
        assert bet_of(suggesting(1, 0.4), first_generation=late) is None
    assert bet_of(suggesting(1, 0.4, state="asked", ended_generation=None, report=None)) is None
    assert bet_of(suggesting(1, 0.4, state="failed", report={"sentences": ["no"]})) is None


def test_it_counts_only_for_that_version_against_that_champion_in_those_units() -> None:
    assert bet_of(suggesting(1, 0.4, version=2)) is None
    assert bet_of(suggesting(1, 0.4), champion=2) is None
    assert bet_of(suggesting(1, 0.4), rule=replace(GENERIC, reference_loss=0.6)) is None
    assert bet_of(suggesting(1, 0.4), rule=replace(GENERIC, loss="brier")) is None
    assert bet_of(suggesting(1, 0.4), rule=replace(GENERIC, n_slots=7)) == 0.4  # its share of the slots is no unit
    assert bet_of(suggesting(1, 0.4), rule=replace(GENERIC, informed_bet=0.2)) == 0.4  # in place of the training's


def test_of_several_the_last_counts_that_had_ended_by_then_in_whatever_order_they_are_told() -> None:
    later = suggesting(3, 0.1, ended_generation=6)
    replays = [suggesting(1, 0.4), suggesting(2, 0.3), later]
    assert bet_of(*replays) == bet_of(*reversed(replays)) == 0.3
    assert bet_of(*replays, first_generation=7) == 0.1
    assert bet_of(suggesting(1, 0.4), suggesting(2, None)) is None  # it did not win there in the end
    assert bet_of(suggesting(1, 0.4), suggesting(2, 0.3, version=2)) == 0.4


def story(stage: Stage) -> int:
    """Ten days of the champion alone, then a challenger for five weeks; it is replayed before it joins, and after."""
    stage.declare(QUICK)
    stage.champion(logistic(LEFT))
    lives(stage, range(10), {})
    stage.clock(12)
    number = stage.version(logistic(TRUTH))
    replayed(stage, number)
    stage.registry.enlist("m", number, reason="try it", by=ME)
    replayed(stage, number)
    lives(stage, range(12, N_DAYS), {number: TRUTH})
    ends(stage, N_DAYS)
    stage.close_all()
    return number


def replayed(stage: Stage, version: int) -> float:
    """The bet against the champion that a replay of all the days before suggests."""
    replay = asked(stage, version, 0, 10, as_of=12)
    stage.mirrored()
    report = reported(stage, replay).report
    assert report is not None
    bet: float = report["suggested_bet"]["bet"]
    assert bet > 0
    return bet


def test_who_joins_after_its_replay_is_judged_with_its_bet_and_all_of_it_can_be_made_again(tmp_path: Path) -> None:
    with staged(tmp_path / "store") as stage:
        number = story(stage)
        first, second = stage.registry.replays.of("m")
        assert (first.ended_generation, second.ended_generation) == (1, 2)
        assert first.report is not None
        ((version, bucket),) = stage.promotions()
        assert version == number
        decision = stage.registry.decisions("m")[-1]
        assert decision.evidence is not None
        rule = decision.evidence["rule"]
        assert rule["informed_bet"] == first.report["suggested_bet"]["bet"]
        # by the pairs alone, and the rule that the decision names
        again = compare(pairs_of(range(12, bucket - FIRST + 1), LEFT, TRUTH), msgspec.convert(rule, Rule))
        assert decision.evidence["log_e"] == pytest.approx(again.log_e, rel=1e-4)  # scores are float32
        clock = JournalClock(stage.settings.clock, stage.settings.cohorts.bucket_s)
        made = bundled(
            stage.settings, stage.registry, Wanted("m", decision.to_generation, None), tmp_path / "b", clock.now()
        )
        assert made.found.faults == []
        assert stage.registry.verified().faults == []


def test_a_trainings_backtest_stands_where_no_replay_had_ended_and_a_bundle_of_now_has_the_same_bets(
    tmp_path: Path,
) -> None:
    won = Backtest(champion=1, n_rows=500, mean_difference=0.1, variance=0.2, largest_gap=0.5, bet=0.5)
    with staged(tmp_path / "store") as stage:
        stage.declare(QUICK)
        stage.champion(logistic(LEFT))
        lives(stage, range(10), {})
        stage.clock(12)
        training = TrainingReport(n_rows=1, trained_until=at(0), backtest=won)
        playing = stage.challenger(logistic(TRUTH), training=training)
        waiting = stage.version(logistic(RIGHT), training=replace(training, trained_until=at(1)))
        replay = asked(stage, waiting, 0, 10, as_of=12, trained_until=None)
        stage.mirrored()
        report = reported(stage, replay).report
        stage.registry.enlist("m", waiting, reason="after its replay", by=ME)
        cycle = stage.cycle()
        cycle.step()
        bets = {each.version: each.rule.informed_bet for each in cycle._desks["m"].state.contenders}
        assert report is not None
        suggested = report["suggested_bet"]["bet"]
        assert bets == {playing: 0.5, waiting: 0.5 if suggested is None else suggested}
        lives(stage, range(12, 16), {playing: TRUTH, waiting: RIGHT})
        ends(stage, 16)
        stage.close_all()
        for version in (playing, waiting):
            made = bundled(stage.settings, stage.registry, Wanted("m", None, version), tmp_path / str(version), at(18))
            assert made.found.faults == []
            assert made.found.again is not None
            assert made.found.again["log_e"] == stage.entry(version)["log_e"] != 0.0
