"""The mixture of fixed bets: reference numbers, the loop it equals, and its guarantee with a control that breaks."""

import json
import math
from pathlib import Path
from typing import Any

import msgspec
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
    log_factors,
    log_growth,
    log_loss_grid,
    log_mixture,
)
from retrain.evidence.losses import paired_losses

GOLDEN = Path(__file__).parent / "golden"
LOGGED: dict[str, Any] = json.loads((GOLDEN / "betting_mixture_logloss.json").read_text())
PREMIUM: dict[str, Any] = json.loads((GOLDEN / "premium_mixture.json").read_text())
MIXTURE: dict[str, Any] = json.loads((GOLDEN / "fixed_bet_mixture.json").read_text())


def logged_pairs(n: int) -> Pairs:
    outcome, champion, challenger = (np.array(LOGGED[name][:n]) for name in ("y", "p_champion", "p_challenger"))
    return Pairs(outcome, champion, challenger, np.zeros(n, dtype=int))


@pytest.mark.parametrize("row", MIXTURE["rows"], ids=lambda row: f"n={row['n']}")
def test_the_rule_reproduces_the_reference_mixture_from_pairs(row: dict[str, float]) -> None:
    """With weights, of 1 each: where no row pays a premium, the gap puts bets out of play."""
    pairs = logged_pairs(int(row["n"]))
    rule = Rule(clip=MIXTURE["eps"], bets=tuple(MIXTURE["lambda_grid"]))
    weighted = msgspec.structs.replace(pairs, weight=np.ones(len(pairs)))
    sums, evidence = sums_of(weighted, rule), compare(weighted, rule)
    assert evidence.log_e == pytest.approx(row["log_e_superior"], rel=1e-9)
    assert evidence.log_e_inferior == pytest.approx(row["log_e_inferior"], rel=1e-9)
    assert (sums.sum_d, sums.sum_d2) == pytest.approx((row["S"], row["Q"]), rel=1e-9)
    assert (sums.gap, sums.largest_unpaid, sums.largest_unpaid_reverse) == pytest.approx(
        (row["B"], row["B"], row["B_reverse"]), rel=1e-9
    )


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
    grid = informed_grid(generic_grid(bound=5.0), bet=0.03)
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
    informed = informed_grid(generic_grid(2.0), 0.1)
    assert informed.bets[11:] == (0.2, 0.1, 0.05)
    for grid in (generic_grid(2.0), log_loss_grid(), informed, equal_grid([1.0, 2.0])):
        assert math.fsum(grid.weights) == pytest.approx(1.0)
    assert (len(Rule().grid.bets), len(Rule(informed_bet=0.1).grid.bets)) == (14, 17)
    assert len(Rule(loss="brier", informed_bet=0.1).grid.bets) == 14


def test_a_bet_is_out_of_play_from_the_first_prediction_that_could_ruin_it() -> None:
    grid = equal_grid([1.0, 0.5])
    assert log_mixture((3.0, 2.0), grid, largest_loss=0.97) == pytest.approx(math.log((math.e**3 + math.e**2) / 2))
    assert log_mixture((3.0, 2.0), grid, largest_loss=0.98) == pytest.approx(2.0 - math.log(2))
    assert log_mixture((3.0, 2.0), grid, largest_loss=1.96) == LOG_OF_NOTHING


@pytest.mark.parametrize("row", PREMIUM["rows"], ids=lambda row: f"n={row['n']}")
def test_the_rule_reproduces_the_reference_mixture_with_premiums(row: dict[str, float]) -> None:
    pairs = logged_pairs(int(row["n"]))
    rule = Rule(clip=PREMIUM["eps"], bets=tuple(PREMIUM["lambda_grid"]), margin=PREMIUM["margin"])
    sums, evidence = sums_of(pairs, rule), compare(pairs, rule)
    assert evidence.log_e == pytest.approx(row["log_e_superior"], rel=1e-9)
    assert evidence.log_e_inferior == pytest.approx(row["log_e_inferior"], rel=1e-9)
    assert sums.log_growth[0] == pytest.approx(row["log_growth_of_largest_bet"], rel=1e-9)
    assert (sums.largest_unpaid, sums.largest_unpaid_reverse) == (0.0, 0.0)


rows_with_gaps = st.lists(st.tuples(st.floats(0.0, 20.0), st.floats(-1.0, 3.0)), min_size=1, max_size=30)


@given(rows_with_gaps, st.floats(0.0, 0.5), st.sampled_from([4.0, 1.0, 0.2, 0.01]))
@settings(deadline=None, derandomize=True)
def test_factors_with_premiums_equal_the_plain_loop(rows: list[tuple[float, float]], margin: float, bet: float) -> None:
    gap, d = np.array([gap for gap, _ in rows]), np.array([max(-gap, gap * share) for gap, share in rows])
    premium = [max(0.0, bet * (g + margin) - 0.98) for g in gap]
    expected = [math.log(1 + k + bet * (x - margin)) - k for k, x in zip(premium, d, strict=True)]
    assert log_factors(d, bet, margin, gap) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(st.floats(0.0, 20.0), st.floats(0.0, 20.0), st.floats(0.0, 1.0), st.floats(0.0, 0.5), st.floats(1e-3, 8.0))
@settings(deadline=None, derandomize=True, max_examples=300)
def test_no_row_is_expected_to_grow_by_more_than_its_mean_difference(
    gap: float, win: float, chance: float, margin: float, bet: float
) -> None:
    """The inequality that all rests on, for outcomes at both ends: E[factor] <= exp(λ(E[d] - δ))."""
    factors = np.exp(log_factors(np.array([-gap, win]), bet, margin, np.array([gap, gap])))
    expected = (1 - chance) * factors[0] + chance * factors[1]
    assert expected <= math.exp(bet * (chance * win - (1 - chance) * gap - margin)) * (1 + 1e-9)


