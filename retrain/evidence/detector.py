"""After probation: a detector of change, once a bucket, that forgets what was long ago.

f_b, the factor by which a bucket multiplies the capital bet on "the champion loses more than the previous one", has
expectation at most 1 while that is not so. The Shiryaev-Roberts sum R <- (R + 1) f_b is then on average at most the
number of buckets, so that an alarm at R >= A comes at most once in A buckets on average; CUSUM, C <- max(C, 1) f_b,
starts anew from its lowest point instead (Shin, Ramdas & Rinaldo 2023). Both are averaged over the bets.

That holds for buckets that share no shocks. Where days do, as real ones, R comes to a thousand every few weeks by
itself (bench/evidence): an alarm is a question. It is confirmed when the last four weeks, judged by windows of days,
say the same; then a champion may be sent back without anybody being asked.
"""

import math
from collections.abc import Sequence
from itertools import accumulate, groupby

import msgspec
import numpy as np

from retrain.evidence.cohorts import BucketSums, total_of
from retrain.evidence.confseq import windows_of
from retrain.evidence.eprocess import LOG_OF_NOTHING, MOST_AT_RISK, Grid
from retrain.evidence.rule import Rule

BUCKETS_BETWEEN_ALARMS = 1095.0
"""Three years of days between two false alarms, on average at least."""

CONFIRMING_DAYS = 28
"""A suffix that holds at least one window as long as shocks are remembered, and four of each weekday."""


class Detector(msgspec.Struct, frozen=True):
    """After the last bucket: ln R and ln C; whether R ever reached what alarms, and whether days said the same."""

    n_buckets: int
    log_shiryaev_roberts: float
    log_cusum: float
    alarm: bool
    confirmed: bool
    """At some bucket with an R that high, windows of the last 28 days reached 1/α for the same claim."""


def detect(sums: Sequence[BucketSums], rule: Rule, buckets_between_alarms: float = BUCKETS_BETWEEN_ALARMS) -> Detector:
    """Run over the buckets since probation ended, in any order and in shards, made under `probation_rule`.

    An alarm stays: it is raised by the first bucket at which R reaches `buckets_between_alarms`.

    Raises:
        MismatchedSums: the sums were made under another rule.
    """
    buckets = [
        total_of(list(of_bucket))
        for _, of_bucket in groupby(sorted(sums, key=lambda each: each.bucket), key=lambda each: each.bucket)
    ]
    if not buckets:
        return Detector(0, LOG_OF_NOTHING, 0.0, alarm=False, confirmed=False)
    grid = rule.grid
    gaps = accumulate((each.largest_unpaid for each in buckets), max)
    course = detector_course([each.log_growth for each in buckets], list(gaps), grid)
    threshold = math.log(buckets_between_alarms)
    reached = [log_sr >= threshold for log_sr, _ in course]
    return Detector(len(course), *course[-1], alarm=any(reached), confirmed=_is_confirmed(buckets, reached, rule))


def _is_confirmed(buckets: Sequence[BucketSums], reached: Sequence[bool], rule: Rule) -> bool:
    needed = math.log(1.0 / rule.alpha)
    day_sums: dict[int, float] = {}
    for bucket, is_reached in zip(buckets, reached, strict=True):
        if bucket.n_bets:
            day = bucket.bucket // rule.buckets_per_day
            day_sums[day] = day_sums.get(day, 0.0) + bucket.sum_d
        if is_reached and len(day_sums) >= CONFIRMING_DAYS:
            last = windows_of([*day_sums.values()][-CONFIRMING_DAYS:])
            if last.has_spread and last.log_e >= needed:
                return True
    return False


def detector_course(
    growth: Sequence[Sequence[float]], largest_loss: Sequence[float], grid: Grid
) -> list[tuple[float, float]]:
    """(ln R, ln C) after each bucket, from Σ ln(1 + λd) of each bet in it and the largest loss possible so far.

    Equals, with f = exp(growth) for each bet, 0 from the bucket on at which it was put out of play:
    R = (R + 1) * f, from 0; C = max(C, 1) * f, from 1; the means of R and C over the bets, by their shares.
    """
    log_share, bets = np.log(grid.weights), np.array(grid.bets)
    log_sr, log_cusum = np.full(len(bets), -np.inf), np.zeros(len(bets))
    course = []
    for log_factor, gap in zip(growth, largest_loss, strict=True):
        factor = np.where(bets * gap < MOST_AT_RISK, log_factor, -np.inf)
        log_sr = np.logaddexp(log_sr, 0.0) + factor
        log_cusum = np.maximum(log_cusum, 0.0) + factor
        course.append((_log_sum(log_share + log_sr), _log_sum(log_share + log_cusum)))
    return course


def _log_sum(logs: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    return max(LOG_OF_NOTHING, float(np.logaddexp.reduce(logs)))
