"""The ONNX file around a converted estimator: columns as callers send them in, answers as all versions have them.

columns (n, 1) each ─▶ plain matrix ─▶ the encoding's style ─▶ estimator ─▶ score (n, n_classes) or (n, 1), label (n,)
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from registry.types import Dtype, OutputTensor
from retrain.training.answers import Answers
from retrain.training.encoding import LOWEST, Encoding

ONNX_TYPES: dict[Dtype, int] = {
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
    "int64": TensorProto.INT64,
    "bool": TensorProto.BOOL,
    "string": TensorProto.STRING,
}
MATRIX = "X"
"""The one input of a converted estimator."""


class _Nodes:
    """Nodes in order, with the constants they need. Names begin alike, so that no feature has one of them."""

    def __init__(self, names: Iterable[str]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.prefix = "understudy/"
        while any(name.startswith(self.prefix) for name in names):
            self.prefix += "/"

    def add(self, kind: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        output = output or f"{self.prefix}{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(self, values: NDArray[Any]) -> str:
        name = f"{self.prefix}constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(values, name))
        return name


def whole(body: onnx.ModelProto, encoding: Encoding, classes: tuple[int | str, ...], answers: Answers) -> bytes:
    """The file, the same bytes in every process.

    Args:
        body: the estimator's ONNX form: its one input is `MATRIX`; its last output holds probabilities or predictions.
        encoding: makes the matrix.
        classes: in the order of the probabilities; none in regression.
        answers: under which names, and as what.
    """
    parts = _Nodes([*encoding.names, *(output.name for output in answers.outputs)])
    matrix = _styled(parts, encoding, _plain(parts, encoding))
    answer = parts.add("Cast", [_body(parts, body, matrix)], to=TensorProto.FLOAT)
    outputs = [
        _score(parts, answer, output, classes) if answers.is_score(output) else _label(parts, answer, output, classes)
        for output in answers.outputs
    ]
    inputs = [
        helper.make_tensor_value_info(column.name, ONNX_TYPES[column.dtype], [None, 1]) for column in encoding.columns
    ]
    nodes, constants = _needed(parts, {output.name for output in outputs})
    _name_classes(nodes, classes)
    # operators of ai.onnx.ml have only gained attributes; LabelEncoder has had its tables since 2
    opsets = {opset.domain: opset.version for opset in body.opset_import} | {"ai.onnx.ml": 3}
    # in an order of its own: libraries list them in that of a set of strings, which is another one in every process
    model = helper.make_model(
        helper.make_graph(nodes, "understudy", inputs, outputs, constants),
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in sorted(opsets.items())],
        ir_version=body.ir_version,
        producer_name="understudy",
    )
    return bytes(model.SerializeToString(deterministic=True))


def _plain(parts: _Nodes, encoding: Encoding) -> str:
    """`(n, n_features)`, NaN where missing. Neighbours of one dtype are cast together: a node costs microseconds."""
    made = []
    for dtype, run in groupby(encoding.columns, key=lambda column: column.dtype):
        if dtype == "string":
            for column in run:
                table: dict[str, Any] = {
                    "keys_strings": list(column.categories),
                    "values_floats": [float(index) for index in range(len(column.categories))],
                    "default_float": np.nan,
                }
                made.append(parts.add("LabelEncoder", [column.name], domain="ai.onnx.ml", **table))
            continue
        names = [column.name for column in run]
        joined = parts.add("Concat", names, axis=1) if len(names) > 1 else names[0]
        made.append(joined if dtype == "float32" else parts.add("Cast", [joined], to=TensorProto.FLOAT))
    return parts.add("Concat", made, axis=1) if len(made) > 1 else made[0]


def _styled(parts: _Nodes, encoding: Encoding, plain: str) -> str:
    match encoding.style:
        case "ordinal":
            return plain
        case "lowest":
            lowest = parts.constant(np.array(LOWEST, np.float32))
            return parts.add("Where", [parts.add("IsNaN", [plain]), lowest, plain])
        case "linear":
            return _linear(parts, encoding, plain)


def _linear(parts: _Nodes, encoding: Encoding, plain: str) -> str:
    numbers = [index for index, column in enumerate(encoding.columns) if column.dtype != "string"]
    flagged = [index for index in numbers if encoding.columns[index].flagged]
    made = []
    if numbers:
        some = _columns(parts, plain, numbers)
        centre, scale = (
            parts.constant(np.array([[getattr(encoding.columns[index], what) for index in numbers]], np.float32))
            for what in ("centre", "scale")
        )
        scaled = parts.add("Mul", [parts.add("Sub", [some, centre]), scale])
        nothing = parts.constant(np.array(0.0, np.float32))
        made.append(parts.add("Where", [parts.add("IsNaN", [some]), nothing, scaled]))
    if flagged:
        missing = parts.add("IsNaN", [_columns(parts, plain, flagged)])
        made.append(parts.add("Cast", [missing], to=TensorProto.FLOAT))
    for index, column in enumerate(encoding.columns):
        if column.dtype == "string":
            categories = parts.constant(np.arange(len(column.categories), dtype=np.float32)[np.newaxis])
            equal = parts.add("Equal", [_columns(parts, plain, [index]), categories])
            made.append(parts.add("Cast", [equal], to=TensorProto.FLOAT))
    return parts.add("Concat", made, axis=1) if len(made) > 1 else made[0]


def _columns(parts: _Nodes, matrix: str, which: list[int]) -> str:
    return parts.add("Gather", [matrix, parts.constant(np.array(which))], axis=1)


def _body(parts: _Nodes, body: onnx.ModelProto, matrix: str) -> str:
    """The estimator's nodes under names of their own; returns its last output."""
    names = {"": "", MATRIX: matrix}
    for constant in body.graph.initializer:
        renamed = onnx.TensorProto()
        renamed.CopyFrom(constant)
        renamed.name = names.setdefault(constant.name, f"{parts.prefix}estimator/{constant.name}")
        parts.constants.append(renamed)
    for node in body.graph.node:
        renamed_node = onnx.NodeProto()
        renamed_node.CopyFrom(node)
        renamed_node.input[:] = [names[name] for name in node.input]
        for name in node.output:
            names.setdefault(name, f"{parts.prefix}estimator/{name}")
        renamed_node.output[:] = [names[name] for name in node.output]
        parts.nodes.append(renamed_node)
    return names[body.graph.output[-1].name]


