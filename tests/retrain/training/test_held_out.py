"""What a version is measured on before it plays: later rows, learned for from what was known when they began."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from registry.recipe import Recipe, Search
from registry.store import Registry
from registry.types import Backtest, Metric, Policy, Principal, TrainingReport, Version
from retrain import errors
from retrain.evidence import Rule
from retrain.training.backtest import Opponent, backtest
from retrain.training.fit import fit, train_and_register
from retrain.training.rows import Rows
from tests.actors import SCHEMA, logistic, signature
from tests.retrain.training.tables import ALL_DTYPES, ONE_FLOAT, fitted, function, table

HOURS = np.datetime64("2024-01-01T00:30") + np.arange(1_000).astype("timedelta64[h]")


@pytest.mark.parametrize(
    ("known_after", "n_earlier"),
    [
        (timedelta(0), 800),
        (timedelta(minutes=1), 800),
        (timedelta(hours=1), 800),  # what was known at the moment of the first row was known
        (timedelta(hours=1, microseconds=1), 799),
        (timedelta(days=3), 729),
        (timedelta(hours=601), 200),
        (timedelta(hours=602), 800),  # so few rows teach nothing: all before are taken
        (timedelta(days=400), 800),
    ],
)
def test_what_is_measured_on_later_rows_is_learned_from_what_was_known_by_then(
    tmp_path: Path, known_after: timedelta, n_earlier: int
) -> None:
    rng = np.random.default_rng(5)
    x = rng.random(1_000).astype(np.float32)
    y = (rng.random(1_000) < 0.3).astype(np.int64)
    body = fitted("sklearn.linear_model import LogisticRegression", "LogisticRegression()")
    body = f"with open({str(tmp_path / 'n')!r}, 'a') as file:\n    print(len(dataset.target), file=file)\n{body}"
    told = function(tmp_path, body)
    shuffled = rng.permutation(1_000)
    report = fit(
        {"x": x[shuffled]}, y[shuffled], ONE_FLOAT, "binary", at=HOURS[shuffled], known_after=known_after, **told
    ).report
    assert (tmp_path / "n").read_text().split() == [str(n_earlier), "1000"]
    assert report.n_rows == 1_000  # the version itself learns from all


def test_candidates_are_chosen_by_what_was_known_too(tmp_path: Path) -> None:
    columns, signal = table(1_000)
    body = fitted("sklearn.ensemble import HistGradientBoostingClassifier as Trees", "Trees(max_iter=2)")
    body = f"with open({str(tmp_path / 'n')!r}, 'a') as file:\n    print(len(dataset.target), file=file)\n{body}"
    told = function(tmp_path, body, search=Search({"unused": (1,)}, n_folds=2))
    at = np.datetime64("2024-01-01") + np.arange(1_000).astype("timedelta64[h]")
    fit(columns, signal > 1.5, ALL_DTYPES, "binary", at=at, known_after=timedelta(hours=51), **told)
    # two folds of the 750 that were known when the last fifth began, each with its gap; then the rest, and all
    assert (tmp_path / "n").read_text().split() == ["200", "450", "750", "1000"]


def test_outcomes_that_cannot_be_measured_are_refused_in_one_sentence() -> None:
    columns, signal = table()
    with pytest.raises(errors.TargetRefused, match="outcomes that the metric can measure"):
        fit(columns, np.where(signal > 1.5, 1e35, signal), ALL_DTYPES, "regression")


def test_a_candidate_that_cannot_be_measured_is_refused_and_not_the_training() -> None:
    """As of a product that nobody bought until last month: at first there is no scale to measure by."""
    columns, signal = table(1_000)
    target = np.where(np.arange(1_000) < 960, 0.0, signal)
    with pytest.raises(errors.SearchRefused, match=r"none of 1 candidates could be tried"):
        fit(columns, target, ALL_DTYPES, "regression", recipe=Recipe(search=Search({"max_iter": (5,)}, n_folds=2)))
    assert fit(columns, target, ALL_DTYPES, "regression").report.scale is not None


def test_a_benefit_is_no_unit_to_measure_by_and_no_reason_to_fail(tmp_path: Path) -> None:
    """Costs below 0 are benefits: a version that brings one loses less than nothing."""
    columns, signal = table()
    metric = Metric(loss="cost", cost=((0.0, 0.0), (1.0, -5.0)))
    with Registry.open(tmp_path, now=lambda: datetime(2026, 1, 1, tzinfo=UTC)) as registry:
        by = Principal.local_operator()
        registry.create_model("m", ALL_DTYPES, "binary", Policy(metric=metric), by=by)
        version = train_and_register(registry, "m", columns, signal > 1.5, "champion", by=by)
        assert registry.version("m", version.number).training == version.training
    assert version.training is not None
    assert version.training.reference_loss is None


def test_a_backtest_counts_each_row_by_its_weight() -> None:
    """Half of the rows, on which the champion is right, were seen by a chance of one in four."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=4_000).astype(np.float32)
    is_rare = np.arange(4_000) % 8 < 4
    y = (rng.random(4_000) < 1 / (1 + np.exp(-np.where(is_rare, 3.0, -3.0) * x))).astype(np.int64)
    seen = ~is_rare | (rng.random(4_000) < 0.25)
    at = np.datetime64("2024-01-01") + np.arange(4_000).astype("timedelta64[h]")
    weight = np.where(is_rare, 4.0, 1.0)

    model_bytes = logistic((3.0, 0.0))
    report = TrainingReport(n_rows=9, trained_until=datetime(2023, 1, 1, tzinfo=UTC))
    champion = Version("m", 1, "", 0, signature(model_bytes), datetime(2024, 1, 1, tzinfo=UTC), "ann", report)
    opponent = Opponent(champion, model_bytes, Rule(task="binary", base_rate=0.5))

    def tried(which: NDArray[np.bool_], weight: NDArray[np.float64] | None) -> Backtest:
        columns = {"a": x[which].astype(np.float64), "b": np.zeros(int(which.sum()))}
        rows = Rows.checked(columns, y[which], SCHEMA, "binary", at[which], weight)
        found = backtest(opponent, rows, at[which], np.full(len(rows), 0.5), {})
        assert found is not None
        return found

    everything = tried(np.ones(4_000, bool), None)
    weighted, blind = tried(seen, weight[seen]), tried(seen, None)
    assert weighted.mean_difference == pytest.approx(everything.mean_difference, abs=0.1)
    assert weighted.variance == pytest.approx(everything.variance, rel=0.1)
    assert blind.mean_difference > everything.mean_difference + 0.4
    assert weighted.largest_gap > 2 * blind.largest_gap


