"""Whole reigns on days that share shocks: both conditions of the shipped rule, looked at every day.

Costly conditions are asked last. The total against single days bounds the total against windows (`DayWindows.log_e`
takes the lesser), so only days on which it is large enough are judged by windows; and the sums of single outcomes are
made, by the product's own `sums_of_bets`, only where windows hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Literal

import msgspec
import numpy as np
from msgspec.structs import asdict
from numpy.typing import NDArray

from bench.evidence.paths import Rows
from bench.evidence.pools import Floats, Pool
from retrain.evidence import BucketSums, Rule
from retrain.evidence.bets import Bets
from retrain.evidence.cohorts import sums_of_bets
from retrain.evidence.confseq import RHO_DAYS, DayWindows, log_e_one_sided, windows_of
from retrain.evidence.eprocess import log_mixture

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

    def sums_of_day(self, day: int) -> BucketSums:
        """What the product keeps of a day. A shock against the challenger widens its gap as much."""
        rows, shock, losses = self.rows[day], float(self.shock[day]), self.pool.losses
        n_positive = int(losses.label[rows].sum())
        bets = Bets(
            difference=losses.difference[rows] + shock,
            gap=losses.gap[rows] + max(0.0, -shock),
            gap_reverse=losses.gap_reverse[rows] + max(0.0, shock),
            pay_premiums=True,
            at_stake=float(losses.gap[rows].sum() + losses.gap_reverse[rows].sum()),
            at_stake_unseen=0.0,
            champion_loss=losses.champion[rows],
            n_due=len(rows),
            n=len(rows),
            n_failed=0,
            class_counts=(len(rows) - n_positive, n_positive),
            weight=np.ones(len(rows)),
            scored=None,
        )
        return BucketSums(bucket=day, **asdict(sums_of_bets(bets, self.rule)))


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
    so_far = _Single(lived, claim)
    for day, log_e_windows in judged:
        log_e = min(log_e_windows, so_far.log_e(day))
        if so_far.n_positive < min_minority or day * lived.rows.shape[1] < min_outcomes:
            continue
        for at, needed in enumerate(log_e_needed):
            if both[at] is None and log_e >= needed:
                both[at] = day
        if None not in both:
            break
    return Firsts(windows, tuple(both))


def first_by_outcomes_alone(lived: Reign, claim: Claim, log_e_needed: float) -> int | None:
    """When condition one alone would have made the claim: what days that share shocks do to it."""
    so_far = _Single(lived, claim)
    return next((day for day in range(1, len(lived.shock) + 1) if so_far.log_e(day) >= log_e_needed), None)


class _Single:
    """Ln E over single outcomes of a growing number of days."""

    def __init__(self, lived: Reign, claim: Claim) -> None:
        self.lived, self.claim = lived, claim
        self.grid = lived.rule.grid
        self.n_days = self.n_positive = 0
        self.growth = np.zeros(len(self.grid.bets))

    def log_e(self, n_days: int) -> float:
        """After that many days, not fewer than when asked before."""
        while self.n_days < n_days:
            day = self.lived.sums_of_day(self.n_days)
            self.growth += day.log_growth if self.claim == "better" else day.log_growth_reverse
            self.n_positive += day.class_counts[1]
            self.n_days += 1
        return log_mixture(self.growth.tolist(), self.grid)


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
