"""What a promotion asks for: evidence, and enough of it; what it must not do is in `vetoes`.

Every condition must hold; each says in one sentence how far it is.
"""

import math

import msgspec

from retrain.evidence.cohorts import BucketSums, Sums
from retrain.evidence.confseq import DayWindows
from retrain.evidence.eprocess import LOG_OF_NOTHING
from retrain.evidence.rule import Rule
from retrain.evidence.serving import Serving, log_e_mismatch

MOST_OF_ONE = 0.5
"""Lindeberg: no single row may be worth more than this share of the root of the sum of squares."""

MOST_UNSEEN = 0.5
"""Of the disagreement, on rows whose outcome nobody sees."""

LOG_MISMATCH = math.log(1000.0)
"""Odds of a thousand that the mirror took another share than it was told: something chooses the rows."""


class Condition(msgspec.Struct, frozen=True):
    """One condition: its name, whether it holds now, and a plain sentence with the figure and the threshold."""

    name: str
    holds: bool
    detail: str


def evidence(log_e: float, total: Sums, rule: Rule) -> Condition:
    """Single outcomes reach `n_slots`/α: by the mixture of fixed bets, or, in fast mode, by the asymptotic one.

    The asymptotic one is fooled while no loss of the rarer class was seen, or by one row that outweighs the others.
    """
    needed = rule.log_e_threshold
    if rule.fast:
        largest = total.gap / math.sqrt(total.sum_d2) if total.sum_d2 > 0.0 else math.inf
        is_normal = largest <= MOST_OF_ONE and (total.n_minority is None or total.n_minority >= rule.min_minority)
        detail = f"ln e over single outcomes, asymptotic, is {log_e:.2f} of the {needed:.2f} needed"
        if largest > MOST_OF_ONE:
            detail += f"; one row could weigh {largest:.2g} of the {MOST_OF_ONE:g} spreads that are allowed"
        return Condition("evidence", is_normal and log_e >= needed, detail)
    if log_e == LOG_OF_NOTHING:
        detail = (
            f"no bet survives a row where the challenger could lose {total.largest_unpaid:.3g} more than the champion: "
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


def outcomes(total: Sums, rule: Rule) -> Condition:
    """Enough outcomes matured."""
    return Condition(
        "outcomes",
        total.n >= rule.min_outcomes,
        f"{_count(total.n, 'matured outcome')} of the {rule.min_outcomes:,} needed",
    )


def minority(total: Sums, n_minority: int, rule: Rule) -> Condition:
    """Enough of them are of the rarest class: without its losses the average is one-sided."""
    return Condition(
        "minority",
        n_minority >= rule.min_minority,
        f"{_count(n_minority, 'outcome')} of the rarest class of the {rule.min_minority:,} needed",
    )


def coverage(total: Sums, *, weighted: bool, rule: Rule) -> Condition:
    """Enough of the outcomes that were due arrived: the missing ones are rarely like the others.

    Where the chance of each was logged, those that arrived must stand for the others: their weights must add up to
    the rows that were due, up to twice the spread that such a sum has.
    """
    if weighted:
        spread = math.sqrt(max(0.0, total.sum_weight2 - total.sum_weight))
        share = total.sum_weight / total.n_due if total.n_due else 0.0
        allowed = 2.0 * spread / total.n_due if total.n_due else 0.0
        return Condition(
            "coverage",
            total.n > 0 and share >= rule.min_coverage - allowed,
            f"outcomes with logged probabilities stand for {100 * share:.1f} % of {total.n_due:,} due rows, "
            f"of the {100 * max(0.0, rule.min_coverage - allowed):.3g} % needed",
        )
    share = total.n / total.n_due if total.n_due else 0.0
    return Condition(
        "coverage",
        total.n_due > 0 and share >= rule.min_coverage,
        f"{100 * share:.1f} % of {total.n_due:,} due outcomes arrived of the {100 * rule.min_coverage:g} % needed",
    )


def observed(total: BucketSums) -> Condition:
    """The versions disagree mostly where outcomes are seen: elsewhere nothing is known of who is right.

    By the loss that is at stake between the two answers, on rows whose outcome did not arrive, and on those that can
    never have one: a rejected application does not show whether it would have been paid back. Where the chance of
    seeing it was logged, those that were seen stand for the others.
    """
    share = total.at_stake_unobserved / (total.at_stake + total.at_stake_unseen + total.at_stake_undue)
    return Condition(
        "observed",
        share <= MOST_UNSEEN,
        f"{100 * share:.0f} % of what the two versions disagree about is on rows without an outcome, at most "
        f"{100 * MOST_UNSEEN:.0f} % is allowed",
    )


def effective_sample(total: Sums, rule: Rule) -> Condition:
    """Weighted outcomes are worth enough: a few enormous weights can carry any average."""
    return Condition(
        "effective_sample",
        total.n_effective >= rule.min_outcomes,
        f"weights make {_count(total.n, 'outcome')} worth {total.n_effective:,.0f} of the {rule.min_outcomes:,} needed",
    )


def corrections(n_corrected: int, total: Sums, rule: Rule) -> Condition:
    """Few outcomes were corrected after their bucket was closed: what was judged is still what is known."""
    share = n_corrected / total.n if total.n else 0.0
    return Condition(
        "corrections",
        share <= rule.max_corrected,
        f"{_count(n_corrected, 'outcome')} of closed buckets were corrected since, {100 * share:.2g} % of the "
        f"{100 * rule.max_corrected:g} % allowed",
    )


def mirror(serving: Serving, rule: Rule) -> Condition:
    """The mirror took the share of the rows that it was told to take: otherwise something chooses them."""
    log_odds = log_e_mismatch(serving.n_mirrored, serving.n_eligible, rule.mirror_share)
    share = serving.n_mirrored / serving.n_eligible if serving.n_eligible else rule.mirror_share
    return Condition(
        "mirror",
        log_odds < LOG_MISMATCH,
        f"the mirror took {100 * share:.3g} % of {serving.n_eligible:,} rows, where {100 * rule.mirror_share:g} % "
        f"were declared: ln of the odds of a mismatch is {log_odds:.2f}, below {LOG_MISMATCH:.2f} is needed",
    )


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"
