"""What the texts of a column mean: numbers, truth values, moments, or just texts.

The whole column decides. Where nine in ten values are numbers, the others are taken as missing, and that is said;
what begins with a zero, such as 00501, is a code and no number.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from gateway.cli.moments import EXAMPLES, Moments, moments_of

Kind = Literal["whole", "number", "bool", "moment", "text"]
MISSING = frozenset({"", "na", "n/a", "#n/a", "nan", "null", "none", "nil", "?", "inf", "-inf", "+inf"})
"""In lower case: no number, no moment, no outcome. Among texts only the empty one is missing: NA is also Namibia."""
MOSTLY = 0.9
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?")
_WHOLE = re.compile(r"[+-]?\d{1,18}")
_CODE = re.compile(r"[+-]?0\d+")
_GROUPED = re.compile(r"-?[$€£]?\d{1,3}(?:,\d{3})+(?:\.\d+)?|-?[$€£]\d+(?:\.\d+)?")
_TRUTH = {"true": True, "false": False}
_EPOCH_S, _EPOCH_MS = (10**8, 10**10), (10**11, 10**13)


class TableRefused(Exception):
    """The file, or one of its columns, cannot be what it was said to be; nothing was made."""


class Column(Struct, frozen=True, eq=False):
    """Values of one kind, `(n,)`: int64, float64, bool, microseconds since 1970 (int64), or str objects."""

    kind: Kind
    values: NDArray[Any]
    missing: NDArray[np.bool_]
    unit_us: int = 0
    """Of moments: what they leave open, see `Moments`."""
    strange: tuple[str, int] | None = None
    """A value that was taken as missing though something stood there, and how many there are."""


class Text(Struct, frozen=True, eq=False):
    """A column of text as it was read: `distinct` values, trimmed, and the place of each row's among them."""

    distinct: list[str]
    codes: NDArray[np.int64]

    def rows(self) -> NDArray[Any]:
        """The texts, `(n,)` of str objects."""
        return np.array(self.distinct, object)[self.codes]

    def typed(self) -> Column:
        """What the column means."""
        counts = np.bincount(self.codes, minlength=len(self.distinct))
        is_missing = np.array([text.lower() in MISSING for text in self.distinct], np.bool_)
        n_said = int(counts[~is_missing].sum())
        said = [text for text, absent in zip(self.distinct, is_missing, strict=True) if not absent]
        if said and all(text.lower() in _TRUTH for text in said):
            values = np.array([_TRUTH.get(text.lower(), False) for text in self.distinct], np.bool_)
            return Column("bool", values[self.codes], is_missing[self.codes])
        if n_said and not any(_CODE.fullmatch(text) for text in said):
            numbers = np.array([_number(text) for text in self.distinct], np.float64)
            unclear = np.isnan(numbers)
            if counts[~unclear].sum() >= MOSTLY * n_said:
                return self._numbers(numbers, unclear, is_missing)
        if n_said and said[0][:1].isdigit():
            moments = moments_of(self.distinct)
            if counts[~moments.unclear].sum() >= MOSTLY * n_said:
                strange = self._strange(moments.unclear & ~is_missing)
                at_us = moments.at_us[self.codes]
                return Column("moment", at_us, moments.unclear[self.codes], moments.unit_us, strange)
        return Column("text", self.rows(), np.array([not text for text in self.distinct], np.bool_)[self.codes])

    def _numbers(
        self, numbers: NDArray[np.float64], unclear: NDArray[np.bool_], is_missing: NDArray[np.bool_]
    ) -> Column:
        strange = self._strange(unclear & ~is_missing)
        if all(_WHOLE.fullmatch(text) for text, odd in zip(self.distinct, unclear, strict=True) if not odd):
            whole = [0 if odd else int(text) for text, odd in zip(self.distinct, unclear, strict=True)]
            return Column("whole", np.array(whole, np.int64)[self.codes], unclear[self.codes], strange=strange)
        return Column("number", numbers[self.codes], unclear[self.codes], strange=strange)

    def _strange(self, which: NDArray[np.bool_]) -> tuple[str, int] | None:
        """The first text of these, and in how many rows one of them stands."""
        if not which.any():
            return None
        return self.distinct[int(which.argmax())], int(np.bincount(self.codes, minlength=len(which))[which].sum())


def _number(text: str) -> float:
    """NaN where it is none."""
    if _NUMBER.fullmatch(text):
        number = float(text)
        return number if np.isfinite(number) else float("nan")
    if _GROUPED.fullmatch(text):
        return float(re.sub(r"[$€£,]", "", text))
    return float("nan")


def as_moments(column: Text | Column, what: str) -> Column:
    """A column that must be moments; what is empty is missing.

    Whole numbers are seconds or milliseconds since 1970, or days such as 20130630.

    Raises:
        TableRefused: a value is none; names the first.
    """
    if isinstance(column, Text):
        distinct = [_spelled(text) for text in column.distinct]
        read: Moments = moments_of(distinct)
        is_missing = np.array([text.lower() in MISSING for text in distinct], np.bool_)
        unclear = (read.unclear & ~is_missing)[column.codes]
        if unclear.any():
            row = int(unclear.argmax())
            text = column.distinct[int(column.codes[row])]
            raise TableRefused(f"{what}: expected a time, such as {EXAMPLES}; got {text!r:.60} in row {row + 1}")
        return Column("moment", read.at_us[column.codes], is_missing[column.codes], read.unit_us)
    if column.kind == "whole":
        return as_moments(_texts_of(column), what)
    if column.kind != "moment":
        raise TableRefused(f"{what}: expected times, got {'numbers' if column.kind == 'number' else column.kind}")
    return column


def _texts_of(column: Column) -> Text:
    texts = np.where(column.missing, "", column.values.astype(str))
    distinct, codes = np.unique(texts, return_inverse=True)
    return Text(distinct.tolist(), codes.astype(np.int64))


def _spelled(text: str) -> str:
    """A whole number that is a moment, as ISO 8601 spells it; anything else as it is."""
    if not text.isascii() or not text.isdigit():
        return text
    number = int(text)
    if len(text) == 8 and 1900 <= number // 10_000 < 2200:
        return f"{text[:4]}-{text[4:6]}-{text[6:]}"
    for (least, most), per_s in ((_EPOCH_S, 1), (_EPOCH_MS, 1_000)):
        if least <= number < most:
            return str(np.datetime64(number * (1_000_000 // per_s), "us")) + "Z"
    return text
