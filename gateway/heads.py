"""Which requests take the fast lane, by their heads; and heads that were understood before, known by their bytes.

The lane takes `POST /models/{m}/predict` and `POST /v2/models/{m}/infer` of a model that is served, in HTTP/1.1, with
a Content-Length and JSON, whose headers are all in one table.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from gateway.calls import Infer, Predict, Read
from gateway.config import ServerSettings
from gateway.lineup import Lineups

TOLD: Final = ("x-request-id", "traceparent", "x-understudy-test", "authorization", "x-api-key")
"""Headers that the front is told of; each may be given once."""
LOOKED_AT: Final = ("host", "content-length", "content-type")
"""Headers that the lane looks at; each may be given once, and Host must be."""
IGNORED: Final = (
    "connection", "keep-alive", "user-agent", "accept", "accept-encoding", "accept-language", "accept-charset",
    "cache-control", "pragma", "cookie", "date", "dnt", "from", "referer", "priority", "via", "forwarded",
    "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto", "x-real-ip", "x-amzn-trace-id",
    "x-correlation-id", "tracestate", "baggage", "b3", "http2-settings",
)  # fmt: skip
"""Headers that no route looks at, nor the front. (httptools has looked at the first two.)"""
_NAMES: Final = {
    spelled.encode(): None if name in IGNORED else name
    for name in (*TOLD, *LOOKED_AT, *IGNORED)
    for spelled in (name, name.title(), name.upper())
}
"""The table, under the usual spellings of each name; None for what is ignored."""
_PLAIN_HOST: Final = re.compile(rb"[A-Za-z0-9._-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")
_JSON: Final = b"application/json"
_JSON_TYPES: Final = frozenset({_JSON, b"application/json; charset=utf-8", b"application/json;charset=utf-8"})
_OF_ONE_REQUEST: Final = frozenset({"x-request-id", "traceparent"})
_MOST_TARGETS, _MOST_HEADS, _MOST_HEAD_BYTES = 1_024, 4_096, 2_048

Target = tuple[Read, str]
"""How the body is read, and for which model."""


class Head(Struct, frozen=True):
    """The head of a request as the lane understands it."""

    target: Target
    told: dict[str, str]
    n_body_bytes: int
    keep_alive: bool


class Heads:
    """What one worker has understood.

    `known`: the bytes of heads that were parsed before, each with what it means. A caller's heads differ in little but
    their Content-Length, so that most need no parsing at all.
    """

    def __init__(self, lineups: Lineups, settings: ServerSettings) -> None:
        self.known: dict[bytes, Head] = {}
        self._lineups, self._settings = lineups, settings
        self._targets: dict[bytes, Target] = {}

    def target(self, url: bytes) -> Target | None:
        """How to read a request to this path, and the model; None where the lane has no business."""
        target = self._targets.get(url)
        if target is None and (target := self._parsed(url)) is not None:
            if len(self._targets) >= _MOST_TARGETS:
                self._targets.clear()
            self._targets[url] = target
        return target

    def understood(
        self, target: Target, url: bytes, headers: Sequence[tuple[bytes, bytes]], *, keep_alive: bool
    ) -> Head | None:
        """The head of a POST of HTTP/1.1; None where something is in it that the lane leaves to Litestar."""
        settings, n_bytes = self._settings, len(url)
        told: dict[str, bytes] = {}
        for spelled, value in headers:
            n_bytes += len(spelled) + len(value)
            name = _NAMES.get(spelled, "")
            if name == "":
                name = _NAMES.get(spelled.lower(), "")
            if name is not None:
                if name == "" or name in told:
                    return None
                told[name] = value
        if n_bytes > settings.max_header_bytes or len(headers) > settings.max_headers:
            return None
        length, content_type = told.pop("content-length", b""), told.pop("content-type", _JSON)
        if not _PLAIN_HOST.fullmatch(told.pop("host", b"")) or not length.isdigit():
            return None
        if int(length) > settings.max_body_bytes:
            return None
        if content_type not in _JSON_TYPES:
            return None
        return Head(target, {name: value.decode("latin-1") for name, value in told.items()}, int(length), keep_alive)

    def remember(self, received: bytes, head: Head) -> None:
        """Know this head again, `received` with the empty line that ends it; if it is likely to come again."""
        if head.keep_alive and len(received) <= _MOST_HEAD_BYTES and head.told.keys().isdisjoint(_OF_ONE_REQUEST):
            if len(self.known) >= _MOST_HEADS:
                self.known.clear()
            self.known[received] = head

    def _parsed(self, url: bytes) -> Target | None:
        for before, after, read in ((b"/models/", b"/predict", Predict.read), (b"/v2/models/", b"/infer", Infer.read)):
            if url.startswith(before) and url.endswith(after):
                name = url[len(before) : -len(after)].decode("latin-1")
                if name in self._lineups.names:  # so the name is plain: no slash, no escape, no query
                    return read, name
        return None
