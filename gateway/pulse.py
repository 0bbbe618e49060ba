"""What a worker does besides answering: follow the registry, say that it is still at this time, pour what it counts.

All are loops of the worker's event loop. A store that cannot be reached changes nothing: the last lineup serves on,
and `/readyz` says so.
"""

from __future__ import annotations

import asyncio
import time

import structlog

from gateway.clock import JournalClock
from gateway.errors import JournalUnavailable
from gateway.journal import Appender
from gateway.keyring import KeyRing
from gateway.lineup import Lineups
from gateway.metrics.pool import POUR_S, TallyPool
from gateway.predictor import Predictor
from registry.errors import RegistryError
from registry.store import Registry

LOOK_EVERY_S = 1.0
"""The store is read this often at least, also when nothing was written: it may have become unreachable."""
_log = structlog.get_logger("gateway")


class Pulse:
    """The loops of one worker."""

    def __init__(
        self,
        registry: Registry,
        lineups: Lineups,
        clock: JournalClock,
        keys: KeyRing,
        appender: Appender,
        predictor: Predictor,
        pool: TallyPool,
        *,
        poll_s: float,
        heartbeat_s: float,
    ) -> None:
        self._registry, self._lineups, self._clock, self._keys = registry, lineups, clock, keys
        self._appender, self._predictor, self._pool = appender, predictor, pool
        self._poll_s, self._heartbeat_s = poll_s, heartbeat_s
        self._store_problem: str | None = None
        self._journal_problem: str | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start the loops."""
        self._tasks = [asyncio.create_task(loop) for loop in (self._follow(), self._beat(), self._pour())]

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
        behind, looked_s = False, 0.0
        while True:
            await asyncio.sleep(self._poll_s)
            if not behind and not self._lineups.may_have_moved() and time.monotonic() - looked_s < LOOK_EVERY_S:
                continue
            looked_s = time.monotonic()
            try:
                behind = behind or await asyncio.to_thread(self._lineups.moved)
                if behind:
                    await asyncio.to_thread(self._keys.refresh)
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

    async def _pour(self) -> None:
        while True:
            await asyncio.sleep(POUR_S)
            await self._pool.pour()

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
