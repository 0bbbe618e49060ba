"""Requests of every kind that callers send, made by the thousand from a seed; each knows what becomes of it.

Most are plain predictions with something changed: another spelling, one more header, a strange value, a wrong body.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random
from typing import Any

from msgspec import Struct

from gateway.heads import IGNORED
from gateway.wire.oip import DATATYPE
from tests.models import Made

Header = tuple[bytes, bytes]
_SPELLINGS: Sequence[Callable[[bytes], bytes]] = (bytes, bytes.lower, bytes.upper, bytes.swapcase)


class Sent(Struct, frozen=True):
    """One request as bytes. `plain`: the fast lane takes it; `ends`: its connection ends with its answer."""

    whole: bytes
    plain: bool
    ends: bool


class Bodies(Struct, frozen=True):
    """Bodies by what is asked of whom."""

    paths: Mapping[bytes, Sequence[bytes]]

    @classmethod
    def of(cls, models: Mapping[str, Made], random: Random) -> Bodies:
        """For every model, in both protocols: what it understands, and what it does not."""
        paths: dict[bytes, list[bytes]] = {}
        for name, made in models.items():
            own = [*_good_rows(made, random), *_wrong_rows(made)]
            tensors = [*_good_tensors(made, random), *_wrong_tensors(made)]
            for path, documents in ((f"/models/{name}/predict", own), (f"/v2/models/{name}/infer", tensors)):
                encoded = [json.dumps(document, ensure_ascii=random.random() < 0.5) for document in documents]
                paths[path.encode()] = [text.encode() for text in encoded] + _no_json(encoded[0])
        return cls(paths)


def _good_rows(made: Made, random: Random) -> Iterator[Any]:
    for n in (1, 1, 1, 2, 5, 17):
        rows = random.sample(made.rows, n) if n <= len(made.rows) else [random.choice(made.rows) for _ in range(n)]
        mixed = [dict(random.sample(sorted(row.items()), len(row))) for row in rows]
        yield {"inputs": mixed if n > 1 else mixed[0]}
        yield {"inputs": mixed}
        yield {"association_id": [f"id:{i}" for i in range(n)], "inputs": mixed}
        yield {"inputs": mixed, "decision": random.choice([1, 0.5, "yes"]), "propensity": random.choice([0.25, 1])}
    yield {"inputs": made.rows[0], "association_id": "kü\u2028nde \U0001f600 \x7f"}
    needed = {f.name for f in made.features if f.required}
    yield {"inputs": {name: value for name, value in made.rows[1].items() if name in needed}}


def _wrong_rows(made: Made) -> Iterator[Any]:
    row = made.rows[0]
    first, *rest = row
    strange: list[Any] = [None, "x", True, [], {}, 10**400, 2**63, 1.5, -1e300, "é" * 2_000]
    for value in strange:
        yield {"inputs": row | {first: value}}
        yield {"inputs": [row, row | {rest[-1]: value}]}
    yield from ({}, [], None, 1, "x", {"inputs": None}, {"inputs": []}, {"inputs": [row] * 101}, {"inputs": [row, 1]})
    yield {"inputs": {name: row[name] for name in rest}}
    yield {"inputs": row | {"unknown": 1}}
    yield {"inputs": row, "versoin": 2}
    yield {"inputs": row, "predicted_at": "2026-01-31T12:00:00Z"}
    yield {"inputs": row, "association_id": ""}
    yield {"inputs": [row, row], "association_id": ["a"]}


def _good_tensors(made: Made, random: Random) -> Iterator[Any]:
    score = made.score
    for n in (1, 1, 3, 20):
        rows = [random.choice(made.rows) for _ in range(n)]
        each = [
            {"name": f.name, "shape": random.choice([[n], [n, 1]]), "datatype": DATATYPE[f.dtype],
             "data": [row[f.name] for row in rows]} for f in made.features
        ]  # fmt: skip
        yield {"inputs": random.sample(each, len(each))}
        yield {"id": "my:id", "inputs": each, "parameters": {"a": 1, "b": "x:y"}, "outputs": []}
        if score is not None:
            yield {"inputs": each, "outputs": [{"name": score.partition(":")[0], "parameters": {"binary_data": False}}]}
        if len({f.dtype for f in made.features}) == 1:
            nested = [list(row.values()) for row in rows]
            flat = [value for values in nested for value in values]
            packed = {"name": "inputs", "shape": [n, len(made.features)], "datatype": DATATYPE[made.features[0].dtype]}
            yield {"inputs": [packed | {"data": flat}]}
            yield {"inputs": [packed | {"data": nested}], "id": ""}
            yield {"inputs": [packed | {"data": nested, "parameters": {"content_type": "np"}}]}


def _wrong_tensors(made: Made) -> Iterator[Any]:
    feature = made.features[0]
    tensor = {
        "name": feature.name,
        "shape": [1],
        "datatype": DATATYPE[feature.dtype],
        "data": [made.rows[0][feature.name]],
    }
    yield from ({}, {"inputs": []}, {"inputs": None}, [], {"inputs": [tensor, tensor]}, {"inputs": [tensor], "id": 5})
    changes: list[dict[str, Any]] = [
        {"name": "nobody"}, {"shape": [2]}, {"shape": [-1]}, {"shape": [1, 9]}, {"datatype": "FP8"},
        {"data": ["x"]}, {"data": [None]}, {"data": [[1]]}, {"data": []}, {"data": [10**400]},
    ]  # fmt: skip
    for change in changes:
        yield {"inputs": [tensor | change]}
        yield {"inputs": [tensor | change], "outputs": [{"name": "nobody"}]}


def _no_json(good: str) -> list[bytes]:
    whole = good.encode()
    return [
        b"", b"{", whole[:-1], whole + b" ", whole + b"{}", b"\xef\xbb\xbf" + whole, good.encode("utf-16"), b"\xff",
        whole.replace(b'"inputs"', b'"\xff"'), whole.replace(b'"inputs":', b'"inputs": 1, "inputs":'),
        whole.replace(b'"inputs"', b'"\\u0069nputs"'), b"[" * 3_000,
        b'{"inputs": ' + b"[" * 3_000 + b"]" * 3_000 + b"}",
        b'{"inputs": NaN}', b'{"inputs": 1e999}', b'{"inputs": "\\ud800"}', b" " * 5_000, b"null", b"\x00",
    ]  # fmt: skip


ALIKE: Sequence[Header] = (
    (b"X-Request-Id", b"an.id_4-2"), (b"X-Request-Id", b""), (b"X-Request-Id", b"two words"),
    (b"X-Request-Id", b"x" * 128), (b"X-Request-Id", b"x" * 129), (b"X-Request-Id", b"\xff\xfe"),
    (b"X-Request-Id", b'"quoted"'), (b"X-Request-Id", b"\tpadded \t"), (b"X-Request-Id", b"0"),
    (b"Traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"), (b"Traceparent", b"nonsense"),
    (b"Traceparent", b"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"), (b"Traceparent", b""),
    (b"X-Understudy-Test", b"0"), (b"X-Understudy-Test", b"1"), (b"X-Understudy-Test", b"2"),
    (b"X-Understudy-Test", b"\xb2"), (b"X-Understudy-Test", b"1" * 900), (b"X-Understudy-Test", b""),
    (b"Content-Type", b"application/json"), (b"Content-Type", b"application/json; charset=utf-8"),
    (b"Connection", b"keep-alive"), (b"Connection", b"x-y, Keep-Alive"), (b"Keep-Alive", b"timeout=5"),
    *((name.title().encode(), b"some value; a=b, c") for name in IGNORED if name not in ("connection", "keep-alive")),
    (b"Accept", b"text/html"), (b"Accept", b"not/a, list;;"), (b"Cookie", b"a=b; a=c; \xff"),
    (b"X-Forwarded-Proto", b"wss"), (b"X-Forwarded-For", b"not an address, 1.2.3.4"), (b"Date", b"never"),
    (b"Accept-Encoding", b"gzip, deflate, br"), (b"Forwarded", b"for=[::1]:80"),
)  # fmt: skip
"""Headers with which a request still takes the lane."""
OTHERWISE: Sequence[tuple[Header, bool]] = (
    ((b"X-Unknown", b"1"), False), ((b"Origin", b"http://elsewhere.example"), False), ((b"Origin", b"null"), False),
    ((b"Origin", b"http://understudy"), False), ((b"Content-Encoding", b"gzip"), False),
    ((b"Content-Encoding", b"identity"), False), ((b"Content-Type", b"text/plain"), False),
    ((b"Content-Type", b"Application/JSON"), False), ((b"Content-Type", b"application/json; charset=latin-1"), False),
    ((b"Content-Type", b"\xff"), False), ((b"Content-Type", b""), False), ((b"Expect", b"100-continue"), False),
    ((b"Expect", b"something"), False), ((b"TE", b"trailers"), False), ((b"Range", b"bytes=0-1"), False),
    ((b"If-Match", b"7"), False), ((b"X-HTTP-Method-Override", b"DELETE"), False), ((b"Host", b"another"), True),
    ((b"X" * 9_000, b"y" * 9_000), True), ((b"Bad Name", b"1"), True), ((b"X-Nul", b"a\x00b"), True),
    ((b"Content-Length", b"7"), True), ((b"Content-Length", b"x"), True), ((b" Folded", b"x"), True),
)  # fmt: skip
"""Headers with which it does not, and whether its connection ends."""
HOSTS: Sequence[tuple[bytes, bool]] = (
    *[(b"understudy", True), (b"[::1]:8080", True), (b"127.0.0.1:8080", True)] * 6,
    (b"", False), (b"a b\xff", False), (b"http://x:y", False),
)  # fmt: skip
"""What is said to be the host, and whether the lane takes it; Litestar refuses what is none."""


class Corpus:
    """An endless source of requests. `keys`: tokens, of which some are good."""

    def __init__(self, models: Mapping[str, Made], seed: int, keys: Sequence[str] = ()) -> None:
        self._random = Random(seed)
        self._bodies = Bodies.of(models, self._random)
        self._keys = keys

    def conversation(self) -> list[Sent]:
        """What one caller sends on one connection."""
        found = []
        for _ in range(self._random.randint(1, 12)):
            found.append(self.request())
            if found[-1].ends:
                break
        return found

    def pieces(self, whole: bytes) -> list[bytes]:
        """These bytes, cut at arbitrary places."""
        cuts = sorted(self._random.choices(range(len(whole) + 1), k=self._random.choice([0, 1, 2, 5, 30])))
        return [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True) if a < b]

    def request(self) -> Sent:
        """The next one."""
        random = self._random
        path = random.choice(list(self._bodies.paths))
        body = random.choice(self._bodies.paths[path])
        host, plain = random.choice(HOSTS)
        headers: list[Header] = [(b"Host", host)]
        if self._keys and random.random() < 0.9:
            headers.append(self._key())
        named = {name for name, _ in headers}
        for name, value in random.choices(ALIKE, k=random.choice([0, 0, 1, 2, 4, 8])):
            if name not in named:
                headers.append((name, value))
                named.add(name)
        ends = False
        line, framed = b"POST %b HTTP/1.1" % path, b"Content-Length: %d\r\n\r\n" % len(body) + body
        kinds = {"plain": 60, "close": 3, "short": 1, "header": 9, "twice": 4, "line": 8, "framing": 6}
        match random.choices(list(kinds), list(kinds.values()))[0]:
            case "close":
                headers, ends = [*_without(b"Connection", headers), (b"Connection", b"close")], True
            case "short":
                # nothing in its head to refuse it by: Litestar would not wait for its body, and the lane does
                headers, ends = [(b"Host", b"understudy"), (b"X-Request-Id", b"short")], True
                if self._keys:
                    headers.append((b"X-Api-Key", self._keys[0].encode()))
                cut = b"Content-Length: %d\r\n\r\n" % (len(body) + 5) + body
                broken = b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\nzz\r\n\r\n"
                framed, plain = random.choice([(cut, True), (broken, False)])
            case "header":
                (name, value), ends = random.choice(OTHERWISE)
                headers, plain = [*(headers if ends else _without(name, headers)), (name, value)], False
            case "twice":
                name, value = random.choice([h for h in ALIKE if h[0].lower().decode() not in IGNORED])
                headers, plain = [*_without(name, headers), (name, value), (name, b"another")], False
            case "line":
                (line, ends), plain = self._line(path), False
            case "framing":
                framed, framed_plainly, ends = self._framed(body)
                plain = plain and framed_plainly
        return Sent(self._head(line, headers) + framed, plain, ends)

    def _head(self, line: bytes, headers: list[Header]) -> bytes:
        random = self._random
        spelled = random.choice(_SPELLINGS)
        shuffled = random.sample(headers, len(headers)) if random.random() < 0.5 else headers
        lines = [
            b"%b:%b%b" % (spelled(name), random.choice([b" ", b"", b"  ", b"\t"]), value) for name, value in shuffled
        ]
        return b"\r\n".join([line, *lines, b""])

    def _key(self) -> Header:
        token = self._random.choice(self._keys).encode()
        return self._random.choice([
            (b"Authorization", b"Bearer " + token), (b"Authorization", b"bearer  " + token), (b"X-Api-Key", token),
            (b"Authorization", b"Bearer " + token), (b"X-Api-Key", token), (b"Authorization", b"Basic " + token),
            (b"Authorization", b"Bearer"), (b"Authorization", b""), (b"X-Api-Key", b"\xed\xa0\x80"),
        ])  # fmt: skip

    def _line(self, path: bytes) -> tuple[bytes, bool]:
        """Another first line, and whether the connection ends."""
        name = path.split(b"/")[-2]
        return self._random.choice([
            (b"POST /models/nobody/predict HTTP/1.1", False), (b"POST /v2/models/nobody/infer HTTP/1.1", False),
            (b"POST %b?a=b HTTP/1.1" % path, False), (b"POST %b/ HTTP/1.1" % path, False),
            (b"POST %b HTTP/1.1" % path.replace(name, b"%%%02x" % name[0] + name[1:]), False),
            (b"POST /%b HTTP/1.1" % path, False), (b"POST http://understudy%b HTTP/1.1" % path, False),
            (b"POST %b HTTP/1.1" % path.upper(), False), (b"POST /models//predict HTTP/1.1", False),
            (b"POST /v2/models/%b/versions/1/infer HTTP/1.1" % name, False), (b"PUT %b HTTP/1.1" % path, False),
            (b"POST /v2/models/%b/versions/2/infer HTTP/1.1" % name, False), (b"GET %b HTTP/1.1" % path, False),
            (b"OPTIONS %b HTTP/1.1" % path, False), (b"GET /livez HTTP/1.1", False), (b"DELETE /v2 HTTP/1.1", False),
            (b"GET /v2/models/%b HTTP/1.1" % name, False), (b"POST * HTTP/1.1", False),
            (b"POST %b HTTP/1.0" % path, True), (b"POST %b HTTP/9.9" % path, True), (b"POST %b" % path, True),
            (b"post %b HTTP/1.1" % path, True), (b"POST /\xff%b HTTP/1.1" % path, True), (b"", True),
            (b"POST /%b HTTP/1.1" % (b"a" * 20_000), True), (b"CONNECT understudy:80 HTTP/1.1", True),
        ])  # fmt: skip

    def _framed(self, body: bytes) -> tuple[bytes, bool, bool]:
        """Another framing of a body: what ends the head, and the body; whether plain, and the connection ends."""
        cut = self._random.randint(0, len(body))
        parts = [part for part in (body[:cut], body[cut:]) if part]
        pieces = b"".join(b"%x;ext=1\r\n%b\r\n" % (len(part), part) for part in parts)
        chunked = b"Transfer-Encoding: chunked\r\n"
        return self._random.choice([
            (chunked + b"\r\n" + pieces + b"0\r\n\r\n", False, False),
            (chunked + b"\r\n" + pieces + b"0\r\nX-Trailer: 1\r\n\r\n", False, False),
            (chunked + b"Content-Length: 4\r\n\r\n" + pieces + b"0\r\n\r\n", False, True),
            (b"Content-Length: 00%d\r\n\r\n" % len(body) + body, True, False),
            (b"Content-Length: -1\r\n\r\n", False, True), (b"\r\n", False, False),
            (b"Content-Length: 99999999999999999999999\r\n\r\n", False, True),
            (b"Upgrade: h2c\r\nConnection: upgrade\r\nContent-Length: %d\r\n\r\n" % len(body) + body, True, False),
            (b"Content-Length: 1\r\n Folded: 1\r\n\r\nx", False, True), (b"Content-Length: 0\n\nx", False, True),
        ])  # fmt: skip


def _without(name: bytes, headers: Sequence[Header]) -> list[Header]:
    return [header for header in headers if header[0] != name]
