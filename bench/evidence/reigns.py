"""Whole reigns on days that share shocks: both conditions of the shipped rule, looked at every day.

Costly conditions are asked last. The total against single days bounds the total against windows (`DayWindows.log_e`
takes the lesser), so only days on which it is large enough are judged by windows; and growth over single outcomes is
computed, row by row by the product's own `log_growth`, only where windows hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from bench.evidence.paths import Rows
from bench.evidence.pools import Floats, Pool
from retrain.evidence import BucketSums, Rule
from retrain.evidence.confseq import RHO_DAYS, DayWindows, log_e_one_sided, windows_of
from retrain.evidence.eprocess import log_growth, log_mixture

Claim = Literal["better", "worse"]


class Reign(msgspec.Struct, frozen=True, eq=False):
    """Rows of a pool, so many a day, with a shock added to every difference of a day. Read-only sums, made when asked.

    `rows`: (days, rows a day); `shock`: (days,), in units of loss.
    """

    pool: Pool
    rule: Rule
    rows: Rows
    shock: Floats

    def day_sums(self, claim: Claim) -> Floats:
        """S_b of each day: gains above the margin, or losses."""
        a_day = self.rows.shape[1]
        sums: Floats = self.pool.losses.difference[self.rows].sum(axis=1) + a_day * self.shock
        return sums - a_day * self.rule.delta if claim == "better" else -sums

    def sums_of_day(self, day: int, claim: Claim) -> tuple[tuple[float, ...], float, int]:
        """Growth of every bet on this claim over the day's rows, their largest gap, and their outcomes of class 1."""
        rows, shock, losses = self.rows[day], float(self.shock[day]), self.pool.losses
        bets = self.rule.grid(2).bets
        d = losses.difference[rows] + shock
        if claim == "better":
            growth = log_growth(d, bets, self.rule.delta)
            gap = float(losses.gap[rows].max()) + max(0.0, -shock)
        else:
            growth = log_growth(-d, bets, 0.0)
            gap = float(losses.gap_reverse[rows].max()) + max(0.0, shock)
        return growth, gap, int(losses.label[rows].sum())

    def buckets(self) -> Iterator[BucketSums]:
        """What the product would keep of each day."""
        for day, rows in enumerate(self.rows):
            d = self.pool.losses.difference[rows] + self.shock[day]
            growth, gap, n_positive = self.sums_of_day(day, "better")
            growth_reverse, gap_reverse, _ = self.sums_of_day(day, "worse")
            yield BucketSums(
                bucket=day,
                n_due=len(d),
                n=len(d),
                n_failed=0,
                class_counts=(len(d) - n_positive, n_positive),
                sum_d=float(d.sum()),
                sum_d2=float(d @ d),
                sum_champion_loss=float(self.pool.losses.champion[rows].sum()),
                gap=gap,
                gap_reverse=gap_reverse,
                log_growth=growth,
                log_growth_reverse=growth_reverse,
            )


def reign(pool: Pool, rule: Rule, shock: Floats, a_day: int, rng: np.random.Generator) -> Reign:
    """A reign of as many days as there are shocks."""
    return Reign(pool, rule, rng.integers(0, len(pool.pairs), (len(shock), a_day)), shock)


class Firsts(msgspec.Struct, frozen=True):
    """Days that had passed when a condition first held at each threshold, None where it never did."""

    windows: tuple[int | None, ...]
    """Condition two alone."""
    both: tuple[int | None, ...]


def firsts(
    lived: Reign,
    claim: Claim,
    *,
    log_e_needed: tuple[float, ...],
    min_effective_days: float,
    min_minority: int = 0,
    min_outcomes: int = 0,
) -> Firsts:
    """When the claim is first made, looked at after every day."""
    judged = list(_judged_days(lived, claim, log_e_needed, min_effective_days))
    windows = tuple(next((day for day, log_e in judged if log_e >= needed), None) for needed in log_e_needed)
    both: list[int | None] = [None] * len(log_e_needed)
    growth, gap, n_positive, n_days = np.zeros(len(lived.rule.grid(2).bets)), 0.0, 0, 0
    for day, log_e_windows in judged:
        while n_days < day:
            grown, largest, positive = lived.sums_of_day(n_days, claim)
            growth, gap, n_positive, n_days = growth + grown, max(gap, largest), n_positive + positive, n_days + 1
        if n_positive < min_minority or day * lived.rows.shape[1] < min_outcomes:
            continue
        margin = lived.rule.delta if claim == "better" else 0.0
        log_e = min(log_e_windows, log_mixture(growth.tolist(), lived.rule.grid(2), gap + margin))
        both = [
            day if first is None and log_e >= needed else first
            for first, needed in zip(both, log_e_needed, strict=True)
        ]
        if None not in both:
            break
    return Firsts(windows, tuple(both))


def first_by_outcomes_alone(lived: Reign, claim: Claim, log_e_needed: float) -> int | None:
    """When condition one alone would have made the claim: what days that share shocks do to it."""
    growth, gap = np.zeros(len(lived.rule.grid(2).bets)), 0.0
    margin = lived.rule.delta if claim == "better" else 0.0
    for day in range(len(lived.shock)):
        grown, largest, _ = lived.sums_of_day(day, claim)
        growth, gap = growth + grown, max(gap, largest)
        if log_mixture(growth.tolist(), lived.rule.grid(2), gap + margin) >= log_e_needed:
            return day + 1
    return None


def _judged_days(
    lived: Reign, claim: Claim, log_e_needed: tuple[float, ...], min_effective_days: float
) -> Iterator[tuple[int, float]]:
    """Days after which condition two holds at the least threshold, with its ln e."""
    sums = lived.day_sums(claim)
    n_days = np.arange(1, len(sums) + 1)
    squares = np.cumsum(sums * sums)
    z_day = np.divide(np.cumsum(sums), np.sqrt(squares), out=np.zeros(len(sums)), where=squares > 0)
    could = (n_days >= min_effective_days) & (z_day >= _z_needed(len(sums), min(log_e_needed)) - 1e-9)
    for day in n_days[could]:
        windows: DayWindows = windows_of(sums[:day].tolist())
        if windows.has_spread and windows.n_effective >= min_effective_days and windows.log_e >= min(log_e_needed):
            yield int(day), windows.log_e


@lru_cache
def _z_needed(n_days: int, log_e_needed: float) -> NDArray[np.float64]:
    """For each number of days the least score z whose e-value reaches the threshold; it grows with z."""
    needed = np.empty(n_days)
    for day in range(1, n_days + 1):
        low, high = 0.0, 60.0
        for _ in range(60):
            z = (low + high) / 2
            low, high = (low, z) if log_e_one_sided(z * day**0.5, day, RHO_DAYS) >= log_e_needed else (z, high)
        needed[day - 1] = low
    return needed
