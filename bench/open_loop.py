"""Open loop: requests leave when they are due, whatever became of those before, and are timed from when they were due.

A server that stalls for a second is charged with every request that was due in that second, as its callers would
charge it; a closed loop would have sent one ("coordinated omission"). One thread, plain sockets, no event loop: libuv
counts in milliseconds, which is longer than most answers.
"""

from __future__ import annotations

import gc
import select
import socket
import time
from collections import deque
from collections.abc import Sequence
from http import HTTPStatus
from typing import Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Arrivals = Literal["poisson", "constant"]
NO_ANSWER = 0
"""The status of a request that was never sent, was cut off, or was answered too late."""
_WAKES_LATE_S = 0.000_08
"""A sleeping thread is woken this much late, so the last bit is spent awake."""
_RECEIVE_BYTES = 65_536


class Outcome(Struct, frozen=True):
    """What became of n requests. Times are in seconds from the start; NaN where it did not come to that."""

    intended_s: NDArray[np.float64]
    sent_s: NDArray[np.float64]
    answered_s: NDArray[np.float64]
    status: NDArray[np.int16]
    retry_after_s: NDArray[np.float64]
    """What answers said in `Retry-After`; NaN where they said nothing."""

    @property
    def n_errors(self) -> int:
        """Requests without an answer of 200."""
        return int((self.status != 200).sum())

    def latency_us(self, percentile: float) -> float:
        """From when requests were due to the end of their answer of 200; NaN without any."""
        answered = self.status == 200
        latencies = (self.answered_s - self.intended_s)[answered]
        return float(np.percentile(latencies, percentile)) * 1e6 if len(latencies) else float("nan")

    def refusal_us(self, percentile: float) -> float:
        """From sending to the end of an answer of 503; NaN without any."""
        refused = self.status == HTTPStatus.SERVICE_UNAVAILABLE
        took = (self.answered_s - self.sent_s)[refused]
        return float(np.percentile(took, percentile)) * 1e6 if len(took) else float("nan")

    def send_delay_us(self, percentile: float) -> float:
        """How late requests left: for want of an idle connection, or as the generator was held up."""
        delays = (self.sent_s - self.intended_s)[~np.isnan(self.sent_s)]
        return float(np.percentile(delays, percentile)) * 1e6 if len(delays) else float("nan")


def arrivals(rate_per_s: float, duration_s: float, kind: Arrivals, seed: int = 0) -> NDArray[np.float64]:
    """When requests are due: `rate_per_s * duration_s` of them, evenly or as a Poisson process has them."""
    n = round(rate_per_s * duration_s)
    if kind == "constant":
        return np.arange(n) / rate_per_s
    return np.cumsum(np.random.default_rng(seed).exponential(1 / rate_per_s, n))


def drive(
    address: tuple[str, int],
    requests: Sequence[bytes],
    rate_per_s: float,
    duration_s: float,
    *,
    n_connections: int = 64,
    kind: Arrivals = "poisson",
    seed: int = 0,
    patience_s: float = 2.0,
) -> Outcome:
    """Send whole HTTP/1.1 requests in turn at a rate, each on a connection that waits for nothing else.

    Args:
        address: host and port.
        requests: as `bodies.requests` makes them; taken in turn, again from the first when all were sent.
        rate_per_s: on average.
        duration_s: for how long requests become due.
        n_connections: opened before the start. A request that finds none idle waits for one, and that counts.
        kind: of the arrivals.
        seed: of the arrivals.
        patience_s: how long after the last request answers are waited for.

    Raises:
        OSError: nobody listens at the address.
    """
    due = arrivals(rate_per_s, duration_s, kind, seed)
    generator = _Generator(address, requests, due, n_connections)
    collects = gc.isenabled()
    gc.disable()  # a collection would be charged to the server
    try:
        return generator.run(patience_s)
    finally:
        generator.close()
        if collects:
            gc.enable()


class _Connection:
    """A socket, the request that it waits for, and what came of the answer."""

    __slots__ = ("index", "received", "socket", "wanted")

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=5)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.index = -1
        self.received = b""
        self.wanted = 0


