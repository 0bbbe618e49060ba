"""The raw material: two scores and one outcome a row, with the bucket that the row belongs to."""

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import force_setattr
from numpy.typing import NDArray

from retrain.evidence.errors import ImpossibleValue, MismatchedPairs

OPTIONAL_COLUMNS = ("weight", "amount", "segment", "source", "entity", "scale")
POSITIVE_COLUMNS = ("amount", "scale")
NAME_COLUMNS = ("segment", "source", "entity")
NO_NAME = ""
LARGEST = 1e30


class Pairs(msgspec.Struct, frozen=True, eq=False):
    """Answers of the champion and of one challenger to the same rows, with what really happened.

    One-dimensional columns of equal length n, in any order of rows; for multiclass the two scores are
    `(n, n_classes)`. Numbers of any width and booleans are taken; they are held as float64 (`bucket`: int64).

    - `outcome`: 0 or 1 (binary), the index of the class (multiclass), a number (regression);
      NaN: due, but it never arrived.
    - `champion`, `challenger`: scores as served. A challenger's score that is no answer (NaN, infinite, no
      probability where one is asked for) is a failure of the challenger on that row; a champion has none.
    - `bucket`: the integer cohort number of the row, by default its day.
    - `weight`: 1 / the logged probability of what was observed, >= 1: that this outcome would be seen (1 for every
      accepted application, 20 for a rejected one of which one in twenty is explored), or, for recommendations, that
      this item would be shown. Where it was not logged for a row without outcome, NaN.
    - `amount` (cost) and `scale` (regression): what the row's loss is multiplied, or divided, by; known at prediction.
    - `segment`, `source`: names. Each segment, and the rest without any one source, is judged too.
    - `entity`: rows of one bucket with the same value (an association id) are one proof, not many. None or NaN: alone.

    Raises:
        MismatchedPairs: a column has another length, shape or dtype.
        ImpossibleValue: a weight below 1, an amount or a scale that is not above 0.
    """

    outcome: NDArray[Any]
    champion: NDArray[Any]
    challenger: NDArray[Any]
    bucket: NDArray[Any]
    weight: NDArray[Any] | None = None
    amount: NDArray[Any] | None = None
    segment: NDArray[Any] | None = None
    source: NDArray[Any] | None = None
    entity: NDArray[Any] | None = None
    scale: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        force_setattr(self, "outcome", _numbers("outcome", self.outcome, dimensions=(1,)))
        force_setattr(self, "champion", _numbers("champion", self.champion, dimensions=(1, 2)))
        force_setattr(self, "challenger", _numbers("challenger", self.challenger, dimensions=(1, 2)))
        force_setattr(self, "bucket", _cohort_numbers(self.bucket))
        if self.challenger.shape != self.champion.shape:
            raise MismatchedPairs("challenger", f"shape {self.champion.shape}, as champion", f"{self.challenger.shape}")
        for column in ("champion", "bucket", *OPTIONAL_COLUMNS):
            values = getattr(self, column)
            if values is not None and np.shape(values)[:1] != self.outcome.shape:
                raise MismatchedPairs(column, f"{len(self)} rows, as outcome", f"shape {np.shape(values)}")
        if self.weight is not None:
            force_setattr(self, "weight", weight := _numbers("weight", self.weight, dimensions=(1,)))
            demand((weight >= 1.0) & (weight <= LARGEST) | np.isnan(self.outcome), "weight", "1 or more", weight)
        for column in POSITIVE_COLUMNS:
            if getattr(self, column) is not None:
                force_setattr(self, column, values := _numbers(column, getattr(self, column), dimensions=(1,)))
                demand((values >= 1 / LARGEST) & (values <= LARGEST), column, "numbers above 0", values)
        for column in NAME_COLUMNS:
            if getattr(self, column) is not None:
                force_setattr(self, column, _names(getattr(self, column)))

    def __len__(self) -> int:
        return len(self.outcome)

    def rows(self, which: NDArray[Any] | slice) -> "Pairs":
        """Some of the rows: `which` is anything that indexes an array along its first axis."""
        optional = {
            name: np.asarray(column)[which] for name in OPTIONAL_COLUMNS if (column := getattr(self, name)) is not None
        }
        return Pairs(self.outcome[which], self.champion[which], self.challenger[which], self.bucket[which], **optional)

    def by_bucket(self) -> Iterator["Pairs"]:
        """The same rows, one `Pairs` for each bucket, in the order of the bucket numbers."""
        in_order = np.argsort(self.bucket, kind="stable")
        starts = np.flatnonzero(np.diff(self.bucket[in_order])) + 1
        return (self.rows(which) for which in np.split(in_order, starts) if len(which))


def _numbers(column: str, values: NDArray[Any], dimensions: tuple[int, ...]) -> NDArray[np.float64]:
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise MismatchedPairs(column, "numbers", f"dtype {array.dtype}")
    if array.ndim not in dimensions:
        expected = " or ".join(f"{n}" for n in dimensions)
        raise MismatchedPairs(column, f"{expected} dimension(s)", f"shape {array.shape}")
    return array.astype(np.float64, copy=False)


def _cohort_numbers(values: NDArray[Any]) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise MismatchedPairs("bucket", "one dimension of integers", f"dtype {array.dtype}, shape {array.shape}")
    return array.astype(np.int64, copy=False)


def _names(values: NDArray[Any]) -> NDArray[np.str_]:
    """Names as text; what is missing (None, NaN) is no name."""
    array = np.asarray(values)
    if array.dtype.kind in "Uiub":
        return array.astype(np.str_, copy=False)
    texts = [NO_NAME if value is None or value != value else str(value) for value in array.tolist()]
    return np.array(texts, dtype=np.str_) if texts else np.empty(0, dtype="U1")


def demand(holds: NDArray[np.bool_], column: str, expected: str, values: NDArray[Any]) -> None:
    """See that every row of a column holds; raises ImpossibleValue with the first that does not."""
    if not holds.all():
        row = int(np.argmin(holds))
        raise ImpossibleValue(column, expected, values[row].tolist(), row)
