"""When a model is trained: what asks for it, and what holds that back. A pure function, looked at after each cohort.

    what asks      performance ▶ drift ▶ outcomes ▶ calendar: the first that does (people ask by themselves)
    what brakes    one is under way ▶ cool-down ▶ too few rows ▶ too many challengers ▶ no slot is left in the reign

What asks and is held back asks again at the next cohort. Its id names what it is about, so that it is served once: an
alarm that goes on after its training is the same alarm.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec import Struct

from registry.recipe import Recipe, Triggers
from registry.trainings import TriggerKind

FUTILE = ("worse", "no_difference", "behind")
"""Standings of challengers that may leave to make room, the first to go first."""


class Alarm(Struct, frozen=True):
    """Of a detector: since when, and its sentence."""

    since: str
    sentence: str


class Facts(Struct, frozen=True):
    """What is known of a model when the outcomes of a cohort have matured, at `at`.

    `n_matured`: live rows whose outcomes have had their time, since the journal began; `n_matured_before`: of them,
    when the last training was asked for. `begun_at`: the last training's time, else since when the champion plays.
    `standings`: of the challengers that play, by version: the verdict, or `behind` for one that collects and has lost
    more than the champion on as many outcomes as a promotion needs. `n_slots_left`: challengers that this reign can
    still judge.
    """

    at: datetime
    champion: int
    n_matured: int
    n_matured_before: int
    begun_at: datetime
    asked_at: datetime | None = None
    under_way: int | None = None
    served: frozenset[str] = frozenset()
    standings: dict[int, str] = {}
    n_slots_left: int = 1
    drift: Alarm | None = None
    performance: Alarm | None = None


class Ask(Struct, frozen=True):
    """A trigger: `id` names what it is about, `reason` says it."""

    id: str
    kind: TriggerKind
    reason: str


class Outlook(Struct, frozen=True):
    """What is to be done now (None: nothing), and the sentence that says why."""

    ask: Ask | None
    sentence: str


def outlook(recipe: Recipe | None, facts: Facts) -> Outlook:
    """Whether to train now."""
    if recipe is None:
        return Outlook(None, "there is no recipe: only people bring versions")
    if facts.under_way is not None:
        return Outlook(None, f"training {facts.under_way} is under way")
    ask = asking(recipe.triggers, facts)
    if ask is None:
        return Outlook(None, _waits(recipe.triggers, facts))
    brake = braking(recipe.triggers, facts)
    return Outlook(ask, ask.reason) if brake is None else Outlook(None, f"{ask.reason}; held back: {brake}")


def asking(triggers: Triggers, facts: Facts) -> Ask | None:
    """The first trigger that asks and was not served yet."""
    found: list[Ask] = []
    if triggers.performance and facts.performance is not None:
        found.append(_of_alarm("performance", facts.performance, facts.champion))
    if triggers.drift and facts.drift is not None:
        found.append(_of_alarm("drift", facts.drift, facts.champion))
    n_new = facts.n_matured - facts.n_matured_before
    if triggers.n_outcomes is not None and n_new >= triggers.n_outcomes:
        said = f"{n_new:,} rows have matured since the last one, and {triggers.n_outcomes:,} ask for a training"
        found.append(Ask(f"outcomes:{facts.at.isoformat()}", "outcomes", said))
    if triggers.every_days is not None and facts.at >= facts.begun_at + timedelta(days=triggers.every_days):
        said = f"{triggers.every_days:g} days have passed since {_day(facts.begun_at)}"
        found.append(Ask(f"calendar:{facts.at.isoformat()}", "calendar", said))
    return next((ask for ask in found if ask.id not in facts.served), None)


def braking(triggers: Triggers, facts: Facts) -> str | None:
    """Why what asks has to wait; None where it has not."""
    if facts.asked_at is not None and (rested := facts.asked_at + timedelta(days=triggers.cool_down_days)) > facts.at:
        return f"it cools down until {_day(rested)}"
    if facts.n_matured < triggers.min_outcomes:
        return f"{facts.n_matured:,} rows have matured, and a training needs {triggers.min_outcomes:,}"
    if leaving(facts.standings, triggers.max_challengers) is None:
        n_hopeful = sum(standing not in FUTILE for standing in facts.standings.values())
        said = f"{n_hopeful} challenger{'s' * (n_hopeful != 1)} may still win, and the recipe allows"
        return f"{said} {triggers.max_challengers} to play"
    if facts.n_slots_left < 1:
        return "every slot of this reign is taken: the next version waits for the next reign"
    return None


def leaving(standings: dict[int, str], most: int) -> tuple[int, ...] | None:
    """The challengers that leave so that one more may play, of `most`; None where too many of them may still win.

    No more leave than must, and of several that are alike the oldest. Leaving is no verdict: it spends no chance of a
    false promotion, and the slot of the reign stays taken.
    """
    n_too_many = len(standings) + 1 - most
    futile = [version for standing in FUTILE for version in sorted(standings) if standings[version] == standing]
    return None if n_too_many > len(futile) else tuple(futile[: max(0, n_too_many)])


def _of_alarm(kind: TriggerKind, alarm: Alarm, champion: int) -> Ask:
    return Ask(f"{kind}:version {champion}:{alarm.since}", kind, alarm.sentence)


def _waits(triggers: Triggers, facts: Facts) -> str:
    """When the next training may be asked for."""
    ways = []
    if triggers.every_days is not None:
        ways.append(f"on {_day(facts.begun_at + timedelta(days=triggers.every_days))}")
    if triggers.n_outcomes is not None:
        n_left = triggers.n_outcomes - (facts.n_matured - facts.n_matured_before)
        ways.append(f"when {n_left:,} more rows have matured")
    ways += [f"when {what} alarms" for what in ("drift", "performance") if getattr(triggers, what)]
    return f"the next training is asked for {', or '.join(ways)}" if ways else "only people ask for a training"


def _day(at: datetime) -> str:
    return f"{at.day} {at:%B %Y}"
