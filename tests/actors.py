"""Versions for stories: scikit-learn models whose every coefficient is chosen, and graphs that misbehave on purpose.

All binary versions take the features `a` and `b` and answer `label` and `probabilities`. The misbehaving ones answer
as the well-behaved do until a row has `b` above 50: such a row is poison. None of them would pass admission, so a
store is given them one level below it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from sklearn.linear_model import LinearRegression, LogisticRegression

from registry.onnx_model import OnnxModel
from registry.signature import ModelFacts, signature_of
from registry.types import Feature, InputSchema, Signature, Task

SCHEMA = InputSchema((Feature("a", "float64"), Feature("b", "float64")))
POISON = 99.0
Quirk = Literal["loops", "hoards", "answers nan", "raises", "answers too few", "is slow", "is slow on poison"]


def logistic(
    weights: Sequence[float] | np.ndarray[Any, np.dtype[Any]],
    bias: float = 0.0,
    classes: Sequence[int | str] = (0, 1),
) -> bytes:
    """P(class) by softmax (or the logistic function) of these weights, as scikit-learn has it."""
    model = LogisticRegression()
    model.classes_ = np.array(classes)
    model.coef_ = np.atleast_2d(np.array(weights, np.float64))
    model.intercept_ = np.full(len(model.coef_), bias)
    model.n_features_in_ = model.coef_.shape[1]
    made: bytes = to_onnx(model, np.zeros((1, 2), np.float32), options={"zipmap": False}).SerializeToString()
    return made


def linear(weights: Sequence[float], bias: float = 0.0) -> bytes:
    """A number: the weighted sum of the features."""
    model = LinearRegression()
    model.coef_, model.intercept_, model.n_features_in_ = np.array(weights, np.float64), bias, len(weights)
    made: bytes = to_onnx(model, np.zeros((1, 2), np.float32)).SerializeToString()
    return made


def signature(model_bytes: bytes, task: Task = "binary", classes: tuple[int | str, ...] | None = None) -> Signature:
    """What admission would find, for a file that may not be admitted."""
    said = (0, 1) if task == "binary" and classes is None else classes
    return signature_of(ModelFacts(*OnnxModel(model_bytes).declared()), SCHEMA, task, classes=said)


def hostile(quirk: Quirk, weights: Sequence[float] = (1.0, 0.0), n_slow: int = 12) -> bytes:
    """A logistic model of the features with one quirk, which poison brings out ("is slow": every row).

    `n_slow`: how many products of large matrices make it slow, about 50 ms each.
    """
    constants: dict[str, Any] = {
        "w": np.array(weights, np.float32).reshape(2, 1),
        "b": np.array([1], np.int64),
        "axes": np.array([1], np.int64),
        "zero": np.array(0.0, np.float32),
        "half": np.array(0.5, np.float32),
        "one": np.array(1.0, np.float32),
        "limit": np.array(50.0, np.float32),
        "empty": np.array([], np.int64),
    }
    nodes = [
        ("Gather", ["X", "b"], ["column"], {"axis": 1}),  # (n, 1)
        ("Greater", ["column", "limit"], ["poison"], {}),
        ("Cast", ["poison"], ["poisoned"], {"to": TensorProto.INT64}),
        ("ReduceMax", ["poisoned"], ["worst"], {"keepdims": 0}),  # 1 where any row is poison, else 0
        ("Where", ["poison", "zero", "X"], ["clean"], {}),
        ("MatMul", ["clean", "w"], ["plain"], {}),
    ]
    constants["large"] = np.array(_LARGE[quirk], np.int64)
    if quirk == "answers nan":
        nodes += [
            ("Where", ["poison", "limit", "zero"], ["much"], {}),
            ("Neg", ["much"], ["below"], {}),
            ("Sqrt", ["below"], ["extra"], {}),  # of a negative number
        ]
    elif quirk == "raises":
        nodes += [
            ("Mul", ["poisoned", "large"], ["index"], {}),  # 0, or far outside of (n, 1)
            ("Transpose", ["X"], ["rows"], {}),
            ("Squeeze", ["index", "axes"], ["places"], {}),
            ("Gather", ["rows", "places"], ["found"], {"axis": 0}),
            ("ReduceSum", ["found", "axes"], ["sums"], {"keepdims": 1}),
            ("Mul", ["sums", "zero"], ["extra"], {}),
        ]
    elif quirk == "hoards":
        nodes += [
            ("Mul", ["worst", "large"], ["size"], {}),
            ("Unsqueeze", ["size", "zeroth"], ["shape"], {}),
            ("Cast", ["worst"], ["seed"], {"to": TensorProto.FLOAT}),
            ("Expand", ["seed", "shape"], ["hoard"], {}),
            ("ReduceSum", ["hoard"], ["total"], {"keepdims": 0}),
            ("Mul", ["total", "zero"], ["extra"], {}),
        ]
        constants["zeroth"] = np.array([0], np.int64)
    elif quirk in ("is slow", "is slow on poison", "loops"):
        return _looping(nodes, constants, always=quirk == "is slow", n=n_slow if quirk != "loops" else 2**60)
    else:
        nodes += [("Mul", ["plain", "zero"], ["extra"], {})]
    nodes += _answer(["plain", "extra"])
    if quirk == "answers too few":
        nodes = _without_poison(nodes)
    return _model(nodes, constants)


_LARGE: dict[str, int] = {"hoards": 2**31, "raises": 2**20}
_LARGE |= dict.fromkeys(("loops", "answers nan", "answers too few", "is slow", "is slow on poison"), 0)


def _answer(terms: list[str]) -> list[tuple[str, list[str], list[str], dict[str, Any]]]:
    return [
        ("Sum", terms, ["logit"], {}),
        ("Sigmoid", ["logit"], ["p"], {}),
        ("Sub", ["one", "p"], ["q"], {}),
        ("Concat", ["q", "p"], ["probabilities"], {"axis": 1}),
        ("Greater", ["p", "half"], ["yes"], {}),
        ("Cast", ["yes"], ["labels"], {"to": TensorProto.INT64}),
        ("Squeeze", ["labels", "axes"], ["label"], {}),
    ]


def _without_poison(nodes: list[Any]) -> list[Any]:
    """The same answers, but none for a poisoned row."""
    renamed = [(op, takes, [f"all {o}" if o in ("label", "probabilities") else o for o in gives], attributes)
               for op, takes, gives, attributes in nodes]  # fmt: skip
    return [
        *renamed,
        ("Not", ["poison"], ["good"], {}),
        ("Squeeze", ["good", "axes"], ["kept"], {}),
        ("Compress", ["all label", "kept"], ["label"], {"axis": 0}),
        ("Compress", ["all probabilities", "kept"], ["probabilities"], {"axis": 0}),
    ]


def _looping(nodes: list[Any], constants: dict[str, Any], *, always: bool, n: int) -> bytes:
    """Multiplies large matrices `n` times: for every batch, or for one that holds poison."""
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["m", "m"], ["product"]),
            helper.make_node("Min", ["product", "ceiling"], ["next"]),
            helper.make_node("Identity", ["go"], ["again"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("m", TensorProto.FLOAT, [700, 700]),
        ],
        [
            helper.make_tensor_value_info("again", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [700, 700]),
        ],
    )
    constants |= {
        "trips": np.array(n, np.int64),
        "all": np.array(1, np.int64),
        "true": np.array(True),
        "square": np.array([700, 700], np.int64),
        "ceiling": np.array(1e-3, np.float32),
        "start": np.array([[1e-3]], np.float32),
    }
    loop = [
        ("Mul", ["trips", "all" if always else "worst"], ["count"], {}),
        ("Expand", ["start", "square"], ["matrix"], {}),
        ("Loop", ["count", "true", "matrix"], ["last"], {"body": body}),
        ("ReduceMax", ["last"], ["top"], {"keepdims": 0}),
        ("Mul", ["top", "zero"], ["extra"], {}),
    ]
    return _model([*nodes, *loop, *_answer(["plain", "extra"])], constants)


def _model(nodes: Sequence[Any], constants: dict[str, Any]) -> bytes:
    graph = helper.make_graph(
        [helper.make_node(op, takes, gives, **attributes) for op, takes, gives, attributes in nodes],
        "hostile",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, 2])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString())