class _Generator:
    def __init__(
        self, address: tuple[str, int], requests: Sequence[bytes], due: NDArray[np.float64], n_connections: int
    ) -> None:
        self._address, self._requests, self._due = address, requests, due.tolist()
        self._poll = select.epoll()
        self._open: dict[int, _Connection] = {}
        self._idle: deque[_Connection] = deque()
        for _ in range(n_connections):
            self._connect()
        n = len(due)
        self._sent, self._answered = [float("nan")] * n, [float("nan")] * n
        self._status = [NO_ANSWER] * n
        self._retry_after_s = [float("nan")] * n
        self._start_s = 0.0

    def run(self, patience_s: float) -> Outcome:
        """Until every request is answered, or patience has ended."""
        due, n, at = self._due, len(self._due), 0
        self._start_s = start_s = time.perf_counter()
        end_s = (due[-1] if due else 0.0) + patience_s
        while True:
            now_s = time.perf_counter() - start_s
            while at < n and due[at] <= now_s and self._idle:
                self._send(at)
                at += 1
            if (at == n and len(self._idle) == len(self._open)) or now_s > end_s or not self._open:
                break
            waits_s = due[at] - now_s - _WAKES_LATE_S if at < n and self._idle else 0.01
            if waits_s > 0:  # epoll's own timeout counts in milliseconds
                select.select([self._poll], [], [], waits_s)
            for fileno, _ in self._poll.poll(0):
                self._receive(self._open[fileno])
        return Outcome(
            np.array(due),
            np.array(self._sent),
            np.array(self._answered),
            np.array(self._status, np.int16),
            np.array(self._retry_after_s),
        )

    def close(self) -> None:
        """Close every connection."""
        for connection in self._open.values():
            connection.socket.close()
        self._poll.close()

    def _connect(self) -> None:
        connection = _Connection(self._address)
        self._open[connection.socket.fileno()] = connection
        self._poll.register(connection.socket.fileno(), select.EPOLLIN)
        self._idle.append(connection)

    def _send(self, index: int) -> None:
        request = self._requests[index % len(self._requests)]
        connection = self._idle.popleft()
        self._sent[index] = time.perf_counter() - self._start_s
        try:
            n_taken = connection.socket.send(request)
        except OSError:
            self._drop(connection)
            return
        if n_taken < len(request):
            raise ValueError(f"expected requests that a socket's buffer takes whole, got one of {len(request)} bytes")
        connection.index, connection.received, connection.wanted = index, b"", 0

    def _receive(self, connection: _Connection) -> None:
        try:
            came = connection.socket.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            came = b""
        if not came:
            self._drop(connection)
            return
        connection.received += came
        if not connection.wanted:
            connection.wanted = answer_bytes(connection.received)
        if connection.wanted and len(connection.received) >= connection.wanted:
            self._answered[connection.index] = time.perf_counter() - self._start_s
            status = self._status[connection.index] = int(connection.received[9:12])
            if status == HTTPStatus.SERVICE_UNAVAILABLE:
                self._retry_after_s[connection.index] = retry_after_s(connection.received)
            connection.index = -1
            self._idle.append(connection)

    def _drop(self, connection: _Connection) -> None:
        """It was closed by the other side: its request has no answer; the next ones get a new connection."""
        del self._open[connection.socket.fileno()]
        self._poll.unregister(connection.socket.fileno())
        connection.socket.close()
        if connection in self._idle:
            self._idle.remove(connection)
        try:
            self._connect()
        except OSError:  # nobody listens any more; those who are left go on
            return


def retry_after_s(received: bytes) -> float:
    """The seconds of `Retry-After` in the head that begins here; NaN without one."""
    _, found, after = received.partition(b"\r\n\r\n")[0].lower().partition(b"\r\nretry-after:")
    return float(after.split(b"\r\n", 1)[0]) if found else float("nan")


def answer_bytes(received: bytes) -> int:
    """Length of the answer that begins here, head and body; 0 while its head has not come whole.

    Raises:
        ValueError: it does not say how long it is.
    """
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return 0
    head = received[:end].lower()
    at = head.find(b"\r\ncontent-length:")
    if at < 0:
        raise ValueError(f"expected an answer with a Content-Length, got the head {received[:end]!r}")
    return end + 4 + int(head[at + 17 :].split(b"\r\n", 1)[0])
