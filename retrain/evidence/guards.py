"""The conditions of a promotion. Every one must hold; each says in one sentence how far it is."""

import msgspec

from retrain.evidence.cohorts import BucketSums
from retrain.evidence.confseq import DayWindows
from retrain.evidence.eprocess import LOG_OF_NOTHING
from retrain.evidence.rule import Rule


class Condition(msgspec.Struct, frozen=True):
    """One condition: its name, whether it holds now, and a plain sentence with the figure and the threshold."""

    name: str
    holds: bool
    detail: str


def exact_evidence(log_e: float, total: BucketSums, rule: Rule) -> Condition:
    """The mixture of fixed bets over single outcomes reaches `n_slots`/α."""
    needed = rule.log_e_threshold
    if log_e == LOG_OF_NOTHING:
        detail = (
            f"no bet survives a row where the challenger could lose {total.gap:.3g} more than the champion: "
            f"ln E of {needed:.2f} is out of reach on this scale"
        )
    else:
        detail = f"ln E over single outcomes is {log_e:.2f} of the {needed:.2f} needed"
    return Condition("evidence", log_e >= needed, detail)


def clustered_evidence(windows: DayWindows, rule: Rule) -> Condition:
    """The same claim holds against the ups and downs of whole windows of neighbouring days."""
    decided = windows.has_spread and windows.n_days >= rule.min_effective_days
    return Condition(
        "clustered_evidence",
        decided and windows.log_e >= rule.log_e_threshold,
        f"ln E over windows of days is {windows.log_e:.2f} of the {rule.log_e_threshold:.2f} needed",
    )


def effective_days(windows: DayWindows, rule: Rule) -> Condition:
    """The run is worth enough independent days."""
    days = f"{_count(windows.n_days, 'day')} with outcomes"
    if windows.has_spread:
        detail = f"{days} count as {windows.n_effective:.1f} independent days of the {rule.min_effective_days:g} needed"
    else:
        detail = f"{days} show no spread to judge by, {rule.min_effective_days:g} independent days are needed"
    return Condition("effective_days", windows.has_spread and windows.n_effective >= rule.min_effective_days, detail)


def span(n_days: int, rule: Rule) -> Condition:
    """From its first day to its last the run covers enough of the calendar, for portfolios with seasons."""
    return Condition(
        "span",
        n_days >= rule.min_span_days,
        f"the run spans {_count(n_days, 'day')} of the {rule.min_span_days:,} needed",
    )


def outcomes(total: BucketSums, rule: Rule) -> Condition:
    """Enough outcomes matured."""
    return Condition(
        "outcomes",
        total.n >= rule.min_outcomes,
        f"{_count(total.n, 'matured outcome')} of the {rule.min_outcomes:,} needed",
    )


def minority(total: BucketSums, n_minority: int, rule: Rule) -> Condition:
    """Enough of them are of the rarest class: without its losses the average is one-sided."""
    return Condition(
        "minority",
        n_minority >= rule.min_minority,
        f"{_count(n_minority, 'outcome')} of the rarest class of the {rule.min_minority:,} needed",
    )


def coverage(total: BucketSums, rule: Rule) -> Condition:
    """Enough of the outcomes that were due arrived: the missing ones are rarely like the others."""
    share = total.n / total.n_due if total.n_due else 0.0
    return Condition(
        "coverage",
        total.n_due > 0 and share >= rule.min_coverage,
        f"{100 * share:.1f} % of {total.n_due:,} due outcomes arrived of the {100 * rule.min_coverage:g} % needed",
    )


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"
