"""Changes of a lineup: role table, new generation, decision and audit row, in the transaction of the caller.

    read the lineup ▶ is it the generation that was decided upon? ▶ roles.after ▶ lineup row
                    ▶ a new reign, where the champion is another ▶ decision row ▶ audit row

The write lock is held from before the read, so that of two who decide upon one generation one finds it moved.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, select

from registry import roles
from registry.audit import append, canonical
from registry.errors import GenerationMoved, NoChampion, TransitionRefused
from registry.lookup import find_lineup, find_model, find_version
from registry.tables import decisions, lineups, models, reigns
from registry.types import Lineup, Policy, Principal


class Grounds(msgspec.Struct, frozen=True):
    """Who decides, why, upon which generation, and what was known: frozen with the decision."""

    by: Principal
    reason: str
    at: datetime
    expected_generation: int | None = None
    evidence: dict[str, Any] | None = None
    cursors: dict[str, Any] | None = None


def appoint(connection: Connection, model: str, version: int, grounds: Grounds) -> Lineup:
    """Generation 1: the first champion of a model, alone; the same champion again changes nothing.

    Raises:
        TransitionRefused: another version is champion.
    """
    find_version(connection, model, version)
    try:
        lineup = find_lineup(connection, model)
    except NoChampion:
        return _write(connection, "register", version, None, roles.first(model, version), grounds)
    _check_generation(lineup, grounds)
    return lineup if lineup.champion == version else roles.after("register", version, lineup)


def change(connection: Connection, event: roles.Event, model: str, version: int, grounds: Grounds) -> Lineup:
    """The lineup after `event` happened to `version`.

    Raises:
        GenerationMoved: the grounds name another generation than the one of now.
        TransitionRefused: the role of the version does not allow it.
    """
    find_version(connection, model, version)
    lineup = find_lineup(connection, model)
    _check_generation(lineup, grounds)
    return _write(connection, event, version, lineup, roles.after(event, version, lineup), grounds)


def rollback(connection: Connection, model: str, grounds: Grounds) -> Lineup:
    """The deposed champion answers again.

    Raises:
        TransitionRefused: none was deposed, or it was retired since.
    """
    lineup = find_lineup(connection, model)
    _check_generation(lineup, grounds)
    if lineup.previous is None:
        raise TransitionRefused(
            f"cannot roll back '{model}': no previous champion is kept since version {lineup.champion}"
        )
    return change(connection, "rollback", model, lineup.previous, grounds)


def new_terms(connection: Connection, model: str, policy: Policy, grounds: Grounds) -> None:
    """Gives the model another policy: from its first champion on, in a new generation and reign with the same members.

    The policy that it has already changes nothing. This is no decision about a version: it has an audit row alone.

    Raises:
        GenerationMoved: the grounds name another generation than the one of now.
    """
    if find_model(connection, model).policy == policy:
        return
    connection.execute(models.update().where(models.c.name == model).values(policy=canonical(policy)))
    detail: dict[str, Any] = {"policy": policy, "to_generation": None}
    with suppress(NoChampion):
        lineup = find_lineup(connection, model)
        _check_generation(lineup, grounds)
        since = _no_earlier(lineup, grounds.at)
        later = msgspec.structs.replace(lineup, generation=lineup.generation + 1, since=since)
        _insert_lineup(connection, later)
        _begin_reign(connection, later)
        detail["to_generation"] = later.generation
    append(connection, at=grounds.at, by=grounds.by, action="set_policy", model=model, detail=detail)


def _write(
    connection: Connection, event: roles.Event, version: int, before: Lineup | None, after: Lineup, grounds: Grounds
) -> Lineup:
    from_generation = before.generation if before else 0
    after = msgspec.structs.replace(after, since=_no_earlier(before, grounds.at))
    _insert_lineup(connection, after)
    if before is None or before.champion != after.champion:
        _begin_reign(connection, after)
    evidence = None if grounds.evidence is None else canonical(grounds.evidence)
    cursors = None if grounds.cursors is None else canonical(grounds.cursors)
    connection.execute(
        decisions.insert().values(
            model=after.model, to_generation=after.generation, kind=event, version=version,
            from_generation=from_generation, principal=grounds.by.name, reason=grounds.reason, at=after.since,
            evidence=evidence, cursors=cursors,
        )
    )  # fmt: skip
    # the audit holds digests of the documents: whoever edits them in the decision breaks the chain too
    detail: dict[str, Any] = {
        "version": version,
        "from_generation": from_generation,
        "to_generation": after.generation,
        "reason": grounds.reason,
    }
    for name, document in (("evidence", evidence), ("cursors", cursors)):
        if document is not None:
            detail[f"{name}_digest"] = "sha256:" + hashlib.sha256(document.encode()).hexdigest()
    append(connection, at=grounds.at, by=grounds.by, action=event, model=after.model, detail=detail)
    return after


def _check_generation(lineup: Lineup, grounds: Grounds) -> None:
    if grounds.expected_generation not in (None, lineup.generation):
        raise GenerationMoved(lineup.model, grounds.expected_generation, lineup.generation)


def _no_earlier(before: Lineup | None, at: datetime) -> datetime:
    # a clock that was set back must not let two generations claim one moment
    return at if before is None or before.since is None else max(at, before.since)


def _insert_lineup(connection: Connection, lineup: Lineup) -> None:
    connection.execute(
        lineups.insert().values(
            msgspec.structs.asdict(lineup) | {"challengers": msgspec.json.encode(lineup.challengers).decode()}
        )
    )


def _begin_reign(connection: Connection, lineup: Lineup) -> None:
    model = find_model(connection, lineup.model)
    champion = find_version(connection, lineup.model, lineup.champion)
    latest = connection.scalar(
        select(reigns.c.number).where(reigns.c.model == lineup.model).order_by(reigns.c.number.desc()).limit(1)
    )
    connection.execute(
        reigns.insert().values(
            model=lineup.model,
            number=(latest or 0) + 1,
            champion=lineup.champion,
            first_generation=lineup.generation,
            since=lineup.since,
            policy=canonical(model.policy),
            training=None if champion.training is None else canonical(champion.training),
        )
    )
