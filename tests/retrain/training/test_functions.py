"""A recipe's function: what it is given, and one sentence for each way in which it can go wrong."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from registry.recipe import Recipe
from registry.types import InputSchema
from retrain import errors
from retrain.training.fit import fit
from tests.retrain.training.tables import ALL_DTYPES, fitted, function, runtime, table

TREES = "from sklearn.ensemble import HistGradientBoostingClassifier as Trees\n"
SVM = "from sklearn.svm import LinearSVC\n"
OWN_CLASS = """from sklearn.base import BaseEstimator, ClassifierMixin
import numpy as np
class Own(ClassifierMixin, BaseEstimator):
    def fit(self, matrix, target):
        self.classes_ = np.unique(target)
        return self
    def predict_proba(self, matrix):
        return np.{answers}
return Own().fit(dataset.matrix, dataset.target)"""


def test_a_function_is_given_everything_that_is_known_of_the_rows(tmp_path: Path) -> None:
    columns, signal = table()
    at = np.datetime64("2025-01-01") - np.arange(600).astype("timedelta64[h]")
    body = f"""import json
from pathlib import Path
found = {{
    "shape": dataset.matrix.shape, "dtype": str(dataset.matrix.dtype), "features": dataset.features,
    "missing": int((dataset.matrix != dataset.matrix).sum()), "target": sorted(set(dataset.target.tolist())),
    "weight": dataset.weight.sum(), "ordered": bool((dataset.at[1:] >= dataset.at[:-1]).all()),
    "branch": dataset.columns["branch"][0], "code": float(dataset.matrix[0, 0]), "categories": dataset.categories,
    "classes": dataset.classes, "task": dataset.task, "seed": dataset.seed, "parameters": dataset.parameters,
}}
Path({str(tmp_path / "found.json")!r}).write_text(json.dumps(found))
{TREES}trees = Trees(max_iter=dataset.parameters["trees"], random_state=dataset.seed)
return trees.fit(dataset.matrix, dataset.target)"""
    told = function(tmp_path, body, parameters={"trees": 5})
    told["recipe"] = msgspec.structs.replace(told["recipe"], seed=11)
    target = np.where(signal > 1.5, "yes", "no")
    trained = fit(columns, target, ALL_DTYPES, "binary", at=at, weight=np.full(600, 2.0), **told)
    found = msgspec.json.decode((tmp_path / "found.json").read_bytes())
    assert (found["shape"], found["dtype"], found["features"]) == ([600, 6], "float32", list(ALL_DTYPES.names))
    assert (found["target"], found["classes"], found["weight"]) == ([0, 1], ["no", "yes"], 1200.0)
    assert found["missing"] == np.isnan(columns["amount"]).sum()
    assert found["ordered"]
    assert found["branch"] == columns["branch"][-1]  # the latest row came first
    assert found["categories"]["branch"] == ["", "north", "süd", "west"]
    assert found["categories"]["branch"][int(found["code"])] == found["branch"]
    assert (found["task"], found["seed"], found["parameters"]) == ("binary", 11, {"trees": 5})
    assert trained.classes == ("no", "yes")
    assert trained.report.recipe.startswith("learn.py:learn (sha256:")
    assert "HistGradientBoostingClassifier(max_iter=5, random_state=11)" in trained.report.recipe
    model, _ = runtime(trained, ALL_DTYPES, "binary")
    assert set(model.run(columns)["label"]) == {"no", "yes"}


def test_a_function_that_was_edited_is_read_again_and_leaves_no_files(tmp_path: Path) -> None:
    columns, signal = table()
    path_before = list(sys.path)
    for trees in (3, 4):  # of one length, written within one second
        body = f"{TREES}return Trees(max_iter={trees}).fit(dataset.matrix, dataset.target)"
        report = fit(columns, signal > 1.5, ALL_DTYPES, "binary", **function(tmp_path, body)).report
        assert f"max_iter={trees}" in report.recipe
    assert [path.name for path in tmp_path.iterdir()] == ["learn.py"]
    assert sys.path == path_before


@pytest.mark.parametrize(
    "change",
    [
        "dataset.target[:] = 0",
        "dataset.weight[:] = 1",
        "dataset.at[:] = dataset.at[0]",
        "dataset.columns['amount'][:] = 0",
        "dataset.columns['weekday'][0] = 'mon'",
        "dataset.columns['amount'] = dataset.weight",
    ],
)
def test_a_function_cannot_change_what_it_is_measured_on(tmp_path: Path, change: str) -> None:
    columns, signal = table()
    before = {name: values.copy() for name, values in columns.items()}
    at, weight = np.datetime64("2025-01-01") + np.arange(600).astype("timedelta64[h]"), np.full(600, 2.0)
    told = function(tmp_path, f"{change}\nreturn None")
    with pytest.raises(errors.FunctionRefused, match=r"read-only|does not support item assignment"):
        fit(columns, signal, ALL_DTYPES, "regression", at=at, weight=weight, **told)
    for name, values in columns.items():
        assert (values == before[name]).all() or name == "amount"
        assert values.flags.writeable  # the caller's own are not frozen


def test_all_of_a_training_runs_what_the_file_said_when_it_began(tmp_path: Path) -> None:
    columns, signal = table()
    body = f"""import pathlib
