"""What a replay says, counted again by hand; and that evidence, verdicts and drift are the same with and without."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace

from gateway.columns import Array
from gateway.errors import JournalUnavailable
from registry.replay import Span
from registry.types import Replay
from retrain.evidence import Pairs, compare, metrics_of
from retrain.evidence.eprocess import informed_bet
from retrain.evidence.losses import paired_losses
from retrain.replay_report import report_of
from retrain.replays import ReplayDesk
from retrain.terms import rule_of
from tests.actors import logistic
from tests.journals import until
from tests.replays import asked, reported
from tests.seasons import LEFT, N_ROWS, QUICK, RIGHT, TRUTH, WEAK, WRONG, ends, lives, probability, rows_of
from tests.stage import DAY, FIRST, ME, Stage, at, staged


def replayed(stage: Stage, version: int, since: float, until: float, **more: Any) -> dict[str, Any]:
    """The report of a replay, scored by a real child."""
    replay = asked(stage, version, since, until, **more)
    stage.mirrored()
    ended = reported(stage, replay)
    assert ended.state == "done", ended.report
    assert ended.report is not None
    return ended.report


def pairs_of(days: range, champion: tuple[float, float], version: tuple[float, float]) -> Pairs:
    """The pairs that the seasons' rows of these days make, from the weights and nothing that was recorded."""
    rows = np.concatenate([rows_of(day)[0] for day in days])
    outcome = np.concatenate([rows_of(day)[1] for day in days]).astype(np.float64)

    def served(weights: tuple[float, float]) -> Array:
        return probability(rows.astype(np.float32), weights).astype(np.float32).astype(np.float64)

    bucket = np.repeat([FIRST + day for day in days], N_ROWS)
    return Pairs(outcome, served(champion), served(version), bucket)


def test_a_report_is_what_its_rows_say_counted_by_hand(tmp_path: Path) -> None:
    with staged(tmp_path / "store") as stage:
        stage.declare(QUICK)
        stage.champion(logistic(WEAK))
        lives(stage, range(12), {})
        ends(stage, 12)
        number = stage.version(logistic(TRUTH))
        report = replayed(stage, number, 2, 10, as_of=14)
        rule = rule_of(stage.registry.model("m"), stage.registry.reign("m"), DAY)
        pairs = pairs_of(range(2, 10), WEAK, TRUTH)
        expected = compare(pairs, rule)
        (match,) = report["champions"]
        counts = ("n_rows", "n_failed", "n_waiting", "n_not_due", "n_without_outcome", "n_matured", "n_days")
        assert [match[name] for name in counts] == [480, 0, 0, 0, 0, 480, 8]
        for name, value in (("mean_difference", expected.mean), ("champion_loss", expected.champion_loss)):
            assert match[name] == pytest.approx(value, rel=1e-5)
        assert (match["low"], match["high"]) == pytest.approx((expected.low, expected.high), rel=1e-4)
        champion, version = metrics_of(pairs, rule)
        assert match["metrics"]["champion"]["auc"] == pytest.approx(champion.auc, abs=0.02)  # of scores in levels
        assert match["metrics"]["replayed"]["brier"] == pytest.approx(version.brier, rel=1e-5)
        losses = paired_losses(pairs, rule)
        bet = report["suggested_bet"]
        assert bet["bet"] == pytest.approx(informed_bet(losses.difference, losses.gap), rel=1e-4)
        assert bet["largest_gap"] == pytest.approx(np.quantile(losses.gap, 0.9999), rel=1e-4)
        assert (bet["n_bets"], bet["champion"]) == (480, 1)
        assert (report["n_rows"], report["n_scored"], report["n_in_training"]) == (480, 480, 0)
        assert "loses" in match["sentence"]
        assert "480 matured outcomes" in match["sentence"]
        says_that_it_is_no_evidence(report)


def says_that_it_is_no_evidence(report: dict[str, Any]) -> None:
    """In every sentence and every part; and nothing in it is called as evidence would be."""
    assert len(report["sentences"]) == 3
    assert all(sentence.startswith("replay, not evidence: ") for sentence in report["sentences"])
    assert [report["is_evidence"], *(match["is_evidence"] for match in report["champions"])] == [False, False]
    said = msgspec.json.encode(report).decode()
    for word in ("verdict", "log_e", "promote", "better", "challenger"):
        assert f'"{word}' not in said


def test_rows_of_several_champions_are_told_apart(tmp_path: Path) -> None:
    with staged(tmp_path / "store") as stage:
        stage.declare(QUICK)
        stage.champion(logistic(WRONG))
        second = stage.challenger(logistic(TRUTH))
        lives(stage, range(4), {second: TRUTH})
        stage.clock(4)
        stage.registry.promote("m", second, reason="by hand", by=ME)
        stage.registry.retire("m", 1, reason="enough", by=ME)
        lives(stage, range(4, 10), {})
        ends(stage, 10)
        report = replayed(stage, stage.version(logistic(LEFT)), 0, 10, as_of=12)
        assert [(match["champion"], match["n_matured"]) for match in report["champions"]] == [(1, 240), (2, 360)]
        against_wrong, against_truth = (match["mean_difference"] for match in report["champions"])
        assert against_wrong > 0.1 > 0.0 > against_truth
        assert report["suggested_bet"]["champion"] == 2  # which reigns; and it lost to that one
        assert report["suggested_bet"]["bet"] is None
        assert report["champions"][0]["suggested_bet"]["bet"] > 0


