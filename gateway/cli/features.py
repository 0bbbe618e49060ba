"""Which columns of a table are features, of which dtype, and why the others are not: always in a sentence.

The whole file is looked at, as each of its rows will be sent under the one schema. What a model may know is not
decided here: a column that gives the outcome away has to be named (`--drop`). One thing is seen, though: a moment that
lies after its row's own time was not known then.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from gateway.cli.moments import DAY_US
from gateway.cli.table import Table
from gateway.cli.typed import Column, TableRefused, Text
from registry.types import Dtype, Feature, InputSchema

MOST_TEXTS = 1_000
FEW_TEXTS, TEXT_SHARE = 50, 0.2
"""Up to so many different texts are categories in any file; above that only where each stands in several rows."""
FEWEST_NUMBERED, COUNTS_UP_SHARE = 20, 0.95
"""Whole numbers of which no two are the same, and which mostly grow from row to row."""
LATER_SHARE = 0.01
_LARGEST = float(np.finfo(np.float32).max)
_UNREADABLE = re.compile(r'["\\\x00-\x1f\x7f]')
_WORDS = {"whole": "numbers", "number": "numbers", "bool": "truth values", "moment": "times", "text": "texts"}
DTYPES: dict[str, Dtype] = {
    "whole": "int64",
    "number": "float64",
    "bool": "bool",
    "moment": "float64",
    "text": "string",
}


class Inputs(Struct, frozen=True, eq=False):
    """The columns of the features of a schema: `values` `(n,)` each, and where they are `missing`, if anywhere."""

    schema: InputSchema
    values: dict[str, NDArray[Any]]
    missing: dict[str, NDArray[np.bool_]]

    def trainable(self, which: NDArray[np.intp]) -> dict[str, NDArray[Any]]:
        """Some rows as training takes them: NaN and empty texts where something is missing."""
        return {name: values[which] for name, values in self.values.items()}

    def in_order(self, order: NDArray[np.intp]) -> Inputs:
        """The same rows in another order."""
        values = {name: column[order] for name, column in self.values.items()}
        return Inputs(self.schema, values, {name: absent[order] for name, absent in self.missing.items()})

    def row(self, index: int) -> dict[str, Any]:
        """One row as JSON has it: null where something is missing."""
        return {
            name: None if name in self.missing and self.missing[name][index] else values.item(index)
            for name, values in self.values.items()
        }


class Chosen(Struct, frozen=True, eq=False):
    """The inputs that were made of a table, and what is to be said about it."""

    inputs: Inputs
    sentences: tuple[str, ...]


def chosen(table: Table, named: frozenset[str], at_us: NDArray[np.int64]) -> Chosen:
    """Make a schema from a table, and the inputs under it.

    Args:
        table: the file.
        named: columns that are something else.
        at_us: the time of each row.

    Raises:
        TableRefused: no column is left.
    """
    features: list[Feature] = []
    values: dict[str, NDArray[Any]] = {}
    missing: dict[str, NDArray[np.bool_]] = {}
    sentences = [f"{name} is left out: it holds {kind}" for name, kind in table.n_unreadable.items()]
    for name, raw in table.columns.items():
        if name in named:
            continue
        column = raw.typed() if isinstance(raw, Text) else raw
        why = _unfit(name, column, at_us)
        if why is not None:
            sentences.append(f"{name} is left out: {why}")
            continue
        if column.strange is not None:
            odd, n_odd = column.strange
            sentences.append(
                f"{name} is taken as {_WORDS[column.kind]}: {odd!r:.60} and the like, in {_rows(n_odd)}, are missing"
            )
        if column.kind == "moment":
            sentences.append(f"{name} becomes a number: days from it to the row's time")
        dtype = DTYPES[column.kind]
        if column.missing.any() and dtype in ("int64", "bool"):
            dtype = "float64"  # where missing is a value
        features.append(Feature(name, dtype, required=not column.missing.any()))
        values[name], absent = _as_dtype(features[-1], raw, column, at_us)
        if absent.any():
            missing[name] = absent
    if not features:
        raise TableRefused("no column is left to predict from: " + "; ".join(sentences))
    return Chosen(Inputs(InputSchema(tuple(features)), values, missing), tuple(sentences))


def under(schema: InputSchema, table: Table, at_us: NDArray[np.int64]) -> Inputs:
    """The inputs of a table under the schema of a model that is there.

    Raises:
        TableRefused: a feature's column is not there, or is of another kind; or is empty where it must not be.
    """
    values: dict[str, NDArray[Any]] = {}
    missing: dict[str, NDArray[np.bool_]] = {}
    for feature in schema.features:
        if feature.name not in table.columns:
            if feature.required:
                raise TableRefused(
                    f"the model's feature '{feature.name}' is no column of the file; the columns are "
                    f"{', '.join(table.columns)}"
                )
            continue
        raw = table.columns[feature.name]
        column = raw.typed() if isinstance(raw, Text) else raw
        values[feature.name], absent = _as_dtype(feature, raw, column, at_us)
        if absent.any():
            if feature.required:
                raise TableRefused(f"{feature.name}: the model requires it, and it is missing in {_rows(absent.sum())}")
            missing[feature.name] = absent
    return Inputs(schema, values, missing)


def _as_dtype(
    feature: Feature, raw: Text | Column, column: Column, at_us: NDArray[np.int64]
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """The values of a column in a feature's dtype, and where they are missing.

    Raises:
        TableRefused: it is of a kind that does not become that dtype.
    """
    kind, values, missing = column.kind, column.values, column.missing
    match feature.dtype:
        case "string" if isinstance(raw, Text):
            texts = raw.rows()
            return texts, texts == ""
        case "bool" if kind == "bool":
            return values, missing
        case "int64" if kind in ("whole", "bool"):
            return values.astype(np.int64), missing
        case "float32" | "float64" if kind in ("whole", "number", "bool"):
            return np.where(missing, np.nan, values.astype(np.float64)), missing
        case "float32" | "float64" if kind == "moment":
            return np.where(missing, np.nan, (at_us - values) / DAY_US), missing
    raise TableRefused(f"{feature.name}: the model takes {feature.dtype}, and the column holds {_WORDS[kind]}")


def _unfit(name: str, column: Column, at_us: NDArray[np.int64]) -> str | None:
    """Why a column is no feature; None where it is one."""
    if not name:
        return "it has no name"
    if _UNREADABLE.search(name) or len(name) > 200:
        return "its name has a quote, a backslash or a control character, or over 200 of them"
    present = column.values[~column.missing]
    if len(present) == 0:
        return "it is always empty"
    n_distinct = len(set(present.tolist()) if column.kind == "text" else np.unique(present))
    if n_distinct == 1 and len(present) == len(column.values):
        return f"it is always {str(present[0])!r:.60}"
    match column.kind:
        case "text":
            if n_distinct > MOST_TEXTS or (n_distinct > FEW_TEXTS and n_distinct > TEXT_SHARE * len(present)):
                return f"it has {n_distinct:,} different texts in {_rows(len(present))}, as ids and free text have"
        case "whole":
            if n_distinct == len(present) >= FEWEST_NUMBERED and (np.diff(present) > 0).mean() >= COUNTS_UP_SHARE:
                return "it counts up from row to row, as row numbers and ids do"
        case "number":
            if np.abs(present).max() > _LARGEST:
                return "it has numbers that no 32-bit float holds"
        case "moment":
            n_later = int((column.values > at_us)[~column.missing].sum())
            if n_later > LATER_SHARE * len(present):
                return f"it lies after the row's own time in {_rows(n_later)}, so that it was not known then"
        case "bool":
            pass
    return None


def _rows(n: int) -> str:
    return f"{n:,} row{'' if n == 1 else 's'}"
