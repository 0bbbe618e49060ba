"""The fast lane: the plain common case of a prediction, answered where it is parsed, with the bytes of the routes.

It takes `POST /models/{m}/predict` and `POST /v2/models/{m}/infer` of a model that is served, in HTTP/1.1, with a
Content-Length and JSON, whose headers are all in one table. Everything else goes to Litestar, decided when the headers
are complete. What a request goes through is the same: the front, the decoder, the predictor, the encoder.

To uvicorn a request in the lane is one more kind of cycle: it has its turn among the pipelined requests of its
connection, and ends as the others do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import structlog
from msgspec import Struct
from uvicorn.config import Config
from uvicorn.server import ServerState

from gateway.batch import Answered, Ask
from gateway.calls import Call, Infer, Predict, Read
from gateway.config import ServerSettings
from gateway.connection import Connection
from gateway.front import Front, Ticket
from gateway.lineup import Lineups
from gateway.predictor import Predictor
from gateway.problems import OURS, fault, problem_of

TOLD: Final = ("x-request-id", "traceparent", "x-understudy-test", "authorization", "x-api-key")
"""Headers that the front is told of; each may be given once."""
LOOKED_AT: Final = ("host", "content-length", "content-type")
"""Headers that the lane looks at; each may be given once, and Host must be."""
IGNORED: Final = (
    "connection", "keep-alive", "user-agent", "accept", "accept-encoding", "accept-language", "accept-charset",
    "cache-control", "pragma", "cookie", "date", "dnt", "from", "referer", "priority", "via", "forwarded",
    "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto", "x-real-ip", "x-amzn-trace-id",
    "x-correlation-id", "tracestate", "baggage", "b3",
)  # fmt: skip
"""Headers that no route looks at, nor the front. (httptools has looked at the first two.)"""
_NAMES: Final = {
    spelled.encode(): None if name in IGNORED else name
    for name in (*TOLD, *LOOKED_AT, *IGNORED)
    for spelled in (name, name.title(), name.upper())
}
"""The table, under the usual spellings of each name; None for what is ignored."""
JSON_TYPE: Final = b"application/json"
JSON_TYPES: Final = frozenset(
    {b"application/json", b"application/json; charset=utf-8", b"application/json;charset=utf-8"}
)
_OF_ONE_REQUEST: Final = frozenset({"x-request-id", "traceparent"})
_MOST_TARGETS, _MOST_HEADS = 1_024, 4_096
_log = structlog.get_logger("gateway")

Target = tuple[Read, str]


class Head(Struct, frozen=True):
    """The head of a request as the lane understands it."""

    target: Target
    told: dict[str, str]
    n_body_bytes: int
    keep_alive: bool

    @property
    def may_come_again(self) -> bool:
        """Whether a caller is likely to send the very same bytes again, and would keep the connection."""
        return self.keep_alive and self.told.keys().isdisjoint(_OF_ONE_REQUEST)


class Lane:
    """What the lanes of one worker share.

    `heads`: the bytes of heads that were parsed before, each with what it means. A caller's heads differ in little but
    their Content-Length, so that most need no parsing at all.
    """

    def __init__(self, front: Front, lineups: Lineups, predictor: Predictor) -> None:
        self.front, self.lineups, self.predictor = front, lineups, predictor
        self.heads: dict[bytes, Head] = {}
        self._targets: dict[bytes, Target] = {}
        self._headers: tuple[list[tuple[bytes, bytes]], bytes] = ([], b"")

    def target(self, url: bytes) -> Target | None:
        """How to read a request to this path, and the model; None where the lane has no business."""
        target = self._targets.get(url)
        if target is None and (target := self._parsed(url)) is not None:
            if len(self._targets) >= _MOST_TARGETS:
                self._targets.clear()
            self._targets[url] = target
        return target

    def remember(self, received: bytes, head: Head) -> None:
        """Know this head again, `received` with the empty line that ends it."""
        if len(self.heads) >= _MOST_HEADS:
            self.heads.clear()
        self.heads[received] = head

    def _parsed(self, url: bytes) -> Target | None:
        for before, after, read in ((b"/models/", b"/predict", Predict.read), (b"/v2/models/", b"/infer", Infer.read)):
            if url.startswith(before) and url.endswith(after):
                name = url[len(before) : -len(after)].decode("latin-1")
                if name in self.lineups.names:  # so the name is plain: no slash, no escape, no query
                    return read, name
        return None

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

    __slots__ = ("body", "call", "connection", "disconnected", "has_turn", "head", "keep_alive", "more_body",
                 "response_complete", "ticket")  # fmt: skip
    call: Call
    ticket: Ticket
    message_event = _Nobody()
    response_started = False

    def __init__(self, connection: LaneConnection, head: Head) -> None:
        self.connection, self.head, self.keep_alive = connection, head, head.keep_alive
        self.body: bytes | bytearray = b""
        self.more_body = True
        self.has_turn = False
        """Whether all requests before it on its connection are answered."""
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
        body = self.call.answer(answered)
        if not self.disconnected:
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
        ticket = self.ticket
        said = problem_of(ticket, error) if isinstance(error, OURS) else None
        if said is None:
            _log.error("unexpected", request_id=ticket.request_id, model=self.head.target[1], exc_info=error)
            said = fault(ticket.request_id)
        if not self.disconnected:
            head = self.connection.head_of(said, ticket.request_id, keep_alive=self.keep_alive)
            self.connection.transport.write(head + said.body)
        self.connection.lane.front.leave(ticket, said.status)
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
        head = self.lane.heads.get(data[:n_head_bytes])
        if head is not None and len(data) == n_head_bytes + head.n_body_bytes and not self.front.draining:
            self.cycle = exchange = Exchange(self, head)
            exchange.body, exchange.more_body = data[n_head_bytes:], False
            exchange.ask()
            return
        super().data_received(data)
        exchange = self.cycle
        if type(exchange) is not Exchange or exchange is before or not exchange.head.may_come_again:
            return
        if len(data) == n_head_bytes + exchange.head.n_body_bytes:  # so there was one request in it, and all of it
            self.lane.remember(data[:n_head_bytes], exchange.head)

    def on_message_begin(self) -> None:
        """A request begins; what only Litestar needs is made when it is known to go there."""
        self.url = b""
        self.headers = []
        self._begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """One line of its head."""
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Its head is there: to the lane, or to Litestar."""
        head = self._taken()
        if head is None:
            self._to_litestar()
            return
        before, exchange = self.cycle, Exchange(self, head)
        self.cycle = exchange
        if before is None or before.response_complete:
            exchange.has_turn = True
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

    def on_message_complete(self) -> None:
        """All of it is there."""
        exchange = self.cycle
        if type(exchange) is not Exchange:
            super().on_message_complete()
            return
        self._begun_s, self._in_head = None, True
        exchange.more_body = False
        if exchange.has_turn:
            exchange.ask()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """The turn of a pipelined request has come."""
        if type(cycle) is not Exchange:
            super()._start_asgi_task(cycle, app)
            return
        cycle.has_turn = True
        if not cycle.more_body:
            cycle.ask()

    def _taken(self) -> Head | None:
        """The head of a request for the lane; None where it goes to Litestar."""
        parser, target = self.parser, self.lane.target(self.url)
        if target is None or parser.get_method() != b"POST":
            return None
        settings, headers, n_bytes = self._settings, self.headers, len(self.url)
        told: dict[str, bytes] = {}
        for spelled, value in headers:
            n_bytes += len(spelled) + len(value)
            name = _NAMES.get(spelled, "")
            if name is not None:
                if name == "" or name in told:
                    return None
                told[name] = value
        if n_bytes > settings.max_header_bytes or len(headers) > settings.max_headers:
            return None
        length, content_type = told.pop("content-length", b""), told.pop("content-type", JSON_TYPE)
        if told.pop("host", None) is None or not length.isdigit() or int(length) > settings.max_body_bytes:
            return None
        if content_type not in JSON_TYPES or parser.get_http_version() != "1.1":
            return None
        self._in_head = False
        keep_alive = parser.should_keep_alive() and not self.front.draining
        return Head(target, {name: value.decode("latin-1") for name, value in told.items()}, int(length), keep_alive)

    def _to_litestar(self) -> None:
        """Go on as if there were no lane."""
        url, headers, begun_s = self.url, self.headers, self._begun_s
        super().on_message_begin()
        self.url, self._begun_s = url, begun_s
        for name, value in headers:
            super().on_header(name, value)
        super().on_headers_complete()
