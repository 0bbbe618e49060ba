"""The caller's clock of a server, moved from midnight to midnight: a day is over when what was due in it is decided."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from msgspec import Struct

from gateway.cli.sender import Sender
from gateway.errors import ProblemError, Unreachable

DAY = timedelta(days=1)
UNAVAILABLE = 503


class Stopped(Exception):
    """Somebody asked for it; whatever was sent has been answered."""


class Span(Struct, frozen=True):
    """The whole of a traffic, from the midnight before its first row to the one after its last row or outcome."""

    since: datetime
    until: datetime

    @classmethod
    def over(cls, first: datetime, last: datetime) -> Span:
        """From the day of the first row to the day of the last thing that happens."""
        return cls(midnight_before(first), midnight_before(last) + DAY)


class Patient:
    """Asks a server what may be asked twice, until it is answered."""

    def __init__(self, sender: Sender, stop: threading.Event, patience_s: float) -> None:
        """`patience_s`: how long a server that is gone may take to come back."""
        self.patience_s = patience_s
        self._sender, self._stop = sender, stop

    def get(self, path: str) -> Any:
        """The JSON answer.

        Raises:
            Unreachable, ProblemError: it stays away, or refuses.
            Stopped: somebody asked for it.
        """
        return self._insist(lambda: self._sender.get(path))

    def post(self, path: str, body: Any) -> Any:
        """Send a JSON body that does no harm where it comes twice; raises as `get`."""
        return self._insist(lambda: self._sender.post(path, body))

    def _insist(self, ask: Callable[[], Any]) -> Any:
        deadline_s = time.monotonic() + self.patience_s
        while True:
            try:
                return ask()
            except (Unreachable, ProblemError) as failure:
                if not may_pass(failure) or time.monotonic() > deadline_s:
                    raise
            if self._stop.wait(0.05):
                raise Stopped


class Clock:
    """The caller's clock, and what has to have happened at each midnight."""

    def __init__(
        self,
        server: Patient,
        model: str,
        span: Span,
        *,
        now: datetime,
        maturity: timedelta,
        stop: threading.Event,
        timeout_s: float,
    ) -> None:
        """`now`: what it shows; `timeout_s`: how long nothing may move while a day is decided on."""
        self.now = now
        self._server, self._path, self._span, self._maturity = server, quote(model, safe=""), span, maturity
        self._stop, self._timeout_s = stop, timeout_s

    def move(self, midnight: datetime) -> None:
        """Move it on, and wait until what is due then is decided and served.

        The mirror has to have caught up before: a challenger that lags by a day of the clock counts as failed.

        Raises:
            TimeoutError: it was not.
        """
        if midnight <= self.now:  # somebody else has moved it further; it never goes back
            return
        self._wait("the mirror has not caught up", self._caught_up)
        self._server.post("/admin/clock", {"now": midnight.isoformat()})
        self.now = midnight
        self.settle()

    def settle(self) -> None:
        """Wait until every cohort that is due is closed, and what follows from it is served; raises as `move`."""
        # cohorts are days: the one that this moment lies in is not due
        due = midnight_before(self.now - self._maturity)
        if due > self._span.since:
            self._wait(f"the cohort before {due:%Y-%m-%d} was not closed", lambda: self._decided(due))
            self._wait("a training was not done", lambda: self._trained(due))

    def _wait(self, complaint: str, look: Callable[[], object]) -> None:
        """Wait until `look` says True; while it says something new, it is not late."""
        seen: object = None
        deadline_s = time.monotonic() + self._timeout_s
        while (shown := look()) is not True:
            if shown != seen:
                seen, deadline_s = shown, time.monotonic() + self._timeout_s
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"{complaint} within {self._timeout_s:g} s")
            if self._stop.wait(0.02):
                raise Stopped

    def _caught_up(self) -> object:
        """True if every challenger was given every prediction; else how many chunks wait."""
        mirror = self._server.get(f"/admin/models/{self._path}")["mirror"]
        waiting = [n for entry in mirror if (n := entry["n_chunks_waiting"])]
        return waiting or True

    def _decided(self, due: datetime) -> object:
        """True if every cohort up to `due` is closed, and what follows from it is served; else how far that is."""
        evidence = self._server.get(f"/admin/models/{self._path}/evidence")
        through = evidence["closed_through"]
        if through is None or datetime.fromisoformat(through) < due:
            return through
        # whether the gateway answers by that version already
        return self._server.get(f"/v2/models/{self._path}")["versions"] == [str(evidence["champion"])] or through

    def _trained(self, due: datetime) -> object:
        """True if what is closed up to `due` asks for no training that is not over, and its version is mirrored."""
        said = self._server.get(f"/admin/models/{self._path}/trainings")
        under_way = [training for training in said["trainings"] if training["state"] in ("asked", "running")]
        if under_way:
            return under_way
        if said["recipe"] is not None:
            through = said["outlook"] and said["outlook"]["through"]
            if through is None or datetime.fromisoformat(through) < due:
                return through
        if not said["trainings"]:
            return True
        document = self._server.get(f"/admin/models/{self._path}")
        return document["served_generation"] == document["lineup"]["generation"] or document["served_generation"]


def may_pass(failure: Exception) -> bool:
    """Whether it may be over in a moment: nobody answers, or the server is too busy to."""
    return isinstance(failure, Unreachable) or (isinstance(failure, ProblemError) and failure.status == UNAVAILABLE)


def midnight_before(at: datetime) -> datetime:
    """The midnight at which its day began, in UTC."""
    return at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
