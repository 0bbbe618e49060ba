"""T4: how long a better challenger waits, as a multiple of what one look at a sample of fixed size would need."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bench.evidence import paths, pools, table
from bench.evidence.effort import Effort, generator
from bench.evidence.pools import Pool
from bench.evidence.table import Line
from retrain.evidence.eprocess import informed_bet

LONGEST = 12
"""n80s that a stream has."""
N_BACKTESTED = 20_000
LIMITS = {"ll5": 2.0, "ll2": 2.0, "auc80_84": 2.0, "auc80_82": 2.0}


def detections(effort: Effort) -> Iterator[Line]:
    """Exact mode, log loss; a look at every hundredth part of n80. Every backtest is another draw from the pool."""
    for name in pools.GAINS:
        pool = pools.better(name)
        for bets, n_tables in (("generic bets", 1), ("informed bets", effort.n_backtests)):
            rng = generator("T4", name, bets)
            times: list[float | None] = []
            for _ in range(n_tables):
                times += _waits(pool, _backtested(pool, rng) if n_tables > 1 else None, effort.n_gain // n_tables, rng)
            yield table.median(
                times,
                per=pool.n80,
                target="T4",
                process=f"{name}: log loss {100 * pool.gain:.0f} % lower, n80 {pool.n80:,.0f}",
                claim=f"median wait, condition one, {bets}",
                unit="x n80",
                limit=LIMITS.get(name),
            )


def _waits(pool: Pool, bet: float | None, n_streams: int, rng: np.random.Generator) -> Iterator[float | None]:
    made = paths.table(pool, bet)
    n_at_a_look = max(1, round(pool.n80 / 100))
    paths.check(made, paths.drawn(made, rng, 40 * n_at_a_look), n_at_a_look)
    for _ in range(n_streams):
        stream = paths.drawn(made, rng, round(LONGEST * pool.n80))
        yield paths.first_promotion(paths.looks(made, stream, n_at_a_look), made.rule)


def _backtested(pool: Pool, rng: np.random.Generator) -> float | None:
    """What the product takes from an earlier sample; None, as the product would, where the challenger did not win."""
    earlier = rng.integers(0, len(pool.pairs), N_BACKTESTED)
    return informed_bet(pool.losses.difference[earlier], pool.losses.gap[earlier])
