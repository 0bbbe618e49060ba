"""A replay's seat at the mirror: a version that is given past rows which it never was a challenger for.

It is served by the same steps as a live one, and differs in what it takes (a span of the past, without the rows that
the version may have learned from), in where its answers are kept, and in that nothing of it can lag.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from gateway.challenger import Challenger
from gateway.chunk import STATUSES, Chunk
from gateway.columns import Array
from gateway.journal import Ledger, Mirrored
from gateway.journal.reader import ChunkHead
from gateway.records import Cursor, WriterState, micros
from gateway.seat import SCORED, Seat
from gateway.status import mirrored_versions
from registry.types import Lineup, Model, Replay

IN_TRAINING, NOT_ASKED = STATUSES.index("in_training"), STATUSES.index("not_asked")


class ReplaySeat(Seat):
    """One replay that is under way."""

    def __init__(
        self,
        model: Model,
        challenger: Challenger,
        replay: Replay,
        lineups: Sequence[Lineup],
        bucket_of: Callable[[int], int],
    ) -> None:
        """`lineups`: every generation of its span and more, as known after the replay was."""
        super().__init__(model, challenger, elsewhere(lineups, replay.version))
        self.replay = replay
        span, window = replay.asked.span, replay.asked.window
        self._since_us, self._until_us = micros(span.since), micros(span.until)
        self._buckets = range(bucket_of(self._since_us), bucket_of(self._until_us - 1) + 1)
        self._end = {int(writer): seq for writer, seq in span.end.items()}
        self._learned_from_us = None if window.begin is None else micros(window.begin)
        self._learned_until_us = micros(window.end)

    def takes(self, head: ChunkHead) -> bool:
        """Whether there may be rows of the span in a chunk that is nobody's evidence about this version."""
        return head.bucket in self._buckets and super().takes(head)

    def spared(self, chunk: Chunk) -> Array | None:
        """Rows outside of the span, and rows that the version may have learned from: a chunk may straddle both."""
        at_us = chunk.predicted_at_us()
        inside = (at_us >= self._since_us) & (at_us < self._until_us)
        learned = at_us <= self._learned_until_us
        if self._learned_from_us is not None:
            learned &= at_us >= self._learned_from_us
        if inside.all() and not learned.any():
            return None
        return np.where(inside, np.where(learned, IN_TRAINING, SCORED), NOT_ASKED).astype(np.uint8)

    def cursor(self, ledger: Ledger) -> Cursor:
        """How far it has come within its span."""
        return ledger.replayed.cursor(self.replay)

    def keep(self, ledger: Ledger, mirrored: Sequence[Mirrored], before: Cursor, after: Cursor) -> None:
        """Store what was said, apart from shadow chunks; raises as `Replayed.store`."""
        ledger.replayed.store(self.replay, mirrored, self.layout, before, after)

    def reach(self, state: WriterState) -> int:
        """Up to which seq of a writer its span goes: what came after it was asked for is not in it."""
        return min(state.last_seq, self._end.get(state.writer, 0))

    def is_past(self, heads: Sequence[ChunkHead]) -> bool:
        """Never: it goes to the end of its span, and is over there."""
        return False

    def lags(self, head: ChunkHead, oldest_us: float) -> bool:
        """Never: the past is as old as it is."""
        return False

    def has_left(self, newest_generation: int) -> bool:
        """Always: it waits for nothing new."""
        return True

    @property
    def _times(self) -> bool:
        """Never: what it takes now says nothing of then."""
        return False


def elsewhere(lineups: Sequence[Lineup], version: int) -> frozenset[int]:
    """The generations in which a version neither answered nor was mirrored: their rows it can be given, as a replay."""
    return frozenset(
        lineup.generation
        for lineup in lineups
        if version != lineup.champion and version not in mirrored_versions(lineup)
    )
