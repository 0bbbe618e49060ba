"""One connection: uvicorn's HTTP/1.1 protocol on httptools, and what it leaves out.

A deadline for receiving a request and one for saying nothing; limits on the head; exactly one Host; answers to
malformed requests that are problems like all others and come in their turn; half-closed connections answered; and
while the worker drains, an end of the connection with each answer.

uvicorn is pinned to one minor version: `tests/gateway/test_connection.py` holds it to what is used of it here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from gateway.config import ServerSettings
from gateway.front import REQUEST_ID, Front
from gateway.problems import MEDIA_TYPE, Problem, problem


class Refused(Exception):
    """A head that is not read further."""

    def __init__(self, status: HTTPStatus, name: str, sentence: str) -> None:
        self.status, self.name, self.sentence = status, name, sentence
        super().__init__(sentence)


class Connection(HttpToolsProtocol):
    """One connection of a worker; every method is called in its event loop."""

    cycle: Any
    """The request that was begun last and its answer; uvicorn's, or one that looks like it. None before the first."""
    pipeline: deque[Any]
    """Those that wait for their turn, with their application; newest first."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        front: Callable[[], Front],
        settings: ServerSettings,
    ) -> None:
        """`front` is asked when the worker has started."""
        super().__init__(config, server_state, app_state, _loop)
        self.front, self._settings = front(), settings
        self._quiet_since_s = self.loop.time()
        self._begun_s: float | None = None
        """When the request that is being received began; None between requests."""
        self._n_head_bytes = 0
        """How much of a head has come that is not complete, without the piece in which it began."""
        self._in_head = True
        self._last_words: bytes | None = None
        self._half_closed = False
        self._stalled = False
        """The caller does not read: the next request waits until it does."""

    # --- what comes in

    def data_received(self, data: bytes) -> None:
        """Parse it; whatever is wrong with it is answered, in its turn, and ends the connection."""
        if not self._takes_more:
            return
        goes_on = self._begun_s is not None and self._in_head
        try:
            self.parser.feed_data(data)
            if goes_on and self._in_head:
                self._n_head_bytes += len(data)
                self._check_size(self._n_head_bytes)
            else:
                self._n_head_bytes = 0
        except httptools.HttpParserUpgrade:
            return  # answered as the plain request that it is too
        except (httptools.HttpParserError, Refused) as error:
            refused = error if isinstance(error, Refused) else error.__context__
            if not isinstance(refused, Refused):
                refused = Refused(HTTPStatus.BAD_REQUEST, "MalformedRequest", "the request is not HTTP/1.1")
            self._end_with(refused)

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._begin()

    def on_headers_complete(self) -> None:
        """Its head is there."""
        self._check_head()
        super().on_headers_complete()
        if self.front.draining and self.cycle is not None:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """All of it is there."""
        super().on_message_complete()
        self._begun_s = None
        self._in_head = True

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio reads it, and uvicorn returns none
        """The caller sends no more, and may still read: what it has asked is answered before the end."""
        self._half_closed = True
        return self._answering

    # --- what goes out

    def on_response_complete(self) -> None:
        """One answer is out: the next request in line, or quiet; as uvicorn does it, but for its timer."""
        self.server_state.total_requests += 1
        self._quiet_since_s = self.loop.time()
        if self.transport.is_closing():
            return
        if self.flow.write_paused:
            self._stalled = True
            self.flow.pause_reading()
        else:
            self._go_on()

    def resume_writing(self) -> None:
        """The caller has read what was written."""
        super().resume_writing()
        if self._stalled:
            self._stalled = False
            self._go_on()

    def _go_on(self) -> None:
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            if not self.pipeline:
                self.flow.resume_reading()
            self._start_asgi_task(cycle, app)
            return
        if self._last_words is not None:
            self.transport.write(self._last_words)
        if self._last_words is not None or self._half_closed:
            self.transport.close()
        else:
            self.flow.resume_reading()

    def shutdown(self) -> None:
        """The worker ends: what is being received or answered is finished first."""
        if self._answering:
            self.cycle.keep_alive = False
        elif self._begun_s is None:
            self.transport.close()

    def end_if_overdue(self, now_s: float) -> None:
        """End a connection whose request takes too long to come, or that says nothing for too long.

        `now_s`: by the loop's clock.
        """
        if self.transport is None or self.transport.is_closing() or self._last_words is not None:
            return
        if self._begun_s is not None and not self._stalled:
            if self.flow.read_paused or self.pipeline:  # it is us that does not read on
                self._begun_s = now_s
            elif now_s - self._begun_s > self._settings.receive_s:
                limit = f"the request was not complete after {self._settings.receive_s:g} s (server.receive_s)"
                self._end_with(Refused(HTTPStatus.REQUEST_TIMEOUT, "RequestTimeout", limit))
        elif self._stalled and now_s - self._quiet_since_s > self._settings.receive_s:
            self.transport.abort()
        elif not self._answering and now_s - self._quiet_since_s > self._settings.keep_alive_s:
            self.transport.close()

    # --- within

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _takes_more(self) -> bool:
        return self._last_words is None and not self._half_closed

    def _begin(self) -> None:
        self._begun_s = self.loop.time()
        self._in_head = True

    def _check_size(self, n_bytes: int) -> None:
        if n_bytes > self._settings.max_header_bytes:
            limit = f"the head is larger than {self._settings.max_header_bytes:,} bytes (server.max_header_bytes)"
            raise Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "HeaderTooLarge", limit)

    def _check_head(self) -> None:
        """Hold a complete head to its limits.

        Raises:
            Refused: it is too large, or names no Host or several.
        """
        self._check_size(len(self.url) + sum(len(name) + len(value) for name, value in self.headers))
        self._in_head = False
        if len(self.headers) > self._settings.max_headers:
            limit = f"expected at most {self._settings.max_headers} headers (server.max_headers)"
            raise Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "HeaderTooLarge", limit)
        n_hosts = sum(name == b"host" for name, _ in self.headers)
        if n_hosts != 1 and (n_hosts > 1 or self.parser.get_http_version() != "1.0"):
            raise Refused(HTTPStatus.BAD_REQUEST, "MalformedRequest", f"host: expected one, got {n_hosts}")

    def _end_with(self, refused: Refused) -> None:
        """Answer after whatever is being answered, and end the connection; nothing more is read."""
        ticket = self.front.take({})
        said = problem(ticket.request_id, refused.status, refused.name, refused.sentence)
        self._last_words = self.head_of(said, ticket.request_id, keep_alive=False) + said.body
        self.front.leave(ticket, said.status)
        self.flow.pause_reading()
        if self._answering and not self.cycle.more_body:
            return  # those before it are answered first; `on_response_complete` comes back to this
        if not self._answering or not (self.pipeline or self.cycle.response_started):
            self.transport.write(self._last_words)
        self.transport.close()

    def head_of(self, said: Problem, request_id: str, *, keep_alive: bool) -> bytes:
        """The bytes before a problem's body, as uvicorn writes what Litestar answers."""
        lines = [STATUS_LINE[said.status], *(b"%b: %b\r\n" % line for line in self.server_state.default_headers)]
        named = {**said.headers, "content-type": MEDIA_TYPE, "content-length": str(len(said.body))}
        lines += [f"{name}: {value}\r\n".encode("latin-1") for name, value in named.items()]
        lines.append(f"{REQUEST_ID}: {request_id}\r\n".encode("latin-1"))
        lines.append(b"\r\n" if keep_alive else b"connection: close\r\n\r\n")
        return b"".join(lines)
