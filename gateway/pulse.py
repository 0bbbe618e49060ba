"""What a worker does besides answering: look for a changed registry, and say that it is still at this time.

Both are loops of the worker's event loop. A store that cannot be reached changes nothing: the last lineup serves on,
and `/readyz` says so.
"""

from __future__ import annotations

import asyncio

import structlog

from gateway.clock import JournalClock
from gateway.errors import JournalUnavailable
from gateway.journal import Appender
from gateway.lineup import Lineups
from gateway.predictor import Predictor
from registry.errors import RegistryError
from registry.store import Registry

_log = structlog.get_logger("gateway")


class Pulse:
    """The two loops of one worker."""

    def __init__(
        self,
        registry: Registry,
        lineups: Lineups,
        clock: JournalClock,
        appender: Appender,
        predictor: Predictor,
        *,
        poll_s: float,
        heartbeat_s: float,
    ) -> None:
        self._registry, self._lineups, self._clock = registry, lineups, clock
        self._appender, self._predictor = appender, predictor
        self._poll_s, self._heartbeat_s = poll_s, heartbeat_s
        self._store_problem: str | None = None
        self._journal_problem: str | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start both loops."""
        self._tasks = [asyncio.create_task(self._follow()), asyncio.create_task(self._beat())]

    async def stop(self) -> None:
        """End them."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def problems(self) -> list[str]:
        """Why this worker should not be asked; empty when it should."""
        found = (self._store_problem, self._journal_problem, *self._lineups.problems.values())
        return [problem for problem in found if problem is not None]

    async def _follow(self) -> None:
        behind = False
        while True:
            await asyncio.sleep(self._poll_s)
            try:
                behind = behind or await asyncio.to_thread(self._lineups.moved)
                if behind:
                    await asyncio.to_thread(self._lineups.refresh)
                    await asyncio.to_thread(self._clock.refresh, self._registry)
                    behind = False
                    self._heartbeat()
                self._store_problem = None
            except (RegistryError, OSError) as error:
                if self._store_problem is None:
                    _log.warning("store unreachable: the last lineup serves on", reason=str(error))
                self._store_problem = f"store: {error}"

    async def _beat(self) -> None:
        while True:
            self._heartbeat()
            await asyncio.sleep(self._heartbeat_s)

    def _heartbeat(self) -> None:
        """Promise not to stamp anything earlier than now; not while a run that is stamped already is on its way."""
        if self._predictor.n_unfinished:
            return
        stamp = self._clock.idle_stamp()
        try:
            if stamp is not None:
                self._appender.heartbeat(stamp)
            self._journal_problem = None
        except JournalUnavailable as error:
            self._journal_problem = str(error)
