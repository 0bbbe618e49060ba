"""A replay: a version is given past rows that it never was a challenger for. What comes of it is never evidence."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from msgspec import Struct


class TrainingWindow(Struct, frozen=True):
    """What a version may have learned from: rows predicted from `begin` (None: from ever) to `end`, both included."""

    begin: datetime | None
    end: datetime
    is_stated: bool = False
    """Whoever asked for the replay said so, as no training report does."""

    def covers(self, since: datetime, until: datetime) -> bool:
        """Whether all of [since, until) lies in it."""
        return (self.begin is None or self.begin <= since) and until <= self.end


class Span(Struct, frozen=True):
    """Which part of the journal is replayed, frozen when it is asked for: rows predicted in [since, until).

    Of every writer there was: `begin`, the last seq before the first chunk of the span, and `end`, the last seq; and in
    `outcomes` the seq up to which its outcomes count. All of it as it stood at `as_of`.
    """

    since: datetime
    until: datetime
    as_of: datetime
    begin: dict[str, int]
    end: dict[str, int]
    outcomes: dict[str, int]


class Asked(Struct, frozen=True):
    """Who asked for a replay of what, when and why; never changes.

    `reign`: the one of that moment, by whose terms is judged; None only in stores that did not keep it yet.
    """

    span: Span
    window: TrainingWindow
    by: str
    reason: str
    at: datetime
    reign: int | None = None


class Replay(Struct, frozen=True):
    """One replay of a model. `report`: what came of it, or one sentence on why nothing did.

    `ended_generation`: the generation of the lineup when it ended. Whoever joins a later one has no evidence yet.
    """

    model: str
    number: int
    version: int
    asked: Asked
    state: Literal["asked", "done", "failed"] = "asked"
    report: dict[str, Any] | None = None
    ended_at: datetime | None = None
    ended_generation: int | None = None
