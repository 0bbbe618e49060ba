"""Cohorts of one reign: which rows are in which bucket, and when a bucket may be closed.

A bucket closes when its outcomes have had their time, every live writer has promised to stamp nothing earlier than
its end, and every challenger has answered (or failed) all of its rows. It is closed once, at a cursor: what comes
later is late, is counted, and is never evidence.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from gateway.clock import MICROSECONDS
from gateway.errors import JournalDamaged
from gateway.journal import ChunkHead, Ledger, PredictionReader
from gateway.records import Cursor, WriterState
from registry.types import ClosedBucket, Policy, Signature
from retrain.evidence import Rule
from retrain.kept import PREVIOUS

HEADS_AT_ONCE = 10_000
MOST_EMPTY = 400
"""Buckets without rows that are closed one by one; more of them at once."""


class Contender(Struct, frozen=True):
    """Who is held against the champion of a reign: a challenger, or the previous champion.

    `key`: under which its sums are kept. `generations`: those that it plays in, in this role.
    """

    version: int
    key: int
    signature: Signature
    generations: frozenset[int]
    has_slot: bool
    rule: Rule
    learned_until_us: int | None
    """Rows predicted by then may be among those it was trained on: no evidence of it. None: it was not said."""

    @property
    def is_previous(self) -> bool:
        """Whether it is the champion of before."""
        return self.key == PREVIOUS


class OpenCohorts:
    """The live rows of one model in one reign that are not closed yet, as heads of chunks by bucket."""

    def __init__(
        self, model: str, first_generation: int, closed: Sequence[ClosedBucket], closed_before: int | None
    ) -> None:
        """`closed_before` is the last bucket that an earlier reign closed: this one goes on from there."""
        self._model, self._first_generation = model, first_generation
        self._closed_at = {bucket.bucket: cursor_of(bucket.prediction_cursor) for bucket in closed}
        self.closed_through: int | None = max(self._closed_at, default=closed_before)
        self.cursor: Cursor = {}
        self.buckets: dict[int, list[ChunkHead]] = {}
        self.n_late_rows = 0
        self.newest_generation = 0
        """The newest generation of which a chunk was read."""

    def read(self, reader: PredictionReader, writers: Sequence[WriterState]) -> None:
        """Take in the heads of every chunk up to what the writers had committed."""
        for state in writers:
            while (after := self.cursor.get(state.writer, 0)) < state.last_seq:
                heads = reader.heads(state.writer, after, HEADS_AT_ONCE)
                if not heads:
                    raise JournalDamaged(
                        f"writer {state.writer} has chunks up to {state.last_seq}, and none after {after}"
                    )
                for head in heads:
                    self._take(head)
                self.cursor[state.writer] = heads[-1].seq

    def next_bucket(self, due: int) -> int | None:
        """The bucket to close next: the one after the last, or the first that has rows; `due` is the last that may be.

        A long stretch without rows is closed with its last bucket: a caller's date may be centuries off.
        """
        first = min(self.buckets, default=None)
        if self.closed_through is None:
            return first
        following, end = self.closed_through + 1, due if first is None else min(first, due)
        return following if end - following < MOST_EMPTY else end

    def close(self, bucket: int) -> None:
        """Forget a bucket that was closed; later rows of it are late."""
        self.buckets.pop(bucket, None)
        self._closed_at[bucket] = dict(self.cursor)
        self.closed_through = bucket

    def n_waiting(self, contender: Contender) -> int:
        """Rows that a contender is eligible for and that are not evidence yet."""
        heads = (head for bucket in self.buckets.values() for head in bucket)
        return sum(head.n_rows for head in heads if head.generation in contender.generations)

    def _take(self, head: ChunkHead) -> None:
        if head.model != self._model or head.purpose != "live" or head.generation < self._first_generation:
            return
        self.newest_generation = max(self.newest_generation, head.generation)
        if self.closed_through is None or head.bucket > self.closed_through:
            self.buckets.setdefault(head.bucket, []).append(head)
            return
        closed_at = self._closed_at.get(head.bucket, {})
        if head.seq > closed_at.get(head.writer, 0):
            self.n_late_rows += head.n_rows


def matured_us(bucket: int, bucket_us: int, policy: Policy) -> int:
    """When the outcomes of a bucket have had their time: microseconds since 1970."""
    return (bucket + 1) * bucket_us + round(policy.maturity_s * MICROSECONDS)


def due_bucket(now_us: int, bucket_us: int, policy: Policy) -> int:
    """The last bucket whose outcomes have had their time by now."""
    return (now_us - round(policy.maturity_s * MICROSECONDS)) // bucket_us - 1


def may_close(
    bucket: int,
    heads: Sequence[ChunkHead],
    writers: Sequence[WriterState],
    contenders: Sequence[Contender],
    ledger: Ledger,
    *,
    model: str,
    now_us: int,
    bucket_us: int,
    policy: Policy,
) -> bool:
    """Whether a bucket may be closed now; the writers' states must have been read before the chunks."""
    end_us = (bucket + 1) * bucket_us
    if now_us < matured_us(bucket, bucket_us, policy):
        return False
    if any(state.alive and (state.watermark_us is None or state.watermark_us < end_us) for state in writers):
        return False
    for contender in contenders:
        cursor = ledger.cursor(model, contender.version)
        mine = (head for head in heads if head.generation in contender.generations)
        if any(cursor.get(head.writer, 0) < head.seq for head in mine):
            return False
    return True


def heads_of(
    reader: PredictionReader, model: str, first_generation: int, closed: Sequence[ClosedBucket]
) -> dict[int, list[ChunkHead]]:
    """The chunks of some closed buckets, up to the cursors at which they were closed: a walk over all heads."""
    wanted = {bucket.bucket: cursor_of(bucket.prediction_cursor) for bucket in closed}
    found: dict[int, list[ChunkHead]] = {bucket: [] for bucket in wanted}
    for writer in {writer for cursor in wanted.values() for writer in cursor}:
        last, after = max(cursor.get(writer, 0) for cursor in wanted.values()), 0
        while after < last and (heads := reader.heads(writer, after, HEADS_AT_ONCE)):
            after = heads[-1].seq
            for head in heads:
                mine = head.model == model and head.purpose == "live" and head.generation >= first_generation
                if mine and head.seq <= wanted.get(head.bucket, {}).get(writer, 0):
                    found[head.bucket].append(head)
    return found


def cursor_of(stored: dict[str, int]) -> Cursor:
    """A cursor as the registry keeps it."""
    return {int(writer): seq for writer, seq in stored.items()}


def named(cursor: Cursor) -> dict[str, int]:
    """A cursor as the registry keeps it, from one."""
    return {str(writer): seq for writer, seq in sorted(cursor.items())}
