"""A store served by this command itself: the processes of `serve`, under the caller's clock."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gateway.cli.serve import announcing
from gateway.client import Client
from gateway.config import Settings
from gateway.errors import Unreachable
from gateway.supervisor import Supervisor

READY_TIMEOUT_S = 30.0


def callers_time(port: int) -> dict[str, Any]:
    """Settings for a year in minutes: the caller's clock, and workers that look often."""
    return {
        "server.port": port,
        "clock.source": "caller",
        "shadow.poll_s": 0.03,
        "retrain.poll_s": 0.02,
        "journal.heartbeat_s": 0.1,
        "logs.level": "warning",
    }


@contextmanager
def serving(settings: Settings, bound: socket.socket, model: str, *, as_json: bool) -> Iterator[str]:
    """Serve until the end of the block, which begins when the model answers.

    Raises:
        Unreachable: the server has ended, and said why.
        TimeoutError: it does not answer.
    """
    host, port = bound.getsockname()[:2]
    url = f"http://{host}:{port}"
    stop = threading.Event()
    supervisor = Supervisor(settings, bound, announcing(settings, bound, as_json=as_json))
    thread = threading.Thread(target=supervisor.run, args=(stop, threading.Event()), name="supervisor")
    thread.start()
    try:
        _wait_ready(url, model, thread)
        yield url
    finally:
        stop.set()
        thread.join()


def _wait_ready(url: str, model: str, server: threading.Thread) -> None:
    deadline_s = time.monotonic() + READY_TIMEOUT_S
    with Client(url, timeout_s=READY_TIMEOUT_S) as client:
        while model not in client.ready()["models"]:
            if not server.is_alive():
                raise Unreachable(f"the server at {url} has ended; its last words are above")
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"the server was not ready within {READY_TIMEOUT_S:g} s")
            time.sleep(0.05)
