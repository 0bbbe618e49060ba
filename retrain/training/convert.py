"""From a fitted pipeline to ONNX that answers the same, proved on real rows by the registry's own runtime."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import skl2onnx
from numpy.typing import NDArray
from skl2onnx.common import data_types as onnx_types
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from registry.errors import RegistryError
from registry.onnx_model import OnnxModel, brief
from registry.signature import ModelFacts, signature_of
from registry.types import Dtype, InputSchema, Task
from retrain import errors
from retrain.training.rows import Rows

TOLERANCE = 1e-5
"""Largest difference between estimator and ONNX form: of a probability, or of a number relative to the largest one."""

N_PARITY_ROWS = 10_000
OPSETS = {"": 21, "ai.onnx.ml": 3}
SCORES: dict[Task, str] = {"binary": "probabilities:1", "multiclass": "probabilities", "regression": "prediction"}
"""The output that is compared with the outcome, as `register --score` writes it."""

_ONNX_TYPES: dict[Dtype, Any] = {
    "float32": onnx_types.FloatTensorType,
    "float64": onnx_types.DoubleTensorType,
    "int64": onnx_types.Int64TensorType,
    "bool": onnx_types.BooleanTensorType,
    "string": onnx_types.StringTensorType,
}


def converted(pipeline: Pipeline, rows: Rows) -> bytes:
    """The ONNX form: one input `(n, 1)` a feature, the same bytes in every process.

    Raises:
        NotConvertible: the estimator has no ONNX form.
    """
    estimator = pipeline["estimator"]
    inputs = [(feature.name, _ONNX_TYPES[feature.dtype]([None, 1])) for feature in rows.features]
    kind: dict[str, Any] = (
        {"final_types": [("prediction", onnx_types.FloatTensorType([None, 1]))]}
        if rows.task == "regression"
        else {"options": {id(estimator): {"zipmap": False}}}
    )
    try:
        with warnings.catch_warnings():
            # skl2onnx 1.20 hands booleans to fields of integers, which protobuf 6 takes and warns of
            warnings.filterwarnings("ignore", "Field onnx.AttributeProto.ints", DeprecationWarning)
            onnx = skl2onnx.convert_sklearn(pipeline, "understudy", inputs, target_opset=OPSETS, **kind)
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise errors.NotConvertible(named(estimator), brief(error)) from None
    # skl2onnx lists the opsets in the order of a set of strings, which is another one in every process
    opsets = sorted(onnx.opset_import, key=lambda opset: str(opset.domain))
    del onnx.opset_import[:]
    onnx.opset_import.extend(opsets)
    return bytes(onnx.SerializeToString(deterministic=True))


def parity(pipeline: Pipeline, model_bytes: bytes, rows: Rows) -> dict[str, float]:
    """How far estimator and ONNX form are apart on rows spread evenly over the training rows.

    `max` and `q99` of the absolute difference of scores (regression: over the largest absolute answer), and
    `label_flips`, the number of rows whose most probable class differs.

    Raises:
        ParityBroken: `max` is above `TOLERANCE`.
        NotConvertible: the registry's runtime does not take the ONNX form, or it does not answer.
    """
    which = np.unique(np.linspace(0, len(rows) - 1, N_PARITY_ROWS).astype(np.intp))
    schema, score, classes = InputSchema(rows.features), SCORES[rows.task], rows.classes or None
    try:
        model = OnnxModel(model_bytes)
        facts = ModelFacts(*model.declared())
        model.bind(signature_of(facts, schema, rows.task, score=score, classes=classes))
        answers = model.run({name: column[which] for name, column in rows.columns.items()})
    except RegistryError as refused:
        raise errors.NotConvertible(named(pipeline["estimator"]), str(refused)) from None
    answered = answers[score.partition(":")[0]]
    expected, got = scores_of(pipeline, rows, which), np.asarray(answered, np.float64)
    flips = 0
    if rows.task == "regression":
        unit = max(float(np.abs(expected).max()), 1e-30)
        expected, got = expected / unit, got / unit
    else:
        winner = expected > 0.5 if rows.task == "binary" else expected.argmax(axis=1)
        got_winner = got.argmax(axis=1)
        flips = int((winner != got_winner).sum())
        got = got[:, 1] if rows.task == "binary" else got
    difference = np.abs(expected - got)
    largest = float(difference.max())
    if not largest <= TOLERANCE:
        raise errors.ParityBroken(TOLERANCE, largest, len(which))
    q99 = float(np.quantile(difference, 0.99))
    return {"n_rows": len(which), "max": largest, "q99": q99, "label_flips": flips}


def round_thresholds_down(learned: BaseEstimator) -> None:
    """Make boosted trees split float32 columns in their ONNX form exactly as before.

    Their float64 thresholds lie half way between float32 neighbours, and the converter rounds to the nearest float32,
    which may be the upper neighbour: then rows change sides (sklearn-onnx issue 1192). Rounded down they do not.
    """
    for trees in getattr(learned, "_predictors", ()):
        for tree in trees:
            exact = tree.nodes["num_threshold"]
            with np.errstate(over="ignore"):
                nearest = exact.astype(np.float32)
            below = np.nextafter(nearest, np.float32(-np.inf))
            tree.nodes["num_threshold"] = np.where(nearest > exact, below, nearest)


def scores_of(pipeline: Pipeline, rows: Rows, which: slice | NDArray[np.intp] = slice(None)) -> NDArray[Any]:
    """Scores of the fitted pipeline, as evidence takes them: `(n,)`, or `(n, n_classes)` for multiclass."""
    table = rows.table(which)
    if rows.task == "regression":
        return np.asarray(pipeline.predict(table), np.float64)
    probabilities = np.asarray(pipeline.predict_proba(table), np.float64)
    return probabilities[:, 1] if rows.task == "binary" else probabilities


def named(estimator: BaseEstimator) -> str:
    """An estimator in one line."""
    return " ".join(repr(estimator).split())
