"""The shadow worker: tail the journal ▶ run the challengers ▶ write what they say.

It reads the chunks that the gateway had to write anyway, in the order of each writer, and gives them to every version
that was mirrored in the generation of the chunk. What a challenger says is stored in one transaction with the cursor
that says so: after any crash it goes on exactly where it was.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import structlog

from gateway.challenger import Challenger, Scores, failed
from gateway.chunk import STATUSES, Array, Columns, Layout, ShadowChunk, pack_outputs, unpack_columns
from gateway.clock import MICROSECONDS, JournalClock
from gateway.config import Settings, ShadowSettings
from gateway.errors import GatewayError
from gateway.journal import Ledger, Mirrored, PredictionReader, only_one, open_ledger, open_reader
from gateway.journal.reader import ChunkHead
from gateway.journal.sqlite import Checkpointer
from gateway.records import WriterState
from gateway.status import mirrored_versions
from registry.errors import RegistryError
from registry.store import Registry
from registry.types import Lineup, Model

SCORED = STATUSES.index("scored")
HEADS_AT_ONCE = 2_000
PATIENCE_S = 5.0
"""How long this worker waits for a locked journal.db; nobody waits for it."""
_log = structlog.get_logger("shadow")


class Seat:
    """One version that is, or was, mirrored: what it is eligible for, and how its answers are stored."""

    def __init__(self, model: Model, challenger: Challenger, generations: frozenset[int]) -> None:
        self.model, self.challenger = model, challenger
        self.generations = generations
        """The generations whose live rows it is eligible for."""
        self.layout = Layout.of(model.schema, challenger.version.signature)
        self.finished: set[int] = set()
        """Writers that are past its generations for good: nothing of theirs will ever be for it."""

    @property
    def version(self) -> int:
        """The number of the version."""
        return self.challenger.version.number

    def takes(self, head: ChunkHead) -> bool:
        """Whether the rows of a chunk are eligible."""
        return head.model == self.model.name and head.purpose == "live" and head.generation in self.generations

    def stored(self, head: ChunkHead, scores: Scores, at_us: int) -> Mirrored:
        """The shadow chunk of these scores."""
        answered = bool((scores.status == SCORED).any())
        outputs = pack_outputs(scores.outputs, self.layout.outputs) if answered else None
        chunk = ShadowChunk(self.layout.digest, scores.status.tobytes(), outputs, at_us)
        return Mirrored(head.writer, head.seq, head.generation, chunk)


class Mirror:
    """The mirror of one store. `step` does a bounded piece of work; call it until it says that nothing is left."""

    def __init__(
        self,
        registry: Registry,
        reader: PredictionReader,
        ledger: Ledger,
        clock: JournalClock,
        settings: ShadowSettings,
    ) -> None:
        self._registry, self._reader, self._ledger, self._clock = registry, reader, ledger, clock
        self._settings = settings
        self._seats: dict[tuple[str, int], Seat] = {}
        self._stamp: int | None = None

    def step(self) -> bool:
        """Give every challenger at most one batch of each writer; whether there was anything to do."""
        self._refresh()
        writers = self._reader.writers()
        worked = [self._advance(seat, state) for seat in self._seats.values() for state in writers]
        return any(worked)

    def close(self) -> None:
        """End every child."""
        for seat in self._seats.values():
            seat.challenger.close()

    def _refresh(self) -> None:
        """Take over who is mirrored. A version that has left keeps its seat until its own generations are done."""
        stamp = self._registry.change_stamp()
        if stamp == self._stamp:
            return
        self._clock.refresh(self._registry)
        for model in self._registry.models():
            for version, generations in _eligible(self._registry.lineups(model.name)).items():
                seat = self._seats.get((model.name, version))
                if seat is None:
                    challenger = self._challenger(model, version)
                    self._seats[model.name, version] = Seat(model, challenger, generations)
                elif seat.generations != generations:
                    seat.generations = generations
                    seat.finished.clear()
        self._stamp = stamp

    def _challenger(self, model: Model, version: int) -> Challenger:
        found = self._registry.version(model.name, version)
        return Challenger(
            found,
            self._registry.artifact(found),
            memory_bytes=self._settings.memory_bytes,
            timeout_s=self._settings.timeout_s,
        )

    def _advance(self, seat: Seat, state: WriterState) -> bool:
        """One batch of one writer for one seat."""
        if state.writer in seat.finished:
            return False
        before = self._ledger.cursor(seat.model.name, seat.version)
        after_seq = before.get(state.writer, 0)
        if after_seq >= state.last_seq:
            return False
        heads = self._reader.heads(state.writer, after_seq, HEADS_AT_ONCE)
        latest = max((head.generation for head in heads if head.model == seat.model.name), default=0)
        if latest > max(seat.generations) and not any(seat.takes(head) for head in heads):
            seat.finished.add(state.writer)  # generations only grow within a writer
            seat.challenger.close()
            return False
        batch, last_seq = self._batch(seat, heads)
        if batch and seat.challenger.pausing and not self._lags(batch[0]):
            return False
        mirrored = self._answered(seat, batch)
        name = seat.model.name
        self._ledger.store_shadow(name, seat.version, mirrored, seat.layout, before, before | {state.writer: last_seq})
        return True

    def _batch(self, seat: Seat, heads: Sequence[ChunkHead]) -> tuple[list[ChunkHead], int]:
        """The first eligible chunks, up to a batch, and how far the cursor moves by them."""
        batch: list[ChunkHead] = []
        n_rows, last_seq = 0, heads[0].seq - 1
        for head in heads:
            if seat.takes(head):
                full = n_rows + head.n_rows > self._settings.batch_rows
                if batch and (full or self._lags(head) != self._lags(batch[0])):
                    break
                batch.append(head)
                n_rows += head.n_rows
            last_seq = head.seq
        return batch, last_seq

    def _answered(self, seat: Seat, batch: Sequence[ChunkHead]) -> list[Mirrored]:
        """What the challenger says to these chunks, or why it says nothing."""
        if not batch:
            return []
        now_us = self._clock.now_us() or batch[-1].at_us
        tensors = seat.layout.outputs
        if self._lags(batch[0]):
            return [seat.stored(head, failed(head.n_rows, tensors, "lag"), now_us) for head in batch]
        scores = seat.challenger.score(self._inputs(batch))
        starts = np.cumsum([0, *(head.n_rows for head in batch)]).tolist()
        return [
            seat.stored(head, scores.rows(start, stop), now_us)
            for head, (start, stop) in zip(batch, pairwise(starts), strict=True)
        ]

    def _inputs(self, batch: Sequence[ChunkHead]) -> dict[str, Array]:
        """The features of these chunks' rows, one chunk under the other."""
        chunks = [self._reader.chunk(head.writer, head.seq) for head in batch]
        layouts = [self._reader.layout(h.writer, c.layout) for h, c in zip(batch, chunks, strict=True)]
        columns = [unpack_columns(c, layout) for c, layout in zip(chunks, layouts, strict=True)]
        return Columns.joined(columns).by_name(layouts[0].groups)

    def _lags(self, head: ChunkHead) -> bool:
        now_us = self._clock.now_us()
        return now_us is not None and now_us - head.at_us > self._settings.lag_limit_s * MICROSECONDS


