"""Who may become what: one table, one pure function. The store, the tests and the README all read this table.

    event       whom            from         to           and the others
    ---------   -------------   ----------   ----------   ------------------------------------------------
    register    a new version   retired      champion     only while the model has no champion
    enlist      a version       retired      challenger   -
    promote     a challenger    challenger   champion     champion → previous, previous → retired
    rollback    the previous    previous     champion     champion → retired
    retire      a version       challenger   retired      -
    retire      a version       previous     retired      -

A rollback leaves the challengers in play; what it deposes is retired, as nobody rolls back to it again.
"""

from __future__ import annotations

from typing import Literal, assert_never

from registry.errors import TransitionRefused
from registry.types import Lineup, Role

Event = Literal["register", "enlist", "promote", "rollback", "retire"]

TRANSITIONS: dict[tuple[Event, Role], Role] = {
    ("register", "retired"): "champion",
    ("enlist", "retired"): "challenger",
    ("promote", "challenger"): "champion",
    ("rollback", "previous"): "champion",
    ("retire", "challenger"): "retired",
    ("retire", "previous"): "retired",
}


def after(event: Event, version: int, lineup: Lineup) -> Lineup:
    """The lineup that follows `event` happening to `version`; `since` is left for the store to stamp.

    Raises:
        TransitionRefused: the table has no such row; says which role the version has and which it would need.
    """
    role = lineup.role(version)
    if (event, role) not in TRANSITIONS:
        needed = " or ".join(from_role for (name, from_role) in TRANSITIONS if name == event)
        raise TransitionRefused(
            f"cannot {event} version {version} of '{lineup.model}': it is {role}, and must be {needed}"
        )
    others = tuple(number for number in lineup.challengers if number != version)
    generation = lineup.generation + 1
    match event:
        case "register":
            raise TransitionRefused(
                f"model '{lineup.model}' has a champion already (version {lineup.champion}): "
                "enlist a challenger and promote it"
            )
        case "enlist":
            return Lineup(lineup.model, generation, lineup.champion, (*lineup.challengers, version), lineup.previous)
        case "promote":
            return Lineup(lineup.model, generation, version, others, lineup.champion)
        case "rollback":
            return Lineup(lineup.model, generation, version, lineup.challengers)
        case "retire":
            previous = None if version == lineup.previous else lineup.previous
            return Lineup(lineup.model, generation, lineup.champion, others, previous)
        case _:
            assert_never(event)


def first(model: str, version: int) -> Lineup:
    """Generation 1: the first champion, alone."""
    return Lineup(model, 1, version)
