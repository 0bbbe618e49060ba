"""Rows of a table sent as live traffic under the caller's clock: each at its time, each outcome when it is known.

The story of a year runs as fast as the machine allows, and comes out the same each time: rows are sent in order, an
hour of the caller's clock at once, and at the end of each day the sender waits until every cohort that is due has been
closed. So a decision falls on the same day of the caller's clock whatever the machine was doing.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

from msgspec import Struct

from gateway.cli.sender import Sender

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
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


class Traffic:
    """Sends rows to one model of a running server."""

    def __init__(self, sender: Sender, model: str, *, maturity: timedelta, timeout_s: float = 120.0) -> None:
        self._sender, self._model, self._maturity = sender, model, maturity
        self._timeout_s = timeout_s
        self._due: list[tuple[datetime, int, dict[str, Any]]] = []
        self._first_day = datetime.max.replace(tzinfo=UTC)
        self.tally = Tally(latencies_s=[], receipts={}, started_s=time.perf_counter())

    def run(self, rows: Sequence[Row], each_day: Callable[[datetime, Tally, dict[str, Any]], None]) -> Tally:
        """Send them all; `each_day` is told the day that ended, the tally and the evidence as it then was."""
        self._first_day = _hour_of(rows[0]).replace(hour=0)
        for day, hours in _days(rows):
            for _, of_one_hour in hours:
                self._hour(of_one_hour)
            each_day(day, self.tally, self._end_of(day))
        while self._due:
            day = self._due[0][0].replace(hour=0, minute=0, second=0, microsecond=0)
            each_day(day, self.tally, self._end_of(day))
        self.tally.took_s = time.perf_counter() - self.tally.started_s
        return self.tally

    def _hour(self, rows: list[Row]) -> None:
        """What became known before this hour, then its predictions."""
        self._report(until=rows[0].predicted_at)
        for row, latency_s in zip(rows, self._sender.at_once(self._predict, rows), strict=True):
            self.tally.latencies_s.append(latency_s)
            self.tally.n_predictions += 1
            self._note(row)

    def _predict(self, row: Row) -> float:
        """Send one row; returns how long the answer took, in seconds. Runs in the sender's threads."""
        body = {
            "inputs": row.inputs,
            "association_id": row.association_id,
            "predicted_at": row.predicted_at.isoformat(),
        }
        started_s = time.perf_counter()
        self._sender.post(f"/models/{self._model}/predict", body)
        return time.perf_counter() - started_s

    def _note(self, row: Row) -> None:
        """Remember when its outcome will be known."""
        if row.outcome is not None:
            said = {
                "association_id": row.association_id,
                "outcome": row.outcome,
                "observed_at": row.known_at.isoformat(),
            }
            heapq.heappush(self._due, (row.known_at, self.tally.n_predictions, said))

    def _report(self, until: datetime) -> None:
        """Send the outcomes that are known by then."""
        while self._due and self._due[0][0] <= until:
            known: list[dict[str, Any]] = []
            while self._due and self._due[0][0] <= until and len(known) < OUTCOMES_AT_ONCE:
                known.append(heapq.heappop(self._due)[2])
            receipt = self._sender.post(f"/models/{self._model}/outcomes", known)
            self.tally.count(receipt)
            self.tally.n_outcomes += len(known)

    def _end_of(self, day: datetime) -> dict[str, Any]:
        """Move the clock past midnight, wait until what is due then is decided and served; returns the evidence.

        The mirror has to have caught up before: a challenger that lags by a day of the clock counts as failed.
        """
        midnight = day + DAY
        due = midnight - self._maturity
        self._report(until=midnight)
        self._wait("the mirror has not caught up", self._caught_up)
        self._sender.post("/admin/clock", {"now": midnight.isoformat()})
        self._wait(f"the cohort before {due:%Y-%m-%d} was not closed", lambda: self._decided(due))
        evidence: dict[str, Any] = self._sender.get(f"/admin/models/{self._model}/evidence")
        return evidence

    def _wait(self, complaint: str, is_so: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + self._timeout_s
        while not is_so():
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"{complaint} within {self._timeout_s:g} s")
            time.sleep(0.01)

    def _caught_up(self) -> bool:
        """Whether every challenger was given every prediction."""
        mirror = self._sender.get(f"/admin/models/{self._model}")["mirror"]
        return not any(entry["n_chunks_waiting"] for entry in mirror)

    def _decided(self, due: datetime) -> bool:
        """Whether every cohort up to `due` is closed, and what follows from it is served."""
        evidence = self._sender.get(f"/admin/models/{self._model}/evidence")
        through = evidence["closed_through"]
        closed = due <= self._first_day or (through is not None and datetime.fromisoformat(through) >= due)
        return closed and self._served_by(evidence["champion"])

    def _served_by(self, champion: int) -> bool:
        """Whether the gateway answers by that version already."""
        metadata: dict[str, Any] = self._sender.get(f"/v2/models/{self._model}")
        return bool(metadata["versions"] == [str(champion)])


def _days(rows: Sequence[Row]) -> Iterator[tuple[datetime, list[tuple[datetime, list[Row]]]]]:
    """(midnight, [(hour, rows)]) in order, in UTC."""
    hours = [(hour, list(of_one)) for hour, of_one in groupby(rows, key=_hour_of)]
    for day, of_one_day in groupby(hours, key=lambda pair: pair[0].replace(hour=0)):
        yield day, list(of_one_day)


def _hour_of(row: Row) -> datetime:
    return row.predicted_at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
