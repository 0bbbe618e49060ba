"""Verdicts in their order, each condition where it alone fails, and the sentences that people read."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from retrain.evidence import Evidence, Pairs, Rule, compare, judge

Days = Sequence[np.ndarray[Any, Any]]
RULE = Rule(task="regression")


def days_with(mean: float, *, n_days: int = 40, a_day: int = 30, noise: float = 0.4, seed: int = 0) -> Days:
    """Differences of each day, drawn around `mean`."""
    rng = np.random.default_rng(seed)
    return [np.clip(rng.normal(mean, noise, a_day), -1, 1) for _ in range(n_days)]


def pairs_of(days: Days) -> Pairs:
    """Rows that make exactly these differences: champion 0, challenger 1, and an outcome between them."""
    d = np.concatenate(days)
    bucket = np.repeat(np.arange(len(days)), [len(day) for day in days])
    return Pairs((1 + d) / 2, np.zeros(len(d)), np.ones(len(d)), bucket)


def with_rows(pairs: Pairs, outcome: float, champion: float, challenger: float, n: int = 1) -> Pairs:
    """The same pairs with `n` equal rows more, on their first day."""
    added = (outcome, champion, challenger)
    columns = (pairs.outcome, pairs.champion, pairs.challenger)
    extended = [np.append(column, [value] * n) for column, value in zip(columns, added, strict=True)]
    return Pairs(extended[0], extended[1], extended[2], np.append(pairs.bucket, [pairs.bucket[0]] * n))


def failing(evidence: Evidence) -> list[str]:
    return [condition.name for condition in evidence.conditions if not condition.holds]


def detail(evidence: Evidence, name: str) -> str:
    (found,) = (condition.detail for condition in evidence.conditions if condition.name == name)
    return found


WINNING = pairs_of(days_with(0.3))


def binary_winning(n_positives: int) -> Pairs:
    """2,000 rows of 40 days with so many positives, spread evenly; the challenger is right on either class."""
    outcome = np.zeros(2000)
    outcome[np.linspace(0, 1999, n_positives).astype(int)] = 1.0
    bucket = np.arange(2000) // 50
    champion = np.full(2000, 0.1)
    sharpness = np.random.default_rng(8).uniform(0.3, 1.0, 40)[bucket]  # days differ
    challenger = np.where(outcome == 1, 0.1 + 0.3 * sharpness, 0.1 - 0.06 * sharpness)
    return Pairs(outcome, champion, challenger, bucket)


# ---- conditions -----------------------------------------------------------------------------------------------------


def test_a_challenger_that_meets_every_condition_is_better() -> None:
    evidence = compare(WINNING, RULE)
    assert (evidence.verdict, evidence.promote, failing(evidence)) == ("better", True, [])
    names = [condition.name for condition in evidence.conditions]
    assert names == ["evidence", "clustered_evidence", "effective_days", "outcomes", "coverage", "recent"]
    assert evidence.low is not None
    assert evidence.high is not None
    assert 0 < evidence.low < evidence.mean < evidence.high


def test_evidence_alone_fails_when_one_absurd_answer_cost_what_was_earned() -> None:
    """Halfway between the two answers, so that the row itself changes no sum: what it could have lost is paid for."""
    risky = compare(with_rows(WINNING, outcome=50.0, champion=0.0, challenger=100.0), RULE)
    assert failing(risky) == []
    assert risky.log_e < compare(WINNING, RULE).log_e - 5
    ruinous = compare(with_rows(WINNING, outcome=500.0, champion=0.0, challenger=1000.0), RULE)
    assert failing(ruinous) == ["evidence"]
    assert detail(ruinous, "evidence") == f"ln E over single outcomes is {ruinous.log_e:.2f} of the 3.00 needed"


def test_where_nothing_is_paid_one_absurd_answer_puts_every_bet_out_of_play() -> None:
    """With weights the gap itself is drawn: a row that was not seen could not pay for what it might have lost."""
    absurd = with_rows(WINNING, outcome=500.0, champion=0.0, challenger=1000.0)
    evidence = compare(replace(absurd, weight=np.ones(len(absurd))), RULE)
    assert "no bet survives a row where the challenger could lose 1e+03 more" in detail(evidence, "evidence")


def test_clustered_evidence_alone_fails_when_days_swing() -> None:
    swings = np.append(np.random.default_rng(3).normal(0.1, 0.35, 30), [0.1] * 10)
    swung = [np.clip(day + swing, -1, 1) for day, swing in zip(days_with(0), swings, strict=True)]
    evidence = compare(pairs_of(swung), RULE)
    assert failing(evidence) == ["clustered_evidence"]
    assert evidence.log_e > 8
    assert detail(evidence, "clustered_evidence").endswith("of the 3.00 needed")


def test_effective_days_alone_fails_when_neighbouring_days_agree() -> None:
    wave = 0.5 + 0.2 * np.sin(np.arange(40) * 2 * math.pi / 20)
    evidence = compare(pairs_of([np.full(30, level) for level in wave]), RULE)
    assert failing(evidence) == ["effective_days"]
    expected = f"40 days with outcomes count as {evidence.n_effective_days:.1f} independent days of the 28 needed"
    assert detail(evidence, "effective_days") == expected


def test_before_28_days_windows_decide_nothing() -> None:
    evidence = compare(pairs_of(days_with(0.3, n_days=27, a_day=40)), RULE)
    assert failing(evidence) == ["clustered_evidence", "effective_days"]
    assert evidence.log_e_clustered > evidence.log_e_threshold


def test_equal_days_decide_nothing() -> None:
    evidence = compare(pairs_of([*days_with(0.3, n_days=1)] * 40), RULE)
    assert failing(evidence) == ["clustered_evidence", "effective_days"]
    assert (evidence.low, evidence.high, evidence.log_e_clustered) == (None, None, 0.0)
    assert detail(evidence, "effective_days").startswith("40 days with outcomes show no spread to judge by")


def test_outcomes_alone_fails_when_few_matured() -> None:
    evidence = compare(pairs_of(days_with(0.3, a_day=24)), RULE)
    assert failing(evidence) == ["outcomes"]
    assert detail(evidence, "outcomes") == "960 matured outcomes of the 1,000 needed"


def test_minority_alone_fails_when_the_rarer_class_was_hardly_seen() -> None:
    evidence = compare(binary_winning(n_positives=49), Rule(base_rate=0.1))
    assert failing(evidence) == ["minority"]
    assert detail(evidence, "minority") == "49 outcomes of the rarest class of the 50 needed"
    assert compare(binary_winning(n_positives=50), Rule(base_rate=0.1)).verdict == "better"


def test_coverage_alone_fails_when_outcomes_are_missing() -> None:
    evidence = compare(with_rows(WINNING, math.nan, 0.0, 1.0, n=80), RULE)
    assert failing(evidence) == ["coverage"]
    assert detail(evidence, "coverage") == "93.8 % of 1,280 due outcomes arrived of the 95 % needed"
    assert (evidence.n, evidence.n_due) == (1200, 1280)


def test_span_alone_fails_when_a_season_is_asked_for() -> None:
    evidence = compare(WINNING, replace(RULE, min_span_days=91))
    assert failing(evidence) == ["span"]
    assert detail(evidence, "span") == "the run spans 40 days of the 91 needed"


def test_more_slots_need_more_evidence() -> None:
    pairs = pairs_of(days_with(0.06, noise=0.3, seed=2))
    assert compare(pairs, RULE).promote
    shared = compare(pairs, replace(RULE, n_slots=500))
    assert shared.log_e_threshold == pytest.approx(math.log(10_000))
    assert failing(shared) == ["clustered_evidence"]


def test_a_margin_asks_for_more_than_better() -> None:
    evidence = compare(WINNING, replace(RULE, margin=0.3))
    assert set(failing(evidence)) == {"evidence", "clustered_evidence"}
    assert evidence.mean == compare(WINNING, RULE).mean


# ---- verdicts -------------------------------------------------------------------------------------------------------


def test_before_the_first_outcome_the_verdict_is_collecting() -> None:
    for rule in (Rule(reference_loss=0.4), Rule(task="regression", reference_loss=0.4)):
        evidence = judge([], rule)
        assert (evidence.verdict, evidence.n, evidence.mean, evidence.log_e) == ("collecting", 0, 0.0, 0.0)
        assert evidence.sentence == "no outcome has matured yet to compare the challenger with the champion"


def test_a_worse_challenger_is_worse_only_when_days_agree() -> None:
    losing = days_with(-0.3)
    evidence = compare(pairs_of(losing), RULE)
    assert (evidence.verdict, evidence.promote) == ("worse", False)
    early = compare(pairs_of(losing[:13]), RULE)
    assert early.log_e_inferior > math.log(20)
    assert early.verdict != "worse"
    assert compare(pairs_of(losing[:13]), replace(RULE, min_effective_days_worse=5)).verdict == "worse"


def test_a_challenger_is_not_worse_while_single_outcomes_prove_nothing() -> None:
    ruinous = compare(with_rows(pairs_of(days_with(-0.3)), outcome=500.0, champion=0.0, challenger=1000.0), RULE)
    assert ruinous.log_e_clustered_inferior > math.log(20)
    assert ruinous.verdict != "worse"


def test_worse_is_not_shared_between_slots_and_asks_for_no_minimum() -> None:
    losing = pairs_of(days_with(-0.3, n_days=20))
    assert compare(losing, replace(RULE, n_slots=1000, min_outcomes=10**6)).verdict == "worse"


def test_a_challenger_that_is_merely_not_better_by_the_margin_is_not_worse() -> None:
    as_good = pairs_of(days_with(0.0, n_days=60))
    assert compare(as_good, replace(RULE, margin=0.3)).verdict != "worse"


def test_a_challenger_that_cannot_gain_enough_makes_no_difference() -> None:
    evidence = compare(pairs_of(days_with(0.0, n_days=120, noise=0.05)), replace(RULE, least_gain=0.02))
    assert evidence.verdict == "no_difference"
    assert evidence.high is not None
    assert evidence.high < 0.02


def test_a_challenger_ahead_with_the_minimums_met_is_leading() -> None:
    few_days = days_with(0.3, n_days=20, a_day=60)
    assert compare(pairs_of(few_days), RULE).verdict == "leading"
    assert compare(pairs_of(few_days[:10]), RULE).verdict == "collecting"
    lucky = compare(pairs_of(days_with(0.004, n_days=20, a_day=60, seed=6)), RULE)
    assert lucky.mean > 0 > lucky.log_e
    assert lucky.verdict == "collecting"
    behind = compare(pairs_of(days_with(-0.01, n_days=20, a_day=60)), RULE)
    assert behind.verdict == "collecting"


def test_the_first_verdict_that_holds_is_given() -> None:
    """In the order worse, better, no_difference, leading: each pair that can hold together."""
    anything_is_too_small = replace(RULE, least_gain=10.0)
    assert compare(pairs_of(days_with(-0.3)), anything_is_too_small).verdict == "worse"
    assert compare(WINNING, anything_is_too_small).verdict == "better"
    leading = pairs_of(days_with(0.3, n_days=20, a_day=60))
    assert (compare(leading, RULE).verdict, compare(leading, anything_is_too_small).verdict) == (
        "leading",
        "no_difference",
    )


def test_a_challenger_that_fails_everywhere_is_worse_not_unseen() -> None:
    rng = np.random.default_rng(9)
    p = rng.beta(1, 4, 3000)
    outcome = (rng.random(3000) < p).astype(float)
    pairs = Pairs(outcome, p, np.full(3000, math.nan), np.arange(3000) // 75)
    evidence = compare(pairs, Rule(base_rate=0.2), challenger="version 3")
    assert (evidence.verdict, evidence.n_failed) == ("worse", 3000)
    assert "version 3 gave no usable answer on 3,000 of them and was scored as the prior" in evidence.sentence


# ---- sentences ------------------------------------------------------------------------------------------------------


def percent(x: float | None, evidence: Evidence) -> str:
    assert x is not None
    return f"{100 * abs(x) / evidence.champion_loss:.1f} %"


def test_the_sentence_of_a_better_challenger() -> None:
    evidence = compare(WINNING, RULE, champion="version 7", challenger="version 8")
    mean, low, high = (percent(x, evidence) for x in (evidence.mean, evidence.low, evidence.high))
    assert evidence.sentence == (
        f"version 8 loses {mean} less than version 7 on 1,200 matured outcomes, "
        f"between {low} and {high} at any-time 95 %; every condition holds"
    )


def test_the_sentence_of_a_worse_challenger() -> None:
    evidence = compare(pairs_of(days_with(-0.3)), RULE)
    mean, low, high = (percent(x, evidence) for x in (evidence.mean, evidence.low, evidence.high))
    assert evidence.sentence == (
        f"the challenger loses {mean} more than the champion on 1,200 matured outcomes, "
        f"between {high} and {low} at any-time 95 %"
    )


def test_the_sentence_says_what_is_missing() -> None:
    evidence = compare(pairs_of(days_with(0.02, n_days=20, a_day=20)), replace(RULE, alpha=0.1))
    mean, low, high = (percent(x, evidence) for x in (evidence.mean, evidence.low, evidence.high))
    assert evidence.sentence == (
        f"the challenger loses {mean} less than the champion on 400 matured outcomes, "
        f"between {low} more and {high} less at any-time 90 %; still missing: "
        f"ln E over single outcomes is {evidence.log_e:.2f} of the 2.30 needed; "
        f"ln E over windows of days is {evidence.log_e_clustered:.2f} of the 2.30 needed; "
        f"20 days with outcomes count as {evidence.n_effective_days:.1f} independent days of the 28 needed; "
        "400 matured outcomes of the 1,000 needed; "
        f"{detail(evidence, 'recent')}; "
        "if it goes on like this, more than 1,900 more outcomes, and perhaps never enough"
    )


def test_the_sentence_of_no_difference_says_what_would_be_worth_having() -> None:
    evidence = compare(pairs_of(days_with(0.0, n_days=120, noise=0.05)), replace(RULE, least_gain=0.02))
    assert evidence.sentence.endswith(f"; a gain of {percent(0.02, evidence)}, the least worth having, is out of reach")


def test_sentences_of_the_first_rows() -> None:
    perfect = Pairs(np.array([1.0]), np.array([1.0]), np.array([3.0]), np.array([0]))
    assert compare(perfect, RULE).sentence.startswith(
        "the challenger loses 2 more than the champion on 1 matured outcome;"
    )
    same = Pairs(np.array([1.0]), np.array([2.0]), np.array([2.0]), np.array([0]))
    assert compare(same, RULE).sentence.startswith("the challenger loses as much as the champion on 1 matured outcome;")
