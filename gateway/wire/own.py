"""Our own JSON: `{"inputs": {"age": 33, …}}` to columns, and the answer back.

Every model has a decoder of its own, made from its input schema: one msgspec Struct whose fields are the features,
so that a body is validated while it is parsed and an error names the feature, what was expected and what came.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import UNSET, Meta, Struct, UnsetType

from gateway.columns import Array, Columns, block_of, fill_of, groups_of
from gateway.errors import InvalidInput, TooManyRows
from gateway.records import micros
from gateway.wire.strict_json import Int64, decode_json, instant, refuse_duplicate_keys
from registry.types import Dtype, Feature, InputSchema, Scalar

_PYTHON: dict[Dtype, Any] = {"float32": float, "float64": float, "int64": Int64, "bool": bool, "string": str}
Name = Annotated[str, Meta(min_length=1, max_length=500)]
"""A key of the caller's own."""
Decision = Int64 | float | Annotated[str, Meta(max_length=500)]


class Said(Struct, frozen=True):
    """What a caller said of its rows besides: a list item a row, or None."""

    associations: list[str | None] | None = None
    predicted_at_us: list[int] | None = None
    decisions: list[Decision | None] | None = None
    propensities: list[float | None] | None = None


class Asked(Struct, frozen=True):
    """What a request asks, decoded and valid."""

    columns: Columns
    single: bool
    """One object was sent, so one object is answered; else a list."""
    said: Said | None = None

    @property
    def predicted_at_us(self) -> list[int] | None:
        """The caller's own time of each row."""
        return None if self.said is None else self.said.predicted_at_us


class SentFacts(Struct, kw_only=True):
    """What may stand beside `inputs`: each one value, or a list of as many as there are rows."""

    association_id: Name | list[Name | None] | UnsetType | None = UNSET
    predicted_at: str | list[str] | UnsetType = UNSET
    decision: Decision | list[Decision | None] | UnsetType | None = UNSET
    propensity: float | list[float | None] | UnsetType | None = UNSET


class SentPrediction(SentFacts, kw_only=True, forbid_unknown_fields=True):
    """`POST /models/{m}/predict`, for any model: the names in `inputs` are those of its input schema."""

    inputs: dict[str, Scalar | None] | list[dict[str, Scalar | None]]


class RequestDecoder:
    """Decodes the bodies of one model's predictions under one input schema."""

    def __init__(self, schema: InputSchema, max_rows: int) -> None:
        self._max_rows = max_rows
        self._groups = groups_of(schema)
        by_name = {feature.name: feature for feature in schema.features}
        self._features = [by_name[name] for names in self._groups.values() for name in names]
        self._all_required = all(feature.required for feature in self._features)
        row = _row_type(self._features)
        body = msgspec.defstruct(
            "Body",
            [("inputs", row | list[row])],  # type: ignore[valid-type]
            bases=(SentFacts,),
            kw_only=True,
            forbid_unknown_fields=True,
        )
        self._decode = msgspec.json.Decoder(body).decode

    def decode(self, body: bytes) -> Asked:
        """The rows of a request body.

        Raises:
            NotJson: not UTF-8, not JSON, or a key is given twice.
            InvalidInput: it does not fit the schema; names the place, what was expected and what came.
            TooManyRows: more rows than one request may have.
        """
        decoded: Any = decode_json(self._decode, body)
        single = not isinstance(decoded.inputs, list)
        rows = [decoded.inputs] if single else decoded.inputs
        n = len(rows)
        if n == 0:
            raise InvalidInput("inputs: expected at least one row, got an empty list")
        if n > self._max_rows:
            raise TooManyRows(n, self._max_rows)
        tuples = [msgspec.structs.astuple(row) for row in rows]
        self._refuse_duplicates(body, decoded, tuples)
        return Asked(self._columns(tuples, single), single, _said(decoded, n))

    def _columns(self, tuples: list[tuple[Any, ...]], single: bool) -> Columns:
        blocks: dict[Dtype, Array] = {}
        missing: dict[Dtype, Array] = {}
        start = 0
        for dtype, names in self._groups.items():
            stop = start + len(names)
            values: Sequence[Sequence[Any]] = [t[start:stop] for t in tuples]
            if not self._all_required:
                values, absent = self._filled(values, self._features[start:stop])
                if absent is not None:
                    missing[dtype] = absent
            flat = values[0] if single else [value for row in values for value in row]
            try:
                blocks[dtype] = block_of(flat, dtype, len(names))
            except OverflowError:
                raise InvalidInput(_too_large(flat, names, single)) from None
            start = stop
        return Columns(len(tuples), blocks, missing)

    @staticmethod
    def _filled(
        values: Sequence[Sequence[Any]], features: Sequence[Feature]
    ) -> tuple[Sequence[Sequence[Any]], Array | None]:
        """Defaults in the place of what is absent or null, and where that was; None if nowhere."""
        absent = np.array([[value is UNSET or value is None for value in row] for row in values])
        if not absent.any():
            return values, None
        filled = [list(row) for row in values]
        for row, column in np.argwhere(absent):
            filled[row][column] = fill_of(features[column])
        return filled, absent

    def _refuse_duplicates(self, body: bytes, decoded: Any, tuples: list[tuple[Any, ...]]) -> None:
        n_features = len(self._features)
        expected = len(tuples) * n_features
        if not self._all_required:
            expected -= sum(row.count(UNSET) for row in tuples)
        if "string" in self._groups:
            n_strings = len(self._groups["string"])  # the last group
            expected += sum(value.count(":") for row in tuples for value in row[-n_strings:] if type(value) is str)
        for name in SentFacts.__struct_fields__:
            if (value := getattr(decoded, name)) is not UNSET:
                listed = value if isinstance(value, list) else [value]
                expected += 1 + sum(item.count(":") for item in listed if type(item) is str)
        refuse_duplicate_keys(body, n_colons=expected + 1)


