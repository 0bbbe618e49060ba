"""What a rollback deposed plays no more, unless a person lifts the bar; and the rule rests for a while."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection, select

from registry.audit import append
from registry.consent import Bar
from registry.errors import ApprovalNeeded, RuleRests, TransitionRefused, VersionBarred
from registry.lookup import find_version
from registry.rows import to_bar
from registry.tables import bars, decisions
from registry.types import Lineup, Model, Principal


def set_up(connection: Connection, before: Lineup, after: Lineup) -> None:
    """Bars the champion that this rollback deposed; the decision's own audit row tells of it."""
    connection.execute(
        bars.insert().values(
            model=after.model, version=before.champion, generation=after.generation, at=after.since
        )
    )  # fmt: skip


def check(connection: Connection, model: str, version: int) -> None:
    """Refuses a version that may not play; raises VersionBarred."""
    if (standing := _standing(connection, model, version)) is not None:
        raise VersionBarred(model, version, standing.generation)


def lift(connection: Connection, model: str, version: int, by: Principal, reason: str, at: datetime) -> Bar:
    """Lets a barred version play again: it is retired still, and may be enlisted.

    Raises:
        TransitionRefused: there is no bar to lift.
        ApprovalNeeded: the rule asks, and only people may.
    """
    if by.is_the_rule:
        raise ApprovalNeeded(f"the rule lifts no bar: a person must, as of version {version} of '{model}'")
    find_version(connection, model, version)
    standing = _standing(connection, model, version)
    if standing is None:
        raise TransitionRefused(f"version {version} of '{model}' is not barred")
    key = (bars.c.model == model) & (bars.c.version == version) & (bars.c.generation == standing.generation)
    connection.execute(bars.update().where(key).values(lifted_by=by.name, lifted_reason=reason, lifted_at=at))
    detail = {"version": version, "generation": standing.generation, "reason": reason}
    append(connection, at=at, by=by, action="lift_bar", model=model, detail=detail)
    return to_bar(connection.execute(select(bars).where(key)).one())


def rests_until(connection: Connection, model: Model) -> datetime | None:
    """Until when the rule promotes nothing of this model by itself; None where it was never rolled back."""
    query = select(decisions.c.at).where(decisions.c.model == model.name, decisions.c.kind == "rollback")
    last: datetime | None = connection.scalar(query.order_by(decisions.c.to_generation.desc()).limit(1))
    return None if last is None else last + timedelta(seconds=model.policy.rest_s)


def check_rested(connection: Connection, model: Model, by: Principal, at: datetime) -> None:
    """Refuses the rule, and nobody else, inside the cool-down after a rollback; raises RuleRests."""
    if by.is_the_rule and (until := rests_until(connection, model)) is not None and at < until:
        raise RuleRests(model.name, until)


def _standing(connection: Connection, model: str, version: int) -> Bar | None:
    """The bar that nobody has lifted: one at most, as a barred version cannot become champion to be deposed again."""
    key = (bars.c.model == model) & (bars.c.version == version) & bars.c.lifted_at.is_(None)
    row = connection.execute(select(bars).where(key).order_by(bars.c.generation.desc()).limit(1)).first()
    return None if row is None else to_bar(row)
