"""One connection: uvicorn's HTTP/1.1 protocol on httptools, and what it leaves out.

A deadline for receiving a request and one for saying nothing; limits on the head; exactly one Host; answers to
malformed requests that are problems like all others and come in their turn; half-closed connections answered; a bound
on what is kept for a caller that does not read; and while the worker drains, an end of the connection with each answer.

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
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from gateway.config import ServerSettings
from gateway.flow import Flow, reset
from gateway.front import INCOMPLETE, Front
from gateway.problems import problem
from gateway.refusals import Refused, check_head, check_size, head_of, malformed


class _Over(Exception):
    """A request after the one that ends the connection."""


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
        self.at_turn: Any = None
        """The one of the requests that is being answered, or was last."""
        self._quiet_since_s = self._unread_since_s = self.loop.time()
        self._begun_s: float | None = None
        """When the request that is being received began; None between requests."""
        self._n_body_bytes = 0
        """How much of its body has come since then."""
        self._in_head = self._takes_more = True
        self._moved = False
        """Whether the piece that came last has begun, continued or completed anything."""
        self._n_idle_bytes = 0
        """How much has come in pieces that have not: a head without an end, or a trailer."""
        self._declined = False
        """Whether the head that came last asks for another protocol, and is to be read again without that."""
        self._last_words: bytes | None = None
        self._half_closed = self._ended = False

    # --- what comes in

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """It is there."""
        super().connection_made(transport)
        self.flow = Flow(transport, lambda: self._ended or not self.pipeline)

    def data_received(self, data: bytes) -> None:
        """Parse it; whatever is wrong with it is answered, in its turn, and ends the connection."""
        if not self._takes_more:
            return
        self._moved = False
        try:
            self._parse(data)
            self._n_idle_bytes = 0 if self._moved else self._n_idle_bytes + len(data)
            check_size(self._n_idle_bytes, self._settings)
        except (httptools.HttpParserError, Refused) as error:
            why = error if isinstance(error, Refused) else error.__context__
            if isinstance(why, _Over):
                self._takes_more = False
            elif isinstance(why, Refused):
                self._end_with(why)
            else:
                self._end_with(malformed("the request is not HTTP/1.1"))

    def on_message_begin(self) -> None:
        """A request begins."""
        self._begin()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """One line of its head; or of a trailer, which nobody looks at."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Its head is there."""
        if self._declines_upgrade():
            return
        check_head(self.url, self.headers, self.parser.get_http_version(), self._settings)
        super().on_headers_complete()
        self._in_head, self._moved = False, True
        if self.front.draining:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Some of its body."""
        super().on_body(body)
        self._moved = True
        self._n_body_bytes += len(body)
        if self._n_body_bytes > self._settings.max_body_bytes:  # a model: so much of it may take as long again
            self._begun_s, self._n_body_bytes = self.loop.time(), 0

    def on_message_complete(self) -> None:
        """All of it is there."""
        if self._declined:
            return
        super().on_message_complete()
        self._begun_s, self._in_head = None, True

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio reads it, and uvicorn returns none
        """The caller sends no more, and may still read: what it has asked is answered before the end."""
        self._half_closed, self._takes_more = True, False
        if self._begun_s is not None:
            self._end_with(malformed("the request ends before it is complete"))
        return self._answering and not self._ended

    def connection_lost(self, exc: Exception | None) -> None:
        """The caller has gone; uvicorn tells only the request that was begun last."""
        if self._begun_s is not None and (self._in_head or not self.cycle.response_started):
            self.front.leave(self.front.take({}), HTTPStatus.BAD_REQUEST)  # it never came whole: nobody else counts it
        self._forsake()
        super().connection_lost(exc)

    # --- what goes out

    def on_response_complete(self) -> None:
        """One answer is out: the next request in line, or quiet; as uvicorn does it, but for its timer."""
        self.server_state.total_requests += 1
        self._quiet_since_s = self.loop.time()
        if self.transport.is_closing():
            return
        if self.flow.write_paused:
            self.flow.pause_reading()  # the next one waits until this is read
        else:
            self._go_on()

    def pause_writing(self) -> None:
        """The caller does not read what is written."""
        super().pause_writing()
        self._unread_since_s = self.loop.time()

    def resume_writing(self) -> None:
        """It has read."""
        super().resume_writing()
        if self.at_turn is not None and self.at_turn.response_complete and not self.transport.is_closing():
            self._go_on()

    def _go_on(self) -> None:
        """The next request in line; or what is due where there is none."""
        ends = self._last_words is not None
        if self.pipeline and not (ends and self.pipeline[-1][0].more_body):  # the one that will never be complete
            cycle, app = self.pipeline.pop()
            if not self.pipeline:
                self.flow.resume_reading()
            self._start_asgi_task(cycle, app)
        elif ends:
            self._say_last_words()
        elif self._half_closed:
            self.transport.close()
        else:
            self.flow.resume_reading()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """The turn of a request has come."""
        self.at_turn = cycle
        super()._start_asgi_task(cycle, app)

    # --- the end

    def shutdown(self) -> None:
        """The worker ends: what is being received or answered is finished first."""
        if self._answering and not self._ended:
            self.cycle.keep_alive = False
        elif self._begun_s is None:
            self.transport.close()

    def end_if_overdue(self, now_s: float) -> None:
        """End a connection whose request takes too long to come, or its answer to be read, or that says nothing.

        `now_s`: by the loop's clock.
        """
        receive_s, quiet_s = self._settings.receive_s, now_s - self._quiet_since_s
        if self._ended or self.transport.is_closing():
            if quiet_s > receive_s:
                self.transport.abort()
        elif self.flow.write_paused:
            if now_s - self._unread_since_s > receive_s:
                reset(self.transport)
        elif self._begun_s is not None:
            if self.flow.read_paused or self.pipeline:  # it is us that does not read on
                self._begun_s = now_s
            elif now_s - self._begun_s > receive_s:
                limit = f"the request was not complete after {receive_s:g} s (server.receive_s)"
                self._end_with(Refused(HTTPStatus.REQUEST_TIMEOUT, "RequestTimeout", limit))
        elif not self._answering and quiet_s > self._settings.keep_alive_s:
            self.transport.close()

    def _end_with(self, refused: Refused) -> None:
        """Answer what is being received by this, in its turn, and end the connection; nothing more is taken."""
        self._begun_s, self._takes_more = None, False
        if self._in_head or not self.cycle.response_complete:
            ticket = self.front.take({})
            said = problem(ticket.request_id, refused.status, refused.name, refused.sentence)
            self._last_words = (
                head_of(self.server_state.default_headers, said, ticket.request_id, keep_alive=False) + said.body
            )
            self.front.leave(ticket, said.status)
        else:
            self._last_words = b""  # it was answered before it was complete
        waits = self._answering if self._in_head else bool(self.pipeline)
        if not waits:
            self._say_last_words()

    def _say_last_words(self) -> None:
        """Say them, if nothing else is half said; and end in stages.

        What the caller still sends would make the kernel reset the connection before it has read them: so it is read
        until the caller ends its side too, or is overdue (RFC 9112, 9.6).
        """
        if self.at_turn is None or self.at_turn.response_complete or not self.at_turn.response_started:
            self.transport.write(self._last_words or b"")
        self._forsake()
        self._ended, self._quiet_since_s = True, self.loop.time()
        self.transport.write_eof()
        self.flow.resume_reading()

    def _forsake(self) -> None:
        """Nobody hears the answer that is under way."""
        cycle = self.at_turn
        if cycle is not None and not cycle.response_complete:
            if isinstance(cycle, RequestResponseCycle) and cycle.more_body:
                cycle.scope["state"][INCOMPLETE] = True
            cycle.disconnected = True
            cycle.message_event.set()

    # --- within

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _parse(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            try:
                self.parser.feed_data(rest)
            except httptools.HttpParserUpgrade as upgrade:
                rest = rest[upgrade.args[0] :]
                if self._declined:
                    self._parse_as_plain()
            else:
                return

    def _declines_upgrade(self) -> bool:
        """Whether the head that is complete asks for another protocol: nothing comes of it yet.

        Clients that would rather speak HTTP/2 (Java's, as it is set up) ask for it beside a plain request with its
        body. httptools takes what follows such a head for the other protocol, and so never reads the body.
        """
        self._declined = self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"
        return self._declined

    def _parse_as_plain(self) -> None:
        """Read the head again as the plain request that it is too (RFC 9110, 7.8), by a parser that reads its body."""
        self._declined = False
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        lines = [b"%b: %b\r\n" % line for line in self.headers if line[0].lower() != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn sets its own
        self.parser.feed_data(b"%b %b HTTP/%b\r\n%b\r\n" % (method, self.url, version, b"".join(lines)))

    def _begin(self) -> None:
        if self.cycle is not None and not self.cycle.keep_alive:
            raise _Over
        self._begun_s, self._n_body_bytes = self.loop.time(), 0
        self._in_head = self._moved = True