def test_only_what_had_matured_and_was_known_when_it_was_asked_for_counts(tmp_path: Path) -> None:
    with staged(tmp_path / "store") as stage:
        stage.declare(QUICK)
        stage.champion(logistic(WEAK))
        lives(stage, range(6), {})
        rows, _ = rows_of(6)
        silent = stage.predict(6.5, rows)
        number = stage.version(logistic(TRUTH))
        stage.clock(8)
        replay = asked(stage, number, 0, 9, as_of=8)  # day 6 matures with day 7: of it nothing is known yet
        stage.outcomes(silent, [1] * N_ROWS, 8)
        stage.predict(8.2, rows)
        stage.mirrored()
        ends(stage, 12)
        first = reported(stage, replay)
        (match,) = (first.report or {})["champions"]
        assert (match["n_rows"], match["n_matured"], match["n_without_outcome"]) == (420, 360, 60)
        assert made_again(stage, replay) == first.report
        later = replayed(stage, number, 0, 9, as_of=8.5)
        assert (later["champions"][0]["n_matured"], later["champions"][0]["n_waiting"]) == (420, 60)


def made_again(stage: Stage, replay: Replay) -> dict[str, Any]:
    """The report of what is scored, by a worker that knows of none: a function of the journal at frozen cursors."""
    report = report_of(stage.registry, stage.reader, stage.ledger, replay, DAY)
    n_buckets = 0
    try:
        while True:
            next(report)
            n_buckets += 1
    except StopIteration as ended:
        assert n_buckets == 7  # of which each gives way to what is due to be decided
        return msgspec.json.decode(msgspec.json.encode(ended.value), type=dict[str, Any])


def test_rows_of_the_training_window_are_counted_apart_and_none_of_them_counts(tmp_path: Path) -> None:
    with staged(tmp_path / "store") as stage:
        stage.declare(QUICK)
        stage.champion(logistic(WEAK))
        lives(stage, range(8), {})
        ends(stage, 8)
        report = replayed(stage, stage.version(logistic(TRUTH)), 0, 8, as_of=10, trained_until=5.3)
        assert (report["n_rows"], report["n_scored"], report["n_in_training"]) == (480, 140, 340)
        assert report["champions"][0]["n_matured"] == 140
        assert "340 more are from its training window (as whoever asked states" in report["sentences"][0]


def test_a_replay_of_nothing_says_so(tmp_path: Path) -> None:
    with staged(tmp_path / "store") as stage:
        stage.declare(QUICK)
        stage.champion(logistic(WEAK))
        stage.clock(1)
        report = replayed(stage, stage.version(logistic(TRUTH)), -5, 0, as_of=1)
        assert (report["n_rows"], report["champions"], report["suggested_bet"]) == (0, [], None)
        assert "given 0 past rows" in report["sentences"][0]


def test_what_can_never_be_said_ends_in_one_sentence(tmp_path: Path) -> None:
    with staged(tmp_path / "store") as stage:
        stage.declare(QUICK)
        stage.champion(logistic(WEAK))
        lives(stage, range(2), {})
        ends(stage, 2)
        replay = asked(stage, stage.version(logistic(TRUTH)), 0, 2, as_of=4)
        assert reported(stage, replay).state == "asked"  # nothing is scored yet
        stage.mirrored()
        db = stage.ledger._db
        db.execute("UPDATE replayed_chunk SET body = substr(body, 1, 30)")
        ended = reported(stage, replay)
        assert ended.state == "failed"
        (sentence,) = (ended.report or {})["sentences"]
        assert sentence.startswith("replay, not evidence: nothing can be said, as a chunk of 30 bytes does not match")


def test_a_clock_of_before_the_champion_came_does_not_matter(tmp_path: Path) -> None:
    """Reigns begin at the machine's time until the caller's clock is set, which may be set to years before."""
    with staged(tmp_path / "store") as stage:
        stage.declare(QUICK)
        stage.champion(logistic(WEAK))
        stage.clock(-900)
        number = stage.version(logistic(TRUTH))
        span = Span(at(-950), at(-920), at(-900), {}, {}, {})
        replay = stage.registry.replays.ask("m", number, span, trained_until=at(-999), reason="to see", by=ME)
        stage.mirrored()
        assert reported(stage, replay).state == "done"
        before_it_was_kept = replace(replay, asked=replace(replay.asked, reign=None))
        report = report_of(stage.registry, stage.reader, stage.ledger, before_it_was_kept, DAY)
        with pytest.raises(StopIteration) as ended:
            next(report)
        assert ended.value.value["reign"] == 1


