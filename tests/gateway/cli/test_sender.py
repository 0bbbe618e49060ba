"""What is sent twice and what is not, when a server takes a request and ends the connection without an answer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from gateway.cli.sender import Sender
from gateway.errors import Unreachable

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


class Forgetful:
    """Answers the first request of each connection, takes the second one, and then ends without a word."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            connection.settimeout(20)
            with connection, connection.makefile("rb") as incoming:
                self._take(incoming)
                connection.sendall(ANSWER)
                self._take(incoming)

    def _take(self, incoming: Any) -> None:
        length = 0
        while line := incoming.readline().strip():
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        if length:
            self.bodies.append(incoming.read(length))


@contextmanager
def forgetful() -> Iterator[tuple[Forgetful, Sender]]:
    server = Forgetful()
    try:
        with Sender(server.url, connections=1, timeout_s=20) as sender:
            yield server, sender
    finally:
        server.close()


def test_what_must_come_once_is_never_sent_again_by_itself() -> None:
    with forgetful() as (server, sender):
        sender.post_once("/predict", 1)
        with pytest.raises(Unreachable, match="nobody answers at 127"):
            sender.post_once("/predict", 2)
        assert server.bodies == [b"1", b"2"]


def test_what_may_come_twice_is_sent_again_on_a_new_connection() -> None:
    """The control: an ordinary client of a connection that is kept does this with everything."""
    with forgetful() as (server, sender):
        sender.post("/outcomes", 1)
        assert sender.post("/outcomes", 2) == {}
        assert server.bodies == [b"1", b"2", b"2"]


def test_all_at_once_come_back_in_order() -> None:
    with forgetful() as (_, sender):
        double: Callable[[int], int] = lambda n: 2 * n  # noqa: E731
        assert sender.at_once(double, range(5)) == [0, 2, 4, 6, 8]
