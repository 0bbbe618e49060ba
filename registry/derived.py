"""What retrain derives from the journal and keeps here, and the caller's clock: rows without an audit line.

All of it can be derived again (the clock apart), so it is stored plainly, and never decides anything by itself.
"""

from __future__ import annotations

import zlib
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, or_, select

from registry.audit import canonical
from registry.errors import BucketDamaged, ClockRefused, UnknownReign
from registry.lookup import find_model
from registry.rows import to_closed_bucket, to_document
from registry.tables import closed_buckets, evidence, reigns, state
from registry.types import ClosedBucket

END_OF_TIME = datetime(9000, 1, 1, tzinfo=UTC)
"""Where a clock stops: the longest terms (`recipe.CENTURY_DAYS`) can still be added."""
SUMS_MARK = b"\xc1"
"""The one byte that no msgpack begins with: sums that begin with it have a CRC-32."""


def insert_bucket(connection: Connection, closed: ClosedBucket) -> bool:
    """Keeps a closed bucket unless it is there already; returns whether it was new. Raises UnknownReign."""
    reign = (reigns.c.model == closed.model) & (reigns.c.number == closed.reign)
    if connection.execute(select(reigns.c.number).where(reign)).first() is None:
        find_model(connection, closed.model)
        raise UnknownReign(closed.model, closed.reign)
    key = (
        (closed_buckets.c.model == closed.model)
        & (closed_buckets.c.reign == closed.reign)
        & (closed_buckets.c.bucket == closed.bucket)
    )
    if connection.execute(select(closed_buckets.c.bucket).where(key)).first() is not None:
        return False
    connection.execute(
        closed_buckets.insert().values(
            model=closed.model,
            reign=closed.reign,
            bucket=closed.bucket,
            closed_at=closed.closed_at,
            prediction_cursor=canonical(closed.prediction_cursor),
            outcome_cursor=canonical(closed.outcome_cursor),
            sums=packed_sums(closed),
        )
    )
    return True


def packed_sums(closed: ClosedBucket) -> bytes:
    """The sums as they are kept: a mark, a CRC-32 of all that the row says, and msgpack."""
    body = msgspec.msgpack.encode(closed.sums)
    return SUMS_MARK + _sums_check(closed, body) + body


def _sums_check(closed: ClosedBucket, body: bytes) -> bytes:
    said = closed.model, closed.reign, closed.bucket, closed.closed_at, closed.prediction_cursor, closed.outcome_cursor
    return zlib.crc32(body, zlib.crc32(canonical(said).encode())).to_bytes(4, "little")


def checked_bucket(closed: ClosedBucket, stored: bytes) -> ClosedBucket:
    """The bucket with its stored sums; one from before they had a CRC-32 is taken as it is.

    Raises:
        BucketDamaged: something of the row is not what was written.
    """
    body = stored.removeprefix(SUMS_MARK)
    try:
        if len(body) < len(stored):
            check, body = body[:4], body[4:]
            if check != _sums_check(closed, body):
                raise BucketDamaged(_damaged(closed))
        return msgspec.structs.replace(closed, sums=msgspec.msgpack.decode(body, type=dict[int, bytes]))
    except msgspec.DecodeError:
        raise BucketDamaged(_damaged(closed)) from None


def _damaged(closed: ClosedBucket) -> str:
    return f"bucket {closed.bucket} of '{closed.model}' was closed, and its sums do not match their checksum"


def list_buckets(connection: Connection, model: str, reign: int) -> list[ClosedBucket]:
    """The closed buckets of a reign, by bucket number."""
    query = select(closed_buckets).where(closed_buckets.c.model == model, closed_buckets.c.reign == reign)
    rows = connection.execute(query.order_by(closed_buckets.c.bucket))
    return [checked_bucket(to_closed_bucket(row), row.sums) for row in rows]


def replace_evidence(connection: Connection, model: str, document: dict[str, Any], at: datetime) -> None:
    """Keeps the latest evidence of a model; the one before is gone (a decision freezes its own)."""
    values = {"document": canonical(document), "saved_at": at}
    if connection.execute(evidence.update().where(evidence.c.model == model).values(values)).rowcount == 0:
        connection.execute(evidence.insert().values(values | {"model": model}))


def latest_evidence(connection: Connection, model: str) -> dict[str, Any] | None:
    """The evidence that was kept last, or None."""
    return to_document(connection.scalar(select(evidence.c.document).where(evidence.c.model == model)))


def advance_clock(connection: Connection, to: datetime) -> None:
    """Moves the caller's clock to `to`.

    Raises:
        ClockRefused: `to` is before what the clock shows, or so far away that nothing can follow it, or does not say
            its time zone.
    """
    if to.tzinfo is None:
        raise ClockRefused(f"a moment must say its time zone, and {to.isoformat()} does not")
    if to >= END_OF_TIME:  # it would never come back from there, and times are added to what it shows
        raise ClockRefused(f"the clock goes to {END_OF_TIME.isoformat()} at most, and not to {to.isoformat()}")
    moved = connection.execute(
        state.update().where(or_(state.c.clock.is_(None), state.c.clock <= to)).values(clock=to)
    )  # fmt: skip
    if moved.rowcount == 0:
        shown = connection.scalar(select(state.c.clock))
        assert shown is not None  # noqa: S101  # the update above takes a clock that shows nothing
        raise ClockRefused(f"the clock shows {shown.isoformat()} and never goes back, not to {to.isoformat()}")