def _eligible(lineups: Sequence[Lineup]) -> dict[int, frozenset[int]]:
    """Version → the generations in which it was mirrored."""
    generations: dict[int, set[int]] = {}
    for lineup in lineups:
        for version in mirrored_versions(lineup):
            generations.setdefault(version, set()).add(lineup.generation)
    return {version: frozenset(numbers) for version, numbers in generations.items()}


def run_shadow(settings: Settings, stop: threading.Event) -> None:
    """Mirror until told to stop."""
    store = settings.folder
    with only_one(store, "shadow", stop):
        clock = JournalClock(settings.clock, settings.cohorts.bucket_s)
        registry = Registry.open(store, now=clock.now)
        reader, ledger = open_reader(store), open_ledger(store, settings.journal, busy_s=PATIENCE_S)
        mirror = Mirror(registry, reader, ledger, clock, settings.shadow)
        checkpointer = Checkpointer(
            lambda: ledger.path, every_s=settings.journal.checkpoint_s, max_wal_bytes=settings.journal.max_wal_bytes
        )
        try:
            while not stop.is_set():
                if not _stepped(mirror):
                    stop.wait(settings.shadow.poll_s)
        finally:
            checkpointer.stop()
            mirror.close()
            ledger.close()
            reader.close()
            registry.close()


def _stepped(mirror: Mirror) -> bool:
    """One step; what the store cannot do now is said, and tried again after a pause."""
    try:
        return mirror.step()
    except (GatewayError, RegistryError) as error:
        _log.warning("the mirror waits", reason=str(error), kind=type(error).__name__)
        return False
