"""T10: recommendations judged by what was logged, d = r (w - 1): how soon, and whether the interval covers.

Ten items, of which the champion shows its first choice with probability 1 - ε + ε/10 and any other with ε/10. The
challenger has another first choice on 30 % of requests, and there it is the better one. Five of a hundred are clicked.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bench.evidence import paths, table
from bench.evidence.effort import Effort, generator
from bench.evidence.pools import Pool
from bench.evidence.table import Line
from retrain.evidence import Pairs, Rule
from retrain.evidence.confseq import FEWEST_DAYS, windows_of
from retrain.evidence.losses import paired_losses

REWARD = Rule(task="recommendation")
N_ITEMS, DIFFERENT = 10, 0.3
CLICKED, GAIN = 0.05, 0.20
N_ROWS = 1 << 20
LONGEST = 600_000
COVERED_DAYS, A_DAY = 60, 2_000


def rewards(effort: Effort) -> Iterator[Line]:
    """Clicks 20 % up; a look at every 500th impression."""
    for epsilon, limit in ((0.1, 100_000.0), (0.2, None)):
        pool, rng = shown(epsilon, GAIN), generator("T10", str(epsilon))
        made = paths.table(pool)
        paths.check(made, paths.drawn(made, rng, 20_000), 500)
        seen = (paths.looks(made, paths.drawn(made, rng, LONGEST), 500) for _ in range(effort.n_rewarded))
        yield table.median(
            [paths.first_promotion(each, made.rule) for each in seen],
            target="T10",
            process=f"clicks {100 * pool.gain:.0f} % up, {100 * epsilon:.0f} % explored, n80 {pool.n80:,.0f}",
            claim="median wait, condition one",
            unit="outcomes",
            limit=limit,
        )


def coverage(effort: Effort) -> Iterator[Line]:
    """The two-sided interval at any time, with weights up to 191, looked at every day."""
    pool, rng = shown(0.05, GAIN), generator("T10 coverage")
    missed = [_missed_days(pool, rng) for _ in range(effort.n_delayed)]
    for since in (FEWEST_DAYS, round(REWARD.min_effective_days)):
        yield table.share(
            sum(any(day >= since for day in days) for days in missed),
            effort.n_delayed,
            target="T10",
            process=f"clicks {100 * pool.gain:.0f} % up, weights up to {pool.losses.gap_reverse.max():.0f}",
            claim=f"the interval misses the truth on some day from the {since}th to the {COVERED_DAYS}th",
            limit=5.0,
        )


def shown(epsilon: float, gain: float, *, seed: int = 13) -> Pool:
    """Impressions that the champion chose, with both versions' chances of the item that was shown."""
    rng = np.random.default_rng(seed)
    often, rarely = 1 - epsilon + epsilon / N_ITEMS, epsilon / N_ITEMS
    differ = rng.random(N_ROWS) < DIFFERENT
    item = np.where(rng.random(N_ROWS) < epsilon, rng.integers(0, N_ITEMS, N_ROWS), 0)  # 0: the champion's choice
    choice = np.where(differ, 1, 0)  # the challenger's
    better_by = gain * CLICKED / (DIFFERENT * (often - rarely))
    clicked = rng.random(N_ROWS) < CLICKED + better_by * (differ & (item == 1))
    champion, challenger = np.where(item == 0, often, rarely), np.where(item == choice, often, rarely)
    pairs = Pairs(clicked, champion, challenger, np.zeros(N_ROWS, np.int64))
    losses = paired_losses(pairs, REWARD)
    return Pool(pairs, REWARD, losses)


def _missed_days(pool: Pool, rng: np.random.Generator) -> list[int]:
    rows = rng.integers(0, N_ROWS, (COVERED_DAYS, A_DAY))
    sums = pool.losses.difference[rows].sum(axis=1)
    missed = []
    for n_days in range(FEWEST_DAYS, COVERED_DAYS + 1):
        windows = windows_of(sums[:n_days].tolist())
        radius = windows.radius(pool.rule.alpha)
        if radius is not None and abs(windows.total - n_days * A_DAY * pool.mean) > radius:
            missed.append(n_days)
    return missed
