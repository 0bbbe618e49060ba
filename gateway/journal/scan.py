"""Reading many chunks of one model, one after the other: what tables and days are made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw

from gateway.chunk import Chunk
from gateway.errors import JournalDamaged
from gateway.journal.reader import STORED, PredictionReader
from gateway.journal.sqlite import rows, unchecked
from gateway.records import Purpose

CHUNKS_AT_ONCE = 256
_THOSE = (
    f"SELECT {STORED} FROM chunk WHERE seq > ? AND seq <= ? AND model = ? AND purpose = ? AND bucket BETWEEN ? AND ? "
    "ORDER BY seq LIMIT ?"
)
_ALL = f"SELECT {STORED} FROM chunk WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?"

Stored = list[tuple[int, Chunk | None]]


def stored(
    reader: PredictionReader,
    writer: int,
    after: int,
    upto: int,
    model: str,
    buckets: tuple[int, int],
    purpose: Purpose,
    limit: int,
) -> tuple[Stored, int]:
    """A model's chunks with after < seq <= upto in these buckets (first, last), in order.

    Returns:
        About `limit` rows of predictions, as (seq, chunk; None for a damaged one), and the seq to go on after.
    """
    found: Stored = []
    n_rows = 0
    for db in reader.connections(writer, after):
        n_read = CHUNKS_AT_ONCE
        while n_read == CHUNKS_AT_ONCE:
            page, n_read, after = _page(reader, db, after, upto, (model, purpose, *buckets))
            found += page
            n_rows += sum(chunk.n_rows for _, chunk in page if chunk is not None)
            if n_rows >= limit:
                return found, after
    return found, upto


def _page(
    reader: PredictionReader, db: apsw.Connection, after: int, upto: int, of: tuple[Any, ...]
) -> tuple[Stored, int, int]:
    """Some chunks, how many were read for them, and the last seq of those.

    Where a page of the file is damaged every chunk is looked at, as only its own checksum can be believed; one that
    does not match it may be of any model.
    """
    try:
        read = rows(db, _THOSE, (after, upto, *of, CHUNKS_AT_ONCE))
        page = [(row[0], _whole(reader, db, row)) for row in read]
    except JournalDamaged:
        model, purpose, first, last = of
        with unchecked(Path(db.filename)) as whole:
            read = rows(whole, _ALL, (after, upto, CHUNKS_AT_ONCE))
        every = [(row[0], _whole(reader, db, row)) for row in read]
        page = [
            (seq, chunk)
            for seq, chunk in every
            if chunk is None or (chunk.model == model and chunk.purpose == purpose and first <= chunk.bucket <= last)
        ]
    return page, len(read), read[-1][0] if read else after


def _whole(reader: PredictionReader, db: apsw.Connection, stored: tuple[Any, ...]) -> Chunk | None:
    """The chunk of this row; None where it is damaged."""
    try:
        return reader.unpacked(db, stored)
    except JournalDamaged:
        return None
