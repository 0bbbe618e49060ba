"""The end of a `serve` with two workers, told to end once or twice; with the lane and without."""

from __future__ import annotations

import json
import signal
import socket
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import psutil  # type: ignore[import-untyped]  # it ships no types
import pytest

from tests.actors import POISON, hostile
from tests.servers import Wire
from tests.serving import Serve, serving, until
from tests.stage import staged

HOST = b"Host: understudy\r\n"
BODY = json.dumps({"inputs": {"a": 1.0, "b": 2.0}}).encode()
SLOW = json.dumps({"inputs": {"a": 1.0, "b": POISON}}).encode()


def predict(body: bytes = BODY) -> bytes:
    return b"POST /models/m/predict HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n%b" % (HOST, len(body), body)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A model that takes half a second for poison."""
    with staged(tmp_path / "store", source="server") as stage:
        stage.declare()
        stage.champion(hostile("is slow on poison", n_slow=10))
    return tmp_path / "store"


def kept(store: Path) -> int:
    with staged(store, source="server") as stage:
        return sum(head.n_rows for head, _ in stage.chunks())


def both_workers(serve: Serve, opened: ExitStack, n: int) -> list[Wire]:
    """At least so many connections that were answered, some of each worker."""
    serve.ready()
    until(lambda: len(serve.workers("gateway")) == 2, "two workers")
    wires: list[Wire] = []

    def more() -> bool:
        new = [opened.enter_context(Wire(("127.0.0.1", serve.port))) for _ in range(n)]  # at once: so both take some
        for wire in new:
            wire.send(predict())
        assert [wire.answer()[0] for wire in new] == [200] * n
        wires.extend(new)
        return all(_established(worker) for worker in serve.workers("gateway"))

    until(more, "each has some")
    return wires


def _established(worker: psutil.Process) -> bool:
    return any(one.status == psutil.CONN_ESTABLISHED for one in worker.net_connections("tcp"))


def ready(serve: Serve) -> int:
    with httpx.Client(base_url=serve.url, timeout=10, trust_env=False) as http:  # a connection of its own
        return http.get("/readyz").status_code


@pytest.mark.parametrize("lane", [True, False])
def test_told_to_end_it_says_so_and_ends_each_connection_with_its_answer(store: Path, lane: bool) -> None:
    settings: dict[str, Any] = {"server__workers": 2, "server__lane": lane, "server__drain_notice_s": 3.0}
    with serving(store, **settings) as serve, ExitStack() as opened:
        *asking, half, slow, quiet = wires = both_workers(serve, opened, 12)
        half.send(predict()[:-5])
        slow.send(predict(SLOW))
        serve.process.send_signal(signal.SIGTERM)
        until(lambda: ready(serve) == 503, "not ready", within_s=2.5)
        n_answered = len(wires)
        for wire in asking:  # while it is not ready, and takes requests all the same
            headers: dict[str, str] = {}
            while "connection" not in headers:  # the other worker may be told a moment later
                wire.send(predict())
                status, headers, _ = wire.answer()
                assert status == 200
                n_answered += 1
            assert headers["connection"] == "close"
            assert wire.ended()
        half.send(predict()[-5:])
        for wire in (half, slow):
            assert wire.answer()[0] == 200
            assert wire.ended()
        assert quiet.ended()
        assert serve.process.wait(30) == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", serve.port))
    assert kept(store) == n_answered + 2
    assert '"unexpected"' not in serve.log


def test_told_again_it_hurries_and_still_answers_what_it_took(store: Path) -> None:
    with serving(store, server__workers=2, server__drain_notice_s=300.0) as serve, ExitStack() as opened:
        slow, *_ = wires = both_workers(serve, opened, 6)
        serve.process.send_signal(signal.SIGTERM)
        until(lambda: ready(serve) == 503, "not ready")
        slow.send(predict(SLOW))
        time.sleep(0.2)  # nothing hangs on it: so long it has waited, and would wait for 300 s
        assert serve.process.poll() is None
        serve.process.send_signal(signal.SIGTERM)
        assert slow.answer()[0] == 200
        assert serve.process.wait(30) == 0
    assert kept(store) == len(wires) + 1
