"""Training, on real flights and on small tables: what comes out answers as the estimator did, or nothing comes out."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import skl2onnx
from numpy.typing import NDArray
from skl2onnx.common.data_types import FloatTensorType
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.tree import DecisionTreeClassifier

from gateway.cli import flights
from registry.store import Registry
from registry.types import Feature, InputSchema, Principal, Task
from retrain import errors
from retrain.drift.reference import decode
from retrain.training import convert
from retrain.training.fit import fit, train_and_register
from tests.retrain.training.tables import ALL_DTYPES, ONE_FLOAT, fitted, function, runtime, table

LETTERS = np.array(["a", "b", "c"], dtype=object)


def test_a_champion_of_january_and_february_is_trained_and_proven_on_real_rows() -> None:
    rows = flights.trainable(flights.during(flights.departures(), 1, 2))
    columns, target = flights.features(rows), rows["late"].to_numpy()
    trained = fit(columns, target, flights.SCHEMA, "binary", at=flights.moments(rows))

    report = trained.report
    assert report.n_rows == 50_009
    assert report.trained_from == datetime(2013, 1, 1, 10, 15, tzinfo=UTC)
    assert report.base_rate == pytest.approx(target.mean(), rel=1e-12)
    # better than knowing only how often flights were late, worse than an oracle
    assert report.reference_loss is not None
    assert 0.4 < report.reference_loss < 0.54
    assert report.parity["n_rows"] == 10_000
    assert report.parity["q99"] <= report.parity["max"] <= 1e-6
    assert report.parity["label_flips"] == 0
    assert "learning_rate=0.05" in report.recipe

    model, signature = runtime(trained, flights.SCHEMA, "binary")
    assert [(binding.name, binding.dtype) for binding in signature.inputs] == [
        (feature.name, feature.dtype) for feature in flights.SCHEMA.features
    ]
    assert (signature.score.output, signature.score.column, signature.classes) == ("probabilities", 1, (0, 1))
    some = {name: values[:500].copy() for name, values in columns.items()}
    some["carrier"][:] = "an airline founded since"
    some["wind_mph"][:] = np.nan
    answers = model.run(some)["probabilities"].astype(np.float64)
    assert ((answers > 0) & (answers < 1)).all()


@pytest.mark.parametrize(
    ("task", "target_of", "classes", "score"),
    [
        ("binary", lambda signal: signal > 1.5, (0, 1), "probabilities:1"),
        ("binary", lambda signal: np.where(signal > 1.5, "yes", "no"), ("no", "yes"), "probabilities:1"),
        ("multiclass", lambda signal: np.digitize(signal, [1.0, 2.0]) + 7, (7, 8, 9), "probabilities"),
        ("multiclass", lambda signal: LETTERS[np.digitize(signal, [1, 2])], ("a", "b", "c"), "probabilities"),
        ("regression", lambda signal: 1e4 + 1e3 * signal, (), "prediction"),
    ],
)
def test_every_task_and_dtype_answers_as_the_estimator_did(
    task: Task, target_of: Callable[[Any], NDArray[Any]], classes: tuple[Any, ...], score: str
) -> None:
    columns, signal = table()
    target = target_of(signal)
    trained = fit(columns, target, ALL_DTYPES, task)
    assert (trained.classes, trained.score) == (classes, score)
    assert trained.report.parity["max"] <= 1e-6
    model, _ = runtime(trained, ALL_DTYPES, task)
    answers = model.run(columns)
    if task == "regression":
        assert trained.report.prior == np.median(target)
        assert trained.report.scale == pytest.approx(np.abs(target - np.median(target)).mean(), rel=1e-12)
        assert trained.report.scale is not None
        assert trained.report.reference_loss is not None
        assert np.abs(answers["prediction"] - target).mean() < 0.5 * trained.report.scale
        assert 0.1 < trained.report.reference_loss < 0.8
    else:
        assert (answers["label"] == target).mean() > 0.8
        assert answers["probabilities"].shape == (len(target), len(classes))


def test_the_reference_loss_is_the_clipped_log_loss_of_the_latest_fifth(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    x = rng.random(1_000).astype(np.float32)
    y = (rng.random(1_000) < 0.1 + 0.2 * x).astype(np.int64)
    at = np.datetime64("2024-01-01") + rng.permutation(1_000).astype("timedelta64[h]")
    tree = DecisionTreeClassifier(max_leaf_nodes=4, random_state=0)
    same = fitted("sklearn.tree import DecisionTreeClassifier", repr(tree))
    report = fit({"x": x}, y, ONE_FLOAT, "binary", at=at, **function(tmp_path, same)).report

    order = np.argsort(at)
    x, y = x[order], y[order]
    tree.fit(x[:800].reshape(-1, 1), y[:800])
    clip = y.mean() / 20
    answered = np.clip(tree.predict_proba(x[800:].reshape(-1, 1))[:, 1], clip, 1 - clip)
    expected = -np.where(y[800:] == 1, np.log(answered), np.log(1 - answered)).mean()
    assert report.reference_loss == pytest.approx(expected, rel=1e-9)
    assert report.base_rate == y.mean()
    assert (report.trained_from, report.trained_until) == (
        datetime(2024, 1, 1, tzinfo=UTC),
        datetime(2024, 2, 11, 15, tzinfo=UTC),
    )


def test_the_same_rows_in_any_order_give_the_same_bytes() -> None:
    columns, signal = table()
    at = np.datetime64("2024-01-01T00:00:00") + np.arange(len(signal)).astype("timedelta64[m]")
    shuffled = np.random.default_rng(0).permutation(len(signal))
    first = fit(columns, signal > 1.5, ALL_DTYPES, "binary", at=at)
    mixed = {name: values[shuffled] for name, values in columns.items()}
    second = fit(mixed, (signal > 1.5)[shuffled], ALL_DTYPES, "binary", at=at[shuffled])
    assert second == first
    columns["visits"][3] += 1
    third = fit(columns, signal > 1.5, ALL_DTYPES, "binary", at=at)
    assert third.report.dataset_digest != first.report.dataset_digest


def test_values_as_close_as_float32_allows_do_not_change_sides() -> None:
    rng = np.random.default_rng(0)
    x = (1000 + 0.01 * rng.random(20_000)).astype(np.float32)
    y = ((x > np.median(x)) ^ (rng.random(len(x)) < 0.2)).astype(np.int64)
    assert fit({"x": x}, y, ONE_FLOAT, "binary").report.parity["max"] <= 1e-6

    # the control: the same trees, converted as they are
    trees = HistGradientBoostingClassifier(early_stopping=False).fit(x.reshape(-1, 1), y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        inputs, options = [("x", FloatTensorType([None, 1]))], {id(trees): {"zipmap": False}}
        onnx = skl2onnx.convert_sklearn(trees, "x", inputs, target_opset=convert.OPSETS, options=options)
    plain = fit({"x": x}, y, ONE_FLOAT, "binary")
    unrounded = msgspec.structs.replace(plain, model_bytes=onnx.SerializeToString())
    model, _ = runtime(unrounded, ONE_FLOAT, "binary")
    answers = model.run({"x": x})["probabilities"][:, 1]
    assert np.abs(answers - trees.predict_proba(x.reshape(-1, 1))[:, 1]).max() > 1e-3


def test_a_conversion_that_answers_otherwise_is_refused(tmp_path: Path) -> None:
    # skl2onnx 1.20 converts splits on categories as if they were thresholds, without a word
    x = np.random.default_rng(0).integers(0, 8, 2_000)
    y = np.isin(x, [1, 4, 6]).astype(np.int64)
    trees = fitted(
        "sklearn.ensemble import HistGradientBoostingClassifier",
        "HistGradientBoostingClassifier(categorical_features=[0])",
    )
    with pytest.raises(
        errors.ParityBroken, match=r"differs from the estimator by up to [\d.]+ on 2000 rows"
    ) as refused:
        fit({"x": x}, y, ONE_FLOAT, "binary", **function(tmp_path, trees))
    assert refused.value.largest > refused.value.tolerance == 1e-5


def test_a_feature_named_as_an_output_is_refused() -> None:
    columns, schema = (
        {"x": np.arange(300.0), "label": np.arange(300.0)},
        (Feature("x", "float64"), Feature("label", "float64")),
    )
    with pytest.raises(errors.NotConvertible, match="feature 'label' has the name of an output"):
        fit(columns, np.arange(300) % 2, InputSchema(schema), "binary")


BAD_COLUMNS: list[tuple[str, Any, str]] = [
    ("visits", None, "column 'visits' is missing: the schema names it, the columns are branch, amount, "),
    ("visits", lambda v: v + 0.5, "column 'visits': expected whole numbers, got dtype float64"),
    ("visits", lambda v: v[1:], "column 'visits': expected shape (600,), as the target, got shape (599,)"),
    ("visits", lambda v: v.reshape(-1, 1), "column 'visits': expected shape (600,), as the target, got shape (600, 1)"),
    ("member", lambda v: v.astype(int), "column 'member': expected booleans, got dtype int64"),
    ("amount", lambda v: v.astype(str), "column 'amount': expected numbers within float32, got dtype <U"),
    ("amount", lambda v: np.where(v > 1, np.inf, v), "column 'amount': expected numbers within float32, got inf"),
    ("amount", lambda v: np.where(v > 1, -1e39, v), "column 'amount': expected numbers within float32, got -1e+39"),
    ("branch", lambda v: np.where(v == "", None, v), "column 'branch': expected strings, got None"),
    ("age", lambda v: v, "column 'age': expected one of the schema's features branch, visits, amount, ratio, "),
]


@pytest.mark.parametrize(("name", "change", "sentence"), BAD_COLUMNS)
def test_columns_that_are_not_those_of_the_schema_are_refused(name: str, change: Any, sentence: str) -> None:
    columns, signal = table()
    if change is None:
        del columns[name]
    else:
        columns[name] = change(columns.get(name, columns["visits"]))
    with pytest.raises((errors.ColumnRefused, errors.ColumnMissing)) as refused:
        fit(columns, signal > 1.5, ALL_DTYPES, "binary")
    assert str(refused.value).startswith(sentence)


BAD_TARGETS: list[tuple[Task, Any, str]] = [
    ("binary", np.arange(199) % 2, "too few rows: expected at least 200, got 199"),
    ("binary", np.zeros(300), "target: expected outcomes that differ, got 0.0 in all of 300 rows"),
    ("regression", np.full(300, 2.5), "target: expected outcomes that differ, got 2.5 in all of 300 rows"),
    ("binary", np.arange(300) % 3, "target: expected two classes, got 3"),
    ("binary", np.arange(300) < 5, "too few rows of class 1: expected at least 10, got 5"),
    ("multiclass", np.arange(300) % 3 * 0.5, "target: expected classes, as whole numbers or strings, got 0.5"),
    ("binary", np.where(np.arange(300) == 7, np.nan, 1.0), "target: expected finite numbers, got nan in row 7"),
    ("regression", np.where(np.arange(300) == 9, np.inf, 1.0), "target: expected finite numbers, got inf in row 9"),
    ("regression", np.array(["a", "b"] * 150), "target: expected numbers, got dtype <U1"),
    ("binary", np.array(["a", None] * 150), "target: expected classes, as whole numbers or strings, got None among"),
    ("binary", np.ones((300, 1)), "target: expected one dimension, got shape (300, 1)"),
    ("binary", np.arange(300) >= 260, "target: expected every class in the first 240 rows of time, got none of 1"),
]


@pytest.mark.parametrize(("task", "target", "sentence"), BAD_TARGETS)
def test_outcomes_that_teach_nothing_are_refused(task: Task, target: NDArray[Any], sentence: str) -> None:
    with pytest.raises(errors.TrainingRefused) as refused:
        fit({"x": np.arange(len(target), dtype=np.float32)}, target, ONE_FLOAT, task)
    assert str(refused.value).startswith(sentence)


@pytest.mark.parametrize(
    "at", [np.arange(300), np.arange(299).astype("datetime64[s]"), np.full(300, "NaT", "datetime64[s]")]
)
def test_moments_that_do_not_order_the_rows_are_refused(at: NDArray[Any]) -> None:
    with pytest.raises(errors.ColumnRefused, match="column 'at': expected 300 datetime64, none missing"):
        fit({"x": np.arange(300, dtype=np.float32)}, np.arange(300) % 2, ONE_FLOAT, "binary", at=at)


def test_what_was_trained_is_registered_with_its_report_or_not_at_all(tmp_path: Path) -> None:
    columns, signal = table()
    by, started = Principal.local_operator(), datetime(2024, 1, 1, tzinfo=UTC)
    with Registry.open(tmp_path, now=lambda: started) as registry:
        registry.create_model("members", ALL_DTYPES, "binary", by=by)
        champion = train_and_register(registry, "members", columns, signal > 1.5, "champion", by=by)
        assert champion.training == fit(columns, signal > 1.5, ALL_DTYPES, "binary").report
        assert champion.signature.score.column == 1
        reference = decode(registry.drift.reference("members", champion.number) or b"")
        assert (reference.source, reference.n_rows) == ("training", len(signal))
        assert [bins.name for bins in reference.bins] == list(ALL_DTYPES.names)
        assert sum(reference.scores.outcome_counts) == len(signal)
        assert champion.signature.batchable

        more, larger = table(900, seed=2)
        challenger = train_and_register(registry, "members", more, larger > 1.5, "challenger", by=by)
        assert registry.lineup("members").challengers == (challenger.number,)

        with pytest.raises(errors.OneClass):
            train_and_register(registry, "members", more, larger > 99, "challenger", by=by)
        assert registry.lineup("members").challengers == (challenger.number,)
