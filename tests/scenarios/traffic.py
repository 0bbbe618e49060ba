"""Predictions under way while something else happens."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from msgspec import Struct

from tests.actors import POISON
from tests.seasons import rows_of
from tests.serving import PATIENCE_S, until


class Answer(Struct, frozen=True):
    """One answer under load, and when it was asked and given."""

    version: int
    prediction_id: str
    outputs: dict[str, Any]
    asked_s: float
    given_s: float


class Traffic:
    """Predictions over several connections, in threads, each asking again as soon as it is answered."""

    def __init__(self, url: str, n_connections: int = 4) -> None:
        self.answers: list[Answer] = []
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(url, i)) for i in range(n_connections)]
        for thread in self._threads:
            thread.start()

    def goes_on(self, n: int = 40) -> None:
        """Wait for so many more answers."""
        wanted = len(self.answers) + n
        until(lambda: len(self.answers) >= wanted or self.failures, "the load goes on")

    def stop(self) -> None:
        """No more requests."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, url: str, seed: int) -> None:
        rows = rows_of(seed, 50)[0]
        rows[::10, 1] = POISON
        n = 0
        while not self._stop.is_set():
            with httpx.Client(base_url=url, timeout=PATIENCE_S, trust_env=False) as http:
                for _ in range(20):  # then another connection, and perhaps another worker
                    a, b = rows[n % 50].tolist()
                    n += 1
                    asked_s = time.monotonic()
                    response = http.post("/models/m/predict", json={"inputs": {"a": a, "b": b}})
                    given_s = time.monotonic()
                    if response.status_code != 200:
                        self.failures.append(response.text)
                        return
                    said = response.json()
                    self.answers.append(
                        Answer(said["version"], said["prediction_id"], said["outputs"], asked_s, given_s)
                    )
                    if self._stop.is_set():
                        return


@contextmanager
def under_load(url: str) -> Iterator[Traffic]:
    """Load until the end of the block."""
    load = Traffic(url)
    try:
        yield load
    finally:
        load.stop()
