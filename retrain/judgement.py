"""What closed buckets say: of every challenger, and of the champion against the one it deposed. Nothing acts here."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from registry.types import ClosedBucket, Policy
from retrain.cohorts import Contender
from retrain.corrections import Corrections, Late
from retrain.evidence import BucketSums, Detector, Evidence, Probation, Rule, Serving, detect, judge, judge_probation
from retrain.kept import Kept, kept_of
from retrain.population import Population, words_of
from retrain.reign import ReignState


class Contest(Struct, frozen=True, kw_only=True):
    """Who is held against which champion, under which rule and terms: with what is kept of buckets, all of a judgement.

    `n_promoted`: matured outcomes that the champion's promotion rested on; it counts for the previous champion alone.
    """

    champion: int
    version: int
    rule: Rule
    policy: Policy
    n_promoted: int


class Judged(Struct, frozen=True):
    """A challenger, its evidence, and what it rests on."""

    contender: Contender
    evidence: Evidence
    kept: list[Kept]
    population: Population
    late: Late

    @property
    def latency_s(self) -> float | None:
        """The 95th percentile of what the challenger took alone; None where nothing was timed."""
        return sum((each.sums.serving or Serving() for each in self.kept), Serving()).latency_s


class Watched(Struct, frozen=True):
    """The champion against the previous one: probation, and from its end on the detector."""

    contender: Contender
    probation: Probation
    detector: Detector | None
    kept: list[Kept]

    @property
    def wants_back(self) -> str | None:
        """Why the previous champion should answer again; None where nothing says so."""
        if self.probation.course == "roll_back":
            return self.probation.sentence
        # an alarm that windows of days do not confirm is said, and nothing is done: shocks of days alone raise one
        if self.detector is not None and self.detector.confirmed:
            return (
                f"the detector alarms after {self.detector.n_buckets:,} buckets, and windows of the last days confirm "
                f"it: of late the champion loses more than version {self.contender.version}"
            )
        return None


def judged(state: ReignState, corrections: Corrections) -> list[Judged]:
    """Every challenger that plays in a slot and has a closed bucket that counts."""
    found = []
    for contender in state.judged:
        kept = kept_of(state.closed, contender.key)
        if kept:
            late = late_of(state.closed, contender, corrections)
            evidence, population = evidence_of(contest_of(state, contender), kept, late)
            found.append(Judged(contender, evidence, kept, population, late))
    return found


def contest_of(state: ReignState, contender: Contender) -> Contest:
    """A contender of a reign against its champion."""
    return Contest(
        champion=state.lineup.champion, version=contender.version, rule=contender.rule, policy=state.reign.policy,
        n_promoted=state.n_promoted,
    )  # fmt: skip


def evidence_of(contest: Contest, kept: Sequence[Kept], late: Late) -> tuple[Evidence, Population]:
    """The rule over these buckets, in the words of the population that their outcomes are of."""
    policy = contest.policy
    sums = [each.sums for each in kept]
    population = sum((each.population for each in kept), Population())
    weighted = any(each.is_weighted for each in sums)
    evidence = judge(
        sums,
        contest.rule,
        n_corrected=late.n_corrected,
        population=words_of(population, policy, weighted=weighted),
        champion=f"version {contest.champion}",
        challenger=f"version {contest.version}",
    )
    return evidence, population


def watched(state: ReignState) -> Watched | None:
    """How the champion does against the previous one; None where none is mirrored."""
    contender = state.previous
    if contender is None:
        return None
    kept = kept_of(state.closed, contender.key)
    return Watched(contender, *watched_over(contest_of(state, contender), kept), kept)


def watched_over(contest: Contest, kept: Sequence[Kept]) -> tuple[Probation, Detector | None]:
    """The champion against the previous one over these buckets: its probation, and once that is over the detector."""
    sums = [each.sums for each in kept]
    n_in_probation = _n_in_probation(sums, contest.rule, contest.policy, contest.n_promoted)
    probation = judge_probation(
        sums[:n_in_probation],
        contest.rule,
        n_promoted=contest.n_promoted,
        min_days=contest.policy.probation_days,
        new=f"version {contest.champion}",
        previous=f"version {contest.version}",
    )
    if probation.course != "passed":
        return probation, None
    return probation, detect(sums[n_in_probation:], contest.rule, contest.policy.detector_buckets)


def late_of(closed: Sequence[ClosedBucket], contender: Contender, corrections: Corrections) -> Late:
    """What was said of the contender's rows after their time, as of the last closed bucket."""
    counted = frozenset(bucket.bucket for bucket in closed if bucket.sums.get(contender.key))
    return corrections.late(contender, counted, closed[-1].bucket) if counted else Late()


def _n_in_probation(sums: Sequence[BucketSums], rule: Rule, policy: Policy, n_promoted: int) -> int:
    """How many buckets, from the first, it takes until probation may end: the rest is the detector's."""
    days: set[int] = set()
    n = 0
    for place, each in enumerate(sums, start=1):
        n += each.n
        if each.n_bets:
            days.add(each.bucket // rule.buckets_per_day)
        if len(days) >= policy.probation_days and n >= 2 * n_promoted:
            return place
    return len(sums)
