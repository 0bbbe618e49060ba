"""Requests that no client library sends: strange paths, methods, framings and headers, over plain sockets."""

from __future__ import annotations

import json

import pytest

from tests.servers import BOTH_WAYS, LEAKS, Running, Wire, told

HOST = b"Host: understudy\r\n"
LOAN = {"visits": 1, "weekday": "mon", "age": 40.0}
BODY = json.dumps({"inputs": LOAN}).encode()
PREDICT = b"POST /models/loan/predict HTTP/1.1\r\n" + HOST
UPLOAD = b"POST /admin/models/loan/versions HTTP/1.1\r\n" + HOST


def chunked(*pieces: bytes) -> bytes:
    """A body without a length."""
    whole = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return b"Transfer-Encoding: chunked\r\n\r\n" + whole + b"0\r\n\r\n"


def get(path: bytes, method: bytes = b"GET") -> bytes:
    return method + b" " + path + b" HTTP/1.1\r\n" + HOST + b"\r\n"


@BOTH_WAYS
def test_a_body_without_a_length_or_a_content_type_is_taken(server: Running) -> None:
    for framed in (
        b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY,
        chunked(BODY),
        chunked(*[b"%c" % c for c in BODY]),
    ):
        status, _, body = server.raw(PREDICT + framed)
        assert status == 200
        assert json.loads(body)["version"] == 1


@BOTH_WAYS
@pytest.mark.parametrize(
    ("start", "expected"),
    [(PREDICT, "server.max_body_bytes"), (UPLOAD, "larger than 300,000 bytes (server.max_model_byt")],
)
def test_a_body_that_is_too_large_is_refused_however_it_is_framed(server: Running, start: bytes, expected: str) -> None:
    before = server.journalled(), server.registered()
    piece = b" " * 65_536
    for framed in (chunked(*[piece] * 40), b"Content-Length: 2621440\r\n\r\n" + piece * 40):
        told(server.raw(start + framed), 413, expected)
    told(server.raw(PREDICT + b"Content-Length: 99999999999\r\n\r\n"), 413, "server.max_body_bytes")
    assert (server.journalled(), server.registered()) == before


@BOTH_WAYS
@pytest.mark.parametrize(
    ("path", "status", "expected"),
    [
        (b"/models/..%2f..%2fetc%2fpasswd/predictions/x", 404, "there is nothing at this path"),
        (b"/models/../../etc/passwd", 404, "there is nothing at this path"),
        (b"/models/%2e%2e/admin/models", 404, "there is nothing at this path"),
        (b"/admin/models/..%252f..%252fetc", 404, "unknown model: '..%2f..%2fetc'"),
        (b"/admin/models/%00", 404, "unknown model: '\x00'"),
        (b"/admin/models/loan%00", 404, "unknown model"),
        (b"/admin/models/%ff%c0%af", 404, "unknown model"),
        (b"/admin/models/%ed%a0%80", 404, "unknown model"),
        (b"/admin/models/%", 404, "unknown model: '%'"),
        (b"/admin/models/'%20OR%201=1--", 404, "unknown model"),
        (b"/admin/models/LOAN", 404, "unknown model: 'LOAN'"),
        (b"/admin/models/loan%20", 404, "unknown model: 'loan '"),
        (b"/models/loan/predictions/%00%0d%0a", 404, "no prediction"),
        (b"/models/loan/predictions/" + b"a" * 9_000, 404, "no prediction 'aaaa"),
        (b"/models/loan/predictions/" + b"a" * 30_000, 431, "the head is larger than 16,384 bytes"),
        (b"/v2/models/loan/versions/%c2%b9", 404, "version 1 answers"),
        (b"/static/../registry.db", 404, "there is nothing at this path"),
        (b"/" + b"a/" * 5_000, 404, "there is nothing at this path"),
        (b"*", 404, "there is nothing at this path"),
    ],
)
def test_no_path_leads_anywhere_but_to_what_it_names(server: Running, path: bytes, status: int, expected: str) -> None:
    told(server.raw(get(path)), status, expected)


