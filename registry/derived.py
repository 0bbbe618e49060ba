"""What retrain derives from the journal and keeps here, and the caller's clock: rows without an audit line.

All of it can be derived again (the clock apart), so it is stored plainly, and never decides anything by itself.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, or_, select

from registry.audit import canonical
from registry.errors import ClockRefused, UnknownReign
from registry.lookup import find_model
from registry.rows import to_closed_bucket, to_document
from registry.tables import closed_buckets, evidence, reigns, state
from registry.types import ClosedBucket


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
            sums=msgspec.msgpack.encode(closed.sums),
        )
    )
    return True


def list_buckets(connection: Connection, model: str, reign: int) -> list[ClosedBucket]:
    """The closed buckets of a reign, by bucket number."""
    query = select(closed_buckets).where(closed_buckets.c.model == model, closed_buckets.c.reign == reign)
    return [to_closed_bucket(row) for row in connection.execute(query.order_by(closed_buckets.c.bucket))]


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
        ClockRefused: `to` is before what the clock shows, or does not say its time zone.
    """
    if to.tzinfo is None:
        raise ClockRefused(f"a moment must say its time zone, and {to.isoformat()} does not")
    moved = connection.execute(
        state.update().where(or_(state.c.clock.is_(None), state.c.clock <= to)).values(clock=to)
    )  # fmt: skip
    if moved.rowcount == 0:
        shown = connection.scalar(select(state.c.clock))
        assert shown is not None  # noqa: S101  # the update above takes a clock that shows nothing
        raise ClockRefused(f"the clock shows {shown.isoformat()} and never goes back, not to {to.isoformat()}")
