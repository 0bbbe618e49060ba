"""The order of scores: AUC and DeLong's variance from mergeable counts, and metrics for people, by reference."""

import json
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrain.evidence import Metrics, Pairs, Rule, Task, compare, metrics_of, metrics_of_sums, sums_of
from retrain.evidence.bets import Scored
from retrain.evidence.metrics import auc, average_precision, ks_statistic
from retrain.evidence.ranking import PairedAuc, ScoreCounts, lowest_gain, paired_auc, score_counts

GOLDEN = Path(__file__).parent / "golden"
METRICS: dict[str, Any] = json.loads((GOLDEN / "metrics.json").read_text())
LOGGED: dict[str, Any] = json.loads((GOLDEN / "betting_mixture_logloss.json").read_text())
LABEL = np.array(METRICS["y"])
SCORES = [np.array(METRICS[name]) for name in ("s1", "s2")]


def joint_counts(champion: Any, challenger: Any, label: Any) -> tuple[Any, Any]:
    """Every distinct score as a level of its own: then nothing is rounded."""
    levels = [np.unique(scores, return_inverse=True)[1] for scores in (champion, challenger)]
    table = np.zeros((2, levels[0].max() + 1, levels[1].max() + 1), dtype=np.int64)
    np.add.at(table, (label, levels[0], levels[1]), 1)
    return table[0], table[1]


def test_auc_and_average_precision_reproduce_scikit_learn() -> None:
    assert [auc(LABEL, scores) for scores in SCORES] == pytest.approx(METRICS["auc"], rel=1e-9)
    assert [average_precision(LABEL, scores) for scores in SCORES] == pytest.approx(METRICS["ap"], rel=1e-9)


def test_kolmogorov_smirnov_reproduces_scipy() -> None:
    assert ks_statistic(np.array(METRICS["u"]), np.array(METRICS["w"])) == pytest.approx(METRICS["ks_stat"], rel=1e-9)


def test_log_loss_and_brier_reproduce_scikit_learn() -> None:
    y, champion, challenger = (np.array(LOGGED[name]) for name in ("y", "p_champion", "p_challenger"))
    pairs = Pairs(y, champion, challenger, np.zeros(400, dtype=int))
    both = metrics_of(pairs, Rule())
    assert [each.log_loss for each in both] == pytest.approx(METRICS["logloss"], rel=1e-9)
    assert [each.brier for each in both] == pytest.approx(METRICS["brier"], rel=1e-9)


def test_the_variance_of_two_aucs_reproduces_brute_force() -> None:
    got = paired_auc(*joint_counts(SCORES[0], SCORES[1], LABEL))
    assert got is not None
    assert [got.champion, got.challenger] == pytest.approx(METRICS["auc"], rel=1e-9)
    assert got.variance == pytest.approx(METRICS["delong_var_of_difference"], rel=1e-9)
    z = (got.challenger - got.champion) / math.sqrt(got.variance)
    assert z == pytest.approx(METRICS["delong_z"], rel=1e-9)


scored_rows = st.lists(st.tuples(st.integers(0, 1), st.floats(0.0, 1.0), st.floats(0.0, 1.0)), min_size=1, max_size=60)


@given(scored_rows)
@settings(deadline=None, derandomize=True)
def test_counts_give_the_auc_of_scores_rounded_alike(rows: list[tuple[int, float, float]]) -> None:
    label, champion, challenger = (np.array(column) for column in zip(*rows, strict=True))
    got = paired_auc(*score_counts(Scored(label.astype(float), champion, challenger)).tables())
    if min(label.sum(), len(label) - label.sum()) < 2:
        assert got is None
        return
    assert got is not None

    def rounded(p: float) -> float:
        p = min(max(p, 1e-6), 1 - 1e-6)
        return min(max(round(math.log(p / (1 - p)) / 0.25), -32), 32)

    for scores, area in ((champion, got.champion), (challenger, got.challenger)):
        levels = [rounded(p) for p in scores]
        positives, negatives = ([s for s, y in zip(levels, label, strict=True) if y == k] for k in (1, 0))
        expected = np.mean([(p > n) + 0.5 * (p == n) for p in positives for n in negatives])
        assert area == pytest.approx(expected, abs=1e-9)
    assert got.variance >= 0


