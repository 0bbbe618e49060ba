"""A set of outcomes as columns: what joins many predictions at once reads, instead of one row after the other."""

from __future__ import annotations

from typing import Any

import apsw
import msgspec
import numpy as np
from msgspec import Struct

from gateway.columns import Array
from gateway.journal.sqlite import rows
from gateway.records import Cursor

_LISTS = ("outcome.id", "{key}", "outcome.row", "observed_us", "received_us", "outcome.writer", "outcome.seq")
_SELECT = (
    ", ".join(f"json_group_array({each})" for each in _LISTS)
    # an outcome is stored as JSON already
    + ", '[' || ifnull(group_concat(outcome.outcome, ','), '') || ']'"
)
"""SQLite makes the lists: fetched a row at a time they take twice as long."""
_integers = msgspec.json.Decoder(list[int]).decode
_values = msgspec.json.Decoder(list[int | float | str]).decode


class Said(Struct, frozen=True):
    """Columns of equal length, int64 but for `outcome`. `key` is whatever the outcomes were found by."""

    id: Array
    key: Array
    row: Array
    observed_us: Array
    received_us: Array
    writer: Array
    seq: Array
    outcome: Array

    def those(self, which: Array) -> Said:
        """Some of them: `which` indexes an array."""
        return Said(*(column[which] for column in self._columns()))

    def in_time(self, upto: Cursor | None, by_us: int | None) -> Said:
        """Those received up to a cursor, and by a time; all, where they are None."""
        which = np.ones(len(self.id), bool) if by_us is None else self.received_us <= by_us
        if upto is not None:
            writers, place = np.unique(self.writer, return_inverse=True)
            last = np.array([upto.get(writer, 0) for writer in writers.tolist()], np.int64)
            which &= self.seq <= last[place]
        return self if which.all() else self.those(which)

    def followed_by(self, other: Said) -> Said:
        """These, then those."""
        columns = zip(self._columns(), other._columns(), strict=True)
        return Said(*[np.concatenate(both) for both in columns])

    def _columns(self) -> tuple[Array, ...]:
        return (
            self.id, self.key, self.row, self.observed_us, self.received_us, self.writer, self.seq, self.outcome,
        )  # fmt: skip


def said(db: apsw.Connection, key: str, where: str, values: tuple[Any, ...]) -> Said:
    """What `SELECT … {where}` finds, with `key` as its key; raises as `rows`."""
    (found,) = rows(db, f"SELECT {_SELECT.format(key=key)} {where}", values)
    *lists, outcomes = found
    number, keys, row, observed, received, writer, seq = (np.array(_integers(each), np.int64) for each in lists)
    return Said(number, keys, row, observed, received, writer, seq, objects(_values(outcomes)))


def objects(values: list[Any]) -> Array:
    """An array of these values as they are."""
    array = np.empty(len(values), object)
    array[:] = values
    return array
