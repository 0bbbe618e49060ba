"""Logged pairs from a file: CSV (also compressed) or Parquet, with every fault named by its row and column."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv, parquet

from gateway.errors import GatewayError
from retrain.evidence import Pairs, Task
from retrain.evidence.pairs import NAME_COLUMNS, OPTIONAL_COLUMNS

EPOCH_DAY = date(1970, 1, 1).toordinal()
NOTHING = ("", "NA", "NaN", "nan", "null", "NULL", "None")
"""What stands for no value in a CSV file."""
TRUTHS = {"true": 1.0, "false": 0.0}
_SCORE = re.compile(r"(champion|challenger)(_(\d+))?")


class PairsRefused(GatewayError):
    """The file holds no pairs that can be judged; nothing was."""

    def __init__(self, path: Path, fact: str) -> None:
        self.path, self.fact = path, fact
        super().__init__(f"{path.name}: {fact}")


def pairs_in(path: Path, task: Task, classes: Sequence[str] | None) -> Pairs:
    """The pairs of a file; `classes` are the names of the outcomes, None where they are numbers.

    Raises:
        PairsRefused: it cannot be read, a column is missing, or a value is not what its column holds.
        EvidenceError: the columns do not make pairs.
    """
    table = _table(path)
    names = table.column_names
    scores = {who: _scores(path, names, who, task) for who in ("champion", "challenger")}
    if len(scores["champion"]) != len(scores["challenger"]):
        raise PairsRefused(path, f"expected as many challenger as champion columns, got {scores['challenger']}")
    for column in ("outcome", "bucket" if "bucket" in names else "at"):
        _see(path, names, column)

    def numbers(column: str) -> NDArray[np.float64]:
        return _numbers(path, table, column)

    def matrix(columns: Sequence[str]) -> NDArray[np.float64]:
        read = [numbers(column) for column in columns]
        return read[0] if task != "multiclass" else np.stack(read, axis=1)

    optional: dict[str, Any] = {
        column: table.column(column).to_pylist() if column in NAME_COLUMNS else numbers(column)
        for column in OPTIONAL_COLUMNS
        if column in names
    }
    return Pairs(
        numbers("outcome") if classes is None else _class_numbers(path, table, classes),
        matrix(scores["champion"]),
        matrix(scores["challenger"]),
        _buckets(path, numbers("bucket")) if "bucket" in names else _days(path, table),
        **optional,
    )


def _table(path: Path) -> pa.Table:
    """The columns that pairs are made of; those of a CSV file as text, so that what is wrong can be shown."""
    try:
        if path.suffix == ".parquet":
            wanted = [name for name in parquet.read_schema(path).names if _is_wanted(name)]
            return parquet.read_table(path, columns=wanted)
        with csv.open_csv(path) as head:
            wanted = [name for name in head.schema.names if _is_wanted(name)]
        options = csv.ConvertOptions(
            column_types=dict.fromkeys(wanted, pa.string()),
            include_columns=wanted,
            null_values=NOTHING,
            strings_can_be_null=True,
            quoted_strings_can_be_null=True,
        )
        return csv.read_csv(path, convert_options=options)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise PairsRefused(path, str(error).splitlines()[0]) from None


def _is_wanted(name: str) -> bool:
    return name in ("at", "bucket", "outcome", *OPTIONAL_COLUMNS) or _SCORE.fullmatch(name) is not None


def _see(path: Path, names: Sequence[str], column: str) -> None:
    if column not in names:
        raise PairsRefused(
            path, f"column '{column}' is missing, the columns that count are: {', '.join(names) or 'none'}"
        )


def _scores(path: Path, names: Sequence[str], who: str, task: Task) -> list[str]:
    """The columns of one version's scores."""
    if task != "multiclass":
        _see(path, names, who)
        return [who]
    numbered = [name for name in names if (found := _SCORE.fullmatch(name)) and found[1] == who and found[2]]
    columns = [f"{who}_{k}" for k in range(max(2, len(numbered)))]
    for column in columns:
        _see(path, names, column)
    return columns


def _numbers(path: Path, table: pa.Table, column: str) -> NDArray[np.float64]:
    """A column as float64; NaN where there is no value."""
    values = table.column(column)
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        try:
            values = values.cast(pa.float64())
        except pa.ArrowInvalid:
            return np.array(_each(path, column, values.to_pylist(), _number, "a number"), dtype=np.float64)
    elif pa.types.is_boolean(values.type):
        values = values.cast(pa.int8())
    try:
        values = values.cast(pa.float64())
    except pa.ArrowException:
        raise PairsRefused(path, f"column '{column}': expected numbers, got {values.type}") from None
    return np.asarray(values.to_numpy(), dtype=np.float64)


def _number(value: Any) -> float:
    text = str(value).strip().lower()
    return TRUTHS[text] if text in TRUTHS else float(text)


def _class_numbers(path: Path, table: pa.Table, classes: Sequence[str]) -> NDArray[np.float64]:
    values = table.column("outcome").cast(pa.string()).to_pylist()
    expected = f"one of {', '.join(classes)}"
    return np.array(_each(path, "outcome", values, lambda value: float(classes.index(value)), expected), np.float64)


def _buckets(path: Path, numbers: NDArray[np.float64]) -> NDArray[np.int64]:
    whole = (np.floor(numbers) == numbers) & (np.abs(numbers) < 2**53)
    if not whole.all():
        row = int(np.argmin(whole))
        raise PairsRefused(path, f"column 'bucket', row {row + 1}: expected a whole number, got {numbers[row]:g}")
    return numbers.astype(np.int64)


def _days(path: Path, table: pa.Table) -> NDArray[np.int64]:
    """Days since 1970, UTC; a moment without a zone is UTC."""
    expected = "a moment such as 2026-03-01T12:00:00Z"
    days = _each(path, "at", table.column("at").to_pylist(), _day, expected)
    if None in days:
        raise PairsRefused(path, f"column 'at', row {days.index(None) + 1}: expected {expected}, got nothing")
    return np.array(days, dtype=np.int64)


def _day(value: Any) -> int:
    moment = datetime.fromisoformat(value.strip()) if isinstance(value, str) else value
    if isinstance(moment, datetime) and moment.tzinfo is not None:
        moment = moment.astimezone(UTC)
    if not isinstance(moment, date):
        raise TypeError
    return moment.toordinal() - EPOCH_DAY


def _each(path: Path, column: str, values: Sequence[Any], read: Callable[[Any], Any], expected: str) -> list[Any]:
    """Every value read, None where there is none; each distinct value once."""
    known: dict[Any, Any] = {None: None}
    for row, value in enumerate(values):
        if value not in known:
            try:
                known[value] = read(value)
            except (ValueError, TypeError, KeyError, OverflowError):
                raise PairsRefused(
                    path, f"column '{column}', row {row + 1}: expected {expected}, got {str(value)[:60]!r}"
                ) from None
    return [known[value] for value in values]
