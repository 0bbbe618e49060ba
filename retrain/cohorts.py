"""Cohorts of one reign: when a bucket may be closed, and what its rows say of each challenger.

A bucket closes when its outcomes have had their time, every live writer has promised to stamp nothing earlier than
its end, and every challenger has answered (or failed) all of its rows. It is closed once, at a cursor: what comes
later is late, is counted, and is never evidence.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from msgspec import Struct

from gateway.chunk import SKIPPED, STATUSES, Chunk, ShadowChunk, unpack_outputs
from gateway.clock import MICROSECONDS
from gateway.columns import Array
from gateway.errors import JournalDamaged
from gateway.journal import ChunkHead, Ledger, PredictionReader
from gateway.journal.join import OutcomeJoin
from gateway.records import Cursor, WriterState
from registry.types import ClosedBucket, Lineup, Policy, Reign, Signature
from retrain.evidence import BucketSums, EvidenceError, Pairs, Rule, sums_of

MAX_SKIPPED = 0.05
"""A bucket with a larger share of rows that a challenger never got to see says nothing fair about it."""
HEADS_AT_ONCE = 10_000
MOST_EMPTY = 400
"""Buckets without rows that are closed one by one; more of them at once."""
VOID = b""
"""What is kept of a bucket that says nothing of a challenger."""
_SCORED = STATUSES.index("scored")
_SKIPPED = [STATUSES.index(reason) for reason in sorted(SKIPPED)]
_SAMPLED_OUT = STATUSES.index("sampled_out")


class Contender(Struct, frozen=True):
    """A challenger of this reign: its signature, the generations that it plays in, and whether it has a slot."""

    version: int
    signature: Signature
    generations: frozenset[int]
    has_slot: bool


class OpenCohorts:
    """The live rows of one model in one reign that are not closed yet, as heads of chunks by bucket."""

    def __init__(
        self, model: str, first_generation: int, closed: Sequence[ClosedBucket], closed_before: int | None
    ) -> None:
        """`closed_before` is the last bucket that an earlier reign closed: this one goes on from there."""
        self._model, self._first_generation = model, first_generation
        self._closed_at = {bucket.bucket: _cursor(bucket.prediction_cursor) for bucket in closed}
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


class BucketReader:
    """Reads the rows of a bucket as of two cursors: scores of champion and challengers, and the outcomes."""

    def __init__(
        self,
        reader: PredictionReader,
        ledger: Ledger,
        champion: Signature,
        policy: Policy,
        prediction_cursor: Cursor,
        outcome_cursor: Cursor,
        matured_us: int,
    ) -> None:
        """What was received after `matured_us` came too late, also where this worker came later still."""
        self._reader, self._ledger = reader, ledger
        self._join = OutcomeJoin(reader, ledger, prediction_cursor)
        self._champion, self._policy = champion, policy
        self._outcome_cursor, self._matured_us = outcome_cursor, matured_us
        self.problems: list[str] = []
        """Why buckets that were read could not be judged, which makes them void."""

    def sums(self, heads: Sequence[ChunkHead], contenders: Sequence[Contender], rule: Rule) -> dict[int, bytes]:
        """Version → its encoded sums; a challenger without a row here has none, a void bucket has `b""`."""
        mirrored = {contender: self._mirrored(contender, heads) for contender in contenders}
        # what is void is decided before any outcome is read
        fair = {contender: _is_fair(shadows) for contender, shadows in mirrored.items() if shadows}
        if not any(fair.values()):
            return {contender.version: VOID for contender in fair}
        try:
            chunks = {head: self._reader.chunk(head.writer, head.seq) for head in heads}
        except JournalDamaged as error:
            self.problems.append(str(error))
            return {contender.version: VOID for contender in fair}
        outcomes = {head: self._outcomes(head, chunk) for head, chunk in chunks.items()}
        encoded = {}
        for contender, is_fair in fair.items():
            pairs = [
                self._pairs(contender, head, chunks[head], shadow, outcomes[head])
                for head, shadow in mirrored[contender].items()
                if shadow is not None
            ]
            encoded[contender.version] = self._encoded(_joined(pairs), rule) if is_fair else VOID
        return encoded

    def _encoded(self, pairs: Pairs, rule: Rule) -> bytes:
        """The sums of some rows as they are kept; void where there are none, or where they cannot be judged."""
        if len(pairs) == 0:
            return VOID
        try:
            return msgspec.msgpack.encode(sums_of(pairs, rule))
        except EvidenceError as error:
            self.problems.append(str(error))
            return VOID

    def _mirrored(self, contender: Contender, heads: Sequence[ChunkHead]) -> dict[ChunkHead, ShadowChunk | None]:
        """What the contender answered to each chunk of its generations; None where it has not (yet)."""
        return {
            head: self._ledger.shadow_chunk(head.writer, head.seq, contender.version)
            for head in heads
            if head.generation in contender.generations
        }

    def _outcomes(self, head: ChunkHead, chunk: Chunk) -> Array:
        """One a row: the class's index, or the number; NaN where none came in time and none is declared."""
        association = self._policy.association
        known = self._join.effective(head.writer, head.seq, chunk, association, self._outcome_cursor, self._matured_us)
        default = self._policy.default_outcome
        values = np.full(chunk.n_rows, np.nan if default is None else self._as_number(default))
        for row, outcome in known.items():
            values[row] = self._as_number(outcome.outcome)
        return values

    def _as_number(self, outcome: int | float | str) -> float:
        classes = self._champion.classes
        return float(classes.index(outcome)) if classes else float(outcome)

    def _pairs(
        self, contender: Contender, head: ChunkHead, chunk: Chunk, shadow: ShadowChunk, outcomes: Array
    ) -> Pairs:
        status = np.frombuffer(shadow.status, np.uint8)
        layout = self._reader.layout(head.writer, chunk.layout)
        champion = score(unpack_outputs(chunk.outputs, layout.outputs), self._champion)
        challenger = np.full(champion.shape, np.nan)
        if shadow.outputs is not None:
            answers = unpack_outputs(shadow.outputs, self._ledger.layout(shadow.layout).outputs)
            scored = status == _SCORED
            challenger[scored] = score(answers, contender.signature)[scored]
        seen = ~np.isin(status, _SKIPPED)
        bucket = np.full(chunk.n_rows, head.bucket)
        return Pairs(outcomes[seen], champion[seen], challenger[seen], bucket[seen])


