"""One gateway worker: the application under uvicorn, on a socket that somebody else has bound.

uvicorn with httptools and uvloop, never h11: h11 answers a request that is hidden behind another one's body.
"""

from __future__ import annotations

import signal
import socket
import sys

import uvicorn

from gateway.app import create_app
from gateway.config import Settings


def run_gateway(settings: Settings, bound: socket.socket) -> None:
    """Serve until SIGTERM, then finish what was taken.

    Raises:
        SystemExit: 0 when it was told to end, 1 when it could not start.
    """
    config = uvicorn.Config(
        create_app(settings),
        http="httptools",
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
    server = uvicorn.Server(config)
    server.run(sockets=[bound])
    if not server.started:
        sys.exit(1)