pathlib.Path(__file__).write_text("def learn(dataset): raise KeyError('another one')")
{TREES}return Trees(max_iter=3).fit(dataset.matrix, dataset.target)"""
    told = function(tmp_path, body)
    digest = hashlib.sha256((tmp_path / "learn.py").read_bytes()).hexdigest()
    report = fit(columns, signal > 1.5, ALL_DTYPES, "binary", **told).report  # which fits twice
    assert report.recipe.startswith(f"learn.py:learn (sha256:{digest}): HistGradientBoostingClassifier(max_iter=3)")


def test_its_file_is_compiled_as_it_stands(tmp_path: Path) -> None:
    """Annotations are values, unless the file itself asks for something else."""
    columns, signal = table()
    told = function(tmp_path, "def inner(n: int) -> None: ...\nreturn inner.__annotations__['n']")
    with pytest.raises(errors.FunctionRefused, match="it gave a value of type type: expected"):
        fit(columns, signal > 1.5, ALL_DTYPES, "binary", **told)


WRONG: list[tuple[str, type[errors.TrainingRefused], str]] = [
    ("raise KeyError('amount')", errors.FunctionRefused, "function learn.py:learn: it raised KeyError: 'amount'"),
    ("raise SystemExit(3)", errors.FunctionRefused, "function learn.py:learn: it raised SystemExit: 3"),
    ("return = 3", errors.FunctionRefused, "function learn.py:learn: its file raised SyntaxError: invalid syntax"),
    ("return None", errors.FunctionRefused, "function learn.py:learn: it gave a value of type NoneType: expected"),
    ("return 'garbage'", errors.FunctionRefused, "function learn.py:learn: it gave a value of type str: expected"),
    (
        f"{TREES}return Trees",
        errors.FunctionRefused,
        "function learn.py:learn: it gave a value of type ABC",
    ),
    (f"{TREES}return Trees()", errors.FunctionRefused, "function learn.py:learn: it gave a value of type Hist"),
    (
        f"{TREES}return Trees().fit(dataset.matrix[:, :2], dataset.target)",
        errors.FunctionRefused,
        "function learn.py:learn: it gave an estimator of 2 features: it must take the 6 of the matrix",
    ),
    (
        f"{TREES}return Trees().fit(dataset.matrix, dataset.target + 1)",
        errors.FunctionRefused,
        "function learn.py:learn: it gave an estimator of the classes [1, 2]: expected those of the target, [0, 1]",
    ),
    (
        fitted("sklearn.linear_model import LogisticRegression", "LogisticRegression()"),
        errors.FunctionRefused,
        "function learn.py:learn: it raised ValueError: Input X contains NaN. ",
    ),
    (
        f"{SVM}return LinearSVC().fit(dataset.matrix[:, [1, 4]].repeat(3, axis=1), dataset.target)",
        errors.EstimatorRefused,
        "LinearSVC() cannot be fitted to these rows: it gives no probabilities",
    ),
    (fitted("sklearn.dummy import DummyClassifier", "DummyClassifier()"), errors.NotConvertible, "DummyClassifier() "),
    (OWN_CLASS.format(answers="full((len(matrix), 2), 0.5)"), errors.NotConvertible, "Own() cannot be converted to "),
    (
        OWN_CLASS.format(answers="full((len(matrix), 2), np.nan)"),
        errors.AnswersRefused,
        "the answers of Own(): expected probabilities that add up to 1, got nan among them",
    ),
    (
        OWN_CLASS.format(answers="full((len(matrix), 2), 0.7)"),
        errors.AnswersRefused,
        "the answers of Own(): expected probabilities that add up to 1, got 0.7 among them",
    ),
    (
        OWN_CLASS.format(answers="full((len(matrix), 3), 1 / 3)"),
        errors.AnswersRefused,
        "the answers of Own(): expected shape (120, 2), got shape (120, 3)",
    ),
    (
        OWN_CLASS.format(answers="nothing_at_all"),
        errors.AnswersRefused,
        "the answers of Own(): expected answers, got AttributeError: module 'numpy' has no attribute",
    ),
]


@pytest.mark.parametrize(("body", "kind", "sentence"), WRONG)
def test_a_function_that_goes_wrong_is_refused(
    body: str, kind: type[errors.TrainingRefused], sentence: str, tmp_path: Path
) -> None:
    columns, signal = table()
    with pytest.raises(kind) as refused:
        fit(columns, signal > 1.5, ALL_DTYPES, "binary", **function(tmp_path, body))
    assert str(refused.value).startswith(sentence)
    assert "\n" not in str(refused.value)


def test_a_metric_that_onnx_does_not_have_is_refused(tmp_path: Path) -> None:
    columns, signal = table()
    only = InputSchema(tuple(feature for feature in ALL_DTYPES.features if feature.name in ("ratio", "visits")))
    some = {name: columns[name] for name in only.names}
    odd = fitted("sklearn.neighbors import KNeighborsClassifier", "KNeighborsClassifier(metric='canberra')")
    with pytest.raises(errors.NotConvertible, match=r"^KNeighborsClassifier\(metric='canberra'\) cannot be converted"):
        fit(some, signal > 1.5, only, "binary", **function(tmp_path, odd))


def test_a_function_that_is_not_where_it_should_be_is_refused(tmp_path: Path) -> None:
    columns, signal = table()
    folder = tmp_path / "functions"
    function(folder, "return None")
    (tmp_path / "outside.py").write_text("def learn(dataset): return None\n")
    (folder / "link.py").symlink_to(tmp_path / "outside.py")
    (folder / "number.py").write_text("learn = 3\n")
    wrong: list[tuple[str | None, Path | None, str]] = [
        (None, folder, "function (none): the recipe names none, as FILE.py:NAME"),
        ("learn.py:learn", None, "function learn.py:learn: the setting retrain.functions names no folder"),
        ("learn.py:teach", folder, "function learn.py:teach: there is no function 'teach' in its file"),
        ("number.py:learn", folder, "function number.py:learn: there is no function 'learn' in its file"),
        ("gone.py:learn", folder, "function gone.py:learn: there is no such file in the folder of functions: its"),
        ("link.py:learn", folder, "function link.py:learn: its file must lie in the folder of functions itself"),
        ("../outside.py:learn", folder, "function ../outside.py:learn: its file must lie in the folder of functions"),
    ]
    for name, where, sentence in wrong:
        with pytest.raises(errors.FunctionRefused) as refused:
            fit(columns, signal > 1.5, ALL_DTYPES, "binary", recipe=Recipe("function", function=name), functions=where)
        assert str(refused.value).startswith(sentence)


def test_a_function_learns_numbers_too(tmp_path: Path) -> None:
    columns, signal = table()
    good = fitted("sklearn.ensemble import HistGradientBoostingRegressor", "HistGradientBoostingRegressor(max_iter=9)")
    assert fit(columns, signal, ALL_DTYPES, "regression", **function(tmp_path, good)).report.parity["max"] <= 1e-6
    bad = OWN_CLASS.format(answers="0").replace("ClassifierMixin", "RegressorMixin").replace("predict_proba", "predict")
    wrong: Any = bad.replace("return np.0", "return np.full(len(matrix), np.inf)")
    with pytest.raises(errors.AnswersRefused, match="expected finite numbers, got inf among them"):
        fit(columns, signal, ALL_DTYPES, "regression", **function(tmp_path, wrong))