@pytest.mark.parametrize(("known_until", "n_rows"), [(True, 200), (False, None)])
def test_a_challenger_is_tried_on_rows_that_neither_it_nor_the_champion_has_learned_from(
    tmp_path: Path, known_until: bool, n_rows: int | None
) -> None:
    """The champion learned from the first 500 rows; the last fifth of the thousand is held out from the challenger."""
    columns, signal = table(1_000)
    target = (signal > 1.5).astype(np.int64)
    at = np.datetime64("2025-01-01") + np.arange(1_000).astype("timedelta64[h]")
    by = Principal.local_operator()
    with Registry.open(tmp_path, now=lambda: datetime(2026, 1, 1, tzinfo=UTC)) as registry:
        registry.create_model("m", ALL_DTYPES, "binary", by=by)
        early = {name: values[:500] for name, values in columns.items()}
        train_and_register(
            registry, "m", early, target[:500], "champion", by=by, at=at[:500] if known_until else None,
            recipe=Recipe(parameters={"max_depth": 1, "max_iter": 1}),
        )  # fmt: skip
        challenger = train_and_register(registry, "m", columns, target, "challenger", by=by, at=at)
        assert challenger.training is not None
        backtest = challenger.training.backtest
        if n_rows is None:
            assert backtest is None  # nobody knows what the champion has seen
            return
        assert backtest is not None
        assert (backtest.champion, backtest.n_rows) == (1, n_rows)
        assert backtest.mean_difference > 0
        assert backtest.bet is not None
        assert 0 < backtest.bet <= backtest.mean_difference / backtest.variance