def _score(parts: _Nodes, answer: str, output: OutputTensor, classes: tuple[int | str, ...]) -> onnx.ValueInfoProto:
    """The number, the probability of the second class, or of each; `(n, 1)` or `(n, n_classes)`."""
    if not classes:
        answer = parts.add("Reshape", [answer, parts.constant(np.array([-1, 1]))])
    elif output.width is None:
        answer = _columns(parts, answer, [1])
    parts.add("Cast", [answer], output.name, to=ONNX_TYPES[output.dtype])
    return helper.make_tensor_value_info(output.name, ONNX_TYPES[output.dtype], [None, output.width or 1])


def _label(
    parts: _Nodes, probabilities: str, output: OutputTensor, classes: tuple[int | str, ...]
) -> onnx.ValueInfoProto:
    kind = ONNX_TYPES[output.dtype]
    # its name and its form tell the classes to whoever inspects the file
    parts.constants.append(helper.make_tensor(f"{parts.prefix}classes", kind, [len(classes)], list(classes)))
    winner = parts.add("ArgMax", [probabilities], axis=1, keepdims=0)
    parts.add("Gather", [f"{parts.prefix}classes", winner], output.name, axis=0)
    return helper.make_tensor_value_info(output.name, kind, [None])


def _name_classes(nodes: list[onnx.NodeProto], classes: tuple[int | str, ...]) -> None:
    """Estimators learn the indices of classes. One whose label nobody reads names the classes themselves.

    Whoever inspects the file would else find two lists of whole numbers, and not know which of them is meant.
    """
    used = {name for node in nodes for name in node.input}
    for node in nodes:
        for attribute in node.attribute:
            if attribute.name in ("classlabels_int64s", "classlabels_ints") and node.output[0] not in used:
                attribute.ints[:] = [name if isinstance(name, int) else index for index, name in enumerate(classes)]


def _needed(parts: _Nodes, wanted: set[str]) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """What leads to the outputs: a converted classifier also computes labels that nobody asks for."""
    kept = []
    for node in reversed(parts.nodes):
        if wanted & set(node.output):
            kept.append(node)
            wanted |= set(node.input)
    return kept[::-1], [constant for constant in parts.constants if constant.name in wanted]
