"""Replays on a stage: asked for as the route does, with the journal as it stands."""

from __future__ import annotations

from gateway.desk import Files
from gateway.journal.join import OutcomeJoin
from gateway.replays import span_of
from registry.types import Replay
from retrain.replays import ReplayDesk
from tests.stage import ME, Stage, at

LONG_AGO = -100.0


def asked(
    stage: Stage,
    version: int,
    since: float,
    until: float,
    *,
    as_of: float | None = None,
    trained_until: float | None = LONG_AGO,
) -> Replay:
    """A replay of the days [since, until), as of a day (the end of the span, unless said otherwise)."""
    files = Files(stage.ledger, stage.reader, OutcomeJoin(stage.reader, stage.ledger))
    span = span_of(files, at(since), at(until), at(until if as_of is None else as_of))
    learned = None if trained_until is None else at(trained_until)
    return stage.registry.replays.ask(stage.name, version, span, trained_until=learned, reason="to see", by=ME)


def reported(stage: Stage, replay: Replay) -> Replay:
    """The replay once a retrain worker has looked."""
    desk = ReplayDesk(stage.registry, stage.reader, stage.ledger, stage.settings)
    while desk.step():
        pass
    return stage.registry.replays.one(replay.model, replay.number)