@given(scored_rows, st.integers(0, 1000))
@settings(deadline=None, derandomize=True)
def test_counts_of_shards_add_up(rows: list[tuple[int, float, float]], seed: int) -> None:
    columns = [np.array(column, dtype=float) for column in zip(*rows, strict=True)]
    which = np.random.default_rng(seed).integers(0, 3, len(rows))
    shards = [score_counts(Scored(*(column[which == shard] for column in columns))) for shard in range(3)]
    assert ScoreCounts.sum(shards) == score_counts(Scored(*columns))


def test_the_lowest_gain_covers_under_unlimited_looks() -> None:
    """Equal versions, looked at every 500 rows: a gain is claimed rarely; by 1.645 errors, the control, often."""
    rng = np.random.default_rng(3)
    claimed = claimed_by_control = 0
    for _ in range(80):
        risk = rng.normal(-2, 1, 6000)
        label = (rng.random(6000) < 1 / (1 + np.exp(-risk))).astype(float)
        scores = [1 / (1 + np.exp(-(risk + rng.normal(0, 1, 6000)))) for _ in range(2)]
        looks = []
        for n in range(500, 6001, 500):
            got = paired_auc(*score_counts(Scored(label[:n], scores[0][:n], scores[1][:n])).tables())
            assert got is not None
            looks.append((lowest_gain(got, n, 0.05), got.challenger - got.champion - 1.645 * math.sqrt(got.variance)))
        claimed += any(low > 0 for low, _ in looks)
        claimed_by_control += any(low > 0 for _, low in looks)
    assert claimed / 80 <= 0.05
    assert claimed_by_control / 80 >= 0.12


