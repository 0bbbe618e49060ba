"""The story of a prediction.

Requests that arrive in one turn of the event loop run as one call of the champion, are committed as one chunk and are
answered after the commit. Alone, a request waits for nobody. A slow champion runs in a thread, and its next batch is
whatever has arrived meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from gateway.batch import Answered, Ask, Cohort, Ran, draft, run
from gateway.clock import JournalClock
from gateway.errors import GatewayError, InvalidInput, JournalUnavailable, Overloaded
from gateway.front import Ticket
from gateway.journal import Appender
from gateway.lineup import Lineups, Serving
from gateway.metrics import Tally
from gateway.queue import Queue
from gateway.randomness import Drawn, Source
from gateway.records import SECRET_BYTES, Purpose, prediction_ids
from gateway.wire.own import Asked
from registry.errors import RegistryError

FURTHEST_AHEAD_US = 366 * 86_400 * 1_000_000


class Predictor:
    """Runs champions for one worker. Used from its event loop only."""

    def __init__(
        self,
        lineups: Lineups,
        appender: Appender,
        writer: int,
        clock: JournalClock,
        *,
        max_waiting_rows: int,
        max_wait_s: float = 1.0,
        tally: Tally | None = None,
        random: Source = os.urandom,
    ) -> None:
        self._lineups, self._appender, self._writer, self._clock = lineups, appender, writer, clock
        self._max_waiting_rows, self._max_wait_s = max_waiting_rows, max_wait_s
        self._secrets = Drawn(SECRET_BYTES, random)
        self._queues: dict[str, Queue] = {}
        self._threads = ThreadPoolExecutor(thread_name_prefix="champion")
        self._answered = asyncio.Event()
        self._last_at_us = 0
        self.tally = Tally() if tally is None else tally
        self.n_unfinished = 0
        """Requests taken and not answered yet; a draining worker waits for 0."""

    async def predict(self, name: str, asked: Asked, ticket: Ticket) -> Answered:
        """The champion's answer, once it is recorded.

        Raises:
            UnknownModel, NoChampion: nobody answers for that name.
            InvalidInput: a `predicted_at` that does not fit the clock.
            Overloaded: too many rows wait already, or they will take too long.
            ModelFailed: the champion raised, or answered outside of its signature.
            JournalUnavailable: it could not be recorded, so it is not answered.
        """
        future: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()

        def done(answer: Answered | Exception) -> None:
            if future.cancelled():  # the caller has gone; the record stays
                return
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)

        self.submit(name, Ask(asked, ticket, done))
        return await future

    def submit(self, name: str, ask: Ask) -> None:
        """Have a request answered by the next run; its `done` is called in the loop. Raises as `predict`."""
        queue = self._queues.get(name)
        if queue is None:
            self._lineups[name]  # raises for a name that nobody answers for
            queue = self._queues[name] = Queue(name)
        if queue.waiting:
            self.check_load(name, ask.asked.columns.n_rows)
        if self._clock.of_caller or ask.asked.said is not None:
            self._check_times(ask.asked.predicted_at_us)
        queue.put(ask)
        self.n_unfinished += 1
        if not queue.busy:
            queue.busy = True
            asyncio.get_running_loop().call_soon(self._tick, queue)

    def check_load(self, name: str, n_rows: int = 1) -> None:
        """Refuse what would wait too long, where possible before anything else is spent on it.

        Raises:
            UnknownModel, NoChampion, ModelFailed: nobody answers for that name.
            Overloaded: so it would.
        """
        serving, queue = self._lineups[name], self._queues.get(name)
        if queue is None or not queue.waiting:
            return  # whatever runs will be done in a moment; and a request that waits for nobody is never too large
        wait_s = (queue.n_rows + queue.n_running_rows) * serving.champion.row_s
        if wait_s > self._max_wait_s or queue.n_rows + n_rows > self._max_waiting_rows:
            raise Overloaded(queue.n_rows, wait_s)

    async def idle(self) -> None:
        """Return when nothing is unfinished."""
        while self.n_unfinished:
            self._answered.clear()
            await self._answered.wait()

    def close(self) -> None:
        """Let the thread end. Call it when nothing is unfinished."""
        self._threads.shutdown()

    def _check_times(self, predicted_at_us: list[int] | None) -> None:
        if predicted_at_us is None:
            if self._clock.now_us() is None:
                raise InvalidInput("predicted_at: expected a time, as the caller's clock was never set")
            return
        if not self._clock.of_caller:
            raise InvalidInput('predicted_at: expected none, as the clock is the server\'s (clock.source = "server")')
        if len({self._clock.bucket_of(at_us) for at_us in predicted_at_us}) > 1:
            raise InvalidInput("predicted_at: expected the rows of one request to lie in one bucket")
        now_us = self._clock.now_us()
        if now_us is not None and max(predicted_at_us) > now_us + FURTHEST_AHEAD_US:
            # stamps never go back: one slip of a decade would stamp all that follows
            raise InvalidInput("predicted_at: expected at most a year after the caller's clock")

    def _tick(self, queue: Queue) -> None:
        """One turn of the loop for one model: run what waits, commit it, answer it."""
        asks = queue.take(self._most_rows(queue))
        in_thread = False
        try:
            with _Failing(self, asks):
                in_thread = self._run(queue, asks)
        finally:
            if not in_thread:
                self._go_on(queue)

    def _most_rows(self, queue: Queue) -> int:
        """How many rows may run at once; all of them, where nobody is there to run them."""
        try:
            return self._lineups[queue.name].champion.most_rows
        except (GatewayError, RegistryError):
            return queue.n_rows

    def _run(self, queue: Queue, asks: Sequence[Ask]) -> bool:
        """Run these requests; True if that happens in a thread, which comes back by `_back`."""
        try:
            serving = self._lineups[queue.name]  # read once: the whole run belongs to this generation
        except (GatewayError, RegistryError) as error:
            self.refuse([(ask, error) for ask in asks])
            return False
        cohorts = self._cohorts(asks)
        if not serving.champion.leaves_the_loop(queue.n_running_rows):
            self._ran(serving, _run_all(serving, cohorts))
            return False
        loop = asyncio.get_running_loop()
        running = self._threads.submit(_run_all, serving, cohorts)
        running.add_done_callback(lambda run: loop.call_soon_threadsafe(self._back, queue, serving, asks, run))
        return True

    def _back(self, queue: Queue, serving: Serving, asks: Sequence[Ask], running: Future[list[Ran]]) -> None:
        """Back in the loop from the thread."""
        try:
            with _Failing(self, asks):
                self._ran(serving, running.result())
        finally:
            self._go_on(queue)

    def _go_on(self, queue: Queue) -> None:
        """Start on what has arrived meanwhile."""
        queue.n_running_rows = 0
        queue.busy = bool(queue.waiting)
        if queue.busy:
            asyncio.get_running_loop().call_soon(self._tick, queue)

    def _cohorts(self, asks: Sequence[Ask]) -> list[Cohort]:
        """The chunks to be, oldest bucket first. All carry the time at which their run starts, which is now."""
        cohorts: dict[tuple[int, Purpose], Cohort] = {}
        said = [t for ask in asks if ask.asked.said is not None for t in ask.asked.predicted_at_us or ()]
        at_us = self._clock.stamp(max(said) if said else None)
        bucket = self._clock.bucket_of(at_us)
        for ask in asks:
            own_us, purpose = ask.asked.predicted_at_us if said else None, ask.ticket.purpose
            key = (bucket if own_us is None else self._clock.bucket_of(own_us[0])), purpose
            cohort = cohorts.get(key)
            if cohort is None:
                cohort = cohorts[key] = Cohort([], purpose, key[0], at_us)
            cohort.asks.append(ask)
        return [cohorts[key] for key in sorted(cohorts)]

    def _ran(self, serving: Serving, batches: Sequence[Ran]) -> None:
        """Commit what was answered."""
        answered_ns = time.perf_counter_ns()
        for ran in batches:
            self.refuse(ran.failed)
        good = [ran for ran in batches if ran.asks]
        for ran in good:
            self._keep_order(ran.cohort)
        drafts = [draft(serving, ran, self._secrets.take(), answered_ns) for ran in good]
        if drafts:
            secrets = [d.chunk.secret for d in drafts]
            self._appender.append(drafts, lambda fate: self._committed(serving, good, secrets, fate))

    def _keep_order(self, cohort: Cohort) -> None:
        """Stamps never decrease within a writer: a quick model may have overtaken a slow one's run."""
        if cohort.at_us < self._last_at_us:
            cohort.at_us = self._last_at_us
            if all(ask.asked.predicted_at_us is None for ask in cohort.asks):
                cohort.bucket = self._clock.bucket_of(cohort.at_us)
        self._last_at_us = cohort.at_us

    def _committed(
        self, serving: Serving, batches: Sequence[Ran], secrets: Sequence[bytes], fate: range | JournalUnavailable
    ) -> None:
        """The commit has happened, or has not: answer, with an address each, or refuse."""
        asks = [ask for ran in batches for ask in ran.asks]
        if isinstance(fate, JournalUnavailable) and serving.model.policy.unjournalled == "refuse":
            self.refuse([(ask, fate) for ask in asks])
            return
        with _Failing(self, asks):
            for i, (ran, secret) in enumerate(zip(batches, secrets, strict=True)):
                self._answer(serving, ran, None if isinstance(fate, JournalUnavailable) else (fate[i], secret))

    def _answer(self, serving: Serving, ran: Ran, place: tuple[int, bytes] | None) -> None:
        """Answer the requests of one chunk, which stands at this seq, under this secret; or is not recorded."""
        starts = ran.starts
        addresses: Sequence[str | None]
        if place is None:
            addresses = [None] * len(ran.asks)
            self.tally.count_unlogged(serving.model.name, ran.columns.n_rows)
        else:
            addresses = prediction_ids(self._writer, place[0], starts[:-1], place[1])
        champion, outputs = serving.lineup.champion, ran.outputs
        for ask, address, start, stop in zip(ran.asks, addresses, starts, starts[1:], strict=False):
            self._finish(ask, Answered(address, champion, outputs, start, stop))

    def refuse(self, failures: Sequence[tuple[Ask, Exception]]) -> None:
        """Answer these requests by what kept them from an answer."""
        for ask, error in failures:
            self._finish(ask, error)

    def _finish(self, ask: Ask, answer: Answered | Exception) -> None:
        if ask.finished:
            return
        ask.finished = True
        self.n_unfinished -= 1
        if not self.n_unfinished:
            self._answered.set()
        ask.done(answer)


class _Failing:
    """A fault of ours is not caught, but leaves nobody waiting: these requests fail by it."""

    __slots__ = ("_asks", "_predictor")

    def __init__(self, predictor: Predictor, asks: Sequence[Ask]) -> None:
        self._predictor, self._asks = predictor, asks

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, fault: BaseException | None, trace: Any) -> None:
        if isinstance(fault, Exception):
            self._predictor.refuse([(ask, fault) for ask in self._asks])


def _run_all(serving: Serving, cohorts: Sequence[Cohort]) -> list[Ran]:
    return [run(serving, cohort) for cohort in cohorts]