def _too_large(flat: Sequence[Any], names: Sequence[str], single: bool) -> str:
    """Which number is beyond float32."""
    with np.errstate(over="ignore"):
        place = int(np.isinf(np.array(flat, np.float32)).argmax())
    row, column = divmod(place, len(names))
    where = f".{names[column]}" if single else f"[{row}].{names[column]}"
    return f"inputs{where}: expected float32, got {flat[place]!r}, which is too large"


def _row_type(features: Sequence[Feature]) -> type[Struct]:
    """A Struct with a field a feature: the JSON names are the features', whatever characters they have."""
    fields: list[Any] = []
    for i, feature in enumerate(features):
        kind = _PYTHON[feature.dtype]
        if feature.required:
            fields.append((f"f{i}", kind, msgspec.field(name=feature.name)))
        else:
            fields.append((f"f{i}", kind | None | UnsetType, msgspec.field(name=feature.name, default=UNSET)))
    return msgspec.defstruct("Row", fields, forbid_unknown_fields=True, kw_only=True)


def _said(body: Any, n: int) -> Said | None:
    if body.association_id is body.predicted_at is body.decision is body.propensity is UNSET:
        return None
    return Said(
        _per_row("association_id", body.association_id, n),
        _times(body.predicted_at, n),
        _per_row("decision", body.decision, n),
        _propensities(body.propensity, n),
    )


def _per_row(name: str, value: Any, n: int) -> list[Any] | None:
    """What was said beside `inputs`, one a row: a value is for all rows, a list must be as long as they are."""
    if value is UNSET or value is None:
        return None
    if not isinstance(value, list):
        return [value] * n
    if len(value) != n:
        raise InvalidInput(f"{name}: expected one value or a list of {n}, got a list of {len(value)}")
    return value


def _times(value: Any, n: int) -> list[int] | None:
    said = _per_row("predicted_at", value, n)
    return None if said is None else [micros(instant("predicted_at", text)) for text in said]


def _propensities(value: Any, n: int) -> list[float | None] | None:
    said = _per_row("propensity", value, n)
    if said is not None and any(p is not None and not 0 < p <= 1 for p in said):
        raise InvalidInput("propensity: expected a probability above 0 and at most 1")
    return said


class Answer(Struct, frozen=True):
    """What the caller gets."""

    prediction_id: str | None
    model: str
    version: int
    outputs: dict[str, Any] | list[dict[str, Any]]


encode = msgspec.json.Encoder().encode


def answer_of(asked: Asked, model: str, version: int, prediction_id: str | None, rows: list[dict[str, Any]]) -> bytes:
    """The body of an answer: one object was sent, so one is answered; else a list."""
    return encode(Answer(prediction_id, model, version, rows[0] if asked.single else rows))
