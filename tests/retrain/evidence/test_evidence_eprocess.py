"""The mixture of fixed bets: reference numbers, the loop it equals, and its guarantee with a control that breaks."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrain.evidence import Pairs, Rule, compare, sums_of
from retrain.evidence.eprocess import (
    LOG_OF_NOTHING,
    equal_grid,
    generic_grid,
    informed_bet,
    informed_grid,
    log_growth,
    log_mixture,
)

GOLDEN = Path(__file__).parent / "golden"
LOGGED: dict[str, Any] = json.loads((GOLDEN / "betting_mixture_logloss.json").read_text())
MIXTURE: dict[str, Any] = json.loads((GOLDEN / "fixed_bet_mixture.json").read_text())


def logged_pairs(n: int) -> Pairs:
    outcome, champion, challenger = (np.array(LOGGED[name][:n]) for name in ("y", "p_champion", "p_challenger"))
    return Pairs(outcome, champion, challenger, np.zeros(n, dtype=int))


@pytest.mark.parametrize("row", MIXTURE["rows"], ids=lambda row: f"n={row['n']}")
def test_the_rule_reproduces_the_reference_mixture_from_pairs(row: dict[str, float]) -> None:
    pairs = logged_pairs(int(row["n"]))
    rule = Rule(clip=MIXTURE["eps"], bets=tuple(MIXTURE["lambda_grid"]))
    sums, evidence = sums_of(pairs, rule), compare(pairs, rule)
    assert evidence.log_e == pytest.approx(row["log_e_superior"], rel=1e-9)
    assert evidence.log_e_inferior == pytest.approx(row["log_e_inferior"], rel=1e-9)
    assert (sums.sum_d, sums.sum_d2) == pytest.approx((row["S"], row["Q"]), rel=1e-9)
    assert (sums.gap, sums.gap_reverse) == pytest.approx((row["B"], row["B_reverse"]), rel=1e-9)


def test_constant_bets_reproduce_the_capital_of_confseq() -> None:
    rule = Rule(clip=LOGGED["eps"], bets=tuple(LOGGED["lambdas"]))
    for n, expected in zip(LOGGED["check_at_n"], LOGGED["log_e_mix_mp"], strict=True):
        assert compare(logged_pairs(n), rule).log_e == pytest.approx(expected, rel=1e-9)
    assert sums_of(logged_pairs(400), rule).log_growth == pytest.approx(LOGGED["log_e_per_lambda_at_400"], rel=1e-9)


differences = st.lists(st.floats(-5.0, 5.0), max_size=40)


@given(differences, st.floats(0.0, 0.5))
@settings(deadline=None, derandomize=True)
def test_log_growth_equals_the_plain_loop(d: list[float], margin: float) -> None:
    bets = generic_grid(bound=5.0).bets
    expected = [math.fsum(math.log(max(1e-3, 1 + bet * (x - margin))) for x in d) for bet in bets]
    assert log_growth(np.array(d), bets, margin) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(differences, st.floats(0.0, 20.0))
@settings(deadline=None, derandomize=True)
def test_log_mixture_equals_the_plain_loop_over_living_bets(d: list[float], largest_loss: float) -> None:
    grid = informed_grid(bound=5.0, bet=0.03)
    growth = log_growth(np.array(d), grid.bets, 0.0)
    capital = sum(
        weight * math.exp(g)
        for g, bet, weight in zip(growth, grid.bets, grid.weights, strict=True)
        if bet * largest_loss < 0.98
    )
    assert math.exp(log_mixture(growth, grid, largest_loss)) == pytest.approx(capital, rel=1e-9)


def test_more_rows_than_one_block_give_the_same_sums() -> None:
    d = np.random.default_rng(1).normal(size=20_001)
    whole, parts = log_growth(d, (0.1, 0.01), 0.0), [log_growth(part, (0.1, 0.01), 0.0) for part in np.split(d, [7])]
    assert whole == pytest.approx(np.sum(parts, axis=0), rel=1e-12)


def test_grids_spend_the_capital_once() -> None:
    assert len(generic_grid(2.0).bets) == 11
    assert generic_grid(2.0).bets[0] == 0.95 / 2.0 * 8
    assert generic_grid(2.0).bets[-1] == 0.95 / 2.0 / 128
    assert informed_grid(2.0, 0.1).bets[11:] == (0.2, 0.1, 0.05)
    for grid in (generic_grid(2.0), informed_grid(2.0, 0.1), equal_grid([1.0, 2.0])):
        assert math.fsum(grid.weights) == pytest.approx(1.0)
    assert len(Rule(informed_bet=0.1).grid(2).bets) == 14


def test_a_bet_is_out_of_play_from_the_first_prediction_that_could_ruin_it() -> None:
    grid = equal_grid([1.0, 0.5])
    assert log_mixture((3.0, 2.0), grid, largest_loss=0.97) == pytest.approx(math.log((math.e**3 + math.e**2) / 2))
    assert log_mixture((3.0, 2.0), grid, largest_loss=0.98) == pytest.approx(2.0 - math.log(2))
    assert log_mixture((3.0, 2.0), grid, largest_loss=1.96) == LOG_OF_NOTHING


def test_the_margin_counts_in_the_worst_case_and_only_forwards() -> None:
    pairs = logged_pairs(400)
    plain, margin = Rule(clip=1e-3, bets=(2.0,)), Rule(clip=1e-3, bets=(2.0,), margin=0.42)
    assert compare(pairs, plain).log_e > LOG_OF_NOTHING
    assert compare(pairs, margin).log_e == LOG_OF_NOTHING  # 2 * (0.0726 + 0.42) >= 0.98
    assert compare(pairs, margin).log_e_inferior == compare(pairs, plain).log_e_inferior


def test_the_informed_bet_is_the_fastest_that_survives_the_gaps() -> None:
    rng = np.random.default_rng(2)
    d = rng.normal(0.1, 1.0, 10_000)
    assert informed_bet(d, np.full(10_000, 0.5)) == pytest.approx(d.mean() / d.var())
    assert informed_bet(d, np.full(10_000, 100.0)) == pytest.approx(0.48 / 100)
    assert informed_bet(-d, np.ones(10_000)) is None
    assert informed_bet(np.array([]), np.array([])) is None


def looks(d: np.ndarray[Any, Any], every: int) -> np.ndarray[Any, Any]:
    """Streams × looks: sums of `d` up to each look."""
    return np.cumsum(d, axis=1)[:, every - 1 :: every]


def test_a_no_better_challenger_rarely_passes_under_unlimited_looks() -> None:
    """Rare large losses balance many small gains; the control, a z test at every look, must fail at the same looks."""
    rng = np.random.default_rng(20)
    n_streams, n, rate = 400, 3000, 0.02
    d = np.where(rng.random((n_streams, n)) < rate, -0.98, 0.02)  # mean exactly 0
    grid = generic_grid(bound=3.0)
    growth = np.stack([looks(np.log1p(bet * d), 25) for bet in grid.bets if bet * 0.98 < 0.98])
    passed = np.logaddexp.reduce(growth + math.log(1 / 11), axis=0).max(axis=1) >= math.log(20)
    assert passed.mean() <= 0.05

    total, squares, counts = looks(d, 25), looks(d * d, 25), np.arange(25, n + 1, 25)
    z = total / np.sqrt(np.maximum(squares - total * total / counts, 1e-12))
    assert (z[:, 3:].max(axis=1) > 1.645).mean() > 0.25


def test_drift_that_alternates_never_passes() -> None:
    """The weak null: worse first, better later, never better on average since the start."""
    rng = np.random.default_rng(21)
    means = np.tile(np.repeat([-0.05, 0.05], 1000), 3)
    d = np.clip(rng.normal(means, 0.3, (50, 6000)), -1, 1)
    grid = generic_grid(bound=1.0)
    growth = np.stack([looks(np.log1p(bet * d), 50) for bet in grid.bets if bet < 0.98])
    log_e = np.logaddexp.reduce(growth + math.log(1 / 11), axis=0)
    assert log_e.max() < math.log(20)


def test_the_expected_capital_of_an_equal_challenger_is_one_by_enumeration() -> None:
    """Six rows, all 64 outcomes with their chances, each such that neither version can be expected to lose less."""
    champion = np.array([0.2, 0.3, 0.6, 0.5, 0.15, 0.8])
    challenger = np.array([0.3, 0.25, 0.7, 0.2, 0.1, 0.9])  # the fourth puts the largest bet out of play
    d_of_one, d_of_zero = np.log(challenger / champion), np.log((1 - challenger) / (1 - champion))
    chance = d_of_zero / (d_of_zero - d_of_one)  # of a 1: then the mean of d is 0
    rule = Rule(clip=1e-3)
    grid, largest = rule.grid(2), float(np.maximum(-d_of_one, -d_of_zero).max())
    in_play = sum(share for bet, share in zip(grid.bets, grid.weights, strict=True) if bet * largest < 0.98)
    expected = expected_in_reverse = 0.0
    for number in range(64):
        outcome = np.array([number >> row & 1 for row in range(6)])
        probability = float(np.prod(np.where(outcome == 1, chance, 1 - chance)))
        evidence = compare(Pairs(outcome, champion, challenger, np.zeros(6, dtype=int)), rule)
        expected += probability * math.exp(evidence.log_e)
        expected_in_reverse += probability * math.exp(evidence.log_e_inferior)
    assert expected == pytest.approx(in_play)
    assert in_play == pytest.approx(10 / 11)
    assert expected_in_reverse <= 1.0 + 1e-9
