"""The Open Inference Protocol, version 2, JSON form: its tensors to our columns, and our outputs to its tensors.

Protocol names (`inputs`, `datatype`, `shape`) are used here and in its routes only. A request gives either one tensor
a feature (`[n]` or `[n, 1]`), or, where all features are of one number type, one tensor `[n, n_features]` with the
features in the order of the model's schema. `data` may be nested or flat, row-major. Members that the protocol does
not know are ignored, as its clients send some; no key may be given twice.

Source: specification/protocol/inference_rest.md of the Open Inference Protocol.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta, Struct

from gateway.columns import NUMPY, Array, Columns, block_of, fill_of, groups_of
from gateway.errors import InvalidInput, TooManyRows
from gateway.wire.own import Asked
from gateway.wire.strict_json import MAX_SHOWN, decode_json, refuse_duplicate_keys
from registry.types import Dtype, Feature, InputSchema

DATATYPE: dict[Dtype, str] = {
    "float32": "FP32",
    "float64": "FP64",
    "int64": "INT64",
    "bool": "BOOL",
    "string": "BYTES",
}
_INTEGERS = ("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32")
ACCEPTED: dict[Dtype, tuple[str, ...]] = {
    "float32": ("FP32", "FP64", *_INTEGERS),
    "float64": ("FP64", "FP32", *_INTEGERS),
    "int64": _INTEGERS,
    "bool": ("BOOL",),
    "string": ("BYTES",),
}
"""What a feature of each dtype may be sent as: what loses nothing, and doubles for floats, as JSON has no others."""


Size = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class Tensor(Struct):
    """A tensor of a request. `parameters` and further members are the protocol's business, and are ignored."""

    name: str
    shape: list[Size]
    datatype: str
    data: list[Any]
    parameters: Any = None


class Requested(Struct):
    """An output that the caller wants."""

    name: str
    parameters: Any = None


class Infer(Struct):
    """A request."""

    inputs: list[Tensor]
    id: str | None = None
    outputs: list[Requested] | None = None
    parameters: Any = None


class FloatTensor(Struct):
    """As `Tensor`, of floats only: checked and converted while it is parsed."""

    name: str
    shape: list[Size]
    datatype: str
    data: list[float | list[float]]
    parameters: Any = None


class FloatInfer(Struct):
    """As `Infer`, of float tensors only."""

    inputs: list[FloatTensor]
    id: str | None = None
    outputs: list[Requested] | None = None
    parameters: Any = None


_decode = msgspec.json.Decoder(Infer).decode
_decode_floats = msgspec.json.Decoder(FloatInfer).decode


class Inferred(Struct, frozen=True):
    """A decoded request: rows for the model, and what the protocol wants back."""

    asked: Asked
    id: str | None
    outputs: list[str] | None


