"""What `gateway/connection.py` and `gateway/lane.py` use of uvicorn and httptools, held to what it does.

Neither promises any of this to anybody. uvicorn is pinned to one minor version: whoever moves the pin reads here, one
sentence a test, what has become different.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httptools
import pytest
import uvicorn
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import Server, ServerState

import gateway.connection
import gateway.lane

OF_UVICORN = {
    # objects that it makes
    "flow", "headers", "loop", "parser", "pipeline", "server_state", "transport", "url",
    # what httptools calls; asyncio's own are data_received, eof_received and the like
    "on_url",
    # steps of its own that are replaced or called
    "_start_asgi_task",
}  # fmt: skip
"""Attributes of a connection that are uvicorn's, with those of `cycle` and `flow` below."""
OF_A_CYCLE = {
    "disconnected", "keep_alive", "message_event", "more_body", "response_complete", "response_started", "scope",
}  # fmt: skip
ASKED = b"POST /a%20b?c=d HTTP/1.1\r\nHost: h\r\nX-Case: Kept\r\nContent-Length: 4\r\n\r\n"
GET = b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n"
App = Callable[[Any, Any, Any], Awaitable[None]]


class Wired(asyncio.Transport):
    """A transport that keeps what is written, and what was called in which order."""

    def __init__(self, calls: list[str]) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.written, self._calls, self._closing = bytearray(), calls, False

    def write(self, data: Any) -> None:
        self.written += data

    def close(self) -> None:
        self._calls.append("close")
        self._closing = True

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        self._calls.append("pause_reading")

    def resume_reading(self) -> None:
        self._calls.append("resume_reading")


class Watched(HttpToolsProtocol):
    """uvicorn's own connection, which says what was called on it."""

    def __init__(self, app: App | None = None) -> None:
        self.calls: list[str] = []
        self.state = ServerState()
        config = Config(app or _answers, ws="none", access_log=False, log_config=None, interface="asgi3")
        super().__init__(config, self.state, {"mine": 1}, asyncio.get_running_loop())
        self.wire = Wired(self.calls)
        self.connection_made(self.wire)

    def on_message_begin(self) -> None:
        self.calls.append("begin")
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self.calls.append("url")
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.calls.append("header")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self.calls.append("headers complete")
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self.calls.append(f"body {len(body)}")
        super().on_body(body)

    def on_message_complete(self) -> None:
        self.calls.append("complete")
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self.calls.append("answered")
        super().on_response_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self.calls.append("starts")
        super()._start_asgi_task(cycle, app)


async def _answers(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"{}"})


