"""Callers that are slow, silent, half gone or deaf, over real sockets; with the lane and without."""

from __future__ import annotations

import json
import select
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import psutil  # type: ignore[import-untyped]  # it ships no types
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.worker import LOOK_EVERY_S
from tests.actors import POISON, hostile
from tests.servers import Running, Wire, running, told
from tests.serving import until
from tests.stage import staged

RECEIVE_S, KEEP_ALIVE_S = 1.5, 1.0
LATE_S = 10.0
"""How much later than its deadline a connection may end on a full machine."""
HOST = b"Host: understudy\r\n"
BODY = json.dumps({"inputs": {"a": 1.0, "b": 2.0}}).encode()
SLOW = json.dumps({"inputs": {"a": 1.0, "b": POISON}}).encode()
MANY = json.dumps({"inputs": [{"a": 1.0, "b": 2.0}] * 100}).encode()
TO_LITESTAR = b"X-Nobody-Knows: 1\r\n"


def predict(body: bytes = BODY, *more: bytes) -> bytes:
    return b"POST /models/m/predict HTTP/1.1\r\n%b%bContent-Length: %d\r\n\r\n%b" % (
        HOST,
        b"".join(more),
        len(body),
        body,
    )


def named(number: int) -> bytes:
    return b"X-Request-Id: r%d\r\n" % number


