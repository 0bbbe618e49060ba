"""Two workers that differ in nothing but the fast lane, asked the same in one event loop over transports of ours."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import msgspec
from uvicorn.config import Config
from uvicorn.server import ServerState

from gateway.app import create_app
from gateway.chunk import Chunk
from gateway.config import ServerSettings, Settings
from gateway.connection import Connection
from gateway.heads import Head
from gateway.journal import open_reader
from gateway.lane import LaneConnection
from gateway.routes.parts import Parts
from gateway.worker import protocol_of
from registry.onnx_model import OnnxModel
from registry.signature import ModelFacts, signature_of
from registry.store import Registry
from registry.types import Principal
from tests.models import Made

ME = Principal.local_operator()
NOW_US = 1_790_000_000_000_000
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
DEFAULT_HEADERS = [(b"date", b"Thu, 01 Jan 2026 00:00:00 GMT")]


def stored(store: Path, models: Iterable[Made]) -> Path:
    """A store with these models, each with a champion."""
    with Registry.open(store, now=lambda: LONG_AGO) as registry:
        for made in models:
            facts = ModelFacts(*OnnxModel(made.onnx).declared())
            signature = signature_of(facts, made.schema, made.task, score=made.score, classes=made.classes or None)
            registry.create_model(made.name, made.schema, made.task, by=ME)
            registry.add_version(made.name, made.onnx, signature, by=ME)
            registry.appoint(made.name, 1, reason="the first", by=ME)
    return store


def with_keys(store: Path) -> list[str]:
    """Keys of every kind, issued to a store, and one that nobody was given."""
    with Registry.open(store, now=lambda: LONG_AGO) as registry:
        issue = registry.keys.issue
        tokens = [
            issue("caller", ["predict"], models=None, expires_at=None, by=ME)[1],
            issue("one-model", ["predict"], models=["loan"], expires_at=None, by=ME)[1],
            issue("reader", ["read"], models=None, expires_at=None, by=ME)[1],
            issue("operator", ["admin"], models=None, expires_at=None, by=ME)[1],
            issue("over", ["predict"], models=None, expires_at=LONG_AGO + timedelta(days=1), by=ME)[1],
        ]
    return [*tokens[:1] * 5, *tokens, "us_nobody_knows"]


class Pipe(asyncio.Transport):
    """A transport that keeps what is written, and holds back what comes while its reading is paused."""

    def __init__(self, protocol: Connection) -> None:
        super().__init__({"peername": ("127.0.0.1", 50_000), "sockname": ("127.0.0.1", 8_080)})
        self.written = bytearray()
        self.lost = False
        self._protocol, self._closing, self._paused = protocol, False, False
        self._held: deque[bytes] = deque()
        protocol.connection_made(self)

    def deliver(self, piece: bytes) -> None:
        """Some bytes from the other side; none: it has ended its side."""
        self._held.append(piece)
        self._pump()

    @property
    def owes_a_body(self) -> bool:
        """Whether the request at its turn has begun to be answered before all of it has come."""
        cycle = self._protocol.at_turn
        return cycle is not None and cycle.more_body and not cycle.response_complete

    def _pump(self) -> None:
        while self._held and not self._paused and not self._closing:
            piece = self._held.popleft()
            if piece:
                self._protocol.data_received(piece)
            elif not self._protocol.eof_received():
                self.close()

    def write(self, data: Any) -> None:
        assert not self.lost, "written to a connection that is gone"
        if not self._closing:
            self.written += data

    def write_eof(self) -> None:
        """Nothing to do: the other side reads `written`."""

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        asyncio.get_running_loop().call_soon(self._pump)

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            asyncio.get_running_loop().call_soon(self._lose)

    def abort(self) -> None:
        self.close()

    def _lose(self) -> None:
        self.lost = True
        self._protocol.connection_lost(None)


class _Counted(dict[bytes, Head]):
    """Heads that are known, and how often one was asked for and known."""

    n_found = 0

    def get(self, key: bytes, default: Any = None) -> Any:
        found = super().get(key, default)
        self.n_found += found is not None
        return found


class Twin:
    """One of the two workers."""

    def __init__(self, settings: Settings) -> None:
        source = Random(1).randbytes
        self.settings = settings
        self.litestar = create_app(settings, now_us=lambda: NOW_US, random=source, seconds=lambda: 0.0)
        self.n_to_litestar = 0
        self.known = _Counted()
        self.state = ServerState()
        self.state.default_headers = DEFAULT_HEADERS
        self._config = Config(
            self._counted, http=protocol_of(lambda: self.parts, settings.server), ws="none", lifespan="on",
            access_log=False, server_header=False, log_config=None, interface="asgi3",
        )  # fmt: skip
        self._config.load()

    async def _counted(self, scope: Any, receive: Any, send: Any) -> None:
        self.n_to_litestar += 1
        await self.litestar(scope, receive, send)

    @property
    def parts(self) -> Parts:
        """Its parts."""
        made: Parts = self.litestar.state.parts
        return made

    def connected(self) -> Pipe:
        """A new connection to it."""
        protocol: Connection = self._config.http_protocol_class(
            config=self._config, server_state=self.state, app_state={}, _loop=asyncio.get_running_loop()
        )  # type: ignore[assignment, call-arg]
        if isinstance(protocol, LaneConnection):
            protocol.lane.heads.known = self.known
        return Pipe(protocol)

    async def settled(self, pipe: Pipe | None = None) -> None:
        """Return when nothing is being answered, but for a request that waits for the rest of itself on this pipe."""
        n_quiet_turns = 0
        for _ in range(1_000_000):  # turns of the loop
            n_waiting = pipe is not None and pipe.owes_a_body
            busy = len(self.state.tasks) > n_waiting or self.parts.predictor.n_unfinished
            n_quiet_turns = 0 if busy else n_quiet_turns + 1
            if n_quiet_turns == 4:  # callbacks that were due have run
                return
            await asyncio.sleep(0)
        raise AssertionError("something is never answered")

    async def told(self, pieces: Sequence[bytes], *, wait: bool) -> bytes:
        """What is answered on a new connection to these pieces; `wait`: each is sent when those before are answered."""
        pipe = self.connected()
        for piece in pieces:
            pipe.deliver(piece)
            await (self.settled(pipe) if wait else asyncio.sleep(0))
        pipe.deliver(b"")
        await self.settled()
        pipe.abort()
        await asyncio.sleep(0)
        return bytes(pipe.written)

    def tallied(self) -> Any:
        """What it has counted, without how long it took."""
        tally = self.parts.predictor.tally
        return {key: (requests.n, requests.n_rows) for key, requests in tally.requests.items()}, tally.refused

    def journalled(self) -> Iterator[tuple[int, int, Chunk]]:
        """Writer, seq and contents of every chunk, without latencies."""
        with closing(open_reader(self.settings.folder)) as reader:
            for writer in reader.writers():
                for head in reader.heads(writer.writer, 0, 1_000_000):
                    chunk = reader.chunk(head.writer, head.seq)
                    facts = msgspec.structs.replace(chunk.requests, latency_us=b"")
                    yield head.writer, head.seq, msgspec.structs.replace(chunk, requests=facts)


_DRAWN = re.compile(
    rb'(?<=x-request-id: )[0-9a-f]{16}|(?<="request_id":")[0-9a-f]{16}|(?<=under request_id )[0-9a-f]{16}'
)
"""Request ids that the server drew: which of two pipelined requests draws first is not the caller's business."""


