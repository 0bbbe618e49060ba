"""Logged pairs from a file, with every value that cannot be named by its row and column.

Unlike `stream`, which makes the best of a column, this takes nothing for missing that does not say so: a score that
cannot be read is a fault of the file, not a failure of the challenger.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.cli.table import Table, read
from gateway.cli.typed import MISSING, Column, TableRefused, Text, as_moments
from retrain.evidence import Pairs, Task
from retrain.evidence.pairs import NAME_COLUMNS, OPTIONAL_COLUMNS

DAY_US = 86_400_000_000
NO_NUMBER = frozenset(MISSING) - {"inf", "-inf", "+inf", "?"}
"""What stands for no number, in lower case."""
TRUTHS = {"true": 1.0, "false": 0.0}
_SCORE = re.compile(r"(champion|challenger)_(\d+)")


def pairs_in(path: Path, task: Task, classes: Sequence[str] | None) -> Pairs:
    """The pairs of a file; `classes` are the names of the outcomes, None where they are numbers.

    Raises:
        TableRefused: it cannot be read, a column is missing, or a value is not what its column holds; one sentence.
        EvidenceError: the columns do not make pairs.
    """
    table = read(path)

    def scores(who: str) -> NDArray[np.float64]:
        if task != "multiclass":
            return _numbers(table, who)
        numbered = [name for name in table.columns if (found := _SCORE.fullmatch(name)) and found[1] == who]
        return np.stack([_numbers(table, f"{who}_{k}") for k in range(max(2, len(numbered)))], axis=1)

    optional = {
        name: _names(table, name) if name in NAME_COLUMNS else _numbers(table, name)
        for name in OPTIONAL_COLUMNS
        if name in table.columns
    }
    return Pairs(
        _numbers(table, "outcome") if classes is None else _class_numbers(table, classes),
        scores("champion"),
        scores("challenger"),
        _buckets(table) if "bucket" in table.columns else _days(table),
        **optional,
    )


def _column(table: Table, name: str) -> Text | Column:
    if name in table.n_unreadable:
        raise TableRefused(f"column '{name}': expected numbers or texts, got {table.n_unreadable[name]}")
    if name not in table.columns:
        raise TableRefused(f"column '{name}' is missing, the columns are: {', '.join(table.columns)}")
    return table.columns[name]


def _numbers(table: Table, name: str) -> NDArray[np.float64]:
    """A column as float64; NaN where there is no value."""
    column = _column(table, name)
    if isinstance(column, Text):
        return _each(name, column, _number, "a number")
    if column.kind not in ("whole", "number", "bool"):
        raise TableRefused(f"column '{name}': expected numbers, got a column of {column.kind}")
    return np.where(column.missing, np.nan, column.values.astype(np.float64))


def _number(text: str) -> float:
    low = text.lower()
    if low in NO_NUMBER:
        return float("nan")
    return TRUTHS[low] if low in TRUTHS else float(text)


def _class_numbers(table: Table, classes: Sequence[str]) -> NDArray[np.float64]:
    """The index of each outcome among the classes; NaN where there is none."""

    def index(text: str) -> float:
        return float(classes.index(text)) if text in classes or text.lower() not in NO_NUMBER else float("nan")

    column = _column(table, "outcome")
    return _each("outcome", _texts(column), index, f"one of {', '.join(classes)}")


def _each(name: str, column: Text, number: Callable[[str], float], expected: str) -> NDArray[np.float64]:
    """The number of every text, each distinct one once; the first row that has none is named."""
    numbers = np.zeros(len(column.distinct))
    refused = np.zeros(len(column.distinct), dtype=np.bool_)
    for place, text in enumerate(column.distinct):
        try:
            numbers[place] = number(text)
        except ValueError:
            refused[place] = True
    rows = refused[column.codes]
    if rows.any():
        row = int(rows.argmax())
        text = column.distinct[int(column.codes[row])]
        raise TableRefused(f"column '{name}', row {row + 1}: expected {expected}, got {text!r:.60}")
    return numbers[column.codes]


def _names(table: Table, name: str) -> NDArray[Any]:
    return _texts(_column(table, name)).rows()


def _texts(column: Text | Column) -> Text:
    if isinstance(column, Text):
        return column
    texts: Iterable[Any] = np.where(column.missing, "", column.values.astype(str))
    distinct, codes = np.unique(np.asarray(texts), return_inverse=True)
    return Text(distinct.tolist(), codes.astype(np.int64))


def _buckets(table: Table) -> NDArray[np.int64]:
    numbers = _numbers(table, "bucket")
    whole = (np.floor(numbers) == numbers) & (np.abs(numbers) < 2**53)
    if not whole.all():
        row = int(np.argmin(whole))
        raise TableRefused(f"column 'bucket', row {row + 1}: expected a whole number, got {numbers[row]:g}")
    return numbers.astype(np.int64)


def _days(table: Table) -> NDArray[np.int64]:
    """Days since 1970, UTC; a moment without a zone is UTC."""
    moments = as_moments(_column(table, "at"), "column 'at'")
    if moments.missing.any():
        raise TableRefused(f"column 'at', row {int(moments.missing.argmax()) + 1}: expected a time, got none")
    return np.asarray(moments.values // DAY_US, dtype=np.int64)
