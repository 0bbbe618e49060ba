"""Whose time it is, and how predictions are stamped with it.

Under `source = "server"` time is the machine's. Under `"caller"` it is what callers state: `POST /admin/clock` moves
it on, and predictions and outcomes carry their own times, so that a year runs in minutes with real dates.

Stamps never decrease within a writer, whatever the machine's clock does: a bucket may be closed once every writer
has stamped something later.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

from gateway.config import ClockSettings
from gateway.errors import InvalidInput
from gateway.records import micros, moment
from registry.store import Registry

MICROSECONDS = 1_000_000


def server_now_us() -> int:
    """The machine's time, microseconds since 1970."""
    return time.time_ns() // 1_000


class JournalClock:
    """The time of one process."""

    def __init__(self, settings: ClockSettings, bucket_s: int, now_us: Callable[[], int] = server_now_us) -> None:
        self.of_caller = settings.source == "caller"
        self._bucket_us = bucket_s * MICROSECONDS
        self._server_now_us = now_us
        self._caller_now_us: int | None = None
        self._last_stamp_us = 0

    def refresh(self, registry: Registry) -> None:
        """Take over the caller's clock from the registry, where it is kept for all processes."""
        if self.of_caller and (said := registry.clock()) is not None:
            self._caller_now_us = micros(said)

    def now_us(self) -> int | None:
        """The time; None while a caller's clock was never set."""
        return self._caller_now_us if self.of_caller else self._server_now_us()

    def now(self) -> datetime:
        """The time as decisions are dated: the machine's, while a caller's clock was never set."""
        now_us = self.now_us()
        return moment(self._server_now_us() if now_us is None else now_us)

    def stamp(self, predicted_at_us: int | None) -> int:
        """The time of a run that starts now: never before an earlier one, nor before the caller's own time.

        Raises:
            InvalidInput: under the caller's clock, with neither the clock nor the prediction's time known.
        """
        now_us = self.now_us()
        if now_us is None and predicted_at_us is None:
            raise InvalidInput("predicted_at: expected a time, as the caller's clock was not set yet")
        self._last_stamp_us = max(self._last_stamp_us, now_us or 0, predicted_at_us or 0)
        return self._last_stamp_us

    def idle_stamp(self) -> int | None:
        """What an idle writer may promise: nothing of its own will be stamped earlier. None: nothing is known."""
        now_us = self.now_us()
        if now_us is None:
            return None
        self._last_stamp_us = max(self._last_stamp_us, now_us)
        return self._last_stamp_us

    def bucket_of(self, at_us: int) -> int:
        """The cohort of a time: whole buckets since 1970."""
        return at_us // self._bucket_us
