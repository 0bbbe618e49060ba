"""What the routes are given: the parts of one worker, made by the composition root."""

from __future__ import annotations

from litestar.di import NamedDependency
from msgspec import Struct

from gateway.clock import JournalClock
from gateway.config import Settings
from gateway.desk import JournalDesk
from gateway.front import Front
from gateway.lineup import Lineups
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


Using = NamedDependency[Parts]
"""The type of a route's parameter `parts`."""
