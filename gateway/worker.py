"""One gateway worker: the application under uvicorn, on a socket that somebody else has bound.

uvicorn with httptools and uvloop, never h11: h11 answers a request that is hidden behind another one's body.
"""

from __future__ import annotations

import socket

import uvicorn

from gateway.app import create_app
from gateway.config import Settings


def run_gateway(settings: Settings, bound: socket.socket) -> None:
    """Serve until SIGTERM, then finish what was taken."""
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
    uvicorn.Server(config).run(sockets=[bound])
