"""What holds for every request before a route sees it and after it has answered.

Called by the routes, and by nothing of Litestar's own: a rule about predictions that lived in a middleware would have
to be written twice for any other way in. Today: who asks, request ids, traces, test traffic, the content type,
draining, and one log line.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from msgspec import Struct

from gateway.errors import BadRequest, GatewayError, InvalidInput, WrongContentType
from gateway.records import Purpose
from registry.types import Principal

REQUEST_ID = "x-request-id"
TEST = "x-understudy-test"
JSON = "application/json"
_ID = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_TRACE = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


class Draining(GatewayError):
    """This worker is stopping; another one, or a later one, will answer."""

    retry_after_s = 1

    def __init__(self) -> None:
        super().__init__("this worker is stopping: try again")


class Compressed(BadRequest):
    """The body is compressed; unpacking it would cost what its sender likes."""

    def __init__(self, encoding: str) -> None:
        self.encoding = encoding
        super().__init__(f"content-encoding: expected none, got {encoding:.40}")


class CrossSite(GatewayError):
    """A web page of somewhere else asks, through the browser of somebody who can reach this server."""

    def __init__(self, origin: str, host: str) -> None:
        self.origin, self.host = origin, host
        super().__init__(f"origin: expected none, or http://{host:.80}, got {origin!r:.80}: web pages may not ask here")


class Ticket(Struct, frozen=True):
    """A request that was let in."""

    request_id: str
    trace: str | None
    purpose: Purpose
    principal: Principal
    started_s: float


class Log(Protocol):
    """The one method of a structlog logger that is used here."""

    def info(self, event: str, **facts: Any) -> Any:
        """Print one line."""


class Front:
    """The door of one worker."""

    def __init__(self, log: Log | None, random: Callable[[int], str] = secrets.token_hex) -> None:
        """`log`: where the one line a request goes; None for no such lines."""
        self._log, self._random = log, random
        self.draining = False

    def enter(self, headers: Mapping[str, str]) -> Ticket:
        """Let a request in.

        Raises:
            Draining: this worker takes no more.
            CrossSite: a browser asks on behalf of another site; it need not even see the answer to do harm.
            InvalidInput: a header of ours that cannot be meant.
        """
        if self.draining:
            raise Draining
        origin, host = headers.get("origin"), headers.get("host", "")
        if origin is not None and origin.partition("://")[2] != host:
            raise CrossSite(origin, host)
        test = headers.get(TEST)
        if test not in (None, "0", "1"):
            raise InvalidInput(f"{TEST}: expected 0 or 1, got {test!r:.40}")
        trace = _TRACE.fullmatch(headers.get("traceparent", ""))
        return Ticket(
            request_id=self.request_id(headers),
            trace=trace and trace.group(1),
            purpose="test" if test == "1" else "live",
            principal=Principal.local_operator(),
            started_s=time.perf_counter(),
        )

    def request_id(self, headers: Mapping[str, str]) -> str:
        """The caller's id for this request if it is one that can go into a log, else a new one."""
        given = headers.get(REQUEST_ID, "")
        return given if _ID.fullmatch(given) else self._random(8)

    def leave(self, ticket: Ticket, status: int, **facts: Any) -> dict[str, str]:
        """Say once what happened; returns the headers that every answer carries."""
        if self._log is not None:
            took_ms = round((time.perf_counter() - ticket.started_s) * 1_000, 3)
            self._log.info(
                "request", request_id=ticket.request_id, trace=ticket.trace, principal=ticket.principal.name,
                purpose=ticket.purpose, status=status, took_ms=took_ms, **facts,
            )  # fmt: skip
        return {REQUEST_ID: ticket.request_id}


def expect_json(headers: Mapping[str, str], *also: str) -> str:
    """The media type of a body, which must be JSON (or one of `also`); none at all counts as JSON.

    Raises:
        WrongContentType, Compressed: it is declared to be something else, or to be compressed.
    """
    refuse_compressed(headers)
    media = headers.get("content-type", JSON).partition(";")[0].strip().lower()
    if media not in (JSON, *also):
        raise WrongContentType(" or ".join((JSON, *also)), media[:40])
    return media


def refuse_compressed(headers: Mapping[str, str]) -> None:
    """Refuse a body that is declared to be compressed.

    Raises:
        Compressed: it is.
    """
    encoding = headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity"):
        raise Compressed(encoding)
