"""Every estimator that a recipe may name: its ONNX form answers as it does, or one sentence says what it cannot."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import skl2onnx
from lightgbm import LGBMClassifier
from skl2onnx.common.data_types import FloatTensorType

from registry.frames import InspectionRules
from registry.inspection import inspect
from registry.recipe import Estimator, Parameter, Recipe
from registry.signature import ModelFacts, signature_of
from registry.types import Feature, InputSchema, Metric, Task
from retrain import errors
from retrain.training import convert
from retrain.training.fit import fit
from retrain.training.libraries import register_converters
from tests.retrain.training.tables import ALL_DTYPES, ONE_FLOAT, fitted, function, runtime, table

ROOT = Path(__file__).parents[3]
FEW: dict[Estimator, dict[str, Parameter]] = {
    "boosted_trees": {"max_iter": 20, "learning_rate": 0.2},
    "logistic_regression": {},
    "random_forest": {"n_estimators": 20},
    "lightgbm": {"n_estimators": 20, "learning_rate": 0.2},
    "xgboost": {"n_estimators": 20, "learning_rate": 0.2},
}
"""Enough for small tables."""
NAMES = tuple(FEW)
CAN: list[tuple[Estimator, Task]] = [
    (name, task)
    for name in NAMES
    for task in ("binary", "multiclass", "regression")
    if (name, task) != ("logistic_regression", "regression")
]


def recipe(name: Estimator, **parameters: Parameter) -> Recipe:
    return Recipe(name, parameters=FEW[name] | parameters)


@pytest.mark.parametrize(("name", "task"), CAN)
def test_each_estimator_answers_in_onnx_as_it_did(name: Estimator, task: Task) -> None:
    columns, signal = table()
    targets: dict[Task, Any] = {
        "binary": np.where(signal > 1.5, "yes", "no"),
        "multiclass": np.digitize(signal, [1.0, 2.0]) + 7,
        "regression": 1e4 + 1e3 * signal,
    }
    target = targets[task]
    trained = fit(columns, target, ALL_DTYPES, task, recipe=recipe(name))
    assert trained.report.parity["q99"] <= trained.report.parity["q999"] <= trained.report.parity["max"] <= 2e-6
    assert (trained.report.parity["label_flips"], trained.report.conversion) == (0, "plain")
    assert trained.report.parameters == FEW[name]

    model, signature = runtime(trained, ALL_DTYPES, task)
    answers = model.run(columns)
    if task == "regression":
        assert np.abs(answers["prediction"] - target).mean() < 0.5 * np.abs(target - np.median(target)).mean()
    else:
        assert (answers["label"] == target).mean() > 0.85
        # whoever reads the file finds one list of classes
        facts = ModelFacts(*model.declared(), class_labels=inspect(trained.model_bytes, InspectionRules()).class_labels)
        assert signature_of(facts, ALL_DTYPES, task, score=trained.score).classes == signature.classes

    # a category that nobody has seen, and missing values where there were none
    strange = {name: values[:50].copy() for name, values in columns.items()}
    strange["weekday"][:] = "sunday"
    strange["ratio"][:] = np.nan
    scores = model.run(strange)[trained.score.partition(":")[0]]
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("name", ["boosted_trees", "lightgbm", "xgboost"])
def test_a_quantile_is_learned_by_what_can(name: Estimator) -> None:
    columns, signal = table()
    metric = Metric(loss="pinball", quantile=0.8)
    trained = fit(columns, signal, ALL_DTYPES, "regression", metric=metric, recipe=recipe(name))
    model, _ = runtime(trained, ALL_DTYPES, "regression")
    assert 0.7 < (model.run(columns)["prediction"].astype(np.float64) > signal).mean() < 0.9


@pytest.mark.parametrize(
    ("name", "metric", "sentence"),
    [
        ("logistic_regression", Metric(), "logistic_regression cannot learn numbers: choose one of boosted_trees, "),
        (
            "random_forest",
            Metric(loss="pinball", quantile=0.8),
            "random_forest cannot learn a quantile: choose one of boosted_trees, lightgbm, xgboost",
        ),
    ],
)
def test_what_an_estimator_cannot_learn_is_said(name: Estimator, metric: Metric, sentence: str) -> None:
    columns, signal = table()
    with pytest.raises(errors.TaskUnlearnable) as refused:
        fit(columns, signal, ALL_DTYPES, "regression", metric=metric, recipe=recipe(name))
    assert str(refused.value).startswith(sentence)


@pytest.mark.parametrize("name", NAMES)
def test_a_parameter_that_it_does_not_have_is_refused(name: Estimator) -> None:
    columns, signal = table()
    for parameter in ("depth", "random_state", "n_jobs"):  # the seed is the recipe's, threads are the operator's
        with pytest.raises(
            errors.ParameterUnknown, match=f"^{name} has no parameter '{parameter}' to set: it has "
        ) as refused:
            fit(columns, signal > 1.5, ALL_DTYPES, "binary", recipe=recipe(name, **{parameter: 3}))
        assert FEW[name].keys() <= set(refused.value.known)


@pytest.mark.parametrize(
    ("name", "parameter", "value"),
    [
        ("boosted_trees", "max_iter", "many"),
        ("logistic_regression", "C", -1.0),
        ("random_forest", "n_estimators", 0),
        ("lightgbm", "num_leaves", 1),
        ("xgboost", "max_depth", -3),
    ],
)
def test_a_value_that_it_does_not_take_is_refused(name: Estimator, parameter: str, value: Parameter) -> None:
    columns, signal = table()
    with pytest.raises(errors.EstimatorRefused, match=r"^\w+\(.*\) cannot be fitted to these rows: .*" + parameter):
        fit(columns, signal > 1.5, ALL_DTYPES, "binary", recipe=recipe(name, **{parameter: value}))


@pytest.mark.parametrize("name", NAMES)
def test_a_column_that_is_always_missing_or_always_the_same_is_no_obstacle(name: Estimator) -> None:
    columns, signal = table()
    columns["amount"][:] = np.nan
    columns["weekday"][:] = "mon"
    assert fit(columns, signal > 1.5, ALL_DTYPES, "binary", recipe=recipe(name)).report.parity["max"] <= 2e-6


@pytest.mark.parametrize("name", NAMES)
def test_rows_count_by_their_weight(name: Estimator) -> None:
    """Where x is 0 two rows in five are positive, where it is 1 three in five; each of them counts for three."""
    x, y = np.repeat([0, 1], 300), np.concatenate([np.tile([0, 1, 0, 1, 0], 60), np.tile([1, 0, 1, 0, 1], 60)])
    order = np.random.default_rng(0).permutation(600)
    x, y = x[order].astype(np.float32), y[order]
    weight = np.where(y == 1, 3.0, 1.0)
    trained = fit({"x": x}, y, ONE_FLOAT, "binary", weight=weight, recipe=recipe(name))
    model, _ = runtime(trained, ONE_FLOAT, "binary")
    answers = model.run({"x": np.array([0, 1], np.float32)})["probabilities"][:, 1]
    assert answers == pytest.approx([6 / 9, 9 / 11], abs=0.02)

    known, loss = x[:480], np.zeros(120)
    for value in (0, 1):
        p = np.average(y[:480][known == value], weights=weight[:480][known == value])
        of_value = x[480:] == value
        loss[of_value] = -np.log(np.where(y[480:] == 1, p, 1 - p))[of_value]
    assert trained.report.reference_loss == pytest.approx(np.average(loss, weights=weight[480:]), abs=0.01)
    plain = fit({"x": x}, y, ONE_FLOAT, "binary", recipe=recipe(name)).report
    assert plain.dataset_digest != trained.report.dataset_digest
    assert plain.reference_loss is not None
    assert plain.reference_loss > 0.66  # the control


@pytest.mark.parametrize(
    "weight", [np.ones(599), np.full(600, np.nan), np.full(600, np.inf), np.arange(600), ["a"] * 600]
)
def test_weights_that_mean_nothing_are_refused(weight: Any) -> None:
    columns, signal = table()
    with pytest.raises(errors.ColumnRefused, match=r"^column 'weight': expected (600|finite) numbers"):
        fit(columns, signal > 1.5, ALL_DTYPES, "binary", weight=weight)


def test_a_forest_takes_missing_values_that_skl2onnx_would_send_elsewhere(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    x = rng.random(2_000).astype(np.float32)
    x[rng.random(2_000) < 0.3] = np.nan
    y = (np.isnan(x) | (x > 0.7)).astype(np.int64) ^ (rng.random(2_000) < 0.1)
    assert fit({"x": x}, y, ONE_FLOAT, "binary", recipe=recipe("random_forest")).report.parity["max"] <= 2e-6
    # the control: the same forest, given NaN; skl2onnx 1.20 sends what is missing to the right of every split
    forest = fitted("sklearn.ensemble import RandomForestClassifier", "RandomForestClassifier(20, max_depth=3)")
    with pytest.raises(errors.ParityBroken):
        fit({"x": x}, 1 - y, ONE_FLOAT, "binary", **function(tmp_path, forest))


def test_numbers_far_from_zero_are_exact_to_a_linear_model() -> None:
    rng = np.random.default_rng(4)
    x = (1e6 + rng.normal(size=3_000)).astype(np.float32)
    y = rng.random(3_000) < 1 / (1 + np.exp(-(x - 1e6)))
    assert fit({"x": x}, y, ONE_FLOAT, "binary", recipe=recipe("logistic_regression")).report.parity["max"] <= 1e-6


def test_values_as_close_as_float32_allows_do_not_change_sides_in_lightgbm() -> None:
    rng = np.random.default_rng(0)
    x = (1000 + 0.01 * rng.random(20_000)).astype(np.float32)
    y = ((x > np.median(x)) ^ (rng.random(len(x)) < 0.2)).astype(np.int64)
    trained = fit({"x": x}, y, ONE_FLOAT, "binary", recipe=recipe("lightgbm"))
    assert trained.report.parity["max"] <= 1e-6

    # the control: the same trees, converted as they are
    trees = LGBMClassifier(n_estimators=20, verbosity=-1, n_jobs=1).fit(x.reshape(-1, 1), y)
    register_converters()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        inputs, options = [("x", FloatTensorType([None, 1]))], {id(trees): {"zipmap": False}}
        onnx = skl2onnx.convert_sklearn(trees, "x", inputs, target_opset=convert.OPSETS, options=options)
    model, _ = runtime(msgspec.structs.replace(trained, model_bytes=onnx.SerializeToString()), ONE_FLOAT, "binary")
    answers = model.run({"x": x})["probabilities"][:, 1]
    assert np.abs(answers - trees.predict_proba(x.reshape(-1, 1))[:, 1]).max() > 1e-3


def digests() -> list[str]:
    """Of a version by each estimator."""
    x = np.random.default_rng(1).random(400).astype(np.float32)
    columns = {"x": x, "s": np.array(["a", "b", "c", "d"] * 100, dtype=object)}
    schema, target = InputSchema((Feature("x", "float32"), Feature("s", "string"))), (x * 7).astype(int) % 3
    versions = [fit(columns, target, schema, "multiclass", recipe=Recipe(name, seed=7)) for name in NAMES]
    assert all(version.report.seed == 7 for version in versions)
    return [hashlib.sha256(version.model_bytes).hexdigest() for version in versions]


def told_by_a_process(program: str, hash_seed: int) -> list[str]:
    """What it prints. Libraries walk sets of strings, whose order is that of hashes: those of a seed."""
    environment = os.environ | {"PYTHONHASHSEED": str(hash_seed)}
    command = [sys.executable, "-c", "from tests.retrain.training.test_estimators import *\n" + program]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_another_process_makes_the_same_bytes_and_says_what_is_not_installed() -> None:
    program = """
