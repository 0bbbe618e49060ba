"""The rows of a file as traffic: each with its inputs, its time, its key, and when its outcome is known."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from gateway.cli.features import Inputs, chosen, under
from gateway.cli.moments import DAY_US, MONTH_US, spread
from gateway.cli.table import Table
from gateway.cli.target import Outcomes, outcomes_of
from gateway.cli.traffic import Row
from gateway.cli.typed import TableRefused, Text, as_moments
from gateway.records import moment
from registry.types import InputSchema

NEVER = np.iinfo(np.int64).max
DEFAULT_DELAY_US = 3_600_000_000


class Told(Struct, frozen=True):
    """What the caller says about the columns and times of a file."""

    target: str
    task: str | None = None
    time: str | None = None
    rows_per_day: float | None = None
    start_us: int | None = None
    """Without `time`: when the first row is, and how many follow a day."""
    outcome_time: str | None = None
    outcome_delay_us: int | None = None
    shorten: float = 1.0
    """Every wait from prediction to outcome is so many times shorter than the file says."""
    association: str | None = None
    drop: tuple[str, ...] = ()


class FileRows(Struct, frozen=True, eq=False):
    """Rows in order of time."""

    inputs: Inputs
    numbers: NDArray[np.int64]
    """Which row of the file each is, from 0."""
    keys: NDArray[Any] | str
    """Their association ids; or the digest of the file, when they are its rows by number."""
    at_us: NDArray[np.int64]
    known_us: NDArray[np.int64]
    """When the outcome is known; `NEVER` where none will be."""
    outcomes: Outcomes

    def __len__(self) -> int:
        return len(self.at_us)

    def key(self, index: int) -> str:
        """The association id of a row."""
        return f"{self.keys}:{self.numbers[index]}" if isinstance(self.keys, str) else str(self.keys[index])

    def row(self, index: int) -> Row:
        """One row as it is sent."""
        never = self.known_us[index] == NEVER
        return Row(
            inputs=self.inputs.row(index),
            association_id=self.key(index),
            predicted_at=moment(int(self.at_us[index])),
            known_at=moment(int(self.at_us[index] if never else self.known_us[index])),
            outcome=None if never else self.outcomes.values[index],
        )

    def known_by(self, rows: range, by_us: int) -> NDArray[np.intp]:
        """Those of some rows whose outcome is known by then: what a model may learn from at that time."""
        which = np.arange(rows.start, rows.stop)
        return which[self.known_us[rows.start : rows.stop] <= by_us]

    def with_classes(self, classes: tuple[int | str, ...]) -> tuple[FileRows, int]:
        """The rows as a model of these classes may be told of them, and how many outcomes it does not know."""
        if not classes:
            return self, 0
        strange = np.array([value not in classes for value in self.outcomes.values], np.bool_)
        strange &= self.known_us != NEVER
        return replace(self, known_us=np.where(strange, NEVER, self.known_us)), int(strange.sum())


def rows_of(table: Table, told: Told, schema: InputSchema | None) -> tuple[FileRows, tuple[str, ...]]:
    """The rows of a file, and what is to be said about them. `schema`: that of the model, where there is one.

    Raises:
        TableRefused: in one sentence, what is wrong with which column.
    """
    sentences: list[str] = []
    outcomes = outcomes_of(table.column(told.target, "--target"), told.target, told.task)
    for name in told.drop:
        if name not in table.n_unreadable:
            table.column(name, "--drop")
    order, at_us = _times(table, told, sentences)
    known_us = _known(table, told, at_us, order, outcomes.missing, sentences)
    keys = _keys(table, told, order)
    unordered_us = np.empty_like(at_us)
    unordered_us[order] = at_us
    if schema is None:
        special = (told.target, told.time, told.outcome_time, told.association, *told.drop)
        made = chosen(table, frozenset(name for name in special if name is not None), unordered_us)
        inputs = made.inputs
        sentences = [outcomes.sentence, *made.sentences, *sentences]
    else:
        inputs = under(schema, table, unordered_us)
    ordered = replace(outcomes, values=outcomes.values[order], missing=outcomes.missing[order])
    return FileRows(inputs.in_order(order), order, keys, at_us, known_us, ordered), tuple(sentences)


def _times(table: Table, told: Told, sentences: list[str]) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Which rows of the file come in which order, and when."""
    if told.time is None:
        if told.rows_per_day is None or told.start_us is None:
            raise TableRefused("expected --time COLUMN, or --rows-per-day N with --start DATE")
        place = np.arange(table.n_rows)
        return place, told.start_us + np.floor(place * (DAY_US / told.rows_per_day)).astype(np.int64)
    column = as_moments(table.column(told.time, "--time"), f"--time {told.time}")
    if column.missing.any():
        raise TableRefused(
            f"--time {told.time}: expected a time in every row, got none in row {int(column.missing.argmax()) + 1} "
            f"and {int(column.missing.sum()) - 1:,} others"
        )
    order = np.argsort(column.values, kind="stable")
    at_us = column.values[order]
    if (order != np.arange(len(order))).any():
        sentences.append(f"the rows are sent in order of {told.time}, which is not that of the file")
    if column.unit_us:
        span = "month" if column.unit_us == MONTH_US else "day"
        sentences.append(f"{told.time} says no time of day: the rows of a {span} are spread evenly over it")
        at_us = spread(at_us, column.unit_us)
    return order, at_us


