"""From a fitted estimator to ONNX that answers the same, proved on real rows by the registry's own runtime.

Three conversions are tried, the first that answers the same is taken:

    plain                      as skl2onnx does it: a scaler multiplies by float32 reciprocals
    float32 division           scalers divide float32, as scikit-learn's StandardScaler does with float32 columns
    double precision scaler    scalers compute in float64 and round to float32 at each step, as numpy does in place

A scaler that is off by the last bit is nothing to a linear model. Trees behind it split on thresholds that are values
of the data, and then a percent of the rows changes sides.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import onnx
import skl2onnx
from msgspec import Struct
from numpy.typing import NDArray
from skl2onnx.algebra.onnx_ops import OnnxCast, OnnxDiv, OnnxSub
from skl2onnx.common import data_types as onnx_types
from sklearn.preprocessing import MaxAbsScaler, RobustScaler, StandardScaler

from gateway.columns import score_of
from registry.errors import RegistryError
from registry.onnx_model import OnnxModel, brief
from registry.signature import ModelFacts, signature_of
from registry.training import Conversion
from registry.types import InputSchema
from retrain import errors
from retrain.training.answers import Answers
from retrain.training.graph import MATRIX, whole
from retrain.training.learned import Learned, named
from retrain.training.libraries import register_converters, round_thresholds_down
from retrain.training.rows import Rows

N_PARITY_ROWS = 10_000
OPSETS = {"": 21, "ai.onnx.ml": 3}
CONVERSIONS: tuple[Conversion, ...] = ("plain", "float32 division", "double precision scaler")


class Converted(Struct, frozen=True):
    """An ONNX form that was proved: how it was made, and how far it is from the estimator (`parity`)."""

    model_bytes: bytes
    conversion: Conversion
    parity: dict[str, float]


def converted(learned: Learned, rows: Rows, tolerance: float, answers: Answers) -> Converted:
    """The ONNX form: one input `(n, 1)` a feature, these answers, the same bytes in every process.

    Raises:
        NotConvertible: the estimator has no ONNX form, or the registry's runtime does not take it.
        ParityBroken: no conversion answers within `tolerance` of the estimator.
    """
    outputs = {output.name for output in answers.outputs}
    taken = [feature.name for feature in rows.features if feature.name in outputs]
    if taken:
        raise errors.NotConvertible(named(learned.estimator), f"feature '{taken[0]}' has the name of an output")
    round_thresholds_down(learned.estimator)
    register_converters()
    which = np.unique(np.linspace(0, len(rows) - 1, N_PARITY_ROWS).astype(np.intp))
    expected = learned.scores(rows, which)
    broken: errors.ParityBroken | None = None
    for conversion in CONVERSIONS:
        model_bytes = whole(_body(learned, conversion), learned.encoding, rows.classes, answers)
        try:
            proved = parity(learned, model_bytes, rows, which, expected, tolerance, answers.written_score)
            return Converted(model_bytes, conversion, proved)
        except errors.ParityBroken as error:
            broken = broken or error
    assert broken is not None  # noqa: S101  # there are conversions
    raise broken


def parity(
    learned: Learned,
    model_bytes: bytes,
    rows: Rows,
    which: NDArray[np.intp],
    expected: NDArray[np.float64],
    tolerance: float,
    score: str,
) -> dict[str, float]:
    """How far estimator (`expected`) and ONNX form are apart on these rows.

    `max`, `q999` and `q99` of the absolute difference of scores (regression: over the largest absolute answer), and
    `label_flips`, the number of rows whose most probable class differs.

    Raises:
        ParityBroken: `max` is above `tolerance`.
        NotConvertible: the registry's runtime does not take the ONNX form, or it does not answer.
    """
    schema, classes = InputSchema(rows.features), rows.classes or None
    try:
        model = OnnxModel(model_bytes)
        facts = ModelFacts(*model.declared())
        signature = signature_of(facts, schema, rows.task, score=score, classes=classes)
        model.bind(signature)
        answers = model.run({name: column[which] for name, column in rows.columns.items()})
    except RegistryError as refused:
        raise errors.NotConvertible(named(learned.estimator), str(refused)) from None
    got = score_of(answers, signature)
    flips = 0
    if rows.task == "regression":
        unit = max(float(np.abs(expected).max()), 1e-30)
        expected, got = expected / unit, got / unit
    else:
        winner, won = (each > 0.5 if rows.task == "binary" else each.argmax(axis=1) for each in (expected, got))
        flips = int((winner != won).sum())
    difference = np.abs(expected - got)
    largest = float(difference.max())
    if not largest <= tolerance:
        raise errors.ParityBroken(tolerance, largest, len(which))
    q99, q999 = np.quantile(difference, [0.99, 0.999]).tolist()
    return {"n_rows": len(which), "max": largest, "q999": q999, "q99": q99, "label_flips": flips}


def _body(learned: Learned, conversion: Conversion) -> onnx.ModelProto:
    """The estimator's part: from `MATRIX` to its answers."""
    inputs = [(MATRIX, onnx_types.FloatTensorType([None, learned.encoding.width]))]
    last = learned.estimator.steps[-1][1] if hasattr(learned.estimator, "steps") else learned.estimator
    options: dict[Any, Any] = {} if learned.task == "regression" else {id(last): {"zipmap": False}}
    custom: dict[Any, Any] = {}
    match conversion:
        case "plain":
            pass
        case "float32 division":
            options |= {kind: {"div": "div"} for kind in (StandardScaler, RobustScaler, MaxAbsScaler)}
        case "double precision scaler":
            custom = dict.fromkeys((StandardScaler, RobustScaler, MaxAbsScaler), _in_double_precision)
    try:
        with warnings.catch_warnings():
            # skl2onnx 1.20 hands booleans to fields of integers, which protobuf 6 takes and warns of
            warnings.filterwarnings("ignore", "Field onnx.AttributeProto.ints", DeprecationWarning)
            return skl2onnx.convert_sklearn(
                learned.estimator, "understudy", inputs,
                target_opset=OPSETS, options=options, custom_conversion_functions=custom,
            )  # fmt: skip
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  # converters stumble over what they do not know in every way there is
        raise errors.NotConvertible(named(learned.estimator), brief(error)) from None


def _in_double_precision(scope: Any, operator: Any, container: Any) -> None:
    scaler, opset = operator.raw_operator, container.target_opset
    centre = getattr(scaler, "mean_", None) if isinstance(scaler, StandardScaler) else getattr(scaler, "center_", None)
    steps = [(OnnxSub, centre), (OnnxDiv, getattr(scaler, "scale_", None))]
    values: Any = operator.inputs[0]
    single, double = onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE
    for kind, numbers in steps:
        if numbers is not None:
            widened = OnnxCast(values, to=double, op_version=opset)
            values = OnnxCast(kind(widened, np.float64(numbers), op_version=opset), to=single, op_version=opset)
    OnnxCast(values, to=single, op_version=opset, output_names=operator.outputs[:1]).add_to(scope, container)