class InferDecoder:
    """Decodes infer requests for one model under one input schema."""

    def __init__(self, schema: InputSchema, max_rows: int) -> None:
        self._schema, self._max_rows = schema, max_rows
        self._groups = groups_of(schema)
        self._features = {feature.name: feature for feature in schema.features}
        kinds = {feature.dtype for feature in schema.features}
        floats = kinds == {"float32"} or kinds == {"float64"}
        self._floats = schema.features[0].dtype if floats and len(schema.features) > 1 else None
        """The one dtype of the features, if it is a float: then all of them may come as one tensor."""

    def decode(self, body: bytes) -> Inferred:
        """The rows of a request.

        Raises:
            NotJson, InvalidInput, TooManyRows: as for our own protocol.
        """
        if self._floats is not None and (inferred := self._decode_floats(body, self._floats)) is not None:
            return inferred
        request: Infer = decode_json(_decode, body)
        refuse_duplicate_keys(body, n_colons=_n_colons(request))
        if not request.inputs:
            raise InvalidInput("inputs: expected at least one tensor, got none")
        by_name = self._unpacked(request.inputs)
        lengths = {name: len(values) for name, values in by_name.items()}
        n = next(iter(lengths.values()))
        odd = next((name for name, length in lengths.items() if length != n), None)
        if odd is not None:
            raise InvalidInput(f"inputs.{odd}: expected {n} rows as in the other tensors, got {lengths[odd]}")
        if n == 0:
            raise InvalidInput("inputs: expected at least one row, got tensors without any")
        if n > self._max_rows:
            raise TooManyRows(n, self._max_rows)
        return Inferred(Asked(self._columns(by_name, n), single=False), request.id, _names(request.outputs))

    def _decode_floats(self, body: bytes, dtype: Dtype) -> Inferred | None:
        """The common case, many times faster: one tensor of floats `[n, n_features]` that has nothing wrong with it.

        None where it is another case, or where a complaint is due: the long way finds its words.
        """
        try:
            request: FloatInfer = _decode_floats(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        if len(request.inputs) != 1:
            return None
        tensor = request.inputs[0]
        n_features, flat = len(self._features), tensor.data
        if tensor.datatype not in ACCEPTED[dtype] or tensor.name in self._features or len(tensor.shape) != 2:
            return None
        n, width = tensor.shape
        if width != n_features or not 0 < n <= self._max_rows:
            return None
        try:
            if type(flat[0]) is list:
                flat = [value for row in flat for value in row]  # type: ignore[union-attr]  # a float is a TypeError
            if len(flat) != n * n_features:
                return None
            block = block_of(flat, dtype, n_features)
        except (IndexError, TypeError, OverflowError, struct.error):
            return None
        refuse_duplicate_keys(body, n_colons=_n_colons(request))
        columns = Columns(n, {dtype: block}, {})
        return Inferred(Asked(columns, single=False), request.id, _names(request.outputs))

    def _unpacked(self, tensors: Sequence[Tensor]) -> dict[str, list[Any]]:
        """Feature name → its values, one a row, still unchecked."""
        if len(tensors) == 1 and tensors[0].name not in self._features and len(tensors[0].shape) == 2:
            return self._split(tensors[0])
        values: dict[str, list[Any]] = {}
        for tensor in tensors:
            feature = self._features.get(tensor.name)
            if feature is None:
                raise InvalidInput(f"inputs.{_name(tensor)}: expected tensors named {', '.join(self._features)}")
            if tensor.name in values:
                raise InvalidInput(f"inputs.{tensor.name}: given twice")
            if len(tensor.shape) != 1 and tensor.shape[1:] != [1]:
                raise InvalidInput(f"inputs.{tensor.name}: expected shape [n] or [n, 1], got {tensor.shape!r:.60}")
            _check_datatype(feature, tensor)
            values[tensor.name] = _flat(tensor)
        lacking = [f.name for f in self._schema.features if f.required and f.name not in values]
        if lacking:
            raise InvalidInput(f"inputs.{lacking[0]}: expected a tensor, got none")
        return values

    def _split(self, tensor: Tensor) -> dict[str, list[Any]]:
        """The columns of one tensor that holds all features."""
        n_features = len(self._schema.features)
        if len(self._groups) > 1:
            raise InvalidInput(
                f"inputs.{_name(tensor)}: expected one tensor a feature, as they are of several dtypes: "
                f"{', '.join(self._features)}"
            )
        if tensor.shape[1] != n_features:
            raise InvalidInput(f"inputs.{_name(tensor)}: expected shape [n, {n_features}], got {tensor.shape!r:.60}")
        _check_datatype(self._schema.features[0], tensor)
        flat = _flat(tensor)
        return {name: flat[i::n_features] for i, name in enumerate(self._schema.names)}

    def _columns(self, by_name: Mapping[str, list[Any]], n: int) -> Columns:
        blocks: dict[Dtype, Array] = {}
        missing: dict[Dtype, Array] = {}
        for dtype, names in self._groups.items():
            columns = [self._column(self._features[name], by_name.get(name, [None] * n)) for name in names]
            blocks[dtype] = np.stack([column for column, _ in columns], axis=1)
            absent = np.stack([mask for _, mask in columns], axis=1)
            if absent.any():
                missing[dtype] = absent
        return Columns(n, blocks, missing)

    @staticmethod
    def _column(feature: Feature, values: list[Any]) -> tuple[Array, Array]:
        absent = np.array([value is None for value in values])
        if absent.any() and feature.required:
            raise InvalidInput(f"inputs.{feature.name}: expected {feature.dtype} in row {absent.argmax()}, got null")
        fill = fill_of(feature)
        filled = [fill if value is None else value for value in values]
        for row, value in enumerate(filled):
            if not _fits(feature.dtype, value) and not absent[row]:
                raise InvalidInput(f"inputs.{feature.name}: expected {feature.dtype} in row {row}, got {value!r:.60}")
        with np.errstate(over="ignore"):
            column = np.array(filled, NUMPY[feature.dtype])
        if feature.dtype == "float32" and np.isinf(column).any():
            row = int(np.isinf(column).argmax())
            raise InvalidInput(f"inputs.{feature.name}: expected float32, got {filled[row]!r}, which is too large")
        return column, absent


def _fits(dtype: Dtype, value: Any) -> bool:
    match dtype:
        case "string":
            return isinstance(value, str)
        case "bool":
            return isinstance(value, bool)
        case "int64":
            return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63
        case "float32" | "float64":
            return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _MAX_FLOAT


_MAX_FLOAT = float(np.finfo(np.float64).max)


def _check_datatype(feature: Feature, tensor: Tensor) -> None:
    accepted = ACCEPTED[feature.dtype]
    if tensor.datatype not in accepted:
        raise InvalidInput(
            f"inputs.{_name(tensor)}: expected datatype {' or '.join(accepted[:2])}, got '{tensor.datatype:.20}'"
        )


def _flat(tensor: Tensor) -> list[Any]:
    """The values of a tensor, row-major, as many as its shape says."""
    values = tensor.data
    for _ in tensor.shape[1:]:
        if not values or not isinstance(values[0], list):
            break
        if not all(isinstance(row, list) for row in values):
            raise InvalidInput(f"inputs.{_name(tensor)}: expected data of one depth, got lists beside values")
        values = [value for row in values for value in row]
    if len(values) != math.prod(tensor.shape):
        raise InvalidInput(
            f"inputs.{_name(tensor)}: expected as many values as shape {tensor.shape!r:.60} has, got {len(values)}"
        )
    return values


def _names(outputs: Sequence[Requested] | None) -> list[str] | None:
    return None if outputs is None else [output.name for output in outputs]


def _name(tensor: Tensor) -> str:
    return tensor.name[:MAX_SHOWN]


def _n_colons(request: Infer | FloatInfer) -> int:
    """How many colons the body of a request has that says nothing but what is read here, and none of it twice."""
    n = 1 if request.parameters is None else 1 + _n_in_parameters(request.parameters)
    if request.id is not None:
        n += 1 + request.id.count(":")
    if request.outputs is not None:
        n += 1 + sum(1 + o.name.count(":") + _n_in_parameters(o.parameters) for o in request.outputs)
    for tensor in request.inputs:
        n += 4 + tensor.name.count(":") + tensor.datatype.count(":")
        if tensor.parameters is not None:
            n += _n_in_parameters(tensor.parameters)
        if tensor.datatype == "BYTES":
            values = (value for item in tensor.data for value in (item if isinstance(item, list) else [item]))
            n += sum(value.count(":") for value in values if isinstance(value, str))
    return n


def _n_in_parameters(parameters: Any) -> int:
    return 1 + len(parameters) if isinstance(parameters, dict) else 0