def score(outputs: dict[str, Array], signature: Signature) -> Array:
    """What is compared with the outcome, float64: `(n,)`, or `(n, n_classes)` for multiclass.

    For binary it is the probability of the second class, whichever of two columns was named as the score.
    """
    values = outputs[signature.score.output].astype(np.float64)
    column = signature.score.column
    if column is None:
        return values
    return 1.0 - values[:, 0] if signature.task == "binary" and column == 0 else values[:, column]


def _is_fair(shadows: dict[ChunkHead, ShadowChunk | None]) -> bool:
    """Whether a challenger's rows of a bucket may be evidence: all of them were dealt with, and few were skipped."""
    status = [np.frombuffer(shadow.status, np.uint8) for shadow in shadows.values() if shadow is not None]
    return len(status) == len(shadows) and not is_void(np.concatenate(status))


def is_void(status: Array) -> bool:
    """Whether so many rows were skipped, other than by declared sampling, that the rest may be a biased sample."""
    skipped = np.isin(status, [code for code in _SKIPPED if code != _SAMPLED_OUT]).sum()
    return bool(skipped > MAX_SKIPPED * len(status))


def contenders_of(lineups: Sequence[Lineup], reign: Reign, signatures: dict[int, Signature]) -> list[Contender]:
    """The challengers of a reign in the order in which they came; the first `n_slots` are judged in it."""
    generations: dict[int, set[int]] = {}
    for lineup in lineups:
        if lineup.generation >= reign.first_generation:
            for version in lineup.challengers:
                generations.setdefault(version, set()).add(lineup.generation)
    return [
        Contender(version, signatures[version], frozenset(numbers), has_slot=place < reign.policy.n_slots)
        for place, (version, numbers) in enumerate(generations.items())
    ]


def stored_sums(buckets: Sequence[ClosedBucket], version: int) -> list[BucketSums]:
    """A challenger's sums of every closed bucket that counts for it, in order."""
    encoded = (bucket.sums.get(version, VOID) for bucket in buckets)
    return [msgspec.msgpack.decode(sums, type=BucketSums) for sums in encoded if sums != VOID]


def n_void(buckets: Sequence[ClosedBucket], version: int) -> int:
    """How many closed buckets had rows of a challenger and do not count for it."""
    return sum(bucket.sums.get(version) == VOID for bucket in buckets)


def _joined(pairs: Sequence[Pairs]) -> Pairs:
    return Pairs(
        *(np.concatenate([getattr(p, name) for p in pairs]) for name in ("outcome", "champion", "challenger", "bucket"))
    )


def _cursor(stored: dict[str, int]) -> Cursor:
    return {int(writer): seq for writer, seq in stored.items()}