import sys
from registry.recipe import Recipe, Search
from retrain.training.backends import Jobs
print(*digests())
columns, signal = table(1_200)
for recipe in (Recipe("lightgbm"), Recipe("xgboost"), Recipe(search=Search({"max_iter": (1, 2)}))):
    for name in ("lightgbm", "xgboost", "distributed"):
        sys.modules[name] = None  # as if it were not there
    try:
        fit(columns, signal > 1.5, ALL_DTYPES, "binary", recipe=recipe, jobs=Jobs("dask", 2))
    except errors.ExtraMissing as refused:
        print(refused)
"""
    said = told_by_a_process(program, 1)
    assert said[0].split() == digests()
    assert len(set(said[0].split())) == len(NAMES)
    assert said[1:] == [
        "estimator lightgbm is not installed here: install understudy[lightgbm]",
        "estimator xgboost is not installed here: install understudy[xgboost]",
        "search backend dask is not installed here: install understudy[dask]",
    ]


def test_a_schema_of_one_string_or_of_many_runs_of_dtypes_is_converted() -> None:
    columns, signal = table()
    only = InputSchema((Feature("branch", "string"),))
    mixed = InputSchema(tuple(ALL_DTYPES.features[index] for index in (4, 0, 3, 5, 1, 2)))
    for schema in (only, mixed):
        some = {name: columns[name] for name in schema.names}
        for name in ("boosted_trees", "logistic_regression"):
            trained = fit(some, signal > 1.5, schema, "binary", recipe=recipe(name))
            assert trained.report.parity["max"] <= 2e-6
