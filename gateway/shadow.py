"""The shadow worker: tail the journal ▶ run the challengers ▶ write what they say.

It reads the chunks that the gateway had to write anyway, in the order of each writer, and gives them to every version
that was mirrored in the generation of the chunk. What a challenger says is stored in one transaction with the cursor
that says so: after any crash it goes on exactly where it was.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import groupby, pairwise, takewhile

import numpy as np
import structlog

from gateway.challenger import Challenger, Scores, failed
from gateway.chunk import STATUSES, Chunk, Layout, ShadowChunk, pack_outputs, unpack_columns
from gateway.clock import MICROSECONDS, JournalClock
from gateway.columns import Columns
from gateway.config import Settings, ShadowSettings
from gateway.errors import GatewayError, JournalDamaged
from gateway.journal import Ledger, Mirrored, PredictionReader, only_one, open_ledger, open_reader
from gateway.journal.reader import ChunkHead
from gateway.journal.sqlite import Checkpointer
from gateway.records import Cursor, WriterState
from gateway.status import mirrored_versions
from registry.errors import RegistryError
from registry.store import Registry
from registry.types import Lineup, Model
from registry.watch import Watch

SCORED = STATUSES.index("scored")
HEADS_AT_ONCE = 2_000
PATIENCE_S = 5.0
"""How long this worker waits for a locked journal.db; nobody waits for it."""
RETRY_S = 1.0
"""And for a store that could not be read."""
_log = structlog.get_logger("shadow")


class Seat:
    """One version that is, or was, mirrored: what it is eligible for, and how its answers are stored."""

    def __init__(self, model: Model, challenger: Challenger, generations: frozenset[int]) -> None:
        self.model, self.challenger = model, challenger
        self.generations = generations
        """The generations whose live rows it is eligible for."""
        self.layout = Layout.of(model.schema, challenger.version.signature)
        self.finished: set[int] = set()
        """Writers that have ended, or are past its generations for good: nothing of theirs will ever be for it."""
        self._problem: str | None = None

    @property
    def version(self) -> int:
        """The number of the version."""
        return self.challenger.version.number

    def takes(self, head: ChunkHead) -> bool:
        """Whether the rows of a chunk are eligible."""
        return head.model == self.model.name and head.purpose == "live" and head.generation in self.generations

    def say(self, problem: str | None) -> None:
        """Log why it waits, once; None when it does not."""
        if problem is not None and problem != self._problem:
            _log.warning("a challenger waits", model=self.model.name, version=self.version, reason=problem)
        self._problem = problem

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
        self._newest: dict[str, int] = {}
        """Model → the newest generation that is known here: what a later one mirrors is not."""
        self._watch = Watch(registry)

    def step(self) -> bool:
        """Give every challenger at most one batch of each writer; whether there was anything to do."""
        self._refresh()
        if not self._seats:
            return False
        writers = self._reader.writers()
        worked = [self._served(seat, writers) for seat in self._seats.values()]
        return any(worked)

    def close(self) -> None:
        """End every child."""
        for seat in self._seats.values():
            seat.challenger.close()

    def _refresh(self) -> None:
        """Take over who is mirrored. A version that has left keeps its seat until its own generations are done."""
        if not self._watch.changed():
            return
        self._clock.refresh(self._registry)
        for model in self._registry.models():
            lineups = self._registry.lineups(model.name)
            self._newest[model.name] = lineups[-1].generation if lineups else 0
            for version, generations in _eligible(lineups).items():
                seat = self._seats.get((model.name, version))
                if seat is None:
                    challenger = self._challenger(model, version)
                    self._seats[model.name, version] = Seat(model, challenger, generations)
                elif seat.generations != generations:
                    seat.generations = generations
                    seat.finished.clear()
        self._watch.taken_over()

    def _challenger(self, model: Model, version: int) -> Challenger:
        found = self._registry.version(model.name, version)
        return Challenger(
            found,
            lambda: self._registry.artifact(found),
            memory_bytes=self._settings.memory_bytes,
            timeout_s=self._settings.timeout_s,
        )

    def _served(self, seat: Seat, writers: Sequence[WriterState]) -> bool:
        """At most one batch of each writer for one seat; what cannot be done now is retried, and hinders nobody."""
        waiting = [state for state in writers if state.writer not in seat.finished]
        cursor = self._ledger.cursor(seat.model.name, seat.version) if waiting else {}
        worked, problem = False, None
        for state in waiting:
            try:
                after = self._advance(seat, state, cursor)
            except (GatewayError, RegistryError) as error:
                problem = f"{type(error).__name__}: {error}"
            else:
                worked, cursor = worked or after != cursor, after
        seat.say(problem)
        if not worked and self._newest[seat.model.name] not in seat.generations:
            seat.challenger.close()  # it has left, and nothing of its own time is left for it
        return worked

    def _advance(self, seat: Seat, state: WriterState, before: Cursor) -> Cursor:
        """Give a seat one batch of one writer; returns its cursor, as it now is."""
        after_seq = before.get(state.writer, 0)
        if after_seq >= state.last_seq:
            if not state.alive:
                seat.finished.add(state.writer)
            return before
        heads = self._known(seat, self._reader.heads(state.writer, after_seq, HEADS_AT_ONCE))
        if not heads:
            return before
        latest = max((head.generation for head in heads if head.model == seat.model.name), default=0)
        if latest > max(seat.generations) and not any(seat.takes(head) for head in heads):
            seat.finished.add(state.writer)  # generations only grow within a writer
            return before
        oldest_us = self._oldest_us()
        batch, last_seq = self._batch(seat, heads, oldest_us)
        lags = bool(batch) and batch[0].at_us < oldest_us
        if batch and seat.challenger.pausing and not lags:
            return before
        after = before | {state.writer: last_seq}
        mirrored = self._answered(seat, batch, lags=lags)
        self._ledger.store_shadow(seat.model.name, seat.version, mirrored, seat.layout, before, after)
        return after

    def _known(self, seat: Seat, heads: Sequence[ChunkHead]) -> list[ChunkHead]:
        """The chunks before the first of a generation that this worker has not heard of yet: it must not pass those."""
        name, newest = seat.model.name, self._newest[seat.model.name]
        return list(takewhile(lambda head: head.model != name or head.generation <= newest, heads))

    def _batch(self, seat: Seat, heads: Sequence[ChunkHead], oldest_us: float) -> tuple[list[ChunkHead], int]:
        """The first eligible chunks, up to a batch, all lagging or none, and how far the cursor moves by them."""
        batch: list[ChunkHead] = []
        n_rows, last_seq = 0, heads[0].seq - 1
        for head in heads:
            if seat.takes(head):
                full = n_rows + head.n_rows > self._settings.batch_rows
                if batch and (full or (head.at_us < oldest_us) != (batch[0].at_us < oldest_us)):
                    break
                batch.append(head)
                n_rows += head.n_rows
            last_seq = head.seq
        return batch, last_seq

    def _oldest_us(self) -> float:
        """Chunks that were stamped before this lag too far behind to be tried."""
        now_us = self._clock.now_us()
        return float("-inf") if now_us is None else now_us - self._settings.lag_limit_s * MICROSECONDS

    def _answered(self, seat: Seat, batch: Sequence[ChunkHead], *, lags: bool) -> list[Mirrored]:
        """What the challenger says to these chunks, or why it says nothing."""
        if lags:
            scores = [failed(head.n_rows, seat.layout.outputs, "lag") for head in batch]
        else:
            scores = self._scores(seat, batch)
        now_us = self._clock.now_us()
        return [
            seat.stored(head, said, head.at_us if now_us is None else now_us)
            for head, said in zip(batch, scores, strict=True)
        ]

    def _intact(self, head: ChunkHead) -> Chunk | None:
        """The chunk; None where the disk does not give back what was written, which is no fault of a challenger."""
        try:
            return self._reader.chunk(head.writer, head.seq)
        except JournalDamaged as error:
            _log.error("a chunk is damaged: its rows are skipped", writer=head.writer, seq=head.seq, reason=str(error))
            return None

    def _scores(self, seat: Seat, batch: Sequence[ChunkHead]) -> list[Scores]:
        """The challenger's answers to each of these chunks; neighbours of one layout are given to it together."""
        scores: list[Scores] = []
        chunks = [(head, self._intact(head)) for head in batch]
        for digest, group in groupby(chunks, key=lambda pair: pair[1] and pair[1].layout):
            pairs = list(group)
            alike = [(head, chunk) for head, chunk in pairs if chunk is not None]
            if digest is None:
                scores.extend(failed(head.n_rows, seat.layout.outputs, "damaged") for head, _ in pairs)
                continue
            layout = self._reader.layout(alike[0][0].writer, digest)
            columns = Columns.joined([unpack_columns(chunk, layout) for _, chunk in alike])
            taken = {n: c for n, c in columns.by_name(layout.groups).items() if n in seat.challenger.features}
            if len(taken) < len(seat.challenger.features):  # they were logged before the feature was
                said = failed(columns.n_rows, seat.layout.outputs, "missing_feature")
            else:
                said = seat.challenger.score(taken)
            bounds = np.cumsum([0, *(head.n_rows for head, _ in alike)]).tolist()
            scores.extend(said.rows(start, stop) for start, stop in pairwise(bounds))
        return scores


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
                _step(mirror, stop, settings.shadow.poll_s)
        finally:
            checkpointer.stop()
            mirror.close()
            ledger.close()
            reader.close()
            registry.close()


def _step(mirror: Mirror, stop: threading.Event, poll_s: float) -> None:
    """One step, and a pause when nothing is new; what the store cannot do now is said, and tried again later."""
    try:
        pause_s = 0.0 if mirror.step() else poll_s
    except (GatewayError, RegistryError) as error:
        _log.warning("the mirror waits", reason=str(error), kind=type(error).__name__)
        pause_s = RETRY_S
    stop.wait(pause_s)
