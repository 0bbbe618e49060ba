"""The shadow worker: tail the journal ▶ run the challengers ▶ write what they say.

It reads the chunks that the gateway had to write anyway, in the order of each writer, and gives them to every version
that was mirrored in the generation of the chunk. What a challenger says is stored in one transaction with the cursor
that says so: after any crash it goes on exactly where it was.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from itertools import takewhile

import structlog

from gateway.asking import Asker
from gateway.challenger import Challenger, failed
from gateway.clock import MICROSECONDS, JournalClock
from gateway.config import Settings, ShadowSettings
from gateway.errors import GatewayError, JournalUnavailable
from gateway.journal import Ledger, PredictionReader, only_one, open_ledger, open_reader
from gateway.journal.reader import ChunkHead
from gateway.journal.sqlite import Checkpointer
from gateway.records import Cursor, WriterState
from gateway.replay_seat import ReplaySeat
from gateway.seat import RETRY_S, Said, Seat
from gateway.status import mirrored_versions
from registry.errors import RegistryError
from registry.store import Registry
from registry.types import Lineup, Model, Replay
from registry.watch import Watch

HEADS_AT_ONCE = 2_000
PATIENCE_S = 5.0
"""How long this worker waits for a locked journal.db; nobody waits for it."""
_log = structlog.get_logger("shadow")


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
        self._asker = Asker(reader, settings.batch_rows)
        self._seats: dict[tuple[str, int], Seat] = {}
        self._newest: dict[str, int] = {}
        """Model → the newest generation that is known here: what a later one mirrors is not."""
        self._replays: dict[tuple[str, int], ReplaySeat] = {}
        self._watch = Watch(registry)

    def step(self) -> bool:
        """Store what was answered, ask whoever is idle for the next batch; False once nothing is left or under way.

        Where nothing could be done and somebody is being asked, it waits for an answer, for as long as a poll.
        """
        self._refresh()
        if not self._seats and not self._replays:
            return False
        writers = self._reader.writers()
        worked = [self._served(seat, writers) for seat in self._seats.values()]
        under_way = [seat.asked.said for seat in self._seats.values() if seat.asked is not None]
        if not under_way and not any(worked):  # the past has time: what is live always comes first
            worked, under_way = self._replayed(writers)
        if under_way and not any(worked):
            wait(under_way, self._settings.poll_s, FIRST_COMPLETED)
        return bool(under_way) or any(worked)

    def _replayed(self, writers: Sequence[WriterState]) -> tuple[list[bool], list[Future[list[Said]]]]:
        """Serve the first replay that has something to do: one at a time, so that no more than one child is added."""
        for seat in self._replays.values():
            worked = self._served(seat, writers)
            if worked or seat.asked is not None:
                return [worked], [] if seat.asked is None else [seat.asked.said]
        return [], []

    def close(self) -> None:
        """End every child."""
        for seat in (*self._seats.values(), *self._replays.values()):
            seat.close()

    def _refresh(self) -> None:
        """Take over who is mirrored. A version that has left keeps its seat until its own generations are done."""
        if not self._watch.changed():
            return
        self._clock.refresh(self._registry)
        waiting = self._registry.replays.waiting()  # before the lineups: theirs are among those that are read
        for model in self._registry.models():
            lineups = self._registry.lineups(model.name)
            self._newest[model.name] = lineups[-1].generation if lineups else 0
            for version, generations in _eligible(lineups).items():
                seat = self._seats.get((model.name, version))
                if seat is None:
                    challenger = self._challenger(model, version)
                    self._seats[model.name, version] = Seat(model, challenger, generations)
                    continue
                seat.model = model
                if seat.generations != generations:
                    seat.generations = generations
                    seat.finished.clear()
        self._take_over(waiting)
        self._watch.taken_over()

    def _take_over(self, waiting: Sequence[Replay]) -> None:
        """Give each replay that waits a seat, and end those of replays that are over."""
        named = {(replay.model, replay.number): replay for replay in waiting}
        for key in set(self._replays) - set(named):
            self._replays.pop(key).close()
        for key, replay in named.items():
            if key not in self._replays:
                model, lineups = self._registry.model(replay.model), self._registry.lineups(replay.model)
                challenger = self._challenger(model, replay.version)
                self._replays[key] = ReplaySeat(model, challenger, replay, lineups, self._clock.bucket_of)

    def _challenger(self, model: Model, version: int) -> Challenger:
        found = self._registry.version(model.name, version)
        return Challenger(
            found,
            lambda: self._registry.artifact(found),
            memory_bytes=self._settings.memory_bytes,
            timeout_s=self._settings.timeout_s,
        )

    def _served(self, seat: Seat, writers: Sequence[WriterState]) -> bool:
        """Store what a seat has answered, and ask it next; what cannot be done now is retried, and hinders nobody."""
        worked, problem = False, None
        try:
            worked = self._taken(seat)
        except (GatewayError, RegistryError) as error:
            problem = f"{type(error).__name__}: {error}"
            seat.rest()
        if not seat.is_asked and not seat.rests:
            moved, why = self._given(seat, writers)
            worked, problem = worked or moved, why or problem
        if problem is not None or not seat.is_asked:
            seat.say(problem)
        if not worked and not seat.is_asked and seat.has_left(self._newest[seat.model.name]):
            seat.challenger.close()  # it has left, and nothing of its own time is left for it
        return worked

    def _given(self, seat: Seat, writers: Sequence[WriterState]) -> tuple[bool, str | None]:
        """Ask an idle seat for its next batch; whether its cursor moved already, and what it cannot be given."""
        waiting = seat.in_turn(writers)
        start = cursor = seat.cursor(self._ledger) if waiting else {}
        problem = None
        for state in waiting:
            problem = state.problem or problem
            if state.is_unreadable:
                continue
            try:
                cursor = self._advance(seat, state, cursor)
            except (GatewayError, RegistryError) as error:
                problem = f"{type(error).__name__}: {error}"
            if seat.is_asked:
                break
        return cursor != start, problem

    def _taken(self, seat: Seat) -> bool:
        """Store what the challenger has answered by now, with the cursor that says so; whether there was anything.

        Raises:
            RegistryError: the challenger could not be started, through no fault of its own; its rows wait.
            Conflict: another worker has stored them.
            JournalUnavailable: they could not be stored now; the answers are kept.
        """
        asked = seat.asked
        if asked is None or not asked.said.done():
            return False
        try:
            self._store(seat, asked.batch, asked.said.result(), asked.before, asked.after)
        except JournalUnavailable:
            raise
        except (GatewayError, RegistryError):
            seat.asked = None
            raise
        seat.asked = None
        return True

    def _advance(self, seat: Seat, state: WriterState, before: Cursor) -> Cursor:
        """Ask a seat for one batch of one writer, or pass over what is not for it; returns its cursor, as it now is."""
        after_seq, reach = before.get(state.writer, 0), seat.reach(state)
        if after_seq >= reach:
            if not state.alive:
                seat.finished.add(state.writer)
            return before
        heads = self._known(seat, self._reader.heads(state.writer, after_seq, min(HEADS_AT_ONCE, reach - after_seq)))
        if not heads:
            return before
        if seat.is_past(heads):
            seat.finished.add(state.writer)
            return before
        oldest_us = self._oldest_us()
        batch, last_seq = self._asker.batch(seat, heads, oldest_us)
        lags = bool(batch) and seat.lags(batch[0], oldest_us)
        after = before | {state.writer: last_seq}
        if batch and not lags:
            if not seat.challenger.pausing:
                seat.ask(batch, self._asker.questions(seat, batch), before, after)
            return before
        late = [Said(failed(head.n_rows, seat.layout.outputs, "lag")) for head in batch]
        self._store(seat, batch, late, before, after)
        return after

    def _store(
        self, seat: Seat, batch: Sequence[ChunkHead], said: Sequence[Said], before: Cursor, after: Cursor
    ) -> None:
        now_us = self._clock.now_us()
        mirrored = [
            seat.stored(head, each, head.at_us if now_us is None else now_us)
            for head, each in zip(batch, said, strict=True)
        ]
        seat.keep(self._ledger, mirrored, before, after)

    def _known(self, seat: Seat, heads: Sequence[ChunkHead]) -> list[ChunkHead]:
        """The chunks before the first of a generation that this worker has not heard of yet: it must not pass those."""
        name, newest = seat.model.name, self._newest[seat.model.name]
        return list(takewhile(lambda head: head.model != name or head.generation <= newest, heads))

    def _oldest_us(self) -> float:
        """Chunks that were stamped before this lag too far behind to be tried."""
        now_us = self._clock.now_us()
        return float("-inf") if now_us is None else now_us - self._settings.lag_limit_s * MICROSECONDS


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
