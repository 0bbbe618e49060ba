"""T4: how long a better challenger waits, as a multiple of what one look at a sample of fixed size would need."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bench.evidence import paths, pools, table
from bench.evidence.effort import Effort, generator
from bench.evidence.pools import Pool
from bench.evidence.table import Line
from retrain.evidence.eprocess import informed_bet

LONGEST = 8
"""n80s that a stream has."""
N_BACKTESTED = 20_000
FIVE = "ll5", "ll2", "auc80_84", "auc80_82"
"""The gains that have limits."""


def detections(effort: Effort) -> Iterator[Line]:
    """Log loss; a look at every hundredth part of n80. Every backtest is another draw from the pool."""
    for name in pools.GAINS:
        pool = pools.better(name)
        generic = [*_waits(pool, None, effort.n_gain, generator("T4", name))]
        yield _line(name, pool, "generic bets", [exact for exact, _ in generic], 2.0 if name in FIVE else None)
        yield _line(name, pool, "informed bets", _informed(name, pool, effort), 2.0 if name in FIVE else None)
        yield _line(name, pool, "fast mode", [fast for _, fast in generic], 1.6 if name in FIVE else None)


def brier_detections(effort: Effort) -> Iterator[Line]:
    """The same by the Brier loss."""
    for name in ("ll10", "ll5", "auc80_84", "auc80_82"):
        pool = pools.better(name, pools.BRIER)
        generic = [*_waits(pool, None, effort.n_gain, generator("T4 Brier", name))]
        yield _line(name, pool, "generic bets", [exact for exact, _ in generic], 1.5)
        yield _line(name, pool, "informed bets", _informed(name, pool, effort), 1.5)


def _line(name: str, pool: Pool, way: str, waits: list[float | None], limit: float | None) -> Line:
    loss = pool.rule.measured_by.replace("_", " ")
    return table.median(
        waits,
        per=pool.n80,
        target="T4",
        process=f"{name}: {loss} {100 * pool.gain:.1f} % lower, n80 {pool.n80:,.0f}",
        claim=f"median wait, condition one, {way}",
        unit="x n80",
        limit=limit,
    )


def _informed(name: str, pool: Pool, effort: Effort) -> list[float | None]:
    rng = generator("T4 informed", name, pool.rule.measured_by)
    a_backtest = effort.n_gain // effort.n_backtests
    bets = (_backtested(pool, rng) for _ in range(effort.n_backtests))
    return [exact for bet in bets for exact, _ in _waits(pool, bet, a_backtest, rng)]


def _waits(
    pool: Pool, bet: float | None, n_streams: int, rng: np.random.Generator
) -> Iterator[tuple[float | None, float | None]]:
    """In exact mode and in fast mode, of the same streams."""
    made = paths.table(pool, bet)
    n_at_a_look = max(1, round(pool.n80 / 100))
    paths.check(made, paths.drawn(made, rng, 40 * n_at_a_look), n_at_a_look)
    for _ in range(n_streams):
        seen = paths.looks(made, paths.drawn(made, rng, round(LONGEST * pool.n80)), n_at_a_look)
        yield paths.first_promotion(seen, made.rule), paths.first_fast_promotion(seen, made.rule)


def _backtested(pool: Pool, rng: np.random.Generator) -> float | None:
    """What the product takes from an earlier sample; None, as the product would, where the challenger did not win."""
    earlier = rng.integers(0, len(pool.pairs), N_BACKTESTED)
    return informed_bet(pool.losses.difference[earlier], pool.losses.gap[earlier])