def test_a_challenger_that_gains_and_orders_worse_is_held_back() -> None:
    """It is sharper on the rare sure cases and shuffles the others: it loses less, and ranks worse."""
    rng = np.random.default_rng(4)
    n = 8000
    risk = np.where(rng.random(n) < 0.3, rng.choice([0.05, 0.95], n), rng.choice([0.35, 0.65], n))
    outcome = (rng.random(n) < risk).astype(float)
    champion = np.where(risk < 0.5, 0.4, 0.6)
    sure = np.abs(risk - 0.5) > 0.3
    challenger = np.where(sure, risk, np.where(rng.random(n) < 0.5, 0.45, 0.55))
    pairs = Pairs(outcome, champion, challenger, np.arange(n) // 200)
    evidence = compare(pairs, Rule())
    assert [c.name for c in evidence.conditions if not c.holds] == ["ranking"]
    assert compare(pairs, Rule(max_auc_loss=None)).verdict == "better"


def test_one_class_has_no_order() -> None:
    pairs = Pairs(np.ones(5), np.full(5, 0.5), np.full(5, 0.6), np.zeros(5, dtype=int))
    (condition,) = (c for c in compare(pairs, Rule()).conditions if c.name == "ranking")
    assert condition.detail == "fewer than two outcomes of a class: there is no order to compare yet"
    assert metrics_of(pairs, Rule())[0].auc is None
    assert lowest_gain(PairedAuc(0.7, 0.8, 0.0), 100, 0.05) == pytest.approx(0.1)


def test_counts_are_not_kept_where_rows_are_weighted() -> None:
    pairs = Pairs(np.ones(2), np.full(2, 0.5), np.full(2, 0.6), np.zeros(2, dtype=int), weight=np.array([1.0, 2.0]))
    sums = sums_of(pairs, Rule())
    assert (sums.scores, sums.calibration) == (None, None)


def test_sums_of_buckets_show_what_their_rows_do() -> None:
    """All but the order of scores to the last digits; that as of scores rounded to quarters of log-odds."""
    rng = np.random.default_rng(5)
    n = 2000
    steps = np.arange(-20, 21) / 4.0
    of_champion, of_challenger = (1.0 / (1.0 + np.exp(-rng.choice(steps, n))) for _ in range(2))
    happened = (rng.random(n) < of_challenger).astype(float)
    happened[::50] = math.nan
    of_challenger[::70] = math.nan
    pairs = Pairs(happened, of_champion, of_challenger, np.arange(n) // 100, amount=rng.uniform(1, 9, n))
    rule = Rule(loss="cost", costs=((0.0, 5.0), (1.0, 0.0)), thresholds=(0.2, 0.3))
    exact, kept = metrics_of(pairs, rule), metrics_of_sums([sums_of(each, rule) for each in pairs.by_bucket()], rule)
    for mine, theirs in zip(kept, exact, strict=True):
        told = msgspec.to_builtins(theirs)
        assert {"cost", "auc", "ks", "observed_to_expected", "log_e_miscalibrated"} <= told.keys()
        assert msgspec.to_builtins(mine) == pytest.approx(told, rel=1e-9)
    known = ~np.isnan(happened)
    decided = np.where(of_champion >= 0.2, np.where(happened == 0, 1.0, 0.0), np.where(happened == 1, 5.0, 0.0))
    assert exact[0].cost == pytest.approx((decided * pairs.amount)[known].mean(), rel=1e-9)
    assert exact[0].observed_to_expected == pytest.approx(happened[known].sum() / of_champion[known].sum(), rel=1e-9)


@pytest.mark.parametrize("task", ["multiclass", "regression", "recommendation"])
def test_sums_of_buckets_show_what_their_rows_do_of_every_task(task: Task) -> None:
    rng = np.random.default_rng(6)
    n = 300
    wide = rng.dirichlet([1.0, 1.0, 1.0], n), rng.dirichlet([2.0, 1.0, 1.0], n)
    flat = rng.uniform(0.1, 0.9, n), rng.uniform(0.1, 0.9, n)
    outcome = rng.integers(0, 3, n).astype(float) if task == "multiclass" else rng.random(n)
    pairs = Pairs(outcome, *(wide if task == "multiclass" else flat), np.arange(n) // 30)
    rule = Rule(task=task)
    kept = metrics_of_sums([sums_of(each, rule) for each in pairs.by_bucket()], rule)
    for mine, theirs in zip(kept, metrics_of(pairs, rule), strict=True):
        assert msgspec.to_builtins(mine) == pytest.approx(msgspec.to_builtins(theirs), rel=1e-9)
    assert metrics_of_sums([], rule) == (Metrics(), Metrics())


def test_weighted_rows_are_shown_by_what_they_stand_for() -> None:
    """A row that one in four was seen of counts as four."""
    bucket = np.zeros(5, dtype=int)
    seen = Pairs(
        np.array([1.0, 0.0]), np.array([0.9, 0.2]), np.array([0.8, 0.1]), bucket[:2], weight=np.array([4.0, 1.0])
    )
    four = Pairs(
        np.array([1.0, 1.0, 1.0, 1.0, 0.0]), np.array([0.9] * 4 + [0.2]), np.array([0.8] * 4 + [0.1]), bucket
    )  # fmt: skip
    (weighted, _), (plain, _) = metrics_of_sums([sums_of(seen, Rule())], Rule()), metrics_of(four, Rule())
    assert (weighted.brier, weighted.base_rate) == pytest.approx((plain.brier, plain.base_rate))
    assert (weighted.auc, weighted.log_e_miscalibrated) == (None, None)


def test_metrics_of_every_task() -> None:
    three = np.array([[0.6, 0.3, 0.1], [0.2, 0.3, 0.5]]), np.array([[0.1, 0.8, 0.1], [0.2, 0.3, 0.5]])
    bucket = np.zeros(2, dtype=int)
    champion, challenger = metrics_of(Pairs(np.array([0, 2]), *three, bucket), Rule(task="multiclass"))
    assert (champion.accuracy, challenger.accuracy, champion.auc) == (1.0, 0.5, None)
    numbers = Pairs(np.array([1.0, 3.0]), np.array([2.0, 2.0]), np.array([1.0, math.nan]), bucket)
    champion, challenger = metrics_of(numbers, Rule(task="regression", prior=7.0, scale=2.0))
    assert champion == Metrics(loss=0.5, mean_absolute_error=1.0, root_mean_squared_error=1.0, bias=0.0)
    assert (challenger.mean_absolute_error, challenger.bias) == (2.0, 2.0)
    shown = Pairs(np.array([1.0, 0.0]), np.array([0.5, 0.5]), np.array([0.9, 0.1]), bucket)
    assert metrics_of(shown, Rule(task="recommendation"))[1] == Metrics(loss=pytest.approx(-0.9))  # type: ignore[arg-type]
    nothing = Pairs(np.array([math.nan]), np.array([0.5]), np.array([0.5]), np.array([0]))
    assert metrics_of(nothing, Rule()) == (Metrics(), Metrics())
