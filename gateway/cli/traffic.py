"""Rows of a table sent as live traffic under the caller's clock: each at its time, each outcome when it is known.

The story of a year runs as fast as the machine allows, and comes out the same each time: rows are sent in order, an
hour of the caller's clock at once, and at the end of each day the sender waits until every cohort that is due has been
closed. So a decision falls on the same day of the caller's clock whatever the machine was doing.

A prediction is sent once, whatever happens: where no answer came, the journal is asked for its association id before
it is sent again. Everything else may be said twice without harm, as the server knows it again.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any
from urllib.parse import quote

from msgspec import Struct

from gateway.cli.midnight import DAY, Clock, Patient, Span, Stopped, may_pass, midnight_before
from gateway.cli.sender import Sender
from gateway.errors import ProblemError, Unreachable

IN_FLIGHT = 8
OUTCOMES_AT_ONCE = 500


class Row(Struct, frozen=True):
    """One row of the table. `outcome` None: it never gets one."""

    inputs: dict[str, Any]
    association_id: str
    predicted_at: datetime
    known_at: datetime
    outcome: int | float | str | None


class Tally(Struct):
    """What was sent, and how long the answers took."""

    n_predictions: int = 0
    n_outcomes: int = 0
    latencies_s: list[float] = []
    receipts: dict[str, int] = {}
    started_s: float = 0.0
    took_s: float = 0.0

    def count(self, receipt: dict[str, Any]) -> None:
        """Add the receipt of some outcomes."""
        for fate, n in receipt.items():
            number = len(n) if isinstance(n, list) else n
            self.receipts[fate] = self.receipts.get(fate, 0) + number


EachDay = Callable[[datetime, Tally, dict[str, Any]], None]


class Traffic:
    """Sends rows to one model of a running server."""

    def __init__(
        self,
        sender: Sender,
        model: str,
        span: Span,
        *,
        clock_at: datetime,
        maturity: timedelta,
        stop: threading.Event,
        speed: float | None = None,
        timeout_s: float = 120.0,
        patience_s: float = 60.0,
    ) -> None:
        """Nothing is sent yet.

        Args:
            sender: connections to the server.
            model: the model's name.
            span: of all rows and outcomes, also of those that were sent by an earlier run.
            clock_at: what the server's clock shows.
            maturity: the maturity window of the model.
            stop: set by whoever wants it to end.
            speed: how many times faster than the rows' own times; None as fast as possible.
            timeout_s: how long nothing may move while a day is decided on.
            patience_s: how long a server that is gone may take to come back.
        """
        self._sender, self._path, self._span, self._stop = sender, quote(model, safe=""), span, stop
        self._server = Patient(sender, stop, patience_s)
        self._clock = Clock(self._server, model, span, now=clock_at, maturity=maturity, stop=stop, timeout_s=timeout_s)
        self._pace = None if speed is None else _Pace(speed)
        self._due: list[tuple[datetime, int, dict[str, Any]]] = []
        self._n_noted = 0
        self._failing = threading.Event()
        self.tally = Tally(latencies_s=[], receipts={}, started_s=time.perf_counter())

    def expect(self, rows: Iterable[Row]) -> None:
        """Outcomes to be told of rows that an earlier run has sent."""
        for row in rows:
            self._note(row)

    def run(self, rows: Iterable[Row], each_day: EachDay) -> Tally:
        """Send them all, in order; `each_day` is told the day that ended, the tally and the evidence as it then was.

        Raises:
            Stopped: somebody asked for it.
            Unreachable, ProblemError: the server is gone, or refuses.
            TimeoutError: a day was not decided on.
        """
        self._clock.settle()
        days = _days(rows)
        upcoming = next(days, None)
        while upcoming is not None or self._due:
            day = min(
                ([] if upcoming is None else [upcoming[0]]) + [midnight_before(known[0]) for known in self._due[:1]]
            )
            if self._clock.now < day:  # nothing happened for a while
                self._clock.move(day)
            if upcoming is not None and upcoming[0] == day:
                for of_one_hour in upcoming[1]:
                    self._hour(of_one_hour)
                upcoming = next(days, None)
            each_day(day, self.tally, self._end_of(day))
        if self._clock.now < self._span.until:  # an earlier run was stopped between the last outcome and this
            self._end_of(self._span.until - DAY)
        self.tally.took_s = time.perf_counter() - self.tally.started_s
        return self.tally

    def _hour(self, rows: Sequence[Row]) -> None:
        """What became known before this hour, then its predictions."""
        self._report(until=rows[0].predicted_at)
        self._predict(rows)
        for row in rows:
            self.tally.n_predictions += 1
            self._note(row)

    def _predict(self, rows: Sequence[Row]) -> None:
        """Have each of these answered exactly once, whatever interrupts it."""
        deadline_s = time.monotonic() + self._server.patience_s
        while True:
            self._failing.clear()
            answers = self._sender.at_once(self._asked, rows)
            answered = [answer for answer in answers if isinstance(answer, float)]
            self.tally.latencies_s += answered
            failures = [answer for answer in answers if isinstance(answer, Exception)]
            if not failures:
                return
            for failure in failures:
                if not may_pass(failure):
                    raise failure
            if answered:
                deadline_s = time.monotonic() + self._server.patience_s
            elif time.monotonic() > deadline_s:
                raise failures[0]
            self._stop.wait(0.05)
            pairs = zip(rows, answers, strict=True)
            rows = [row for row, answer in pairs if not isinstance(answer, float) and not self._is_there(row, answer)]
            if not rows:
                return

    def _asked(self, row: Row) -> float | Exception | None:
        """Send one row: how long the answer took, in seconds, or why none came. Runs in the sender's threads.

        None: it was held back, as another one has failed. So no row leaves a thread after one that failed there, and
        where none of the first `IN_FLIGHT` of some rows is in the journal, none of the others is.
        """
        body = {
            "inputs": row.inputs,
            "association_id": row.association_id,
            "predicted_at": row.predicted_at.isoformat(),
        }
        if self._pace is not None:
            self._pace.wait(row.predicted_at, self._stop)
        if self._stop.is_set():
            return Stopped()
        if self._failing.is_set():
            return None
        started_s = time.perf_counter()
        try:
            self._sender.post_once(f"/models/{self._path}/predict", body)
        except (ProblemError, Unreachable, TimeoutError) as failure:
            self._failing.set()
            return failure
        return time.perf_counter() - started_s

    def _is_there(self, row: Row, answer: Exception | None) -> bool:
        """Whether the journal has a row that was not answered: it may, unless it was held back."""
        return answer is not None and bool(self.predictions(row.association_id))

    def predictions(self, association_id: str) -> list[dict[str, Any]]:
        """The live predictions of this key."""
        path = f"/models/{self._path}/predictions?association_id={quote(association_id, safe='')}"
        found = self._server.get(path)["predictions"]
        return [prediction for prediction in found if prediction["purpose"] == "live"]

    def _note(self, row: Row) -> None:
        """Remember when its outcome will be known."""
        self._n_noted += 1
        if row.outcome is not None:
            said = {
                "association_id": row.association_id,
                "outcome": row.outcome,
                "observed_at": row.known_at.isoformat(),
            }
            heapq.heappush(self._due, (row.known_at, self._n_noted, said))

    def _report(self, until: datetime) -> None:
        """Send the outcomes that are known by then."""
        while self._due and self._due[0][0] <= until:
            known: list[dict[str, Any]] = []
            while self._due and self._due[0][0] <= until and len(known) < OUTCOMES_AT_ONCE:
                known.append(heapq.heappop(self._due)[2])
            self.tally.count(self._server.post(f"/models/{self._path}/outcomes", known))
            self.tally.n_outcomes += len(known)

    def _end_of(self, day: datetime) -> dict[str, Any]:
        """Tell what is known by midnight, let the day be over, and return the evidence."""
        self._report(until=day + DAY)
        self._clock.move(day + DAY)
        evidence: dict[str, Any] = self._server.get(f"/admin/models/{self._path}/evidence")
        return evidence


class _Pace:
    """Real time, so many times faster, from the first row on."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._lock = threading.Lock()
        self._first: tuple[datetime, float] | None = None

    def wait(self, at: datetime, stop: threading.Event) -> None:
        """Return when it is that time, or when somebody stops."""
        with self._lock:
            if self._first is None:
                self._first = at, time.monotonic()
            first_at, first_s = self._first
        due_s = first_s + (at - first_at).total_seconds() / self._speed
        stop.wait(max(0.0, due_s - time.monotonic()))


def _days(rows: Iterable[Row]) -> Iterator[tuple[datetime, list[list[Row]]]]:
    """(midnight, the rows of each hour) in order, in UTC."""
    for day, of_one_day in groupby(rows, key=lambda row: midnight_before(row.predicted_at)):
        yield day, [list(of_one_hour) for _, of_one_hour in groupby(of_one_day, key=_hour_of)]


def _hour_of(row: Row) -> datetime:
    return row.predicted_at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
