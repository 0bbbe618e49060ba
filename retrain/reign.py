"""What the cycle knows of one model's present reign."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC

from gateway.records import micros
from registry.errors import NoChampion
from registry.reader import RegistryReader
from registry.store import Registry
from registry.types import ClosedBucket, Lineup, Model, Reign, Replay, Version
from retrain.cohorts import Contender, OpenCohorts
from retrain.evidence import Rule
from retrain.informed import informed
from retrain.kept import PREVIOUS, is_readable
from retrain.terms import probation_rule_of, rule_of


class ReignState:
    """What the cycle knows of one model's present reign; made anew when the lineup moves."""

    def __init__(self, registry: Registry, model: Model, bucket_s: int) -> None:
        name = model.name
        self.model, self.bucket_s = model, bucket_s
        lineups = registry.lineups(name)
        if not lineups:
            raise NoChampion(name)
        self.lineup: Lineup = lineups[-1]
        # all of it as of that lineup: somebody may change it between two of these reads
        reigns = [reign for reign in registry.reigns(name) if reign.first_generation <= self.lineup.generation]
        self.reign: Reign = reigns[-1]
        self.decided = False
        """Whether what is closed was decided upon; an earlier process may have ended in between."""
        self.closed: list[ClosedBucket] = registry.closed_buckets(name, self.reign.number)
        self.versions: dict[int, Version] = {version.number: version for version in registry.versions(name)}
        self.champion_signature = self.versions[self.lineup.champion].signature
        replays = registry.replays.of(name)
        self.contenders = contenders_of(lineups, model, self.reign, self.versions, bucket_s, replays)
        closed_before = _last_closed(registry, name, before_reign=self.reign.number)
        self.cohorts = OpenCohorts(name, self.reign.first_generation, self.closed, closed_before)
        self.n_promoted = n_promoted(registry, name, self.reign)

    @property
    def rule(self) -> Rule:
        """The rule of the reign, where nothing depends on who is judged."""
        return rule_of(self.model, self.reign, self.bucket_s)

    @property
    def judged(self) -> list[Contender]:
        """The challengers that still play and have a slot."""
        return [c for c in self.playing if not c.is_previous]

    @property
    def previous(self) -> Contender | None:
        """The champion of before, while it is mirrored."""
        return next((c for c in self.playing if c.is_previous), None)

    @property
    def playing(self) -> list[Contender]:
        """Everybody who is held against the champion now: buckets wait for them."""
        now = {*self.lineup.challengers}
        return [
            c for c in self.contenders
            if (c.version == self.lineup.previous if c.is_previous else c.has_slot and c.version in now)
        ]  # fmt: skip

    def unreadable(self) -> list[ClosedBucket]:
        """Closed buckets with sums that somebody else's code, or another rule, made."""
        digests = {c.key: c.rule.digest for c in self.contenders}
        return [
            bucket for bucket in self.closed
            if any(not is_readable(sums, digests.get(key, "")) for key, sums in bucket.sums.items())
        ]  # fmt: skip


def contenders_of(
    lineups: Sequence[Lineup], model: Model, reign: Reign, versions: dict[int, Version], bucket_s: int,
    replays: Sequence[Replay],
) -> list[Contender]:  # fmt: skip
    """The challengers of a reign in the order in which they came, and the previous champion.

    The first of the challengers are judged in it, as many as the policy says. `replays`: of the model, by number.
    """
    generations: dict[int, set[int]] = {}
    mirrored: set[int] = set()
    previous: int | None = None
    for lineup in lineups:
        if lineup.generation < reign.first_generation:
            continue
        for version in lineup.challengers:
            generations.setdefault(version, set()).add(lineup.generation)
        if lineup.previous is not None:
            previous = lineup.previous
            mirrored.add(lineup.generation)
    found = [
        Contender(
            version, version, versions[version].signature, frozenset(numbers), place < reign.policy.n_judged,
            informed(
                rule_of(model, reign, bucket_s, versions[version].training, place=place),
                replays, version, reign.champion, min(numbers),
            ),
            learned_until_us(versions[version]),
        )
        for place, (version, numbers) in enumerate(generations.items())
    ]  # fmt: skip
    if previous is not None:
        rule = probation_rule_of(model, reign, bucket_s, versions[previous].training)
        found.append(
            Contender(
                previous, PREVIOUS, versions[previous].signature, frozenset(mirrored), has_slot=True, rule=rule,
                learned_until_us=learned_until_us(versions[previous]),
            )
        )  # fmt: skip
    return found


def learned_until_us(version: Version) -> int | None:
    """Up to when rows may have been among those that a version was trained on; a time without a zone is in UTC."""
    until = version.training.trained_until if version.training is not None else None
    if until is None:
        return None
    return micros(until if until.tzinfo is not None else until.replace(tzinfo=UTC))


def n_promoted(registry: RegistryReader, model: str, reign: Reign) -> int:
    """Matured outcomes that the champion's promotion rested on; where a person promoted without, what the terms ask."""
    for decision in reversed(registry.decisions(model)):
        if decision.kind == "promote" and decision.to_generation <= reign.first_generation:
            return int((decision.evidence or {}).get("n", reign.policy.min_outcomes))
    return reign.policy.min_outcomes


def _last_closed(registry: Registry, model: str, *, before_reign: int) -> int | None:
    """The last bucket that any earlier reign closed."""
    for number in range(before_reign - 1, 0, -1):
        if closed := registry.closed_buckets(model, number):
            return closed[-1].bucket
    return None
