"""One gateway worker: the application under uvicorn, on a socket that somebody else has bound.

uvicorn with httptools and uvloop, never h11: h11 answers a request that is hidden behind another one's body.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import uvicorn

from gateway.app import create_app
from gateway.config import ServerSettings, Settings
from gateway.connection import Connection
from gateway.lane import Lane, LaneConnection
from gateway.routes.parts import Parts
from gateway.store_check import looked_at

LOOK_EVERY_S = 0.5
"""How often connections are looked at: so much longer than allowed may each of them take."""
TURNS, TURN_S = 3, 0.01
"""How often the loop turns before quiet connections are closed: on a full machine a notice can pass in one turn."""
Started = Callable[[bool], None]
"""Called once a worker accepts connections, with whether callers need a key."""


class DrainingServer(uvicorn.Server):
    """uvicorn's server, with deadlines for its connections, and an end that nobody is surprised by.

    Told to end, it first goes on answering for a while, says that it is not ready, and ends each connection with an
    answer: who sends requests sends them elsewhere. Only then are the quiet connections closed. Told again, it hurries.
    """

    def __init__(
        self, config: uvicorn.Config, parts: Callable[[], Parts], settings: ServerSettings, started: Started
    ) -> None:
        super().__init__(config)
        self._parts, self._settings, self._tell = parts, settings, started
        self._hurried = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start; what is there by now is there to stay, and is not looked through for garbage any more."""
        await super().startup(sockets)
        self._looking = asyncio.create_task(self._look_at_connections())
        self._tell(not self._parts().front.keys.is_open)
        gc.collect()
        gc.freeze()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, then end."""
        self._parts().front.draining = True
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.drain_notice_s):
                await self._hurried.wait()
        for _ in range(TURNS):  # what has arrived by now is read, and answered as the last of its connection
            await asyncio.sleep(TURN_S)
        await super().shutdown(sockets)
        self._looking.cancel()

    def handle_exit(self, sig: int, frame: Any) -> None:
        """A signal: to end, and the second time to hurry."""
        if self.should_exit:
            self._hurried.set()
        super().handle_exit(sig, frame)

    async def _look_at_connections(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            now_s = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                if isinstance(connection, Connection):
                    connection.end_if_overdue(now_s)


def run_gateway(settings: Settings, bound: socket.socket, tallies: Path | None, started: Started) -> None:
    """Serve until SIGTERM, then finish what was taken. `tallies`: see `gateway/metrics/pool.py`.

    Raises:
        OSError, RegistryError, GatewayError: there is no store that can be served.
        SystemExit: 0 when it was told to end, 1 when it could not start.
    """
    looked_at(settings)
    app = create_app(settings, tallies=tallies)

    def parts() -> Parts:
        made: Parts = app.state.parts
        return made

    config = uvicorn.Config(
        app,
        http=protocol_of(parts, settings.server),
        loop="uvloop",
        ws="none",
        lifespan="on",
        access_log=False,
        server_header=False,
        log_config=None,
        log_level="warning",
        timeout_graceful_shutdown=max(1, round(settings.server.drain_s)),
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn raises the signal once more when everything is answered: that is an end as it should be
        signal.signal(number, lambda *_: sys.exit(0))
    server = DrainingServer(config, parts, settings.server, started)
    server.run(sockets=[bound])
    if not server.started:
        sys.exit(1)


def protocol_of(parts: Callable[[], Parts], settings: ServerSettings) -> Any:
    """What makes a connection: with the lane or without, on httptools both. `parts` are there once it has started."""
    if not settings.lane:
        return partial(Connection, front=lambda: parts().front, settings=settings)

    @cache
    def lane() -> Lane:
        made = parts()
        return Lane(made.front, made.lineups, made.predictor, settings)

    return partial(LaneConnection, lane=lane, settings=settings)