@BOTH_WAYS
@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        (b"GET", b"/models/loan/predict", "OPTIONS, POST"),
        (b"HEAD", b"/models/loan/outcomes", "OPTIONS, POST"),
        (b"PATCH", b"/admin/models", "GET, OPTIONS, POST"),
        (b"PUT", b"/admin/models/loan", "DELETE, GET, OPTIONS"),
        (b"POST", b"/admin/models/loan/policy", "GET, OPTIONS, PUT"),
        (b"POST", b"/v2/health/live", "GET, OPTIONS"),
        (b"TRACE", b"/readyz", "GET, OPTIONS"),
    ],
)
def test_a_method_that_is_not_there_is_told_with_those_that_are(
    server: Running, method: bytes, path: bytes, allowed: str
) -> None:
    with Wire(server.address) as wire:
        wire.send(get(path, method))
        status, headers, body = wire.answer(without_body=method == b"HEAD")
    assert ", ".join(sorted(headers["allow"].split(", "))) == allowed
    if body:
        told((status, headers, body), 405, "method: expected ")
    assert status == 405


@BOTH_WAYS
@pytest.mark.parametrize(
    "request_",
    [
        b"GARBAGE\r\n\r\n",
        b"GET /readyz HTTP/9.9\r\n" + HOST + b"\r\n",
        PREDICT + b"Content-Length: abc\r\n\r\n",
        PREDICT + b"Content-Length: -1\r\n\r\n",
        PREDICT + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
        PREDICT + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /readyz HTTP/1.1\r\n\r\n",
        PREDICT + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        PREDICT + b"X-Request-Id: a\x01b\r\n\r\n",
        PREDICT + b"X-Request-Id : a\r\n\r\n",
    ],
)
def test_what_is_not_http_is_a_400_and_the_end_of_the_connection(server: Running, request_: bytes) -> None:
    with Wire(server.address) as wire:
        wire.send(request_)
        status, _, body = wire.answer()
        assert status == 400
        assert not LEAKS.search(body.decode())
        assert wire.ended()
    assert server.predict("loan", LOAN)["version"] == 1


@BOTH_WAYS
@pytest.mark.parametrize(
    ("header", "status", "expected"),
    [
        (b"X-Understudy-Test: \xb2", 422, "x-understudy-test: expected 0 or 1"),
        (b"X-Understudy-Test: " + b"1" * 9_000, 422, "x-understudy-test: expected 0 or 1"),
        (b"Content-Type: \xff", 415, "content-type: expected application/json"),
        (b"Content-Type: " + b"x" * 9_000, 415, "content-type: expected application/json"),
        (b"Origin: http://elsewhere.example", 403, "web pages may not ask here"),
        (b"Origin: null", 403, "web pages may not ask here"),
        (b"Content-Encoding: identity, gzip", 415, "content-encoding: expected none, got identity, gzip"),
    ],
)
def test_a_header_of_ours_that_cannot_be_meant_is_named(
    server: Running, header: bytes, status: int, expected: str
) -> None:
    before = server.journalled()
    told(server.raw(PREDICT + header + b"\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY), status, expected)
    assert server.journalled() == before


@BOTH_WAYS
def test_a_caller_that_leaves_in_the_middle_costs_nothing_and_is_no_error_of_ours(server: Running) -> None:
    before = server.journalled()
    for start in (PREDICT, UPLOAD, b"POST /v2/models/loan/infer HTTP/1.1\r\n" + HOST):
        for rest in (b"Content-Length: 500\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n1f4\r\n{"):
            with Wire(server.address) as wire:
                wire.send(start + rest)
    assert server.predict("loan", LOAN)["version"] == 1
    after = server.journalled()
    assert sum(after[0].values()) == sum(before[0].values()) + 1
    assert "unexpected" not in server.log.read_text()


@BOTH_WAYS
def test_several_requests_sent_at_once_on_one_connection_are_answered_in_order(server: Running) -> None:
    good = PREDICT + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
    bad = PREDICT + b"Content-Length: 2\r\n\r\n{}"
    with Wire(server.address) as wire:
        wire.send(good + bad + good)
        assert [wire.answer()[0] for _ in range(3)] == [200, 422, 200]
