"""From columns to the matrix that estimators learn from: float32, NaN where missing, strings as indices.

An estimator and its ONNX form must see the very same numbers, so each style is written twice, in numpy here and in
ONNX in `graph`, out of operations that round alike in both:

    ordinal   one column a feature, in the order of the schema
    lowest    the same, and what is missing is less than any number: for trees that take no NaN
    linear    numbers centred at a float32 and scaled by a power of two, which is exact; 0 and a flag where missing;
              a column for each of the commonest categories
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal, Self

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from registry.types import Dtype, Feature

Style = Literal["ordinal", "lowest", "linear"]
Matrix = NDArray[np.float32]
Which = slice | NDArray[np.intp]

LOWEST = float(np.finfo(np.float32).min)
N_INDICATORS = 100
"""Commonest values of a string that have a column of their own in the linear style; the others are the rest."""


class Column(Struct, frozen=True):
    """One feature as the matrix has it; `centre`, `scale`, `flagged` (an indicator where missing) of linear numbers."""

    name: str
    dtype: Dtype
    categories: tuple[str, ...] = ()
    centre: float = 0.0
    scale: float = 1.0
    flagged: bool = False


class Encoding(Struct, frozen=True):
    """How rows become a matrix; frozen when it was learned."""

    style: Style
    columns: tuple[Column, ...]

    @classmethod
    def of(cls, features: tuple[Feature, ...], columns: dict[str, NDArray[Any]], style: Style) -> Self:
        """The encoding that these rows, `(n,)` a feature, give."""
        return cls(style, tuple(_column(feature, columns[feature.name], style) for feature in features))

    @property
    def names(self) -> tuple[str, ...]:
        """Of the features, one for each column of the plain matrix."""
        return tuple(column.name for column in self.columns)

    @property
    def width(self) -> int:
        """Columns of the matrix."""
        if self.style != "linear":
            return len(self.columns)
        return sum(len(c.categories) if c.dtype == "string" else 1 + c.flagged for c in self.columns)

    def matrix(self, columns: dict[str, NDArray[Any]], which: Which = slice(None)) -> Matrix:
        """Some of the rows, `(n, width)`."""
        if self.style == "linear":
            return self._linear(columns, which)
        plain = [_numbers(column, columns[column.name][which]) for column in self.columns]
        matrix = np.empty((len(plain[0]), len(plain)), np.float32)
        for index, numbers in enumerate(plain):
            matrix[:, index] = numbers
        if self.style == "lowest":
            matrix[np.isnan(matrix)] = LOWEST
        return matrix

    def _linear(self, columns: dict[str, NDArray[Any]], which: Which) -> Matrix:
        """Numbers, then flags, then the categories of each string: the order in which `graph` concatenates them."""
        numbers: list[NDArray[Any]] = []
        flags: list[NDArray[Any]] = []
        indicators: list[NDArray[Any]] = []
        for column in self.columns:
            plain = _numbers(column, columns[column.name][which])
            if column.dtype == "string":
                indicators.extend(plain == index for index in range(len(column.categories)))
                continue
            missing = np.isnan(plain)
            scaled = (plain - np.float32(column.centre)) * np.float32(column.scale)
            numbers.append(np.where(missing, np.float32(0.0), scaled))
            if column.flagged:
                flags.append(missing)
        return np.column_stack([*numbers, *flags, *indicators]).astype(np.float32, copy=False)


def _column(feature: Feature, values: NDArray[Any], style: Style) -> Column:
    if feature.dtype == "string":
        counted = Counter(values.tolist())
        ranked = sorted(counted, key=lambda value: (-counted[value], value))
        return Column(feature.name, "string", tuple(sorted(ranked[:N_INDICATORS] if style == "linear" else ranked)))
    if style != "linear":
        return Column(feature.name, feature.dtype)
    numbers = values.astype(np.float32)
    there = numbers[~np.isnan(numbers)].astype(np.float64)
    spread = float(there.std()) if len(there) else 0.0
    return Column(
        feature.name, feature.dtype,
        centre=float(np.float32(there.mean())) if len(there) else 0.0,
        # the nearest power of two, and none that float32 would lose
        scale=float(2.0 ** np.clip(-np.round(np.log2(spread)), -100, 100)) if spread > 0.0 else 1.0,
        flagged=len(there) < len(numbers),
    )  # fmt: skip


def _numbers(column: Column, values: NDArray[Any]) -> Matrix:
    if column.dtype != "string":
        return values.astype(np.float32)
    index = {category: float(index) for index, category in enumerate(column.categories)}
    return np.fromiter((index.get(value, np.nan) for value in values.tolist()), np.float32, len(values))
