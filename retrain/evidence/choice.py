"""Which of several challengers to promote, when more than one is ready."""

import math
from collections.abc import Callable, Sequence

import msgspec

from retrain.evidence.judge import Evidence

LOG_E_BETWEEN = math.log(20.0)


class Candidate(msgspec.Struct, frozen=True):
    """A challenger that the rule would promote. `latency_s`: its 95th percentile, None where it is not known."""

    version: int
    evidence: Evidence
    latency_s: float | None = None


def choose(ready: Sequence[Candidate], log_e_between: Callable[[Candidate, Candidate], float]) -> Candidate:
    """The one whose gain is surest; where the first two cannot be told apart, the faster of them, then the older.

    Surest: the highest lower bound of the mean difference, not the largest ln E, which grows with time.

    `log_e_between(first, second)` is ln E for "the first is better than the second", from pairs of the two on the same
    rows; it is asked for the two best only, and not where there is just one.
    """
    ranked = sorted(ready, key=lambda each: (-_surest(each), each.version))
    if len(ranked) == 1:
        return ranked[0]
    first, second = ranked[:2]
    if log_e_between(first, second) >= LOG_E_BETWEEN:
        return first
    return min(first, second, key=_speed_and_age)


def _surest(candidate: Candidate) -> float:
    return float("-inf") if candidate.evidence.low is None else candidate.evidence.low


def _speed_and_age(candidate: Candidate) -> tuple[float, int]:
    return (float("inf") if candidate.latency_s is None else candidate.latency_s, candidate.version)