@given(rows_with_gaps)
@settings(deadline=None, derandomize=True)
def test_premiums_never_cost_more_than_being_out_of_play(rows: list[tuple[float, float]]) -> None:
    gap, d = np.array([gap for gap, _ in rows]), np.array([max(-gap, gap * share) for gap, share in rows])
    grid = generic_grid(bound=5.0)
    paid = log_mixture(log_growth(d, grid.bets, 0.0, gap), grid)
    assert paid >= log_mixture(log_growth(d, grid.bets, 0.0), grid, float(gap.max())) - 1e-9


def test_the_margin_counts_in_the_premium_and_only_forwards() -> None:
    pairs = logged_pairs(400)
    plain, margin = Rule(clip=1e-3, bets=(2.0,)), Rule(clip=1e-3, bets=(2.0,), margin=0.42)
    losses = paired_losses(pairs, margin)
    assert 2 * losses.gap.max() < 0.98 < 2 * (losses.gap.max() + 0.42)
    premium = np.maximum(0.0, 2.0 * (losses.gap + 0.42) - 0.98)
    expected = (np.log(1.0 + premium + 2.0 * (losses.difference - 0.42)) - premium).sum()
    assert compare(pairs, margin).log_e == pytest.approx(expected, rel=1e-9)
    assert compare(pairs, margin).log_e_inferior == compare(pairs, plain).log_e_inferior


def test_half_is_the_fastest_bet_on_a_right_challenger_whatever_the_size_of_its_gain() -> None:
    rng = np.random.default_rng(5)
    for spread in (0.05, 0.2, 0.4):
        challenger = 1 / (1 + np.exp(-rng.normal(-2.0, 1.0, 200_000)))
        champion = 1 / (1 + np.exp(-np.log(challenger / (1 - challenger)) - rng.normal(0.0, spread, 200_000)))
        wins = np.log(challenger / champion), np.log((1 - challenger) / (1 - champion))
        bets = np.array(log_loss_grid().bets)
        growth = [
            float((challenger * np.log1p(b * wins[0]) + (1 - challenger) * np.log1p(b * wins[1])).mean()) for b in bets
        ]
        assert bets[np.argmax(growth)] == pytest.approx(0.5, rel=0.3)


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


def test_rare_rows_that_lose_it_all_are_paid_for_and_bets_that_shrink_there_would_be_fooled() -> None:
    """Every hundredth row, whose gap says so beforehand, loses what the next 99 win: never better on average so far."""
    rng = np.random.default_rng(22)
    d = 20 / 99 + rng.choice([-0.5, 0.5], (200, 3000))
    d[:, ::100] = -20.0
    gap = np.where(d == -20.0, 20.0, 0.5 - 20 / 99)
    grid = generic_grid(bound=1.0)

    def passed(factors: list[np.ndarray[Any, Any]]) -> float:
        log_e = np.logaddexp.reduce([looks(each, 1) for each in factors], axis=0) - math.log(len(grid.bets))
        return float((log_e.max(axis=1) >= math.log(20)).mean())

    assert passed([log_factors(d, bet, 0.0, gap) for bet in grid.bets]) <= 0.05
    assert passed([np.log1p(np.minimum(bet, 0.98 / gap) * d) for bet in grid.bets]) == 1.0


def test_drift_that_alternates_never_passes() -> None:
    """The weak null: worse first, better later, never better on average since the start."""
    rng = np.random.default_rng(21)
    means = np.tile(np.repeat([-0.05, 0.05], 1000), 3)
    d = np.clip(rng.normal(means, 0.3, (50, 6000)), -1, 1)
    grid = generic_grid(bound=1.0)
    growth = np.stack([looks(np.log1p(bet * d), 50) for bet in grid.bets if bet < 0.98])
    log_e = np.logaddexp.reduce(growth + math.log(1 / 11), axis=0)
    assert log_e.max() < math.log(20)


def test_the_expected_capital_of_an_equal_challenger_is_one_less_premiums_by_enumeration() -> None:
    """Six rows, all 64 outcomes with their chances, each such that neither version can be expected to lose less."""
    champion = np.array([0.2, 0.3, 0.6, 0.5, 0.15, 0.8])
    challenger = np.array([0.3, 0.25, 0.7, 0.2, 0.1, 0.9])
    d_of_one, d_of_zero = np.log(challenger / champion), np.log((1 - challenger) / (1 - champion))
    chance = d_of_zero / (d_of_zero - d_of_one)  # of a 1: then the mean of d is 0
    rule = Rule(clip=1e-3, bets=(2.0, 0.5, 0.1))
    premiums = [np.maximum(0.0, bet * np.maximum(-d_of_one, -d_of_zero) - 0.98) for bet in rule.grid.bets]
    left = [float(np.prod(np.exp(-each) * (1.0 + each))) for each in premiums]
    expected = expected_in_reverse = 0.0
    for number in range(64):
        outcome = np.array([number >> row & 1 for row in range(6)])
        probability = float(np.prod(np.where(outcome == 1, chance, 1 - chance)))
        evidence = compare(Pairs(outcome, champion, challenger, np.zeros(6, dtype=int)), rule)
        expected += probability * math.exp(evidence.log_e)
        expected_in_reverse += probability * math.exp(evidence.log_e_inferior)
    assert expected == pytest.approx(sum(left) / 3)
    assert left[0] < 0.9  # the largest bet pays on some rows
    assert left[1:] == [1.0, 1.0]
    assert expected_in_reverse <= 1.0 + 1e-9