async def _waits(scope: Any, receive: Any, send: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def wired(story: Callable[[], Awaitable[None]]) -> None:
    async def within() -> None:
        await story()

    asyncio.run(within())


async def turns(n: int = 10) -> None:
    """Let the loop do what is due."""
    for _ in range(n):
        await asyncio.sleep(0)


# --- what is used, and no more


def _taken_from_self(classes: Iterator[type]) -> tuple[set[str], set[str]]:
    """Names that methods of these classes use of `self`, and those that the classes define."""
    used: set[str] = set()
    defined: set[str] = set()
    for one in classes:
        tree = ast.parse(inspect.getsource(one))
        for node in ast.walk(tree):
            match node:
                case ast.FunctionDef(name=name) | ast.AnnAssign(target=ast.Name(id=name)):
                    defined.add(name)
                case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                    used.add(name)
                case ast.Attribute(value=ast.Name(id="self"), attr=name):
                    used.add(name)
        init = next(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "__init__")
        for node in ast.walk(init):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                defined.add(node.attr)
    return used, defined


def test_nothing_else_of_uvicorns_connection_is_used_than_what_is_held_here() -> None:
    ours = (gateway.connection.Connection, gateway.lane.LaneConnection)
    used, defined = _taken_from_self(iter(ours))
    of_uvicorn = used - defined
    assert of_uvicorn <= OF_UVICORN, f"hold these to what they do, too: {sorted(of_uvicorn - OF_UVICORN)}"
    for name in OF_UVICORN - {"on_url"}:
        assert name in used, f"nobody uses {name} any more"
    source = Path(gateway.connection.__file__).read_text() + Path(gateway.lane.__file__).read_text()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(value=ast.Attribute(attr="cycle" | "at_turn"), attr=name):
                assert name in OF_A_CYCLE | {"ask"}, f"hold cycle.{name} to what it does, too"


def test_uvicorn_is_the_minor_version_that_was_read() -> None:
    assert uvicorn.__version__.startswith("0.54."), "read uvicorn/protocols/http/httptools_impl.py again, all of it"


def test_every_method_that_is_replaced_takes_what_uvicorns_takes() -> None:
    """Also that it is there: an override of a method that nobody calls any more would silently do nothing."""
    for ours in (gateway.connection.Connection, gateway.lane.LaneConnection):
        for name, method in vars(ours).items():
            theirs = getattr(HttpToolsProtocol, name, None)
            if not inspect.isfunction(method) or theirs is None or name == "__init__":
                continue
            assert list(inspect.signature(method).parameters) == list(inspect.signature(theirs).parameters), name
    replaced = {name for name in vars(gateway.connection.Connection) if hasattr(HttpToolsProtocol, name)}
    assert replaced >= {
        "connection_lost", "data_received", "eof_received", "on_body", "on_header", "on_headers_complete",
        "on_message_begin", "on_message_complete", "on_response_complete", "pause_writing", "resume_writing",
        "shutdown", "_start_asgi_task",
    }  # fmt: skip
    made = list(inspect.signature(HttpToolsProtocol.__init__).parameters)
    assert made == ["self", "config", "server_state", "app_state", "_loop"]


# --- a connection


def test_a_new_connection_has_the_attributes_and_is_told_to_its_server() -> None:
    async def story() -> None:
        it = Watched()
        assert it.loop is asyncio.get_running_loop()
        assert vars(it)["cycle"] is None
        assert it.pipeline == deque()
        assert isinstance(it.parser, httptools.HttpRequestParser)
        assert it.server_state is it.state
        assert (it.transport, it.state.connections) == (it.wire, {it})
        assert (it.state.total_requests, it.state.tasks, it.state.default_headers) == (0, set(), [])
        assert (it.flow.read_paused, it.flow.write_paused) == (False, False)

    wired(story)


def test_the_parser_tells_a_request_in_this_order_and_a_head_that_comes_in_pieces_once() -> None:
    async def story() -> None:
        whole, cut = Watched(_waits), Watched(_waits)
        whole.data_received(ASKED + b"abcd")
        for byte in ASKED + b"abcd":
            cut.data_received(bytes([byte]))
        head = ["begin", "url", *["header"] * 3, "headers complete", "starts"]
        assert whole.calls == [*head, "body 4", "complete"]
        assert [c for c in cut.calls if c != "url"] == [c for c in head if c != "url"] + ["body 1"] * 4 + ["complete"]
        assert cut.calls.count("url") > 1  # a target comes in pieces, a header never does
        for it in (whole, cut):
            assert it.url == b"/a%20b?c=d"
            assert it.headers == [(b"host", b"h"), (b"x-case", b"Kept"), (b"content-length", b"4")]
            assert it.cycle.scope["headers"] is it.headers
            assert it.cycle.scope["state"] == {"mine": 1}
            it.connection_lost(None)
        await turns()

    wired(story)


def test_it_answers_keeps_its_state_and_starts_the_next_request_of_the_line() -> None:
    async def story() -> None:
        it = Watched()
        it.data_received(b"".join(GET % i for i in range(3)))
        assert it.calls.count("starts") == 1
        assert [cycle.scope["path"] for cycle, _ in it.pipeline] == ["/2", "/1"]  # newest first
        assert all(app is it.config.loaded_app for _, app in it.pipeline)
        assert it.flow.read_paused  # while any waits
        assert it.calls.count("pause_reading") == 1
        first = it.cycle
        await turns(30)
        assert it.wire.written.count(b"HTTP/1.1 200 OK\r\n") == 3
        assert (it.calls.count("starts"), it.calls.count("answered"), it.state.total_requests) == (3, 3, 3)
        assert (it.flow.read_paused, it.calls.count("resume_reading")) == (False, 1)
        assert it.cycle is first  # the one that was begun last, not the one that was answered last
        assert it.cycle.response_complete
        assert it.timeout_keep_alive_task is not None  # which ours never starts: it has deadlines of its own
        it.timeout_keep_alive_task.cancel()

    wired(story)


def test_a_cycle_is_complete_and_its_connection_closed_before_it_says_that_it_is() -> None:
    async def story() -> None:
        seen: list[tuple[bool, bool]] = []

        class Late(Watched):
            def on_response_complete(self) -> None:
                seen.append((self.cycle.response_complete, self.wire.is_closing()))
                super().on_response_complete()

        it = Late()
        it.data_received(GET % 1)
        assert (it.cycle.response_started, it.cycle.more_body) == (False, False)
        it.cycle.keep_alive = False
        await turns()
        assert seen == [(True, True)]
        assert b"\r\nconnection: close\r\n" in it.wire.written  # which is read at the start of the answer

    wired(story)


def test_setting_disconnected_and_the_event_tells_the_application_that_the_caller_has_gone() -> None:
    async def story() -> None:
        it = Watched(_waits)
        it.data_received(ASKED + b"ab")
        await turns()
        assert it.cycle.more_body
        assert len(it.state.tasks) == 1
        it.cycle.disconnected = True
        it.cycle.message_event.set()
        await turns()
        assert it.state.tasks == set()
        assert it.wire.written == b""  # nothing is answered then

    wired(story)


def test_of_a_connection_that_is_lost_only_the_request_that_was_begun_last_is_told() -> None:
    """Why ours tells the one whose turn it is."""

    async def story() -> None:
        it = Watched(_waits)
        it.data_received(ASKED + b"abcd")
        first, at_turn = it.cycle, next(iter(it.state.tasks))
        it.data_received(GET % 2)
        await turns()
        it.connection_lost(None)
        await turns()
        assert not at_turn.done()
        assert it.state.connections == set()
        first.disconnected = True
        first.message_event.set()
        await at_turn

    wired(story)


def test_flow_pauses_the_transport_once_and_holds_answers_back_while_writing_is_paused() -> None:
    async def story() -> None:
        it = Watched()
        it.pause_writing()
        assert it.flow.write_paused
        it.data_received(GET % 1)
        await turns()
        assert it.wire.written == b""
        it.resume_writing()
        await turns()
        assert b"HTTP/1.1 200 OK" in it.wire.written
        for _ in range(2):
            it.flow.pause_reading()
        for _ in range(2):
            it.flow.resume_reading()
        assert (it.calls.count("pause_reading"), it.calls.count("resume_reading")) == (1, 1)

    wired(story)


def test_a_status_line_is_there_for_every_status() -> None:
    assert STATUS_LINE[408] == b"HTTP/1.1 408 Request Timeout\r\n"
    assert STATUS_LINE[503] == b"HTTP/1.1 503 Service Unavailable\r\n"
    assert set(STATUS_LINE) == set(range(100, 600))


# --- the parser


class Bare:
    """What httptools calls."""

    def __init__(self) -> None:
        self.fails: Exception | None = None
        self.body = b""

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_headers_complete(self) -> None:
        if self.fails is not None:
            raise self.fails


def parser(bare: Bare) -> Any:
    made = httptools.HttpRequestParser(bare)
    made.set_dangerous_leniencies(lenient_data_after_close=True)
    return made


def test_the_parser_takes_a_view_of_bytes_and_knows_method_version_and_keeping_alive() -> None:
    it = parser(Bare())
    it.feed_data(memoryview(ASKED + b"abcd"))
    assert (it.get_method(), it.get_http_version(), it.should_upgrade()) == (b"POST", "1.1", False)
    assert it.should_keep_alive()
    old = parser(Bare())
    old.feed_data(b"GET / HTTP/1.0\r\nConnection: close\r\n\r\n")
    assert (old.get_http_version(), old.should_keep_alive()) == ("1.0", False)


def test_what_a_callback_raises_is_the_context_of_the_parsers_error() -> None:
    it = Bare()
    it.fails = ValueError("mine")
    with pytest.raises(httptools.HttpParserError) as caught:
        parser(it).feed_data(ASKED)
    assert caught.value.__context__ is it.fails


def test_the_parser_ends_at_the_head_of_an_upgrade_and_says_where_the_rest_begins() -> None:
    """So it never reads the body of such a request: why the head is given to a second parser without its Upgrade."""
    bare = Bare()
    it = parser(bare)
    head = ASKED.replace(b"X-Case: Kept", b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA")
    with pytest.raises(httptools.HttpParserUpgrade) as caught:
        it.feed_data(memoryview(head + b"abcd"))
    assert it.should_upgrade()
    rest = (head + b"abcd")[caught.value.args[0] :]
    assert (rest, bare.body) == (b"abcd", b"")
    plain = parser(bare)
    plain.feed_data(head.replace(b"Upgrade: h2c\r\n", b""))
    assert not plain.should_upgrade()
    plain.feed_data(memoryview(rest))
    assert bare.body == b"abcd"


def test_with_its_leniency_the_parser_says_nothing_of_what_follows_a_request_that_ends_its_connection() -> None:
    """So that request is answered; without it the whole piece would be malformed."""
    last = ASKED.replace(b"X-Case: Kept", b"Connection: close") + b"abcd"
    bare = Bare()
    parser(bare).feed_data(last + ASKED + b"efgh")
    assert bare.body == b"abcd"
    strict = httptools.HttpRequestParser(Bare())
    with pytest.raises(httptools.HttpParserError):
        strict.feed_data(last + ASKED + b"efgh")


# --- the server


def test_the_server_calls_what_ours_replaces_and_ends_connections_by_their_shutdown() -> None:
    async def story() -> None:
        server = Server(Config(_answers, log_config=None, lifespan="off", loop="asyncio", timeout_graceful_shutdown=1))
        assert (server.started, server.should_exit) == (False, False)
        server.config.load()
        server.lifespan = server.config.lifespan_class(server.config)
        server.servers = []
        it = Watched()
        server.server_state.connections.add(it)

        def told() -> None:
            it.calls.append("shutdown")
            server.server_state.connections.clear()

        it.shutdown = told  # type: ignore[method-assign]
        await server.on_tick(0)
        first = server.server_state.default_headers
        await server.on_tick(1)
        assert server.server_state.default_headers is first
        await server.on_tick(10)
        assert server.server_state.default_headers is not first  # by which the lane knows that its head is old
        assert [name for name, _ in first] == [b"date", b"server"]
        await server.shutdown()
        assert "shutdown" in it.calls
        server.handle_exit(15, None)
        assert server.should_exit
        assert list(inspect.signature(Server.shutdown).parameters) == ["self", "sockets"]
        assert list(inspect.signature(Server.startup).parameters) == ["self", "sockets"]

    wired(story)


def test_http_may_be_anything_that_makes_a_connection() -> None:
    made = Config(_answers, http=Watched, log_config=None)
    made.load()
    assert made.http_protocol_class is Watched
