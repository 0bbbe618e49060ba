"""How far an earlier run has come, asked of the journal itself: what it holds was sent, whatever the sender knew.

Rows are sent in order, an hour at once, so the journal holds all hours before some hour, a part of that one, and
nothing after it. That hour is found by bisection over association ids; within it each row is looked up. Outcomes are
told in order of when they are known, so that they are a beginning of that order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from gateway.cli.file_rows import NEVER, FileRows
from gateway.cli.traffic import IN_FLIGHT, Row
from gateway.records import micros

HOUR_US = 3_600_000_000
Lookup = Callable[[str], list[dict[str, Any]]]
"""The live predictions of an association id, as `GET /models/{m}/predictions` tells them."""


class SentOtherwise(Exception):
    """A row is in the journal with another time than it would be sent with now."""

    def __init__(self, key: str, expected: datetime, got: str) -> None:
        self.key, self.expected, self.got = key, expected, got
        super().__init__(
            f"row {key} was sent for {got}, and now it would be for {expected.isoformat()}: a stream goes on with the "
            "options that it began with; begin another one in another --data-dir"
        )


class Remaining(Struct, frozen=True, eq=False):
    """What is left to do."""

    rows: FileRows
    missing: NDArray[np.intp]
    """Places of the rows that are not in the journal, in order."""
    untold: NDArray[np.intp]
    """Places of the rows that are, and whose outcome is not, in order of their time."""

    def to_send(self) -> Iterator[Row]:
        """The rows, each made when it is needed."""
        return (self.rows.row(int(index)) for index in self.missing)

    def to_tell(self) -> Iterator[Row]:
        """The rows that only an outcome is missing of."""
        return (self.rows.row(int(index)) for index in self.untold)


def remaining(rows: FileRows, live: range, lookup: Lookup) -> Remaining:
    """What an earlier run, if there was any, has left.

    Raises:
        SentOtherwise: that run had other times.
    """

    def found(index: int) -> list[dict[str, Any]]:
        predictions = lookup(rows.key(index))
        for prediction in predictions:
            if micros(datetime.fromisoformat(prediction["predicted_at"])) != rows.at_us[index]:
                raise SentOtherwise(rows.key(index), rows.row(index).predicted_at, prediction["predicted_at"])
        return predictions

    places = np.arange(live.start, live.stop)
    hours = rows.at_us[live.start : live.stop] // HOUR_US
    starts = np.append(live.start + np.flatnonzero(np.diff(hours, prepend=-1)), live.stop)

    def begun(hour: int) -> bool:
        # a thread sends its next row only when its last one has been answered, and so is here
        first = range(starts[hour], min(starts[hour] + IN_FLIGHT, starts[hour + 1]))
        return any(found(index) for index in first)

    n_begun = _first_not(begun, len(starts) - 1)
    if n_begun == 0:
        return Remaining(rows, places, places[:0])
    in_doubt = np.arange(starts[n_begun - 1], starts[n_begun])
    missing = np.array([index for index in in_doubt.tolist() if not found(index)], np.intp)
    sent = np.setdiff1d(np.arange(live.start, starts[n_begun]), missing)
    return Remaining(rows, np.concatenate([missing, np.arange(starts[n_begun], live.stop)]), _untold(rows, sent, found))


def _untold(rows: FileRows, sent: NDArray[np.intp], found: Callable[[int], list[dict[str, Any]]]) -> NDArray[np.intp]:
    """The rows that were sent and whose outcome was not told."""
    with_outcome = sent[rows.known_us[sent] != NEVER]
    in_order = with_outcome[np.argsort(rows.known_us[with_outcome], kind="stable")]

    def told(place: int) -> bool:
        index = int(in_order[place])
        said = {micros(datetime.fromisoformat(o["observed_at"])) for p in found(index) for o in p["outcomes"]}
        return int(rows.known_us[index]) in said

    return np.sort(in_order[_first_not(told, len(in_order)) :])


def _first_not(holds: Callable[[int], bool], n: int) -> int:
    """The first of 0 … n - 1 that does not hold, where all before it do and none after it; n where all do."""
    low, high = 0, n
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            low = middle + 1
        else:
            high = middle
    return low