def _known(
    table: Table,
    told: Told,
    at_us: NDArray[np.int64],
    order: NDArray[np.intp],
    missing: NDArray[np.bool_],
    sentences: list[str],
) -> NDArray[np.int64]:
    """When each outcome is known, in order of the rows' times."""
    delay_us = told.outcome_delay_us
    if told.outcome_time is None:
        wait_us = np.full(len(at_us), DEFAULT_DELAY_US if delay_us is None else delay_us)
    else:
        name = told.outcome_time
        column = as_moments(table.column(name, "--outcome-time"), f"--outcome-time {name}")
        # a day as a whole is known of when it is over
        end_us = column.values + (DAY_US if column.unit_us == DAY_US else 31 * DAY_US if column.unit_us else 0)
        wait_us = (end_us[order] - at_us) / told.shorten
        wait_us = wait_us.astype(np.int64)
        absent = column.missing[order]
        n_before = int((wait_us[~absent] < 0).sum())
        if n_before:
            sentences.append(f"{name} lies before the prediction in {n_before:,} rows: their outcome is known at once")
        wait_us = np.maximum(wait_us, 0)
        if absent.any():
            n_absent = int((absent & ~missing[order]).sum())
            if delay_us is None:
                sentences.append(
                    f"{name} is empty in {n_absent:,} rows: their outcome never becomes known; with --outcome-delay it "
                    "does, so much later"
                )
            wait_us = np.where(absent, NEVER if delay_us is None else delay_us, wait_us)
    n_missing = int(missing.sum())
    if n_missing:
        sentences.append(f"{told.target} is empty in {n_missing:,} rows: they are sent, and never get an outcome")
    never = missing[order] | (wait_us == NEVER)
    return np.where(never, NEVER, at_us + np.where(never, 0, wait_us))


def _keys(table: Table, told: Told, order: NDArray[np.intp]) -> NDArray[Any] | str:
    if told.association is None:
        return table.digest
    name = told.association
    raw = table.column(name, "--association")
    texts = raw.rows() if isinstance(raw, Text) else raw.values.astype(str).astype(object)
    n_missing = int((texts == "").sum() if isinstance(raw, Text) else raw.missing.sum())
    n_distinct = len(set(texts.tolist()))
    if n_missing or n_distinct < len(texts):
        fact = f"{n_missing:,} are empty" if n_missing else f"{len(texts):,} rows have {n_distinct:,} different ones"
        raise TableRefused(
            f"--association {name}: expected a key of its own in every row, as outcomes are told by it; {fact}; "
            "without --association the digest of the file and the row's number are taken"
        )
    longest = max(texts.tolist(), key=len)
    if len(longest) > 500:
        raise TableRefused(f"--association {name}: expected at most 500 characters, got {len(longest):,}")
    return texts[order]


_RANGE = re.compile(r"(?:(?P<first>\d+(?:\.\d+)?)(?P<first_share>%?)-)?(?P<last>\d+(?:\.\d+)?)(?P<last_share>%?)")


def range_of(text: str, n_rows: int) -> range:
    """`20%`, `20%-40%`, `5000` or `5000-9000` of so many rows, in order of time.

    Raises:
        ValueError: it is none of these, or ends before it begins, or after the last row.
    """
    found = matched_range(text)
    first = _place(found["first"] or "0", found["first_share"] or "", n_rows)
    last = _place(found["last"], found["last_share"], n_rows)
    if not 0 <= first <= last <= n_rows:
        raise ValueError(f"expected rows between the first and the last of {n_rows:,}, got {text!r:.40}")
    return range(first, last)


def matched_range(text: str) -> re.Match[str]:
    """The parts of a range of rows; raises ValueError for what is none, however many rows there are."""
    found = _RANGE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"expected a share such as 20% or 20%-40%, or numbers of rows such as 5000; got {text!r:.40}")
    return found


def _place(number: str, share: str, n_rows: int) -> int:
    return round(float(number) / 100 * n_rows) if share else round(float(number))