@pytest.fixture(scope="module", params=["lane", "routes"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A gateway with short deadlines, whose model takes half a second for poison."""
    store = tmp_path_factory.mktemp("callers") / "store"
    with staged(store, source="server") as stage:
        stage.declare()
        stage.champion(hostile("is slow on poison", n_slow=10))
    settings = {
        "server.receive_s": RECEIVE_S, "server.keep_alive_s": KEEP_ALIVE_S, "server.lane": request.param == "lane",
    }  # fmt: skip
    with running(store, settings, []) as started:
        yield started
        assert '"unexpected"' not in started.log.read_text()


def answers(served: Running, n: int = 1) -> None:
    """Others are answered meanwhile, all of them."""
    with Wire(served.address) as wire:
        for _ in range(n):
            wire.send(predict())
            assert wire.answer()[0] == 200


def counted(served: Running) -> dict[str, float]:
    """Requests that no model answered, by status code."""
    families = text_string_to_metric_families(served.http.get("/metrics").text)
    requests = [s for family in families for s in family.samples if s.name == "understudy_requests_total"]
    return {s.labels["code"]: s.value for s in requests if s.labels["model"] == ""}


def ends_in_time(wire: Wire, began_s: float, deadline_s: float) -> None:
    assert wire.ended()
    took_s = time.monotonic() - began_s
    assert deadline_s <= took_s < deadline_s + LOOK_EVERY_S + LATE_S


# --- how it comes


@pytest.mark.parametrize("more", [b"", TO_LITESTAR])
def test_a_request_that_comes_byte_by_byte_is_answered(served: Running, more: bytes) -> None:
    with Wire(served.address) as wire:
        for _ in range(2):
            for byte in predict(BODY, more):
                wire.send(bytes([byte]))
            assert wire.answer()[0] == 200


@pytest.mark.parametrize("more", [b"", TO_LITESTAR])
def test_a_request_is_answered_wherever_it_is_cut(served: Running, more: bytes) -> None:
    whole = predict(BODY, more)
    with Wire(served.address) as wire:
        for cut in range(1, len(whole)):
            wire.send(whole[:cut])
            wire.send(whole[cut:])
            assert wire.answer()[0] == 200, cut


UNFINISHED = (
    b"POST /models/", predict()[:40], predict()[: -len(BODY)], predict()[:-1], predict(BODY, TO_LITESTAR)[:-1],
)  # fmt: skip


@pytest.mark.parametrize("drips", [False, True])
def test_a_request_that_takes_too_long_to_come_is_a_408_and_the_end(served: Running, drips: bool) -> None:
    """Also where a byte comes now and then: what counts is when the request began."""
    before = counted(served)
    with ExitStack() as opened:
        wires = [(opened.enter_context(Wire(served.address)), start) for start in UNFINISHED]
        began_s = time.monotonic()
        for wire, start in wires:
            wire.send(start[:-10] if drips else start)
        for number in range(10 if drips else 0):
            time.sleep(RECEIVE_S / 20)  # the drip itself
            for wire, start in wires:
                wire.send(start[-10:][number : number + 1])
        for wire, _ in wires:
            told(wire.answer(), 408, f"was not complete after {RECEIVE_S:g} s (server.receive_s)")
            wire.send_no_more()
            ends_in_time(wire, began_s, RECEIVE_S)
    until(lambda: counted(served)["408"] >= before.get("408", 0) + len(wires), "all are counted")
    answers(served)


def test_a_408_comes_in_its_turn_behind_what_was_asked_before(served: Running) -> None:
    with Wire(served.address) as wire:
        wire.send(predict(SLOW) + predict()[:-1])
        assert [wire.answer()[0] for _ in range(2)] == [200, 408]
        wire.send_no_more()
        assert wire.ended()


def test_a_connection_that_says_nothing_is_closed_without_a_word(served: Running) -> None:
    with ExitStack() as opened:
        wires = [opened.enter_context(Wire(served.address)) for _ in range(3)]
        began_s = time.monotonic()
        for wire, first in zip(wires, [b"", predict(), predict(BODY, TO_LITESTAR)], strict=True):
            wire.send(first)
            if first:
                assert wire.answer()[0] == 200
        for wire in wires:
            ends_in_time(wire, began_s, KEEP_ALIVE_S)


def test_a_connection_that_goes_on_asking_is_kept(served: Running) -> None:
    until_s = time.monotonic() + KEEP_ALIVE_S + 2 * LOOK_EVERY_S
    with Wire(served.address) as wire:
        while time.monotonic() < until_s:
            wire.send(predict())
            assert wire.answer()[0] == 200
            time.sleep(KEEP_ALIVE_S / 10)


def test_while_five_hundred_hold_half_a_request_everybody_else_is_answered(served: Running) -> None:
    starts = [b"", b"POST", predict()[:60], predict()[:-1], predict(BODY, TO_LITESTAR)[:-1]]
    with ExitStack() as opened:
        held = [opened.enter_context(Wire(served.address)) for _ in range(500)]
        for number, wire in enumerate(held):
            wire.send(starts[number % len(starts)])
        answers(served, 300)
        statuses: list[int] = []
        for number, wire in enumerate(held):
            if starts[number % len(starts)]:
                statuses.append(wire.answer()[0])
                wire.send_no_more()
            assert wire.ended()
        assert set(statuses) == {408}
        answers(served, 10)


# --- in line


def test_pipelined_requests_are_answered_in_turn_around_a_slow_one(served: Running) -> None:
    order = [predict(SLOW if i == 3 else BODY, named(i), *([TO_LITESTAR] if i % 2 else [])) for i in range(8)]
    with Wire(served.address) as wire:
        wire.send(b"".join(order))
        answers(served)
        got = [wire.answer() for _ in order]
    assert [(status, headers["x-request-id"]) for status, headers, _ in got] == [(200, f"r{i}") for i in range(8)]


@pytest.mark.parametrize("last", [SLOW, BODY])
def test_who_sends_no_more_is_answered_all_that_was_asked(served: Running, last: bytes) -> None:
    with Wire(served.address) as wire:
        wire.send(predict(BODY, named(1)) + predict(SLOW, named(2)) + predict(last, named(3)))
        wire.send_no_more()
        assert [wire.answer()[1]["x-request-id"] for _ in range(3)] == ["r1", "r2", "r3"]
        assert wire.ended()


def test_who_does_not_read_costs_little_memory_nobody_elses_time_and_is_ended(served: Running) -> None:
    """Four times five thousand pipelined requests of a hundred rows: 11 MB from each caller, 35 MB for it."""
    process = psutil.Process(served.pid)
    answers(served, 50)
    before = process.memory_info().rss
    asked = predict(MANY) * 5_000
    deaf = []
    for _ in range(4):
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        one.connect(served.address)
        one.setblocking(False)
        deaf.append((one, bytearray(asked)))
    try:
        ends = select.poll()
        for one, _ in deaf:
            ends.register(one, 0)  # what cannot be asked not to be told: that it was reset

        def all_ended() -> bool:
            for one, left in deaf:
                with suppress(OSError):  # it takes no more now, or never again
                    del left[: one.send(left[:65_536])]
            answers(served)
            grown.append(process.memory_info().rss - before)
            return len(ends.poll(0)) == len(deaf)

        grown: list[int] = []
        until(all_ended, "every connection is ended")
    finally:
        for one, _ in deaf:
            one.close()
    assert max(grown) < 12e6  # of more than 40 MB that it would be
    answers(served, 10)


# --- another protocol


UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAABkAAQBAAAA\r\n"


@pytest.mark.parametrize("cut", [0, 1, len(BODY), len(BODY) + 1, len(BODY) + 40])
def test_who_would_rather_speak_http2_is_answered_plainly_and_kept(served: Running, cut: int) -> None:
    """As Java's client asks, with its body, until it knows better."""
    asked = predict(BODY, UPGRADE)
    with Wire(served.address) as wire:
        for _ in range(3):
            wire.send(asked[: len(asked) - cut])
            wire.send(asked[len(asked) - cut :] if cut else b"")
            status, headers, body = wire.answer()
            assert (status, json.loads(body)["version"]) == (200, 1)
            assert "connection" not in headers
        wire.send(predict())
        assert wire.answer()[0] == 200


@pytest.mark.parametrize("cut", [0, 5])
def test_who_waits_to_be_told_to_go_on_is_told(served: Running, cut: int) -> None:
    asked = predict(BODY, b"Expect: 100-continue\r\n")
    head = len(asked) - len(BODY)
    with Wire(served.address) as wire:
        for _ in range(2):
            wire.send(asked[:head])
            assert wire.answer()[0] == 100
            wire.send(asked[head : head + cut])
            wire.send(asked[head + cut :])
            assert wire.answer()[0] == 200


def test_who_waits_with_a_body_that_is_too_large_is_told_so_instead(served: Running) -> None:
    with Wire(served.address) as wire:
        wire.send(predict(BODY, b"Expect: 100-continue\r\n").replace(b"%d\r\n" % len(BODY), b"99999999\r\n", 1)[:-30])
        told(wire.answer(), 413, "server.max_body_bytes")


# --- gone


@pytest.mark.parametrize("resets", [False, True], ids=["ends its side", "resets"])
@pytest.mark.parametrize(
    "start",
    [
        predict()[:-1],
        predict(BODY, TO_LITESTAR)[:-1],
        predict()
        .replace(b"Content-Length", b"X-Nothing")
        .replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n"),
        predict(BODY, UPGRADE)[:-1],
    ],
    ids=["to the lane", "to Litestar", "chunked", "upgrade"],
)
def test_who_leaves_in_the_middle_of_a_body_is_counted_once_and_never_as_our_fault(
    served: Running, start: bytes, resets: bool
) -> None:
    before, journalled = counted(served), served.journalled()[0]
    n = 5
    for _ in range(n):
        with socket.create_connection(served.address) as one:
            one.sendall(start)
            if resets:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def more() -> dict[str, float]:
        now = counted(served)
        del now["200"]  # those who look
        return {code: n - before.get(code, 0) for code, n in now.items() if n != before.get(code, 0)}

    until(lambda: sum(more().values()) >= n, "all are counted")
    answers(served)
    assert more() == {"400": n}
    assert served.journalled()[0].keys() == journalled.keys()
    assert sum(served.journalled()[0].values()) == sum(journalled.values()) + 1