def two_scored(stage: Stage) -> tuple[Replay, Replay]:
    """Two replays that only their reports are missing of."""
    stage.declare(QUICK)
    stage.champion(logistic(WEAK))
    lives(stage, range(2), {})
    ends(stage, 2)
    first, second = (asked(stage, stage.version(logistic(w)), 0, 2, as_of=4) for w in (TRUTH, LEFT))
    stage.mirrored()
    return first, second


def test_one_that_raises_what_nobody_expected_ends_in_one_sentence_and_the_next_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with staged(tmp_path / "store") as stage:
        first, second = two_scored(stage)
        make = report_of

        def raises_first(*given: Any) -> Any:
            report = make(*given)
            if given[3] == first:
                yield next(report)
                raise KeyError("no such thing")
            return (yield from report)

        monkeypatch.setattr("retrain.replays.report_of", raises_first)
        assert reported(stage, second).state == "done"
        ended = stage.registry.replays.one("m", first.number)
        assert ended.state == "failed"
        assert (
            "KeyError was raised, which is a mistake of ours: 'no such thing'" in (ended.report or {})["sentences"][0]
        )


def test_one_that_cannot_be_reported_now_holds_up_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with staged(tmp_path / "store") as stage:
        first, second = two_scored(stage)
        make, is_there = report_of, [False]

        def reaches(*given: Any) -> Any:
            if given[3] == first and not is_there[0]:
                raise JournalUnavailable("a cold file cannot be reached")
            return (yield from make(*given))

        monkeypatch.setattr("retrain.replays.report_of", reaches)
        desk = ReplayDesk(stage.registry, stage.reader, stage.ledger, stage.settings)
        until(lambda: desk.step() and stage.registry.replays.one("m", second.number).state == "done", "it waits")
        assert stage.registry.replays.one("m", first.number).state == "asked"
        is_there[0] = True
        until(lambda: desk.step() and stage.registry.replays.one("m", first.number).state == "done", "it waits")


# --- what it must leave as it is


def told(stage: Stage) -> dict[str, Any]:
    """Everything that the worker derived of a model: sums of buckets, evidence, decisions, drift."""
    drift = stage.registry.drift
    reigns = [reign.number for reign in stage.registry.reigns("m")]
    return {
        "sums": [bucket.sums for reign in reigns for bucket in stage.registry.closed_buckets("m", reign)],
        "evidence": stage.registry.evidence("m"),
        "decisions": stage.registry.decisions("m"),
        "drift": drift.document("m"),
        "days": {version.number: drift.days("m", version.number, "rows") for version in stage.registry.versions("m")},
    }


N_DAYS = 42


def season(folder: Path, *, does: Callable[[Stage, int], None], answers: tuple[float, float] = TRUTH) -> dict[str, Any]:
    """A month: the champion alone for ten days, then with a challenger that wins; `does`: on the day that it comes."""
    with staged(folder) as stage:
        stage.declare(QUICK)
        stage.champion(logistic(LEFT))
        lives(stage, range(10), {})
        stage.clock(10)
        number = stage.challenger(logistic(TRUTH))
        drift = stage.drift()
        does(stage, number)
        lives(stage, range(10, N_DAYS), {number: answers})
        ends(stage, N_DAYS)
        stage.close_all()
        drift.step()
        return told(stage)


def stranger(stage: Stage, _version: int) -> None:
    """As if nobody had asked; one more version is there, as in the other story."""
    stage.version(logistic(RIGHT))


def replays(stage: Stage, version: int) -> None:
    """Ask for all the rows before it came, twice over, with the report; and for a stranger's."""
    for _ in range(2):
        report = replayed(stage, version, 0, 10)
        assert report["champions"][0]["n_matured"] > 0
        assert report["suggested_bet"]["bet"] > 0
    replayed(stage, stage.version(logistic(RIGHT)), 0, 10)


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a season without a replay comes to."""
    return season(tmp_path_factory.mktemp("without") / "store", does=stranger)


def test_sums_verdicts_ln_e_decisions_and_drift_are_the_same_bit_for_bit_with_a_replay_and_without(
    tmp_path: Path, without: dict[str, Any]
) -> None:
    assert any(bucket for bucket in without["sums"])
    assert [decision.kind for decision in without["decisions"]][-1] == "promote"
    assert without["decisions"][-1].evidence["rule"]["informed_bet"] is None  # it was replayed while it played
    assert season(tmp_path / "store", does=replays) == without


def test_control_a_slightly_other_answer_would_have_been_seen(tmp_path: Path, without: dict[str, Any]) -> None:
    other = season(tmp_path / "store", does=stranger, answers=(1.0, 1.0001))
    assert other["sums"] != without["sums"]
    assert [decision.evidence for decision in other["decisions"]] != [d.evidence for d in without["decisions"]]
