"""What holds for every request before it is answered and after: who asks, may they, which request is it, and one line.

Called by the routes (`routes/door.py`) and by the fast lane, and by nothing of Litestar's own: a rule that lived in a
middleware would have to be written twice.

    ticket = front.take(headers)                      # never refuses: even a refusal has a request id
    front.admit(ticket, headers, "predict", "loans")  # raises what is refused
    …
    front.leave(ticket, 200)                          # counted, and logged in one line
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any, Literal, Protocol

from msgspec import Struct

from gateway.errors import BadRequest, GatewayError, InvalidInput, WrongContentType
from gateway.keyring import KeyRing
from gateway.metrics import Tally
from gateway.randomness import HexDigits
from gateway.records import Purpose
from registry.types import Principal, Scope

REQUEST_ID = "x-request-id"
TEST = "x-understudy-test"
INCOMPLETE = "incomplete"
"""In the state of a request that will never be complete: its connection has told and counted that."""
JSON = "application/json"
Needed = Scope | tuple[Scope, ...] | Literal["open"]
"""What a caller's key must be good for: one scope, any one of several, or no key at all."""
_ID = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_TRACE = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_NOBODY = Principal("nobody", frozenset())


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


class Ticket(Struct):
    """A request from its arrival to its answer."""

    request_id: str
    trace: str | None
    arrived_ns: int
    """By `time.perf_counter_ns`."""
    principal: Principal = _NOBODY
    purpose: Purpose = "live"
    model: str = ""
    """The served model that was asked; empty while nobody knows whether there is such a model."""
    version: int = 0
    n_rows: int = 0
    refused: str = ""
    """The name of the error that it was answered by."""


class Log(Protocol):
    """The one method of a structlog logger that is used here."""

    def info(self, event: str, **facts: Any) -> Any:
        """Print one line."""


class Front:
    """The door of one worker."""

    def __init__(self, keys: KeyRing, tally: Tally, log: Log | None, digits: HexDigits) -> None:
        """`log`: where the one line a request goes; None for no such lines. `digits`: for new request ids."""
        self.keys, self.tally = keys, tally
        self._log, self._digits = log, digits
        self.draining = False
        """Still answering, but no longer ready: whoever sends requests should send them elsewhere."""

    def take(self, headers: Mapping[str, str]) -> Ticket:
        """Begin with a request: its id is the caller's, if that is one that can go into a log, else a new one."""
        given = headers.get(REQUEST_ID)
        request_id = given if given is not None and _ID.fullmatch(given) else self._digits.take()
        traceparent = headers.get("traceparent")
        trace = _TRACE.fullmatch(traceparent) if traceparent is not None else None
        return Ticket(request_id, trace and trace.group(1), time.perf_counter_ns())

    def admit(self, ticket: Ticket, headers: Mapping[str, str], needed: Needed, model: str | None) -> None:
        """Let a request in, for something that needs a scope (on one model, where it is about one).

        Raises:
            CrossSite: a browser asks on behalf of another site; it need not even see the answer to do harm.
            Unauthenticated, Forbidden: nobody we know asks, or somebody who may not.
            InvalidInput: a header of ours that cannot be meant.
        """
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != headers.get("host", ""):
            raise CrossSite(origin, headers.get("host", ""))
        if needed != "open":
            keys = self.keys
            ticket.principal = principal = keys.principal_of(headers.get("authorization"), headers.get("x-api-key"))
            if not keys.is_open:
                keys.check(principal, needed, model)
        test = headers.get(TEST)
        if test is not None and test != "0":
            if test != "1":
                raise InvalidInput(f"{TEST}: expected 0 or 1, got {test!r:.40}")
            ticket.purpose = "test"

    def leave(self, ticket: Ticket, status: int) -> None:
        """Count a request that is answered, and say in one line what became of it."""
        took_s = (time.perf_counter_ns() - ticket.arrived_ns) / 1e9
        self.tally.count(ticket.model, ticket.version, status, took_s, ticket.n_rows)
        if ticket.refused:
            self.tally.count_refused(ticket.refused)
        if self._log is not None:
            self._log.info(
                "request", request_id=ticket.request_id, trace=ticket.trace, principal=ticket.principal.name,
                purpose=ticket.purpose, status=status, took_ms=round(took_s * 1e3, 3), model=ticket.model,
                version=ticket.version, n_rows=ticket.n_rows, refused=ticket.refused or None,
            )  # fmt: skip


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
