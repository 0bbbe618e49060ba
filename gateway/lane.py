"""The fast lane: the plain common case of a prediction, answered where it is parsed, with the bytes of the routes.

Which requests take it is decided when their headers are complete (`gateway/heads.py`); everything else goes to
Litestar. What a request goes through is the same: the front, the decoder, the predictor, the encoder.

To uvicorn a request in the lane is one more kind of cycle: it has its turn among the pipelined requests of its
connection, and ends as the others do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import structlog
from uvicorn.config import Config
from uvicorn.server import ServerState

from gateway.batch import Answered, Ask
from gateway.calls import Call
from gateway.config import ServerSettings
from gateway.connection import Connection
from gateway.front import Front, Ticket
from gateway.heads import Head, Heads
from gateway.lineup import Lineups
from gateway.predictor import Predictor
from gateway.problems import OURS, fault, problem_of
from gateway.refusals import head_of

_log = structlog.get_logger("gateway")


class Lane:
    """What the lanes of one worker share."""

    def __init__(self, front: Front, lineups: Lineups, predictor: Predictor, settings: ServerSettings) -> None:
        self.front, self.lineups, self.predictor = front, lineups, predictor
        self.heads = Heads(lineups, settings)
        self._headers: tuple[list[tuple[bytes, bytes]], bytes] = ([], b"")

    def head(self, defaults: list[tuple[bytes, bytes]]) -> bytes:
        """The start of every answer, with uvicorn's own headers: a new list of them comes once a second."""
        if self._headers[0] is not defaults:
            lines = b"".join(b"%b: %b\r\n" % line for line in defaults)
            head = b"HTTP/1.1 200 OK\r\n%bcontent-type: application/json\r\ncontent-length: " % lines
            self._headers = defaults, head
        return self._headers[1]


class _Nobody:
    """The event of a request that nobody waits for."""

    def set(self) -> None:
        """Nothing waits."""


class Exchange:
    """One request in the lane and its answer, as uvicorn's connection sees a cycle."""

    __slots__ = ("body", "call", "connection", "disconnected", "head", "keep_alive", "more_body", "response_complete",
                 "ticket")  # fmt: skip
    call: Call
    ticket: Ticket
    message_event = _Nobody()
    response_started = False

    def __init__(self, connection: LaneConnection, head: Head) -> None:
        self.connection, self.head, self.keep_alive = connection, head, head.keep_alive
        self.body: bytes | bytearray = b""
        self.more_body = True
        self.response_complete = self.disconnected = False

    def ask(self) -> None:
        """All of it is there, and it has its turn."""
        lane, told = self.connection.lane, self.head.told
        read, model = self.head.target
        ticket = self.ticket = lane.front.take(told)
        try:
            lane.front.admit(ticket, told, "predict", model)
            lane.predictor.check_load(model)
            call = self.call = read(lane.lineups[model], bytes(self.body))
            ticket.model = model
            lane.predictor.submit(model, Ask(call.asked, ticket, self.answer))
        except Exception as error:  # noqa: BLE001  # the edge where requests enter: whatever it is, the caller is told
            self._refuse(error)

    def answer(self, answered: Answered | Exception) -> None:
        """Called by the predictor, once."""
        if isinstance(answered, Exception):
            self._refuse(answered)
            return
        connection, ticket = self.connection, self.ticket
        ticket.version, ticket.n_rows = answered.version, answered.stop - answered.start
        try:
            body = self.call.answer(answered)
        except Exception as error:  # noqa: BLE001  # the edge where answers leave: nobody else would tell the caller
            self._refuse(error)
            return
        if not connection.transport.is_closing():
            end = b"\r\n\r\n" if self.keep_alive else b"\r\nconnection: close\r\n\r\n"
            connection.transport.write(
                b"%b%d\r\nx-request-id: %b%b%b" % (
                    connection.lane.head(connection.server_state.default_headers),
                    len(body), ticket.request_id.encode(), end, body,
                )
            )  # fmt: skip
        connection.lane.front.leave(ticket, 200)
        self._end()

    def _refuse(self, error: Exception) -> None:
        connection, ticket = self.connection, self.ticket
        said = problem_of(ticket, error) if isinstance(error, OURS) else None
        if said is None:
            _log.error("unexpected", request_id=ticket.request_id, model=self.head.target[1], exc_info=error)
            said = fault(ticket.request_id)
        if not connection.transport.is_closing():
            defaults = connection.server_state.default_headers
            head = head_of(defaults, said, ticket.request_id, keep_alive=self.keep_alive)
            connection.transport.write(head + said.body)
        connection.lane.front.leave(ticket, said.status)
        self._end()

    def _end(self) -> None:
        self.response_complete = True
        if not self.keep_alive:
            self.connection.transport.close()
        self.connection.on_response_complete()


