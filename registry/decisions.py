"""Changes of a lineup: role table, new generation, decision and audit row, in the transaction of the caller.

    read the lineup ▶ is it the generation that was decided upon? ▶ roles.after ▶ lineup row
                    ▶ a new reign, where the champion is another ▶ decision row ▶ audit row

The write lock is held from before the read, so that of two who decide upon one generation one finds it moved.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, select

from registry import bars, roles
from registry.audit import FROZEN, append, canonical, digest_of_text
from registry.consent import check_promoter
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
    hashes: dict[str, str] | None = None
    proposal: int | None = None
    """Of the one that is approved by this."""

    @property
    def documents(self) -> dict[str, str | None]:
        """What was known, as it is stored."""
        known = {name: getattr(self, name) for name in FROZEN}
        return {name: None if document is None else canonical(document) for name, document in known.items()}


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
    check_generation(model, lineup.generation, grounds.expected_generation)
    return lineup if lineup.champion == version else roles.after("register", version, lineup)


def change(connection: Connection, event: roles.Event, model: str, version: int, grounds: Grounds) -> Lineup:
    """The lineup after `event` happened to `version`.

    Raises:
        GenerationMoved: the grounds name another generation than the one of now.
        TransitionRefused: the role of the version does not allow it.
        VersionBarred: it was rolled back, and may not play.
    """
    find_version(connection, model, version)
    lineup = find_lineup(connection, model)
    check_generation(model, lineup.generation, grounds.expected_generation)
    if event in ("enlist", "promote"):
        bars.check(connection, model, version)
    return _write(connection, event, version, lineup, roles.after(event, version, lineup), grounds)


def promote(connection: Connection, model: str, version: int, grounds: Grounds) -> Lineup:
    """As `change`, by somebody alone.

    Raises:
        ApprovalNeeded: the terms want somebody else to agree.
        RuleRests: the rule decides, too soon after a rollback.
    """
    find_version(connection, model, version)
    declared, lineup = find_model(connection, model), find_lineup(connection, model)
    check_generation(model, lineup.generation, grounds.expected_generation)
    check_promoter(model, version, declared.policy, grounds.by)
    bars.check_rested(connection, declared, grounds.by, grounds.at)
    return change(connection, "promote", model, version, grounds)


def rollback(connection: Connection, model: str, grounds: Grounds) -> Lineup:
    """The deposed champion answers again; what had taken its place is barred.

    Raises:
        TransitionRefused: none was deposed, or it was retired since.
    """
    lineup = find_lineup(connection, model)
    check_generation(model, lineup.generation, grounds.expected_generation)
    if lineup.previous is None:
        raise TransitionRefused(
            f"cannot roll back '{model}': no previous champion is kept since version {lineup.champion}"
        )
    after = change(connection, "rollback", model, lineup.previous, grounds)
    bars.set_up(connection, lineup, after)
    return after


def new_terms(connection: Connection, model: str, policy: Policy, grounds: Grounds) -> None:
    """Gives the model another policy: from its first champion on, in a new generation and reign with the same members.

    The policy that it has already changes nothing. This is no decision about a version: it has an audit row alone.

    Raises:
        GenerationMoved: the grounds name another generation than the one of now.
    """
    if find_model(connection, model).policy == policy:
        return
    connection.execute(models.update().where(models.c.name == model).values(policy=canonical(policy)))
    detail: dict[str, Any] = {"policy": policy, "to_generation": None} | _by_proposal(grounds)
    with suppress(NoChampion):
        lineup = find_lineup(connection, model)
        check_generation(model, lineup.generation, grounds.expected_generation)
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
    documents = grounds.documents
    connection.execute(
        decisions.insert().values(
            model=after.model, to_generation=after.generation, kind=event, version=version,
            from_generation=from_generation, principal=grounds.by.name, reason=grounds.reason, at=after.since,
            proposal=grounds.proposal, **documents,
        )
    )  # fmt: skip
    # the audit holds digests of the documents: whoever edits them in the decision breaks the chain too
    detail: dict[str, Any] = {
        "version": version,
        "from_generation": from_generation,
        "to_generation": after.generation,
        "reason": grounds.reason,
    }
    detail |= _by_proposal(grounds)
    detail |= {f"{name}_digest": digest_of_text(text) for name, text in documents.items() if text is not None}
    append(connection, at=grounds.at, by=grounds.by, action=event, model=after.model, detail=detail)
    return after


def check_generation(model: str, generation: int, expected: int | None) -> None:
    """Refuses what was decided upon another generation than that of now; raises GenerationMoved."""
    if expected not in (None, generation):
        raise GenerationMoved(model, expected, generation)


def _by_proposal(grounds: Grounds) -> dict[str, int]:
    return {} if grounds.proposal is None else {"proposal": grounds.proposal}


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
