"""How Litestar's requests pass the front: every route declares what it needs, and every answer leaves in one place.

A route says `scope="predict"` (or another scope, a tuple of which one is enough, or "open") in its decorator. One that
says nothing is for `admin` alone: what nobody thought about stays shut.
"""

from __future__ import annotations

from typing import Any

from litestar import Request
from litestar.types import Message, Scope

from gateway.front import INCOMPLETE, REQUEST_ID, Ticket
from gateway.routes.parts import Parts, ticket_of


async def admit(request: Request[Any, Any, Any]) -> None:
    """Before a route is called. Raises what `Front.admit` raises."""
    parts: Parts = request.app.state.parts
    needed = request.route_handler.opt.get("scope", "admin")
    parts.front.admit(ticket_of(request), request.headers, needed, request.path_params.get("model"))


async def leave(message: Message, scope: Scope) -> None:
    """Before an answer is sent: it carries the request's id, and is counted and logged once.

    Unless it was no request yet: what ends before it is complete, its connection has told and counted.
    """
    if message["type"] != "http.response.start":
        return
    ticket: Ticket | None = scope["state"].get("ticket")
    if ticket is not None:
        message["headers"] = [*message["headers"], (REQUEST_ID.encode(), ticket.request_id.encode())]
        if INCOMPLETE not in scope["state"]:
            scope["litestar_app"].state.parts.front.leave(ticket, message["status"])
