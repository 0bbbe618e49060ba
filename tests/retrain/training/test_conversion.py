"""Trees behind a scaler: the trap that plain conversion falls into, what gets out of it, and what nothing does."""

from __future__ import annotations

import warnings
from pathlib import Path

import msgspec
import numpy as np
import pytest
import skl2onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from xgboost import XGBClassifier

from registry.training import Conversion
from registry.types import Feature, InputSchema, TrainingReport
from retrain import errors
from retrain.training import convert
from retrain.training.fit import Trained, fit
from retrain.training.libraries import register_converters
from tests.retrain.training.tables import Columns, fitted, function, runtime

SCHEMA = InputSchema(tuple(Feature(f"v{index}", "float32") for index in range(4)))
BOOSTERS = {
    "xgboost": ("from xgboost import XGBClassifier", "XGBClassifier(n_estimators=50, n_jobs=1)"),
    "scikit-learn": ("from sklearn.ensemble import HistGradientBoostingClassifier", "HistGradientBoostingClassifier()"),
}


def skewed() -> tuple[np.ndarray[tuple[int, int], np.dtype[np.float32]], np.ndarray[tuple[int], np.dtype[np.int64]]]:
    rng = np.random.default_rng(0)
    x = rng.lognormal(3, 1, (5_000, 4)).astype(np.float32)
    return x, (x[:, 0] + x[:, 1] + 5 * rng.normal(size=5_000) > 40).astype(np.int64)


def named(x: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> Columns:
    return {name: x[:, index] for index, name in enumerate(SCHEMA.names)}


def trained_behind(scaler: str, booster: str, folder: Path) -> Trained:
    imported, made = BOOSTERS[booster]
    of = "preprocessing" if "Scaler" in scaler else "decomposition"
    imports = f"sklearn.{of} import {scaler}\nfrom sklearn.pipeline import make_pipeline\n{imported}"
    x, y = skewed()
    return fit(named(x), y, SCHEMA, "binary", **function(folder, fitted(imports, f"make_pipeline({scaler}(), {made})")))


@pytest.mark.parametrize("booster", BOOSTERS)
@pytest.mark.parametrize(
    ("scaler", "needed"),
    [
        ("StandardScaler", "float32 division"),  # it divides float32 columns by float32 numbers
        ("RobustScaler", "double precision scaler"),  # it divides them by float64 numbers, in place
        ("MinMaxScaler", "plain"),
    ],
)
def test_trees_behind_a_scaler_answer_as_they_did(
    scaler: str, needed: Conversion, booster: str, tmp_path: Path
) -> None:
    report = trained_behind(scaler, booster, tmp_path).report
    assert report.conversion == needed
    assert report.parity["max"] <= 1e-6
    assert report.parity["label_flips"] == 0


def test_the_plain_conversion_of_trees_behind_a_scaler_is_off_by_far(tmp_path: Path) -> None:
    """The control: without the other conversions some rows change sides."""
    x, y = skewed()
    pipeline = make_pipeline(StandardScaler(), XGBClassifier(n_estimators=50, n_jobs=1)).fit(x, y)
    register_converters()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        inputs, options = [("x", FloatTensorType([None, 4]))], {id(pipeline[-1]): {"zipmap": False}}
        onnx = skl2onnx.convert_sklearn(pipeline, "x", inputs, target_opset=convert.OPSETS, options=options)
    exact = trained_behind("StandardScaler", "xgboost", tmp_path)
    model, _ = runtime(msgspec.structs.replace(exact, model_bytes=onnx.SerializeToString()), SCHEMA, "binary")
    difference = np.abs(model.run(named(x))["probabilities"] - pipeline.predict_proba(x)).max(axis=1)
    assert difference.max() > 0.05
    assert (difference > 1e-4).mean() > 1e-4


def test_what_no_conversion_answers_alike_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.ParityBroken, match=r"by up to 0\.\d+ on 5000 rows: expected at most 1e-05$"):
        trained_behind("PCA", "xgboost", tmp_path)


def test_the_tolerance_is_the_recipes(tmp_path: Path) -> None:
    x, y = skewed()
    boosted = fitted("xgboost import XGBClassifier", "XGBClassifier(n_estimators=50, n_jobs=1)")
    told = function(tmp_path, boosted)
    assert fit(named(x), y, SCHEMA, "binary", **told).report.parity["max"] > 1e-9
    told["recipe"] = msgspec.structs.replace(told["recipe"], tolerance=1e-9)
    with pytest.raises(errors.ParityBroken) as refused:
        fit(named(x), y, SCHEMA, "binary", **told)
    assert refused.value.tolerance == 1e-9


def test_a_report_from_before_there_were_recipes_is_still_read() -> None:
    old = b'{"n_rows":600,"base_rate":0.5,"parity":{"n_rows":600,"max":1e-7,"q99":1e-8,"label_flips":0},"recipe":"x"}'
    report = msgspec.json.decode(old, type=TrainingReport)
    assert (report.seed, report.conversion, report.candidates, report.parameters) == (None, None, (), {})
    x, y = skewed()
    new = fit(named(x), y, SCHEMA, "binary").report
    assert msgspec.json.decode(msgspec.json.encode(new), type=TrainingReport) == new