class LaneConnection(Connection):
    """A connection whose requests may take the lane."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        lane: Callable[[], Lane],
        settings: ServerSettings,
    ) -> None:
        self.lane = lane()
        super().__init__(config, server_state, app_state, _loop, front=lambda: self.lane.front, settings=settings)

    def data_received(self, data: bytes) -> None:
        """Parse it; unless it is one whole request with a known head, on a connection where nothing is under way."""
        before = self.cycle
        if self._begun_s is not None or not self._takes_more or not (before is None or before.response_complete):
            super().data_received(data)
            return
        n_head_bytes = data.find(b"\r\n\r\n") + 4
        head = self.lane.heads.known.get(data[:n_head_bytes])
        if head is not None and len(data) == n_head_bytes + head.n_body_bytes and not self.front.draining:
            self.cycle = self.at_turn = exchange = Exchange(self, head)
            exchange.body, exchange.more_body = data[n_head_bytes:], False
            exchange.ask()
            return
        super().data_received(data)
        exchange = self.cycle
        if type(exchange) is not Exchange or exchange is before:
            return
        if len(data) == n_head_bytes + exchange.head.n_body_bytes:  # so there was one request in it, and all of it
            self.lane.heads.remember(data[:n_head_bytes], exchange.head)

    def on_message_begin(self) -> None:
        """A request begins; what only Litestar needs is made when it is known to go there."""
        self._begin()
        self.url = b""
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """One line of its head; or of a trailer, which nobody looks at."""
        if self._in_head:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Its head is there: to the lane, or to Litestar."""
        if self._declines_upgrade():
            return
        head = self._understood()
        if head is None:
            self._to_litestar()
            return
        self._in_head, self._moved = False, True
        before, exchange = self.cycle, Exchange(self, head)
        self.cycle = exchange
        if before is None or before.response_complete:
            self.at_turn = exchange
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((exchange, None))

    def on_body(self, body: bytes) -> None:
        """Some of its body."""
        exchange = self.cycle
        if type(exchange) is not Exchange:
            super().on_body(body)
        elif not exchange.body:
            exchange.body = body
        else:
            exchange.body = bytearray(exchange.body) if type(exchange.body) is bytes else exchange.body
            exchange.body += body
        self._moved = True

    def on_message_complete(self) -> None:
        """All of it is there."""
        exchange = self.cycle
        if type(exchange) is not Exchange or self._declined:
            super().on_message_complete()
            return
        self._begun_s, self._in_head = None, True
        exchange.more_body = False
        if exchange is self.at_turn:
            exchange.ask()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """The turn of a request has come."""
        if type(cycle) is not Exchange:
            super()._start_asgi_task(cycle, app)
            return
        self.at_turn = cycle
        if not cycle.more_body:
            cycle.ask()

    def _understood(self) -> Head | None:
        """The head of a request for the lane; None where it goes to Litestar."""
        parser, heads = self.parser, self.lane.heads
        target = heads.target(self.url)
        if target is None or parser.get_method() != b"POST" or parser.get_http_version() != "1.1":
            return None
        keep_alive = parser.should_keep_alive() and not self.front.draining
        return heads.understood(target, self.url, self.headers, keep_alive=keep_alive)

    def _to_litestar(self) -> None:
        """Go on as if there were no lane."""
        url, headers, begun_s = self.url, self.headers, self._begun_s
        super().on_message_begin()
        self.url, self._begun_s = url, begun_s
        for name, value in headers:
            super().on_header(name, value)
        super().on_headers_complete()
