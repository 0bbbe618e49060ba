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

_LISTS = ("outcome.id", "{key}", "outcome.row", "observed_us")
_RECEIPT = ("outcome.writer", "outcome.seq")
_OUTCOMES = "'[' || ifnull(group_concat(outcome.outcome, ','), '') || ']'"
"""An outcome is stored as JSON already."""
OF_CHUNKS = "to_seq", "FROM outcome WHERE to_writer = ? AND to_seq BETWEEN ? AND ?"
OF_NAMES = (
    "place",
    (
        "FROM (SELECT each.key AS place, outcome.id AS number FROM json_each(?) AS each CROSS JOIN outcome "
        "ON model = ? AND association = each.value ORDER BY outcome.id) CROSS JOIN outcome ON outcome.id = number"
    ),
)
"""Key, and where. First the index in its own order, then the rows in theirs: no page twice, if ids are scattered."""
_integers = msgspec.json.Decoder(list[int]).decode
_values = msgspec.json.Decoder(list[int | float | str]).decode


class Known(Struct, frozen=True):
    """Which outcomes count: those received up to a cursor, by a time, and up to a place in the ledger (None: all)."""

    upto: Cursor | None = None
    by_us: int | None = None
    through: int | None = None
    """The `id` of an outcome: none that was committed after it."""


EVERYTHING = Known()


class Said(Struct, frozen=True):
    """Columns of equal length, int64 but for `outcome`. `key` is whatever the outcomes were found by."""

    id: Array
    key: Array
    row: Array
    observed_us: Array
    outcome: Array

    def those(self, which: Array) -> Said:
        """Some of them: `which` indexes an array."""
        return Said(*(column[which] for column in self._columns()))

    def keyed(self, keys: Array, which: Array | slice) -> Said:
        """Some of them, under other keys."""
        return Said(self.id[which], keys[which], self.row[which], self.observed_us[which], self.outcome[which])

    def followed_by(self, other: Said) -> Said:
        """These, then those."""
        columns = zip(self._columns(), other._columns(), strict=True)
        return Said(*[np.concatenate(both) for both in columns])

    def _columns(self) -> tuple[Array, ...]:
        return self.id, self.key, self.row, self.observed_us, self.outcome


def said(db: apsw.Connection, of: tuple[str, str], values: tuple[Any, ...], known: Known) -> Said:
    """What is known of what `of` (OF_CHUNKS, OF_NAMES) finds with these values; raises as `rows`."""
    key, where = of
    # SQLite makes the lists: fetched a row at a time they take twice as long; the plus: not to be searched by
    names = _LISTS if known.upto is None else (*_LISTS, *_RECEIPT)
    lists = ", ".join(f"json_group_array({name})" for name in names).format(key=key)
    for limit, most in (("received_us", known.by_us), ("+outcome.id", known.through)):
        if most is not None:
            where, values = f"{where} AND {limit} <= ?", (*values, most)
    ((*integers, outcomes),) = rows(db, f"SELECT {lists}, {_OUTCOMES} {where}", values)
    number, keys, row, observed, *receipt = (np.array(_integers(each), np.int64) for each in integers)
    found = Said(number, keys, row, observed, objects(_values(outcomes)))
    return found if known.upto is None else found.those(_within(known.upto, *receipt))


def _within(upto: Cursor, writer: Array, seq: Array) -> Array:
    writers, place = np.unique(writer, return_inverse=True)
    last = np.array([upto.get(each, 0) for each in writers.tolist()], np.int64)
    return np.flatnonzero(seq <= last[place])


def objects(values: list[Any]) -> Array:
    """An array of these values as they are."""
    array = np.empty(len(values), object)
    array[:] = values
    return array
