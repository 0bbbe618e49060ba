"""What the routes are given: the parts of one worker, made by the composition root, and the ticket of their request."""

from __future__ import annotations

from typing import Any

from litestar import Request
from litestar.di import NamedDependency
from msgspec import Struct

from gateway.bundler import Bundler
from gateway.clock import JournalClock
from gateway.config import Settings
from gateway.desk import JournalDesk
from gateway.front import Front, Ticket
from gateway.lineup import Lineups
from gateway.metrics.exposition import Exposition
from gateway.predictor import Predictor
from gateway.pulse import Pulse
from registry.store import Registry


class Parts(Struct, frozen=True):
    """The parts of one gateway worker."""

    settings: Settings
    front: Front
    registry: Registry
    lineups: Lineups
    clock: JournalClock
    predictor: Predictor
    desk: JournalDesk
    pulse: Pulse
    exposition: Exposition
    bundler: Bundler


Using = NamedDependency[Parts]
"""The type of a route's parameter `parts`."""


def ticket_of(request: Request[Any, Any, Any]) -> Ticket:
    """The ticket of a request, which it has from the first moment that anybody asks for it."""
    state: dict[str, Any] = request.scope["state"]  # of this request: uvicorn copies it
    ticket: Ticket | None = state.get("ticket")
    if ticket is None:
        parts: Parts = request.app.state.parts
        ticket = state["ticket"] = parts.front.take(request.headers)
    return ticket
