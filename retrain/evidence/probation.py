"""After a promotion: the deposed champion stays mirrored, and the new one must not turn out worse.

The pairs are those of the new reign: `champion` is the new champion, `challenger` the previous one. So what would
promote a challenger says here that the old version is better, and what it takes is less, because going back is cheap:
no slots, no margin, fourteen effective days. Evidence of single outcomes never acts alone: days that share shocks fire
it falsely. More errors or slow answers than a challenger may have act at once.

When probation is over, a detector goes on (`detector`): it asks not "ever better since" but "worse lately".
"""

import math
from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec.structs import replace

from retrain.evidence.cohorts import BucketSums, days_of, total_of
from retrain.evidence.confseq import windows_of
from retrain.evidence.eprocess import log_mixture
from retrain.evidence.rule import Rule
from retrain.evidence.serving import PairedCounts, log_e_no_worse

LOG_E_OF_SERVING = math.log(100.0)
"""Against errors and slow answers; they act without a second condition, hence more than 1/α."""

MIN_DAYS = 14
TIMES_THE_OUTCOMES = 2

Course = Literal["roll_back", "in_probation", "passed"]


class Probation(msgspec.Struct, frozen=True, kw_only=True):
    """Where a probation stands: what to do, why in one sentence, and the figures that it rests on."""

    course: Course
    sentence: str
    log_e: float
    """ln E: the previous champion is better than the new one."""
    log_e_clustered: float
    n_effective_days: float
    n: int
    n_days: int


def probation_rule(rule: Rule) -> Rule:
    """The rule under which sums of new champion against previous are made and judged."""
    return replace(rule, margin=0.0, n_slots=1, fast=False)


def judge_probation(
    sums: Sequence[BucketSums],
    rule: Rule,
    *,
    n_promoted: int,
    min_days: float = MIN_DAYS,
    new: str = "the new champion",
    previous: str = "the old",
) -> Probation:
    """Judge the closed buckets of new (`champion`) against previous (`challenger`), made under `probation_rule`.

    `n_promoted`: matured outcomes that the promotion rested on. `min_days`: with outcomes, before it can be passed.

    Raises:
        MismatchedSums: the sums were made under another rule.
    """
    if not sums:
        return Probation(
            course="in_probation", sentence=f"no outcome has matured since {new} was promoted",
            log_e=0.0, log_e_clustered=0.0, n_effective_days=0.0, n=0, n_days=0,
        )  # fmt: skip
    total, days = total_of(sums), days_of(sums, rule.buckets_per_day)
    windows = windows_of([day.sum_d for day in days])
    log_e = log_mixture(total.log_growth, rule.grid, total.largest_unpaid)
    needed = math.log(1.0 / rule.alpha)
    by_outcomes = log_e >= needed and windows.log_e >= needed and windows.n_effective >= rule.min_effective_days_worse
    served_worse = [] if total.serving is None else [
        f"{new} alone {verb} on {counts.champion_only:,} of {counts.n:,} rows, {previous} alone on "
        f"{counts.challenger_only:,}"
        for verb, counts, margin in (
            ("failed", total.serving.errors, rule.max_more_errors),
            ("was too slow", total.serving.slow, rule.max_more_slow),
        )
        if log_e_serves_worse(counts, margin) >= LOG_E_OF_SERVING
    ]  # fmt: skip
    n_days = len(days)
    course: Course
    if served_worse:
        course, sentence = "roll_back", served_worse[0]
    elif by_outcomes:
        course = "roll_back"
        sentence = f"{new} loses more than {previous} on {total.n:,} matured outcomes: ln E is {log_e:.2f}"
    elif n_days >= min_days and total.n >= TIMES_THE_OUTCOMES * n_promoted:
        course, sentence = "passed", f"{new} was not shown to lose more than {previous} in {n_days:,} days"
    else:
        course = "in_probation"
        sentence = (
            f"{new} is in probation: {n_days:,} of {min_days:g} days, {total.n:,} of "
            f"{TIMES_THE_OUTCOMES * n_promoted:,} outcomes"
        )
    return Probation(
        course=course,
        sentence=sentence,
        log_e=log_e,
        log_e_clustered=windows.log_e,
        n_effective_days=windows.n_effective,
        n=total.n,
        n_days=n_days,
    )


def log_e_serves_worse(counts: PairedCounts, margin: float) -> float:
    """The log of E for "it happens to the new champion more than `margin` more often than to the previous one"."""
    return log_e_no_worse(counts, -margin)