class Twins:
    """Both: `fast` has the lane, `slow` has none."""

    def __init__(self, fast: Twin, slow: Twin) -> None:
        self.fast, self.slow = fast, slow

    async def same(self, pieces: Sequence[bytes], *, wait: bool = False) -> bytes:
        """What both answer, byte for byte."""
        fast, slow = [await twin.told(pieces, wait=wait) for twin in (self.fast, self.slow)]
        assert _DRAWN.sub(b"", fast) == _DRAWN.sub(b"", slow), b"".join(pieces)[:2_000]
        return fast

    def same_records(self) -> None:
        """Both have journalled and counted the same."""
        assert self.fast.tallied() == self.slow.tallied()
        fast, slow = list(self.fast.journalled()), list(self.slow.journalled())
        assert len(fast) == len(slow)
        for ours, theirs in zip(fast, slow, strict=True):
            assert ours == theirs


@asynccontextmanager
async def twins(store: Path, **server: Any) -> AsyncIterator[Twins]:
    """Two workers, each on its own copy of a store."""
    made: Mapping[str, Twin] = {
        name: Twin(
            Settings(
                store=str(shutil.copytree(store, store.with_name(f"{store.name}-{name}"))),
                server=ServerSettings(lane=name == "fast", max_rows=100, **server),
                poll_s=3_600.0,
            )
        )
        for name in ("fast", "slow")
    }
    async with made["fast"].litestar.lifespan(), made["slow"].litestar.lifespan():
        yield Twins(made["fast"], made["slow"])
