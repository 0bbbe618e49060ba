"""Columns of chunks as Arrow arrays, copied at most once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gateway.chunk import Layout, Strings
from gateway.columns import NUMPY, Array
from gateway.journal.sets import Located
from registry.types import Dtype, OutputTensor

MOMENT = pa.timestamp("us", tz="UTC")
TYPES: dict[Dtype, pa.DataType] = {
    "float32": pa.float32(), "float64": pa.float64(), "int64": pa.int64(), "bool": pa.bool_(), "string": pa.string(),
}  # fmt: skip


def inputs_of(page: Sequence[Located], layout: Layout) -> dict[str, Any]:
    """Feature name → Arrow array of the rows of these chunks, which have this layout and were not erased."""
    columns: dict[str, Any] = {}
    for place, (dtype, names) in enumerate(layout.groups.items()):
        lengths = [each.chunk.n_rows for each in page]
        missing = _missing([(each.chunk.inputs or [])[place].valid for each in page], lengths, len(names))
        if dtype == "string":
            for k, (name, column) in enumerate(zip(names, strings_of(page, place, len(names)), strict=True)):
                columns[name] = column if missing is None else _with_nulls(column, missing[k])
            continue
        values = numbers_of(page, place, dtype, len(names))
        for k, name in enumerate(names):
            columns[name] = pa.array(values[k], TYPES[dtype], mask=None if missing is None else missing[k])
    return columns


def numbers_of(page: Sequence[Located], place: int, dtype: Dtype, n_features: int) -> Array:
    """`(n_features, n)`: a group of features as the versions saw them, with defaults or NaN for what was not sent."""
    blocks = [(each.chunk.inputs or [])[place].values for each in page]
    return np.concatenate([numbers_in(values, NUMPY[dtype]).reshape(n_features, -1) for values in blocks], axis=1)


def strings_of(page: Sequence[Located], place: int, n_features: int) -> list[Any]:
    """An Arrow array a feature, as the versions saw them: with the default, or empty, for what was not sent."""
    texts = [(strings_in((each.chunk.inputs or [])[place].values), each.chunk.n_rows) for each in page]
    return [pa.concat_arrays([text.slice(k * n, n) for text, n in texts]) for k in range(n_features)]


def _missing(valid: Sequence[bytes | None], lengths: Sequence[int], n_features: int) -> Array | None:
    """`(n_features, n)`: what was not sent; None where everything was."""
    if all(bitmap is None for bitmap in valid):
        return None
    parts = []
    for bitmap, n in zip(valid, lengths, strict=True):
        if bitmap is None:
            parts.append(np.zeros((n_features, n), bool))
        else:
            bits = np.unpackbits(np.frombuffer(bitmap, np.uint8), count=n_features * n)
            parts.append(~bits.astype(bool).reshape(n_features, n))
    return np.concatenate(parts, axis=1)


def numbers_in(packed: bytes | Strings, kind: np.dtype[Any]) -> Array:
    """The numbers of a block or an output, feature after feature or row after row, as a view."""
    assert isinstance(packed, bytes)  # noqa: S101  # the layout says so
    return np.frombuffer(packed, kind)


def strings_in(packed: bytes | Strings) -> Any:
    """The strings of a block or an output, in its order, where they are: nothing is copied."""
    assert isinstance(packed, Strings)  # noqa: S101  # the layout says so
    n = len(packed.offsets) // 4 - 1
    return pa.StringArray.from_buffers(n, pa.py_buffer(packed.offsets), pa.py_buffer(packed.text))


def _with_nulls(column: Any, missing: Array) -> Any:
    return pc.if_else(pa.array(missing), pa.scalar(None, pa.string()), column)


def output_column(values: Array, out: OutputTensor) -> Any:
    """An output as Arrow has it: a value, or a list of fixed length, a row."""
    return listed(pa.array(values.ravel(), TYPES[out.dtype]), out.width)


def scores_column(scores: Array) -> Any:
    """Scores `(n,)` or `(n, width)`; NaN is null: a score that there is not."""
    return listed(
        pa.array(scores.ravel(), pa.float64(), from_pandas=True), None if scores.ndim == 1 else scores.shape[1]
    )


def listed(flat: Any, width: int | None) -> Any:
    """A column of the values of each row: as they are, or `width` of them a row."""
    return flat if width is None else pa.FixedSizeListArray.from_arrays(flat, width)


def vector(kind: Any, width: int | None) -> Any:
    """The type of a value a row, or of `width` of them."""
    return kind if width is None else pa.list_(kind, width)


def each_row(page: Sequence[Located], fact: str, kind: Any) -> Any:
    """A fact of every row, null where nobody said it; what is no text becomes its JSON where text is wanted."""
    said = [getattr(each.chunk.requests, fact) for each in page]
    n_rows = sum(each.chunk.n_rows for each in page)
    if all(values is None for values in said):
        return pa.nulls(n_rows, kind)
    values: list[Any] = []
    for each, of_chunk in zip(page, said, strict=True):
        values += [None] * each.chunk.n_rows if of_chunk is None else of_chunk
    if fact == "decisions":
        values = [value if value is None or isinstance(value, str) else _json(value) for value in values]
    return pa.array(values, kind)


def _json(value: float) -> str:
    return msgspec.json.encode(value).decode()
