"""A server of one answer, that stalls or hangs up when told to: what a load generator must see as it was."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

ANSWER = b"HTTP/1.1 %d ok\r\nContent-Length: 2\r\n\r\n{}"


class Scripted:
    """Answers every request of every connection with a status; one at a time, so that a stall stalls all."""

    def __init__(self, statuses: dict[int, int], stall: tuple[int, threading.Event] | None = None) -> None:
        """`statuses`: by number of the request, 0 hangs up, 200 unless given. `stall`: waits there for the event."""
        self._statuses, self._stall = statuses, stall
        self._lock = threading.Lock()
        self.n_requests = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.address: tuple[str, int] = self._listener.getsockname()
        self._open: list[socket.socket] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def close(self) -> None:
        """Hang up on everybody."""
        self._listener.shutdown(socket.SHUT_RDWR)  # or the thread would take one more
        self._accepting.join()
        self._listener.close()
        for connection in self._open:
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            while connection.recv(65_536):
                with self._lock:
                    number, self.n_requests = self.n_requests, self.n_requests + 1
                    if self._stall is not None and number == self._stall[0]:
                        self._stall[1].wait(10)
                    status = self._statuses.get(number, 200)
                    if not status:
                        connection.shutdown(socket.SHUT_RDWR)
                        return
                    connection.sendall(ANSWER % status)
        except OSError:
            return


@contextmanager
def scripted(
    statuses: dict[int, int] | None = None, stall: tuple[int, threading.Event] | None = None
) -> Iterator[Scripted]:
    """A server until the end of the block."""
    server = Scripted(statuses or {}, stall)
    try:
        yield server
    finally:
        server.close()
