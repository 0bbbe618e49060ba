"""Promise: a no-better challenger is promoted in at most 5 % of reigns, with days that share shocks."""

import numpy as np
import pytest
from numpy.typing import NDArray

from retrain.evidence import BucketSums, Pairs, Rule, judge, sums_of

RULE = Rule(task="regression", min_outcomes=500)
N_STREAMS, N_DAYS, A_DAY = 120, 90, 60


def shocks_of_days(rng: np.random.Generator, autocorrelation: float) -> NDArray[np.float64]:
    """Stationary shocks to the mean difference of each day, mean 0, standard deviation 0.25: design effect 5."""
    shock = rng.normal(0.0, 0.25, N_DAYS)
    for day in range(1, N_DAYS):
        shock[day] = autocorrelation * shock[day - 1] + np.sqrt(1 - autocorrelation**2) * shock[day]
    return np.clip(shock, -1.0, 1.0)


def reign(rng: np.random.Generator, gain: float, autocorrelation: float) -> list[BucketSums]:
    """One bucket a day; each row is won or lost by 1, more often won on the days that favour the challenger."""
    chance_of_winning = np.clip((1 + gain + shocks_of_days(rng, autocorrelation)) / 2, 0.0, 1.0)
    return [
        sums_of(
            Pairs((rng.random(A_DAY) < chance).astype(float), np.zeros(A_DAY), np.ones(A_DAY), np.full(A_DAY, day)),
            RULE,
        )
        for day, chance in enumerate(chance_of_winning)
    ]


def promoted(sums: list[BucketSums]) -> tuple[bool, bool]:
    """Looked at every other day: promoted by the whole rule, and by exact evidence of single outcomes alone."""
    looks = [judge(sums[:n_days], RULE) for n_days in range(10, N_DAYS + 1, 2)]
    return any(look.promote for look in looks), any(look.log_e >= look.log_e_threshold for look in looks)


@pytest.mark.parametrize("autocorrelation", [pytest.param(0.0, marks=pytest.mark.slow), 0.4])
def test_days_that_share_shocks_promote_no_equal_challenger(autocorrelation: float) -> None:
    """The control, the exact condition alone, must promote several times too often on the same streams."""
    rng = np.random.default_rng(40)
    outcomes = np.array([promoted(reign(rng, 0.0, autocorrelation)) for _ in range(N_STREAMS)])
    by_the_rule, by_single_outcomes = outcomes.mean(axis=0)
    assert by_the_rule <= 0.05
    assert by_single_outcomes >= 0.15


def test_the_same_rule_promotes_a_better_challenger_under_the_same_shocks() -> None:
    rng = np.random.default_rng(41)
    outcomes = np.array([promoted(reign(rng, 0.2, 0.0)) for _ in range(20)])
    assert outcomes[:, 0].mean() >= 0.9
