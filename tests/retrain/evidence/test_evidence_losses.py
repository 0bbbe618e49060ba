"""Losses of a pair: the loop they equal, what a failure costs, and what is refused."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrain.evidence import EvidenceError, Pairs, Rule, compare, sums_of
from retrain.evidence.errors import ImpossibleValue, InvalidRule, MismatchedPairs, MissingPrior, UnusedColumn
from retrain.evidence.losses import paired_losses

probability = st.floats(0.0, 1.0)
binary_rows = st.lists(
    st.tuples(st.sampled_from([0.0, 1.0, math.nan]), probability, st.one_of(probability, st.just(math.nan))),
    min_size=1,
    max_size=30,
)
number = st.floats(-1e6, 1e6)
regression_rows = st.lists(
    st.tuples(st.one_of(number, st.just(math.nan)), number, st.one_of(number, st.just(math.nan))),
    min_size=1,
    max_size=30,
)


def one_bucket(outcome: Any, champion: Any, challenger: Any) -> Pairs:
    return Pairs(np.array(outcome), np.array(champion), np.array(challenger), np.zeros(len(outcome), dtype=int))


@given(binary_rows, st.floats(0.02, 0.98))
@settings(deadline=None, derandomize=True)
def test_binary_losses_equal_the_plain_loop(rows: list[tuple[float, float, float]], base_rate: float) -> None:
    rule = Rule(base_rate=base_rate, clip=1e-3)
    got = paired_losses(one_bucket(*zip(*rows, strict=True)), rule)

    def log_loss(p: float, y: float) -> float:
        p = min(max(p, 1e-3), 1 - 1e-3)
        return -math.log(p) if y == 1 else -math.log(1 - p)

    matured = [(y, a, base_rate if math.isnan(b) else b, math.isnan(b)) for y, a, b in rows if not math.isnan(y)]
    worst = [min(log_loss(a, y) - log_loss(b, y) for y in (0, 1)) for _, a, b, _ in matured]
    best = [max(log_loss(a, y) - log_loss(b, y) for y in (0, 1)) for _, a, b, _ in matured]
    np.testing.assert_allclose(got.champion, [log_loss(a, y) for y, a, _, _ in matured], atol=1e-12)
    np.testing.assert_allclose(got.difference, [log_loss(a, y) - log_loss(b, y) for y, a, b, _ in matured], atol=1e-12)
    np.testing.assert_allclose(got.gap, [max(0.0, -d) for d in worst], atol=1e-12)
    np.testing.assert_allclose(got.gap_reverse, [max(0.0, d) for d in best], atol=1e-12)
    assert got.failed.tolist() == [failed for *_, failed in matured]


@given(regression_rows)
@settings(deadline=None, derandomize=True)
def test_absolute_errors_equal_the_plain_loop(rows: list[tuple[float, float, float]]) -> None:
    rule = Rule(task="regression", scale=50.0, prior=7.0)
    got = paired_losses(one_bucket(*zip(*rows, strict=True)), rule)
    matured = [(y, a, 7.0 if math.isnan(b) else b) for y, a, b in rows if not math.isnan(y)]
    np.testing.assert_allclose(got.champion, [abs(y - a) / 50 for y, a, _ in matured])
    np.testing.assert_allclose(got.difference, [(abs(y - a) - abs(y - b)) / 50 for y, a, b in matured], atol=1e-9)
    np.testing.assert_allclose(got.gap, [abs(a - b) / 50 for _, a, b in matured])
    assert (np.abs(got.difference) <= got.gap + 1e-9).all()


def test_multiclass_losses_equal_the_plain_loop() -> None:
    rng = np.random.default_rng(3)
    champion, challenger = rng.dirichlet((1, 2, 3), 50), rng.dirichlet((3, 2, 1), 50)
    outcome = rng.integers(0, 3, 50)
    got = paired_losses(one_bucket(outcome, champion, challenger), Rule(task="multiclass", clip=0.01))
    a, b = np.clip(champion, 0.01, 0.99), np.clip(challenger, 0.01, 0.99)
    for i, y in enumerate(outcome):
        assert got.difference[i] == pytest.approx(math.log(b[i, y] / a[i, y]))
        assert got.gap[i] == pytest.approx(max(0.0, *(math.log(a[i, k] / b[i, k]) for k in range(3))))
        assert got.gap_reverse[i] == pytest.approx(max(0.0, *(math.log(b[i, k] / a[i, k]) for k in range(3))))


def test_two_classes_are_judged_alike_as_binary_and_as_multiclass() -> None:
    rng = np.random.default_rng(4)
    y, a, b = rng.integers(0, 2, 500), rng.random(500), rng.random(500)
    a[7] = 0.0
    as_binary = sums_of(one_bucket(y, a, b), Rule(base_rate=0.2))
    table = one_bucket(y, np.stack([1 - a, a], axis=1), np.stack([1 - b, b], axis=1))
    assert sums_of(table, Rule(task="multiclass", base_rate=(0.8, 0.2))) == as_binary


def test_swapping_the_names_of_two_classes_changes_no_evidence() -> None:
    rng = np.random.default_rng(5)
    y, a, b = rng.integers(0, 2, 500), rng.random(500), rng.random(500)
    sums = sums_of(one_bucket(y, a, b), Rule(base_rate=0.9))
    swapped = sums_of(one_bucket(1 - y, 1 - a, 1 - b), Rule(base_rate=0.1))
    assert swapped.log_growth == pytest.approx(sums.log_growth, rel=1e-9)
    assert swapped.class_counts == sums.class_counts[::-1]


@pytest.mark.parametrize("no_answer", [math.nan, math.inf, -math.inf, 1.7, -0.2, 1e308])
def test_a_failed_challenger_takes_the_loss_of_the_base_rate(no_answer: float) -> None:
    rule = Rule(base_rate=0.1)
    failed = sums_of(one_bucket([0.0, 1.0, 1.0], [0.2, 0.7, 0.6], [0.1, no_answer, 0.9]), rule)
    as_prior = sums_of(one_bucket([0.0, 1.0, 1.0], [0.2, 0.7, 0.6], [0.1, 0.1, 0.9]), rule)
    assert (failed.n_failed, as_prior.n_failed) == (1, 0)
    assert failed.log_growth == as_prior.log_growth
    assert (failed.n, failed.gap, failed.sum_d) == (3, as_prior.gap, as_prior.sum_d)
    assert failed.gap == pytest.approx(math.log(0.7 / 0.1))


def test_a_row_of_class_scores_that_does_not_add_to_one_is_a_failure() -> None:
    champion = [[0.2, 0.3, 0.5], [0.2, 0.3, 0.5]]
    sums = sums_of(one_bucket([2, 2], champion, [[1.0, 1.0, 1.0], [0.1, 0.1, 0.8]]), Rule(task="multiclass"))
    assert sums.n_failed == 1
    assert sums.sum_d == pytest.approx(math.log(1 / 3 / 0.5) + math.log(0.8 / 0.5))


@pytest.mark.parametrize("no_answer", [math.nan, math.inf, 1e200])
def test_a_failed_regression_answer_takes_the_loss_of_the_prior(no_answer: float) -> None:
    pairs = one_bucket([3.0, 4.0], [2.0, 2.0], [3.0, no_answer])
    sums = sums_of(pairs, Rule(task="regression", prior=9.0))
    assert (sums.n_failed, sums.sum_d, sums.gap) == (1, (1 - 0) + (2 - 5), 7.0)
    with pytest.raises(MissingPrior, match="expected a prediction for the 1 rows"):
        sums_of(pairs, Rule(task="regression"))


def test_an_outcome_that_never_arrived_counts_as_due_and_as_nothing_else() -> None:
    arrived = sums_of(one_bucket([1.0, 0.0], [0.5, 0.5], [0.6, 0.4]), Rule())
    with_missing = sums_of(one_bucket([1.0, math.nan, 0.0], [0.5, 0.01, 0.5], [0.6, 0.99, 0.4]), Rule())
    assert (with_missing.n_due, arrived.n_due) == (3, 2)
    assert with_missing.n == arrived.n
    assert (with_missing.gap, with_missing.log_growth) == (arrived.gap, arrived.log_growth)


def test_probabilities_in_single_precision_may_round_past_one() -> None:
    assert sums_of(one_bucket([1.0], [np.float32(1.0000001)], [np.float32(1.0000001)]), Rule()).n_failed == 0


@pytest.mark.parametrize(
    ("columns", "rule", "error", "message"),
    [
        (
            ([1.0, 0.0], [0.5, math.nan], [0.5, 0.5]),
            Rule(),
            ImpossibleValue,
            "champion: expected prob.* got nan in row 1",
        ),
        (([1.0, 0.0], [0.5, 1.2], [0.5, 0.5]), Rule(), ImpossibleValue, "champion: expected prob.* got 1.2 in row 1"),
        (([1.0, 2.0], [0.5, 0.5], [0.5, 0.5]), Rule(), ImpossibleValue, "outcome: expected a class.* got 2.0 in row 1"),
        (([math.inf], [0.5], [0.5]), Rule(), ImpossibleValue, "outcome: expected a class from 0 to 1"),
        (([1.0], [math.nan], [0.5]), Rule(task="regression"), ImpossibleValue, "champion: expected finite numbers"),
        (([math.inf], [0.5], [0.5]), Rule(task="regression"), ImpossibleValue, "outcome: expected finite numbers"),
        (([1.0], [0.5], [0.5]), Rule(task="multiclass"), MismatchedPairs, r"expected shape \(n, n_classes\)"),
        (([1.0], [[0.5, 0.5]], [[0.5, 0.5]]), Rule(), MismatchedPairs, r"expected shape \(n,\) for binary"),
        (
            ([1.0], [[0.5, 0.5]], [[0.5, 0.5]]),
            Rule(task="multiclass", base_rate=(0.2, 0.3, 0.5)),
            InvalidRule,
            "base_rate: expected 2 shares",
        ),
    ],
)
def test_what_cannot_be_is_refused(columns: Any, rule: Rule, error: type[EvidenceError], message: str) -> None:
    with pytest.raises(error, match=message):
        compare(one_bucket(*columns), rule)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (([1.0], [0.5, 0.5], [0.5, 0.5], [0]), "champion: expected 1 rows, as outcome"),
        (([1.0], [0.5], [0.5, 0.5], [0]), r"challenger: expected shape \(1,\), as champion, got \(2,\)"),
        (([1.0], [0.5], [0.5], [0, 1]), "bucket: expected 1 rows"),
        (([1.0], [0.5], [0.5], [0.0]), "bucket: expected one dimension of integers, got dtype float64"),
        ((["yes"], [0.5], [0.5], [0]), "outcome: expected numbers, got dtype <U3"),
        (([[1.0]], [0.5], [0.5], [0]), r"outcome: expected 1 dimension\(s\)"),
    ],
)
def test_columns_that_do_not_belong_together_are_refused(columns: Any, message: str) -> None:
    with pytest.raises(MismatchedPairs, match=message):
        Pairs(*map(np.array, columns))


@pytest.mark.parametrize(
    ("column", "rule"),
    [
        ("amount", Rule()),
        ("amount", Rule(loss="brier")),
        ("amount", Rule(task="regression")),
        ("scale", Rule()),
        ("scale", Rule(loss="cost")),
        ("scale", Rule(task="recommendation")),
    ],
)
def test_columns_that_would_be_ignored_are_refused(column: str, rule: Rule) -> None:
    one = np.array([1.0])
    message = f"{column}: expected None, because {rule.measured_by} does not use it"
    with pytest.raises(UnusedColumn, match=message):
        compare(Pairs(one, one, one, np.array([0]), **{column: one}), rule)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"alpha": 0.0}, "alpha: expected a number between 0 and 0.5, got 0.0"),
        ({"alpha": math.nan}, "alpha"),
        ({"n_slots": 0}, "n_slots: expected 1 or more, got 0"),
        ({"margin": -0.1}, "margin: expected 0 or more"),
        ({"clip": 0.5}, "clip"),
        ({"task": "ranking"}, "task: expected 'binary'"),
        ({"bets": ()}, "bets"),
        ({"bets": (0.5, -1.0)}, "bets: expected numbers above 0"),
        ({"bets": (0.5,), "informed_bet": 0.1}, "informed_bet: expected None"),
        ({"base_rate": 1.5}, "base_rate"),
        ({"base_rate": (0.5, 0.5)}, "base_rate"),
        ({"base_rate": (0.5, 0.6), "task": "multiclass"}, "adding to 1"),
    ],
)
def test_an_impossible_rule_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRule, match=message):
        Rule(**fields)


def test_defaults_follow_from_what_the_training_report_says() -> None:
    rule = Rule(base_rate=0.02, reference_loss=0.1)
    assert rule.delta == pytest.approx(0.0005)
    assert rule.least_gain_of(champion_loss=7.0) == pytest.approx(0.001)
    assert rule.epsilon(n_classes=2) == pytest.approx(0.001)
    assert Rule(base_rate=1e-5).epsilon(n_classes=2) == 1e-4
    assert Rule().epsilon(n_classes=2) == 0.025
    assert Rule().delta == 0.0
    assert Rule().least_gain_of(champion_loss=7.0) == pytest.approx(0.07)
    assert Rule(n_slots=2).log_e_threshold == pytest.approx(math.log(40))
