"""Replays as the registry keeps them: asked for with a line in the audit, ended with a report.

    ask ─▶ asked ─┬─ end ─▶ done      with a report
                  └─ end ─▶ failed    with one sentence

The shadow worker scores what is asked, by a cursor in the journal; the retrain worker reports when that has come to
the end. A report is derived from the journal at cursors that were frozen with the question. It decides nothing, but may
suggest a bet (`retrain.informed`): so its end, and the generation of that moment, are in the audit too.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection, Select, func, select

from registry.audit import append, canonical, digest_of_text
from registry.database import Database
from registry.errors import NoChampion, ReplayRefused, UnknownReplay
from registry.lookup import find_model, find_version, generation_of
from registry.replay import Asked, Replay, Span, TrainingWindow
from registry.rows import AnyRow, to_document
from registry.tables import reigns, replays
from registry.types import Principal, Version


class Replays:
    """The replays of every model of a store."""

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database, self._now = database, now

    def ask(
        self,
        model: str,
        version: int,
        span: Span,
        *,
        trained_until: datetime | None = None,
        reason: str,
        by: Principal,
    ) -> Replay:
        """Ask for the rows of a span to be scored by a version.

        `trained_until`: until when it has learned, where its training report does not say.

        Raises:
            UnknownModel, UnknownVersion: there is nothing to replay.
            NoChampion: nobody has answered anything yet.
            ReplayRefused: the span is empty, or all of it is what the version has learned from, or may be; or another
                replay of the version is under way.
        """
        with self._database.change() as connection:
            window = window_of(find_version(connection, model, version), trained_until)
            reign = connection.scalar(select(func.max(reigns.c.number)).where(reigns.c.model == model))
            if reign is None:
                raise NoChampion(model)
            _check(model, version, span, window)
            waits = _of(model).where(replays.c.version == version, replays.c.state == "asked")
            if (under_way := connection.execute(waits).first()) is not None:
                raise ReplayRefused(
                    f"replay {under_way.number} of version {version} of '{model}' is under way: wait for it"
                )
            latest = connection.scalar(select(func.max(replays.c.number)).where(replays.c.model == model))
            asked = Asked(span, window, by.name, reason, self._now(), reign)
            replay = Replay(model, (latest or 0) + 1, version, asked)
            row = {"model": model, "number": replay.number, "version": version, "state": "asked"}
            connection.execute(replays.insert().values(row | {"asked": canonical(asked)}))
            detail: dict[str, Any] = {"replay": replay.number, "version": version, "reason": reason, "window": window}
            detail |= {"since": span.since, "until": span.until, "asked_digest": digest_of_text(canonical(asked))}
            append(connection, at=asked.at, by=by, action="ask_replay", model=model, detail=detail)
            return replay

    def end(self, replay: Replay, state: Literal["done", "failed"], report: dict[str, Any]) -> None:
        """Keep what came of it; one that has ended stays as it is."""
        key = (replays.c.model == replay.model) & (replays.c.number == replay.number) & (replays.c.state == "asked")
        at, text = self._now(), canonical(report)
        with self._database.change() as connection:
            generation = generation_of(connection, replay.model)
            ended = {"state": state, "report": text, "ended_at": at, "ended_generation": generation}
            if connection.execute(replays.update().where(key).values(ended)).rowcount:
                detail = {"replay": replay.number, "state": state, "report_digest": digest_of_text(text)}
                detail["ended_generation"] = generation
                append(
                    connection, at=at, by=Principal.the_rule(), action="end_replay", model=replay.model, detail=detail
                )

    def waiting(self) -> list[Replay]:
        """Those of every model that have not ended, in the order in which they were asked for."""
        query = select(replays).where(replays.c.state == "asked")
        with self._database.read() as connection:
            found = [_replay(row) for row in connection.execute(query)]
        return sorted(found, key=lambda replay: (replay.asked.at, replay.model, replay.number))

    def of(self, model: str) -> list[Replay]:
        """The replays of a model, oldest first; raises UnknownModel."""
        with self._database.read() as connection:
            find_model(connection, model)
            return [_replay(row) for row in connection.execute(_of(model).order_by(replays.c.number))]

    def one(self, model: str, number: int) -> Replay:
        """The replay of that number; raises UnknownModel or UnknownReplay."""
        with self._database.read() as connection:
            find_model(connection, model)
            return _found(connection, model, number)


def window_of(version: Version, stated: datetime | None) -> TrainingWindow:
    """What a version has learned from, by its report or else by who asks.

    Raises:
        ReplayRefused: neither says until when; or both do.
    """
    said = version.training
    if said is not None and said.trained_until is not None:
        if stated is not None:
            raise ReplayRefused(
                f"trained_until: expected nothing, as the training report of version {version.number} of "
                f"'{version.model}' says {said.trained_until.isoformat()}, got {stated.isoformat()}"
            )
        return TrainingWindow(said.trained_from, said.trained_until)
    if stated is None:
        raise ReplayRefused(
            f"nobody knows until when version {version.number} of '{version.model}' has learned, and rows that it has "
            "learned from say nothing: state it (trained_until)"
        )
    return TrainingWindow(None, stated, is_stated=True)


def _check(model: str, version: int, span: Span, window: TrainingWindow) -> None:
    if span.since >= span.until:
        raise ReplayRefused(
            f"until: expected a time after since ({span.since.isoformat()}), got {span.until.isoformat()}"
        )
    if window.covers(span.since, span.until):
        raise ReplayRefused(
            f"version {version} of '{model}' has learned from rows until {window.end.isoformat()}, and so from all of "
            f"{span.since.isoformat()} to {span.until.isoformat()}: what it answers there says nothing"
        )


def _of(model: str) -> Select[*tuple[Any, ...]]:
    return select(replays).where(replays.c.model == model)


def _found(connection: Connection, model: str, number: int) -> Replay:
    row = connection.execute(_of(model).where(replays.c.number == number)).first()
    if row is None:
        raise UnknownReplay(model, number)
    return _replay(row)


def _replay(row: AnyRow) -> Replay:
    asked = msgspec.json.decode(row.asked, type=Asked)
    return Replay(
        row.model, row.number, row.version, asked, row.state, to_document(row.report), row.ended_at,
        row.ended_generation,
    )  # fmt: skip
