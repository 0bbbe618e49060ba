"""Rows as columns: what a request asks, what a version answers, and how both lie in memory.

Inputs are grouped by dtype, in the order of DTYPES, one `(n_rows, n_features)` array each: that is what a journal
stores in one piece, and what most models take as it is.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from registry.types import Dtype, Feature, InputSchema, Signature

DTYPES: tuple[Dtype, ...] = ("float32", "float64", "int64", "bool", "string")
NUMPY: dict[Dtype, np.dtype[Any]] = {
    "float32": np.dtype("<f4"),
    "float64": np.dtype("<f8"),
    "int64": np.dtype("<i8"),
    "bool": np.dtype("?"),
    "string": np.dtype(object),
}
LARGEST = float(np.finfo(np.float32).max)
"""What is larger is infinite to a model of floats, and no caller can send infinity."""
_PACKED: dict[Dtype, str] = {"float32": "f", "float64": "d", "int64": "q", "bool": "?"}

_FILL: dict[Dtype, Any] = {"float32": np.nan, "float64": np.nan, "string": ""}

Array = np.ndarray[Any, np.dtype[Any]]


def groups_of(schema: InputSchema) -> dict[Dtype, tuple[str, ...]]:
    """The features of each dtype that the schema uses, in schema order."""
    groups = {dtype: tuple(f.name for f in schema.features if f.dtype == dtype) for dtype in DTYPES}
    return {dtype: names for dtype, names in groups.items() if names}


def fill_of(feature: Feature) -> Any:
    """What stands for a value that was not sent; None where nothing can (then the feature is required)."""
    return _FILL.get(feature.dtype) if feature.default is None else feature.default


def block_of(values: Sequence[Any], dtype: Dtype, n_features: int) -> Array:
    """A block of plain values, row-major: `(len(values) / n_features, n_features)`.

    The same as `np.array(values, NUMPY[dtype]).reshape(-1, n_features)`, several times faster for a row or a few.

    Raises:
        OverflowError: a number is beyond float32.
        struct.error: a value is not of the dtype.
    """
    if dtype == "string":
        return np.array(values, object).reshape(-1, n_features)
    packed = _packer(_PACKED[dtype], len(values))(*values)
    return np.ndarray((len(values) // n_features, n_features), NUMPY[dtype], packed)


@lru_cache(256)
def _packer(code: str, n_values: int) -> Callable[..., bytes]:
    return struct.Struct(f"<{n_values}{code}").pack


class Columns:
    """Some rows of a model's inputs: one `(n_rows, n_features)` array for each dtype, in the order of `groups_of`.

    `missing` holds, for a dtype with absent values, a boolean array of the same shape; their place in `blocks`
    has the feature's default (or NaN, or the empty string).
    """

    __slots__ = ("blocks", "missing", "n_rows")

    def __init__(self, n_rows: int, blocks: dict[Dtype, Array], missing: dict[Dtype, Array]) -> None:
        self.n_rows, self.blocks, self.missing = n_rows, blocks, missing

    @classmethod
    def joined(cls, parts: Sequence[Columns]) -> Columns:
        """Several requests' rows one under the other."""
        if len(parts) == 1:
            return parts[0]
        blocks = {dtype: np.concatenate([part.blocks[dtype] for part in parts]) for dtype in parts[0].blocks}
        lacking = {dtype for part in parts for dtype in part.missing}
        missing = {
            dtype: np.concatenate([part.missing.get(dtype, np.zeros(part.blocks[dtype].shape, bool)) for part in parts])
            for dtype in lacking
        }
        return cls(sum(part.n_rows for part in parts), blocks, missing)

    def rows(self, start: int, stop: int) -> Columns:
        """The rows start … stop - 1, as views."""
        blocks = {dtype: block[start:stop] for dtype, block in self.blocks.items()}
        return Columns(stop - start, blocks, {dtype: mask[start:stop] for dtype, mask in self.missing.items()})

    def by_name(self, groups: Mapping[Dtype, tuple[str, ...]]) -> dict[str, Array]:
        """Feature name → array of n_rows values (views)."""
        return {name: self.blocks[dtype][:, i] for dtype, names in groups.items() for i, name in enumerate(names)}


class Outputs:
    """The answers of one run to all of its rows: `(n,)` or `(n, width)` an output."""

    def __init__(self, arrays: dict[str, Array]) -> None:
        self.arrays = arrays
        self._values: dict[str, list[Any]] | None = None

    def __getitem__(self, name: str) -> Array:
        return self.arrays[name]

    @property
    def values(self) -> dict[str, list[Any]]:
        """The same as plain values, converted once for all the requests of the run: an item a row."""
        if self._values is None:
            self._values = {name: array.tolist() for name, array in self.arrays.items()}
        return self._values

    def rows(self, start: int, stop: int) -> list[dict[str, Any]]:
        """The rows start … stop - 1 as plain values, a dict a row."""
        names = tuple(self.arrays)
        columns = [values[start:stop] for values in self.values.values()]
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def score_of(outputs: Mapping[str, Array], signature: Signature) -> Array:
    """What is compared with the outcome, float64: `(n,)`, or `(n, n_classes)` for multiclass.

    For binary it is the probability of the second class, whichever of two columns was named as the score.
    """
    values = outputs[signature.score.output].astype(np.float64)
    column = signature.score.column
    if column is None:
        return values
    return 1.0 - values[:, 0] if signature.task == "binary" and column == 0 else values[:, column]
