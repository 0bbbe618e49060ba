"""Sends JSON from several threads, each with a connection that it keeps: for streams of single predictions.

By the standard library's HTTP client, as a load generator should cost little beside what it loads: measured here,
0.2 ms of processor a request, where the library of `gateway.client` takes 1.2 ms.
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import msgspec

from gateway.errors import ProblemError, Unreachable

T = TypeVar("T")
R = TypeVar("R")


class Sender:
    """Connections to one server."""

    def __init__(self, url: str, key: str | None = None, *, connections: int, timeout_s: float = 60.0) -> None:
        parts = urlsplit(url)
        self._encrypted = parts.scheme == "https"
        self._address = parts.hostname or "127.0.0.1", parts.port or (443 if self._encrypted else 80)
        self._headers = {} if key is None else {"authorization": f"Bearer {key}"}
        self._timeout_s = timeout_s
        self._threads = ThreadPoolExecutor(connections, thread_name_prefix="sender")
        self._own = threading.local()
        self._opened: list[http.client.HTTPConnection] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown()
        for connection in self._opened:
            connection.close()

    def at_once(self, send: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """`send` for all of these, started in order, as many at once as there are connections."""
        return list(self._threads.map(send, items))

    def post(self, path: str, body: Any) -> Any:
        """Send a JSON body that does no harm where it comes twice, and return the JSON answer.

        Raises:
            ProblemError: the server refused.
            Unreachable: nobody answers.
            TimeoutError: no answer came in time.
        """
        return self._ask_again("POST", path, msgspec.json.encode(body))

    def post_once(self, path: str, body: Any) -> Any:
        """Send a JSON body once, and return the JSON answer; raises as `post`.

        Where it raises Unreachable, or TimeoutError, the server may have done what it was asked, or not: a connection
        that it kept open and then ended looks the same in both cases.
        """
        return self._ask("POST", path, msgspec.json.encode(body))

    def get(self, path: str) -> Any:
        """The JSON answer; raises as `post`."""
        return self._ask_again("GET", path, None)

    def _ask_again(self, method: str, path: str, body: bytes | None) -> Any:
        """Once more, on a new connection, where the one that was kept has ended: the server closes idle ones."""
        if getattr(self._own, "connection", None) is not None:
            try:
                return self._ask(method, path, body)
            except Unreachable:
                pass
        return self._ask(method, path, body)

    def _ask(self, method: str, path: str, body: bytes | None) -> Any:
        headers = self._headers | ({} if body is None else {"content-type": "application/json"})
        connection = getattr(self._own, "connection", None) or self._fresh()
        self._own.connection = None
        host, port = self._address
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            answer = response.read()
        except TimeoutError:
            self._drop(connection)
            raise TimeoutError(f"{host}:{port} did not answer within {self._timeout_s:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            self._drop(connection)
            raise Unreachable(f"nobody answers at {host}:{port}: {error or type(error).__name__}") from None
        self._own.connection = connection
        try:
            document = msgspec.json.decode(answer)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise Unreachable(f"what answers at {host}:{port} is no Understudy: it does not know {path}") from None
        if response.status >= 400:
            raise ProblemError(response.status, document)
        return document

    def _drop(self, connection: http.client.HTTPConnection) -> None:
        connection.close()
        self._opened.remove(connection)

    def _fresh(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._encrypted else http.client.HTTPConnection
        connection = kind(*self._address, timeout=self._timeout_s)
        self._opened.append(connection)
        return connection
