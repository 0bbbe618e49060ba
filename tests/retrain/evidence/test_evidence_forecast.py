"""What is still missing: an interval that usually holds what it took, and says so when nobody can know."""

import math

import numpy as np
import pytest

from retrain.evidence import BucketSums, Forecast, Pairs, Rule, compare, judge, sums_of
from retrain.evidence.sentences import Figures, sentence_of

RULE = Rule(task="regression")
A_DAY = 40


def reign(rng: np.random.Generator, mean: float, n_days: int) -> Pairs:
    n = n_days * A_DAY
    shocks = np.repeat(rng.normal(0, 0.05, n_days), A_DAY)
    d = np.clip(rng.normal(mean, 0.45, n) + shocks, -1, 1)
    return Pairs((1 + d) / 2, np.zeros(n), np.ones(n), np.arange(n) // A_DAY)


def first_promotion(sums: list[BucketSums]) -> int | None:
    """Outcomes at the first even day on which the whole rule promotes."""
    for n_days in range(28, len(sums) + 1, 2):
        evidence = judge(sums[:n_days], RULE)
        if evidence.promote:
            return evidence.n
    return None


def test_the_interval_usually_holds_what_it_took() -> None:
    """From day 20 on: most hold it, and it is neither a point nor everything."""
    rng = np.random.default_rng(1)
    held = asked = 0
    for _ in range(30):
        sums = [sums_of(bucket, RULE) for bucket in reign(rng, 0.06, 120).by_bucket()]
        awaited, took = judge(sums[:20], RULE).forecast, first_promotion(sums)
        if awaited is None:
            continue
        asked += 1
        more = math.inf if took is None else took - 20 * A_DAY
        held += awaited.low * 0.95 <= more <= (math.inf if awaited.high is None else awaited.high * 1.05)
    assert asked >= 20
    assert 0.6 <= held / asked <= 0.97


def test_minimums_are_awaited_too() -> None:
    """A gain that is beyond doubt still has to wait for 28 days and 1,000 outcomes."""
    evidence = compare(reign(np.random.default_rng(2), 0.5, 14), RULE)
    assert evidence.forecast is not None
    assert evidence.forecast.low >= 14 * A_DAY


def test_larger_gains_take_no_longer() -> None:
    lows = []
    for mean in (0.02, 0.05, 0.1):
        awaited = compare(reign(np.random.default_rng(3), mean, 25), RULE).forecast
        assert awaited is not None
        lows.append(awaited.low)
    assert lows == sorted(lows, reverse=True)


@pytest.mark.parametrize("n_days", [0, 1, 3])
def test_too_few_days_foretell_nothing(n_days: int) -> None:
    assert compare(reign(np.random.default_rng(4), 0.1, n_days), RULE).forecast is None


def test_a_challenger_that_loses_leads_nowhere() -> None:
    assert compare(reign(np.random.default_rng(5), -0.05, 25), RULE).forecast is None


def test_nothing_is_foretold_once_there_is_a_verdict() -> None:
    evidence = compare(reign(np.random.default_rng(6), 0.3, 60), RULE)
    assert (evidence.verdict, evidence.forecast) == ("better", None)


@pytest.mark.parametrize(
    ("awaited", "words"),
    [
        (Forecast(2_960, 7_049), "about 3,000 to 7,000 more outcomes"),
        (Forecast(0, 812), "up to about 810 more outcomes"),
        (Forecast(94, None), "more than 94 more outcomes, and perhaps never enough"),
    ],
)
def test_a_forecast_is_said_with_two_digits(awaited: Forecast, words: str) -> None:
    figures = compare(reign(np.random.default_rng(7), 0.02, 5), RULE)
    said = sentence_of(
        "collecting",
        Figures(figures.n, 0, 0.1, None, None, 1.0, 0.0, 0.05),
        ["days"],
        awaited,
        champion="a",
        challenger="b",
    )
    assert said.endswith(f"still missing: days; if it goes on like this, {words}")
