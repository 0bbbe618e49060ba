"""Shocks that all rows of a day share: series with long-run mean 0 and variance 1, one number a day.

The design effect says how much they matter: with m rows a day the variance of a day's mean is so many times what it
would be if rows were independent, so a shock is scaled by σ·√((design effect - 1)/m), σ the deviation of a row.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from bench.evidence.pools import Floats

Process = Callable[[np.random.Generator, int], Floats]

WEEK = np.array([1.0, 0.6, 0.2, -0.1, 0.4, -1.3, -0.8])
WEEK = (WEEK - WEEK.mean()) / WEEK.std()
MEAN_BLOCK_DAYS = 28


def _sign(rng: np.random.Generator) -> float:
    return float(rng.choice([-1.0, 1.0]))


def iid(rng: np.random.Generator, n_days: int) -> Floats:
    """Independent days, Gaussian."""
    return rng.standard_normal(n_days)


def t3(rng: np.random.Generator, n_days: int) -> Floats:
    """Independent days with heavy tails: Student's t with 3 degrees of freedom, whose variance is 3."""
    return np.asarray(rng.standard_t(3, n_days)) / math.sqrt(3.0)


def weekday(rng: np.random.Generator, n_days: int) -> Floats:
    """One pattern of the week, of random phase and sign."""
    week = WEEK * _sign(rng)
    return np.resize(np.roll(week, rng.integers(7)), n_days)


def autoregressive(phi: float) -> Process:
    """Each day remembers `phi` of the day before; begun in its stationary state."""

    def days(rng: np.random.Generator, n_days: int) -> Floats:
        fresh = rng.standard_normal(n_days)
        shock = np.empty(n_days)
        before = rng.standard_normal()
        for day in range(n_days):
            before = shock[day] = phi * before + np.sqrt(1 - phi * phi) * fresh[day]
        return shock

    return days


def mixed(*parts: tuple[float, Process]) -> Process:
    """A sum of processes with these shares of the variance."""

    def days(rng: np.random.Generator, n_days: int) -> Floats:
        shock = np.zeros(n_days)
        for share, process in parts:
            shock += share**0.5 * process(rng, n_days)
        return shock

    return days


def regimes(rng: np.random.Generator, n_days: int) -> Floats:
    """+1 for 30 to 90 days, then -1 for as long again, and so on, begun anywhere: no four weeks can know such waves."""
    lengths = rng.integers(30, 91, n_days // 30 + 3)
    signs = np.resize([1.0, -1.0], len(lengths)) * _sign(rng)
    return np.repeat(signs, lengths)[rng.integers(lengths[0]) :][:n_days]


def lognormal(rng: np.random.Generator, n_days: int) -> Floats:
    """Small gains on most days and rare huge losses: what is drawn is lognormal (0, 1.5), centred and negated."""
    sigma2 = 1.5**2
    mean, deviation = math.exp(sigma2 / 2), math.sqrt(math.expm1(sigma2) * math.exp(sigma2))
    return (mean - np.exp(1.5 * rng.standard_normal(n_days))) / deviation


def alternating(rng: np.random.Generator, n_days: int) -> Floats:
    """Ten days worse, then ten days better, and so on: never better on average since the start."""
    return np.resize(np.repeat([-1.0, 1.0], 10), n_days)


def bootstrapped(days: Floats) -> Process:
    """Blocks of real days, centred and scaled to variance 1: the stationary bootstrap of Politis & Romano (1994).

    Each day follows the one before it, the series taken as a ring, but once in 28 days a new place is drawn.
    """
    ring = (days - days.mean()) / days.std()

    def resampled(rng: np.random.Generator, n_days: int) -> Floats:
        begins = rng.random(n_days) < 1 / MEAN_BLOCK_DAYS
        begins[0] = True
        start_of_block = np.flatnonzero(begins)
        places = rng.integers(len(ring), size=len(start_of_block))
        block = np.cumsum(begins) - 1
        shock: Floats = ring[(places[block] + np.arange(n_days) - start_of_block[block]) % len(ring)]
        return shock

    return resampled


PROCESSES: dict[str, Process] = {
    "independent, Gaussian": iid,
    "independent, t3": t3,
    "weekday pattern": weekday,
    "AR .3": autoregressive(0.3),
    "weekday + AR .3": mixed((0.5, weekday), (0.5, autoregressive(0.3))),
    "AR .6": autoregressive(0.6),
    "AR .9": autoregressive(0.9),
    "mix: 88 % AR .35, 12 % AR .95": mixed((0.88, autoregressive(0.35)), (0.12, autoregressive(0.95))),
    "regimes of 30-90 days": regimes,
    "lognormal, rare huge losses": lognormal,
    "ten days worse, ten better": alternating,
}
