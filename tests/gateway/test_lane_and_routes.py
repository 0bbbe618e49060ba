"""The fast lane and the routes answer the same bytes, over real sockets; `server.lane` decides which of them does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

import pytest

from tests.models import Made
from tests.servers import Running, Wire, running

OWN = re.compile(rb'[a-z2-7]{40}|(?<=x-request-id: )[0-9a-f]{16}|(?<="request_id":")[0-9a-f]{16}')
"""What each server draws for itself: prediction ids and request ids."""
FRAUD = "/models/fraud/predict"
INFER = "/v2/models/fraud/infer"


@pytest.fixture(scope="module")
def both(models: Mapping[str, Made], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Running]]:
    """Two gateways of the same models, with the lane and without."""
    folder = tmp_path_factory.mktemp("both")
    made = [models["fraud"], models["loan"]]
    with running(folder / "fast", {}, made) as fast, running(folder / "slow", {"server.lane": "false"}, made) as slow:
        yield fast, slow


def asked(path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: understudy", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def requests(models: Mapping[str, Made]) -> Iterator[bytes]:
    """What callers send, right and wrong."""
    for name in ("fraud", "loan"):
        rows = models[name].rows
        for inputs in (rows[0], rows[:3], [], rows[0] | {"nobody": 1}, {}):
            yield asked(f"/models/{name}/predict", json.dumps({"inputs": inputs}).encode())
    body = json.dumps({"inputs": models["fraud"].rows[0]}).encode()
    names = [feature.name for feature in models["fraud"].features]
    flat = [models["fraud"].rows[0][name] for name in names]
    for data in (flat, [flat], flat[1:], [*flat[1:], None], [*flat[1:], "x"], [*flat[1:], 1e300]):
        tensor = {"name": "all", "shape": [1, len(names)], "datatype": "FP32", "data": data}
        for more in ({}, {"id": "mine"}, {"outputs": [{"name": "nobody"}]}, {"parameters": {"a": 1}}):
            yield asked(INFER, json.dumps({"inputs": [tensor], **more}).encode())
    for wrong in (b"", b"{", b"\xff", b"[" * 2_000, b'{"inputs": 1, "inputs": 2}', b'{"inputs": NaN}'):
        yield asked(FRAUD, wrong)
        yield asked(INFER, wrong)
    for header in (
        "X-Request-Id: mine-1", "X-Request-Id: not one", "X-Understudy-Test: 1", "X-Understudy-Test: 2", "Accept: */*",
        "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "Content-Type: text/plain",
        "Content-Type: application/json; charset=utf-8", "Content-Encoding: gzip", "Origin: http://elsewhere",
        "Authorization: Bearer nobody", "X-Unknown: 1", "Idempotency-Key: 1", "Cookie: a=b",
    ):  # fmt: skip
        yield asked(FRAUD, body, header)
    yield asked("/models/nobody/predict", body)
    yield asked(f"{FRAUD}?a=b", body)
    yield asked("/models/%66raud/predict", body)
    yield asked("/v2/models/fraud/versions/1/infer", body)
    yield body and asked(FRAUD, body).replace(b"POST", b"PUT", 1)


def test_one_after_another_on_one_connection_both_answer_the_same_bytes(
    both: tuple[Running, Running], models: Mapping[str, Made]
) -> None:
    wires = [Wire(server.address) for server in both]
    n_answered = 0
    for request in requests(models):
        answers = []
        for wire in wires:
            wire.send(request)
            status, headers, body = wire.answer()
            headers.pop("date")
            said = "".join(f"{name}: {value}\n" for name, value in headers.items()).encode() + body
            answers.append((status, OWN.sub(b"", said)))
        assert answers[0] == answers[1], request[:500]
        n_answered += answers[0][0] == 200
    assert n_answered > 20
    for wire in wires:
        wire.__exit__()


def test_pipelined_requests_are_answered_in_turn_whichever_way_each_of_them_goes(
    both: tuple[Running, Running], models: Mapping[str, Made]
) -> None:
    body = json.dumps({"inputs": models["fraud"].rows[0]}).encode()
    n = 60
    sent = [asked(FRAUD, body, f"X-Request-Id: r{i}", *(["X-Unknown: 1"] if i % 3 == 1 else [])) for i in range(n)]
    for server in both:
        with Wire(server.address) as wire:
            wire.send(b"".join(sent))
            assert [wire.answer()[1]["x-request-id"] for _ in range(n)] == [f"r{i}" for i in range(n)]


def test_who_ends_its_side_after_asking_is_answered(both: tuple[Running, Running], models: Mapping[str, Made]) -> None:
    body = json.dumps({"inputs": models["fraud"].rows[0]}).encode()
    for server in both:
        with Wire(server.address) as wire:
            wire.send(asked(FRAUD, body))
            wire.send_no_more()
            assert wire.answer()[0] == 200
            assert wire.ended()
