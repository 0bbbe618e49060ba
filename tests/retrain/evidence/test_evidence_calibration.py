"""Calibration: a fair bet where probabilities are meant, a quick one where they are off, and a veto by comparison."""

import math
from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from retrain.evidence import Pairs, Rule, compare
from retrain.evidence.calibration import BETS, EDGES, N_SUMS, log_e_miscalibrated, log_growth_miscalibrated, total

Floats = NDArray[np.float64]


def log_e(outcome: Floats, probability: Floats, tolerance: float = 0.0) -> float:
    return log_e_miscalibrated(log_growth_miscalibrated(outcome, probability, tolerance))


def test_meant_probabilities_are_a_fair_bet_by_enumeration() -> None:
    probability = np.array([0.01, 0.3, 0.3, 0.7, 0.95])
    expected = 0.0
    for outcome in product((0.0, 1.0), repeat=5):
        happened = np.array(outcome)
        chance = float(np.prod(np.where(happened == 1, probability, 1 - probability)))
        expected += chance * math.exp(log_e(happened, probability))
    assert expected == pytest.approx(1.0)


def test_growth_equals_the_plain_loop() -> None:
    rng = np.random.default_rng(1)
    p, y = rng.random(40), (rng.random(40) < 0.4).astype(float)
    expected = []
    for sign, bet in product((1, -1), BETS):
        for band in (None, *range(len(EDGES) + 1)):
            low, high = (-1, 2) if band is None else ((-1, *EDGES)[band], (*EDGES, 2)[band])
            rows = [(a, b) for a, b in zip(p, y, strict=True) if low <= a < high]
            expected.append(sum(math.log(1 + bet * (sign * (b - a) - 0.2 * a * (1 - a))) for a, b in rows))
    got = log_growth_miscalibrated(y, p, 0.2)
    assert len(got) == N_SUMS
    assert got == pytest.approx(expected, abs=1e-12)
    halves = total([log_growth_miscalibrated(y[:7], p[:7], 0.2), log_growth_miscalibrated(y[7:], p[7:], 0.2)])
    assert halves == pytest.approx(got, abs=1e-12)


def test_what_is_off_is_found_out_and_what_is_not_rarely() -> None:
    rng = np.random.default_rng(2)
    fired = dict.fromkeys((0.0, 0.5), 0)
    for shift in fired:
        for _ in range(60):
            logit = rng.normal(-2, 1, 4000)
            y = (rng.random(4000) < 1 / (1 + np.exp(-logit))).astype(float)
            said = 1 / (1 + np.exp(-(logit + shift)))
            fired[shift] += any(log_e(y[:n], said[:n]) >= math.log(20) for n in range(200, 4001, 200))
    assert fired[0.0] <= 3
    assert fired[0.5] == 60


def test_what_is_off_in_one_band_only_is_found_out() -> None:
    rng = np.random.default_rng(3)
    p = rng.choice([0.1, 0.15, 0.6, 0.7], 20_000)
    happens = np.where(p == 0.1, 0.15, np.where(p == 0.6, 0.55, p))  # right on average
    y = (rng.random(20_000) < happens).astype(float)
    assert log_e(y, p) > math.log(20)


def test_an_error_within_the_tolerance_is_none() -> None:
    rng = np.random.default_rng(4)
    logit = rng.normal(-1, 1, 20_000)
    y = (rng.random(20_000) < 1 / (1 + np.exp(-logit))).astype(float)
    said = 1 / (1 + np.exp(-(logit + 0.15)))
    assert log_e(y, said) > math.log(20)
    assert log_e(y, said, tolerance=0.25) < 0


def season(rng: np.random.Generator, champion_shift: float, challenger_shift: float) -> Pairs:
    """The challenger knows more than the champion; either may be off in log-odds."""
    n = 8000
    known, hidden = rng.normal(0, 1, n), rng.normal(0, 1.2, n)
    y = (rng.random(n) < 1 / (1 + np.exp(-(known + hidden)))).astype(float)
    champion = 1 / (1 + np.exp(-(known * 0.8 + champion_shift)))
    challenger = 1 / (1 + np.exp(-(known + hidden + challenger_shift)))
    return Pairs(y, champion, challenger, np.arange(n) // 100)


def test_a_better_challenger_that_is_off_more_than_the_champion_is_held_back() -> None:
    evidence = compare(season(np.random.default_rng(5), 0.0, 0.7), Rule())
    assert [c.name for c in evidence.conditions if not c.holds] == ["calibration"]
    assert compare(season(np.random.default_rng(5), 1.2, 0.7), Rule()).verdict == "better"
    assert compare(season(np.random.default_rng(5), 0.0, 0.7), Rule(calibration_tolerance=0.8)).verdict == "better"
