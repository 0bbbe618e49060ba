"""The other losses: each equals its plain loop over what could have happened, and its gaps bound every outcome."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrain.evidence import Pairs, Rule, compare, sums_of
from retrain.evidence.errors import ImpossibleValue, InvalidRule, MissingPrior
from retrain.evidence.losses import paired_losses

GOLDEN = Path(__file__).parent / "golden"
LOGGED: dict[str, Any] = json.loads((GOLDEN / "betting_mixture_logloss.json").read_text())
OFF_POLICY: dict[str, Any] = json.loads((GOLDEN / "off_policy.json").read_text())

probability = st.floats(0.0, 1.0)
binary_rows = st.lists(st.tuples(st.sampled_from([0.0, 1.0]), probability, probability), min_size=1, max_size=20)
number = st.floats(-1e6, 1e6)
number_rows = st.lists(st.tuples(number, number, number), min_size=1, max_size=20)


def one_bucket(outcome: Any, champion: Any, challenger: Any, **columns: Any) -> Pairs:
    n = len(outcome)
    optional = {name: np.array(column) for name, column in columns.items()}
    return Pairs(np.array(outcome), np.array(champion), np.array(challenger), np.zeros(n, dtype=int), **optional)


# ---- Brier ----------------------------------------------------------------------------------------------------------


def test_brier_differences_reproduce_the_reference() -> None:
    expected = json.loads((GOLDEN / "brier_differences.json").read_text())["d_brier"]
    pairs = one_bucket(*(LOGGED[name] for name in ("y", "p_champion", "p_challenger")))
    np.testing.assert_allclose(paired_losses(pairs, Rule(loss="brier")).difference, expected, rtol=1e-9, atol=1e-15)


@given(binary_rows)
@settings(deadline=None, derandomize=True)
def test_binary_brier_equals_the_plain_loop(rows: list[tuple[float, float, float]]) -> None:
    got = paired_losses(one_bucket(*zip(*rows, strict=True)), Rule(loss="brier"))
    for i, (y, a, b) in enumerate(rows):
        possible = [(a - k) ** 2 - (b - k) ** 2 for k in (0, 1)]
        assert got.champion[i] == pytest.approx((a - y) ** 2, abs=1e-12)
        assert got.difference[i] == pytest.approx(possible[int(y)], abs=1e-12)
        assert got.gap[i] == pytest.approx(max(0.0, -min(possible)), abs=1e-12)
        assert got.gap_reverse[i] == pytest.approx(max(0.0, *possible), abs=1e-12)


def test_multiclass_brier_is_the_halved_squared_distance() -> None:
    rng = np.random.default_rng(1)
    champion, challenger = rng.dirichlet((1, 2, 3), 50), rng.dirichlet((3, 2, 1), 50)
    outcome = rng.integers(0, 3, 50)
    got = paired_losses(one_bucket(outcome, champion, challenger), Rule(task="multiclass", loss="brier"))
    happened = np.eye(3)
    for i, y in enumerate(outcome):
        possible = [
            (((champion[i] - happened[k]) ** 2).sum() - ((challenger[i] - happened[k]) ** 2).sum()) / 2
            for k in range(3)
        ]
        assert got.difference[i] == pytest.approx(possible[y], abs=1e-12)
        assert got.gap[i] == pytest.approx(max(0.0, -min(possible)), abs=1e-12)
    assert np.abs(got.difference).max() <= 1


# ---- costs ----------------------------------------------------------------------------------------------------------


@given(binary_rows, st.floats(0.05, 0.95), st.floats(0.05, 0.95))
@settings(deadline=None, derandomize=True)
def test_costs_equal_the_plain_loop(
    rows: list[tuple[float, float, float]], cut_champion: float, cut_challenger: float
) -> None:
    costs = ((1.0, 40.0), (6.0, 3.0))
    amounts = [10.0 * (i + 1) for i in range(len(rows))]
    rule = Rule(loss="cost", costs=costs, thresholds=(cut_champion, cut_challenger), scale=50.0)
    got = paired_losses(one_bucket(*zip(*rows, strict=True), amount=amounts), rule)
    for i, (y, a, b) in enumerate(rows):
        size = amounts[i] / 50.0 / 37.0  # the largest difference that a decision makes is 40 - 3
        possible = [(costs[a >= cut_champion][k] - costs[b >= cut_challenger][k]) * size for k in (0, 1)]
        assert got.champion[i] == pytest.approx(costs[a >= cut_champion][int(y)] * size)
        assert got.difference[i] == pytest.approx(possible[int(y)], abs=1e-12)
        assert got.gap[i] == pytest.approx(max(0.0, -min(possible)), abs=1e-12)
        assert got.gap_reverse[i] == pytest.approx(max(0.0, *possible), abs=1e-12)


def test_only_decisions_that_differ_are_evidence() -> None:
    rule = Rule(loss="cost", costs=((0.0, 9.0), (1.0, 0.0)))
    assert rule.cut == (0.1, 0.1)  # 1 wrongly, 9 missed
    got = paired_losses(one_bucket([1.0, 1.0, 0.0], [0.2, 0.05, 0.05], [0.9, 0.11, 0.11]), rule)
    assert got.difference.tolist() == [0.0, 1.0, pytest.approx(-1 / 9)]


def test_a_challenger_that_failed_decides_as_the_base_rate_does() -> None:
    rule = Rule(loss="cost", base_rate=0.3, thresholds=(0.5, 0.25))
    assert paired_losses(one_bucket([1.0], [0.4], [math.nan]), rule).difference.tolist() == [1.0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"loss": "cost", "costs": ((0.0, 1.0), (0.0, 0.0))}, "each wrong decision to cost more"),
        ({"loss": "cost", "costs": ((0.0, math.inf), (1.0, 0.0))}, "costs: expected finite numbers"),
        ({"loss": "cost", "thresholds": (0.5, 1.5)}, "thresholds: expected two probabilities"),
        ({"costs": ((0.0, 1.0), (1.0, 0.0))}, "costs: expected None, as log_loss has none"),
        ({"thresholds": (0.5, 0.5)}, "thresholds: expected None, as log_loss has none"),
        ({"loss": "pinball"}, "loss: expected 'log_loss' or 'brier' or 'cost' for binary, got 'pinball'"),
        ({"task": "regression", "quantile": 0.0}, "quantile"),
        ({"mirror_share": 0.0}, "mirror_share: expected a share above 0"),
        ({"recent_days": 0}, "recent_days: expected 1 or more"),
    ],
)
def test_a_rule_of_other_losses_that_cannot_be_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRule, match=message):
        Rule(**fields)


# ---- numbers --------------------------------------------------------------------------------------------------------


@given(number_rows, st.floats(0.05, 0.95))
@settings(deadline=None, derandomize=True)
def test_pinball_equals_the_plain_loop_and_no_outcome_exceeds_its_gap(
    rows: list[tuple[float, float, float]], quantile: float
) -> None:
    scales = [float(i + 1) for i in range(len(rows))]
    rule = Rule(task="regression", loss="pinball", quantile=quantile)
    got = paired_losses(one_bucket(*zip(*rows, strict=True), scale=scales), rule)

    def lost(y: float, forecast: float) -> float:
        return quantile * (y - forecast) if y >= forecast else (1 - quantile) * (forecast - y)

    for i, (y, a, b) in enumerate(rows):
        possible = [(lost(far, a) - lost(far, b)) / scales[i] for far in (-1e9, a, b, y, 1e9)]
        assert got.champion[i] == pytest.approx(lost(y, a) / scales[i])
        assert got.difference[i] == pytest.approx(possible[3], abs=1e-6)
        assert got.gap[i] == pytest.approx(max(0.0, -min(possible)), abs=1e-5)
        assert got.gap_reverse[i] == pytest.approx(max(0.0, *possible), abs=1e-5)


@given(number_rows, st.floats(1e-3, 1e3))
@settings(deadline=None, derandomize=True)
def test_a_scale_of_every_row_is_the_scale_of_the_rule(rows: list[tuple[float, float, float]], scale: float) -> None:
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    by_row = sums_of(one_bucket(*columns, scale=[scale] * len(rows)), Rule(task="regression"))
    assert by_row == sums_of(one_bucket(*columns), Rule(task="regression", scale=scale))
    in_other_units = sums_of(one_bucket(*(column / scale for column in columns)), Rule(task="regression"))
    assert in_other_units.log_growth == pytest.approx(by_row.log_growth, rel=1e-6, abs=1e-6)


# ---- rewards --------------------------------------------------------------------------------------------------------


def test_rewards_reproduce_exact_fractions() -> None:
    columns = [np.array(OFF_POLICY[name], dtype=float) for name in ("reward", "p_log", "p_target")]
    pairs, rule = one_bucket(*columns), Rule(task="recommendation")
    got = paired_losses(pairs, rule)
    assert got.difference.mean() == pytest.approx(OFF_POLICY["paired_d_mean"], rel=1e-12)
    assert -(got.champion - got.difference).mean() == pytest.approx(199 / 54, rel=1e-12)
    assert got.gap.tolist() == [1.0] * 6  # however large the weight is, no more than the reward can be lost
    sums = sums_of(pairs, rule)
    weights = columns[2] / columns[1]
    assert sums.n_effective == pytest.approx(weights.sum() ** 2 / (weights**2).sum())


def test_a_logged_propensity_stands_beside_both_versions_own_chances() -> None:
    rule = Rule(task="recommendation")
    by_champion = sums_of(one_bucket([1.0, 0.0], [0.5, 0.2], [0.1, 0.9]), rule)
    logged = sums_of(one_bucket([1.0, 0.0], [0.5, 0.2], [0.1, 0.9], weight=[2.0, 5.0]), rule)
    assert logged.log_growth == pytest.approx(by_champion.log_growth)
    explored = paired_losses(one_bucket([1.0], [0.5], [0.9], weight=[10.0]), rule)
    assert (explored.difference[0], explored.gap[0]) == (pytest.approx(4.0), pytest.approx(5.0))


def test_tiny_effective_samples_are_refused() -> None:
    """Twenty rows with weights of 90 among 4,000: a fortune, and no evidence."""
    rng = np.random.default_rng(2)
    n = 4000
    champion, challenger = np.full(n, 0.9), np.full(n, 0.9)
    champion[:20], challenger[:20] = 0.01, 0.9
    order = rng.permutation(n)
    reward = np.where(np.arange(n) < 20, 1.0, (rng.random(n) < 0.1).astype(float))[order]
    pairs = Pairs(reward, champion[order], challenger[order], np.arange(n) // 100)
    evidence = compare(pairs, Rule(task="recommendation"))
    (condition,) = (c for c in evidence.conditions if c.name == "effective_sample")
    assert (condition.holds, evidence.verdict) == (False, "collecting")
    assert condition.detail == "weights make 4,000 outcomes worth 201 of the 1,000 needed"


@pytest.mark.parametrize(
    ("columns", "error", "message"),
    [
        (([1.0], [0.0], [0.5]), ImpossibleValue, "champion: expected probabilities above 0, got 0.0 in row 0"),
        (([1.5], [0.5], [0.5]), ImpossibleValue, "outcome: expected a reward from 0 to 1"),
        (([1.0], [0.5], [1.5]), MissingPrior, "expected a prediction for the 1 rows"),
    ],
)
def test_recommendations_that_cannot_be_are_refused(columns: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        compare(one_bucket(*columns), Rule(task="recommendation"))


# ---- the rule as metric version -------------------------------------------------------------------------------------


def test_the_digest_of_a_rule_names_every_constant() -> None:
    digests = {
        Rule().digest,
        Rule(loss="log_loss").digest,
        Rule(loss="brier").digest,
        Rule(min_outcomes=999).digest,
        Rule(task="regression").digest,
        Rule(task="regression", loss="pinball", quantile=0.9).digest,
    }
    assert len(digests) == 6
    assert Rule(bets=(1, 2)).digest == Rule(bets=(1.0, 2.0)).digest
    assert Rule().digest.startswith("sha256:")
