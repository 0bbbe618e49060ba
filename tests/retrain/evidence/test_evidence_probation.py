"""After a promotion: going back is easier than going forward, and still no stormy week does it."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from retrain.evidence import (
    BucketSums,
    Candidate,
    Evidence,
    PairedCounts,
    Pairs,
    Rule,
    Serving,
    choose,
    compare,
    detect,
    judge,
    judge_probation,
    probation_rule,
    sums_of,
)
from retrain.evidence.choice import LOG_E_BETWEEN
from retrain.evidence.detector import detector_course
from retrain.evidence.eprocess import equal_grid, log_growth
from retrain.evidence.losses import paired_losses

GOLDEN = Path(__file__).parent / "golden"
LOGGED: dict[str, Any] = json.loads((GOLDEN / "betting_mixture_logloss.json").read_text())
DETECTOR: dict[str, Any] = json.loads((GOLDEN / "detector.json").read_text())
SLOTS: dict[str, Any] = json.loads((GOLDEN / "slots.json").read_text())
PROMOTED_BY = Rule(task="regression", n_slots=2, reference_loss=0.5, fast=True)
RULE = probation_rule(PROMOTED_BY)
A_DAY = 60


def days_of(mean: Any, n_days: int, seed: int = 0, **parts: Any) -> list[BucketSums]:
    """D > 0: the new champion loses more than the previous one."""
    rng = np.random.default_rng(seed)
    sums = []
    for day, of_day in enumerate(np.broadcast_to(mean, n_days)):
        d = rng.normal(of_day, 0.4, A_DAY).clip(-1, 1)
        pairs = Pairs((1 + d) / 2, np.zeros(A_DAY), np.ones(A_DAY), np.full(A_DAY, day))
        sums.append(sums_of(pairs, RULE, **parts))
    return sums


# ---- probation ------------------------------------------------------------------------------------------------------


def test_probation_has_neither_slots_nor_a_margin_and_is_exact() -> None:
    assert (RULE.n_slots, RULE.delta, RULE.fast) == (1, 0.0, False)
    assert PROMOTED_BY.delta > 0


def test_a_new_champion_that_loses_more_goes_back_once_days_agree() -> None:
    days = days_of(0.15, 40)
    stands = [judge_probation(days[:n], RULE, n_promoted=2000) for n in range(1, 41)]
    first = next(n for n, each in enumerate(stands, 1) if each.course == "roll_back")
    assert 14 <= first <= 25
    assert stands[8].log_e >= math.log(20)  # single outcomes alone would have gone back long before
    assert stands[first - 1].sentence.startswith("the new champion loses more than the old on ")


def test_a_new_champion_that_is_no_worse_passes() -> None:
    days = days_of(-0.05, 40)
    early = judge_probation(days[:20], RULE, n_promoted=1000)
    assert (early.course, early.n_days, early.n) == ("in_probation", 20, 1200)
    assert early.sentence == "the new champion is in probation: 20 of 14 days, 1,200 of 2,000 outcomes"
    assert judge_probation(days, RULE, n_promoted=1000).course == "passed"
    assert judge_probation(days[:13], RULE, n_promoted=100).course == "in_probation"
    assert judge_probation([], RULE, n_promoted=100).course == "in_probation"


def test_days_that_share_shocks_roll_back_no_equal_champion() -> None:
    """The control, single outcomes alone, goes back several times too often on the same reigns."""
    back, back_by_outcomes = [], []
    for seed in range(60):
        shocks = np.random.default_rng(1000 + seed).normal(0, 0.2, 60)
        days = days_of(shocks, 60, seed)
        looks = [judge_probation(days[:n], RULE, n_promoted=10_000) for n in range(10, 61, 5)]
        back.append(any(each.course == "roll_back" for each in looks))
        back_by_outcomes.append(any(each.log_e >= math.log(20) for each in looks))
    assert np.mean(back) <= 0.05
    assert np.mean(back_by_outcomes) >= 0.15


def test_errors_and_slow_answers_go_back_at_once() -> None:
    failing = days_of(-0.1, 2, serving=Serving(errors=PairedCounts(500, 30, 2)))
    stands = judge_probation(failing, RULE, n_promoted=100, new="version 9", previous="version 7")
    assert stands.course == "roll_back"
    assert stands.sentence == "version 9 alone failed on 60 of 1,000 rows, version 7 alone on 4"
    slow = days_of(-0.1, 2, serving=Serving(slow=PairedCounts(500, 30, 2)))
    assert judge_probation(slow, RULE, n_promoted=100).sentence.startswith("the new champion alone was too slow")
    for no_worse in (PairedCounts(500, 30, 30), PairedCounts(100_000, 90, 0)):  # as often; less than 0.1 % more often
        days = days_of(-0.1, 2, serving=Serving(errors=no_worse))
        assert judge_probation(days, RULE, n_promoted=100).course == "in_probation"


# ---- detector -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("way", "sign"), [("on_d", 1.0), ("on_minus_d", -1.0)])
def test_the_detector_reproduces_the_reference(way: str, sign: float) -> None:
    y, champion, challenger = (np.array(LOGGED[name]) for name in ("y", "p_champion", "p_challenger"))
    losses = paired_losses(Pairs(y, champion, challenger, np.zeros(400, dtype=int)), Rule(clip=DETECTOR["eps"]))
    grid = equal_grid(DETECTOR["lambda_grid"])
    growth = [log_growth(sign * part, grid.bets, 0.0) for part in np.split(losses.difference, 10)]
    course = detector_course(growth, [0.0] * 10, grid)
    assert [log_sr for log_sr, _ in course] == pytest.approx([row["log_SR"] for row in DETECTOR[way]], rel=1e-9)
    assert [log_cusum for _, log_cusum in course] == pytest.approx(
        [row["log_CUSUM"] for row in DETECTOR[way]], rel=1e-9
    )


def test_events_that_are_repeated_and_corrected_leave_the_reference_sums() -> None:
    upsert = DETECTOR["upsert"]
    final = dict(upsert["events"])  # the last word on each row
    assert final == upsert["final"]
    rows = [int(name[1:]) - 1 for name in final]
    champion, challenger = (np.array(LOGGED[name])[rows] for name in ("p_champion", "p_challenger"))
    pairs = Pairs(np.array(list(final.values())), champion, challenger, np.zeros(4, dtype=int))
    sums = sums_of(pairs, Rule(clip=DETECTOR["eps"]))
    assert sums.n == upsert["n"]
    assert (sums.sum_d, sums.sum_d2) == pytest.approx((upsert["S"], upsert["Q"]), rel=1e-9)


def test_the_detector_equals_the_plain_recursion_and_forgets_dead_bets() -> None:
    rng = np.random.default_rng(1)
    grid = equal_grid([1.0, 0.5])
    growth, gaps = rng.normal(0, 0.3, (12, 2)), np.where(np.arange(12) < 6, 0.5, 1.2)
    course = detector_course(growth.tolist(), gaps.tolist(), grid)
    sums, cusums = np.zeros(2), np.ones(2)
    for (log_sr, log_cusum), of_bucket, gap in zip(course, growth, gaps, strict=True):
        factor = np.exp(of_bucket) * (np.array(grid.bets) * gap < 0.98)
        sums, cusums = (sums + 1) * factor, np.maximum(cusums, 1) * factor
        assert (log_sr, log_cusum) == pytest.approx((math.log(sums.mean()), math.log(cusums.mean())))


def test_the_sum_of_a_fair_bet_is_the_number_of_buckets() -> None:
    """R minus the number of buckets is a martingale: by enumeration of four buckets of one fair row each."""
    grid, expected = equal_grid([0.4, 0.9]), 0.0
    for fates in range(16):
        d = [1.0 if fates >> k & 1 else -1.0 for k in range(4)]
        growth = [log_growth(np.array([x]), grid.bets, 0.0) for x in d]
        expected += math.exp(detector_course(growth, [1.0] * 4, grid)[-1][0]) / 16
    assert expected == pytest.approx(4.0)


def test_an_alarm_comes_soon_after_the_change_and_in_any_order_of_buckets() -> None:
    changed = days_of(np.where(np.arange(60) < 40, 0.0, 0.3), 60)
    quiet, alarmed = detect(changed[:40], RULE), detect(changed, RULE)
    assert (quiet.alarm, alarmed.alarm, alarmed.n_buckets) == (False, True, 60)
    assert detect(changed[::-1], RULE) == alarmed
    first = next(n for n in range(41, 61) if detect(changed[:n], RULE).alarm)
    assert first <= 45
    assert detect([], RULE).n_buckets == 0


def test_an_alarm_is_confirmed_only_when_whole_weeks_say_the_same() -> None:
    """Days that swing alarm for nothing, which is the control; a change that lasts is confirmed within four weeks."""
    rng = np.random.default_rng(12)
    swinging = detect(days_of(rng.normal(0.0, 0.25, 120), 120), RULE)
    assert (swinging.alarm, swinging.confirmed) == (True, False)
    changed = days_of(np.where(np.arange(100) < 40, 0.0, 0.3), 100)
    confirmed = [n for n in range(41, 101) if detect(changed[:n], RULE).confirmed]
    assert 45 < confirmed[0] <= 68
    assert confirmed == list(range(confirmed[0], 101))
    assert detect(changed[::-1], RULE).confirmed


# ---- several challengers --------------------------------------------------------------------------------------------


def with_low(low: float | None) -> Evidence:
    return replace(judge([], Rule()), low=low)


def test_slots_share_alpha_as_by_hand() -> None:
    case = SLOTS["bonferroni_fwer"]
    rule = Rule(alpha=case["alpha"], n_slots=case["K"])
    assert math.exp(rule.log_e_threshold) == pytest.approx(case["threshold"])
    assert [k for k, e in enumerate(case["e"]) if math.log(e) >= rule.log_e_threshold] == case["promoted"]


def test_the_surest_gain_is_promoted() -> None:
    ready = [Candidate(2, with_low(0.01)), Candidate(5, with_low(0.03)), Candidate(7, with_low(None))]
    asked = []

    def clearly(first: Candidate, second: Candidate) -> float:
        asked.append((first.version, second.version))
        return LOG_E_BETWEEN

    assert choose(ready, clearly).version == 5
    assert asked == [(5, 2)]
    assert choose(ready[:1], clearly).version == 2
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("of_two", "of_five", "chosen"), [(0.2, 0.1, 5), (0.1, 0.2, 2), (0.1, 0.1, 2), (None, 0.5, 5), (None, None, 2)]
)
def test_of_two_that_cannot_be_told_apart_the_faster_then_the_older(
    of_two: float | None, of_five: float | None, chosen: int
) -> None:
    ready = [
        Candidate(5, with_low(0.03), of_five),
        Candidate(2, with_low(0.02), of_two),
        Candidate(1, with_low(0.0), 0.0),
    ]
    assert choose(ready, lambda first, second: LOG_E_BETWEEN - 0.01).version == chosen


def test_pairs_of_two_challengers_say_which_is_better() -> None:
    rng = np.random.default_rng(2)
    truth = rng.normal(0, 1, 1200)
    good, better = truth + rng.normal(0, 0.5, 1200), truth + rng.normal(0, 0.2, 1200)
    bucket = np.arange(1200) // 40
    assert compare(Pairs(truth, good, better, bucket), RULE).log_e > LOG_E_BETWEEN
