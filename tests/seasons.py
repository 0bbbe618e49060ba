"""Seasons of days on a stage: rows and outcomes of each day are the same in every telling, however it is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from gateway.columns import Array
from registry.types import Policy
from tests.stage import DAY, Stage

Weights = tuple[float, float]
N_ROWS = 60
TRUTH: Weights = (1.0, 1.0)
WEAK: Weights = (0.4, 0.0)
"""A champion that has learned little."""
LEFT: Weights = (0.8, 0.0)
RIGHT: Weights = (0.0, 0.8)
"""As good as LEFT, by the symmetry of the truth."""
WRONG: Weights = (-1.0, 0.0)

QUICK = Policy(maturity_s=float(DAY), min_outcomes=200, min_minority=20, max_error_rate_increase=0.02)
"""A policy under which a season of two months decides."""


def probability(rows: Array, weights: Weights) -> Array:
    """P(1) of a logistic model."""
    return np.asarray(1 / (1 + np.exp(-(rows @ np.array(weights)))), np.float64)


def answers(weights: Weights) -> Callable[[Array], Array]:
    """What a challenger of these weights says, for `Stage.shadow`."""
    return lambda rows: probability(rows, weights)


def rows_of(day: int, n_rows: int = N_ROWS) -> tuple[Array, list[int]]:
    """The rows of a day, and what will happen to them."""
    generator = np.random.default_rng([17, day])
    rows = generator.normal(size=(n_rows, 2))
    happens = generator.random(n_rows) < probability(rows, TRUTH)
    return rows, happens.astype(int).tolist()


def lives(
    stage: Stage,
    days: Sequence[int] | range,
    challengers: Mapping[int, Weights],
    *,
    each_day: Callable[[int], None] | None = None,
    times: int = 1,
) -> None:
    """Days of traffic: predictions in two chunks, outcomes half a day later, the mirror up to date each midnight.

    Somebody who looks `each_day` finds the clock at that midnight; for nobody it is not moved.
    """
    for day in days:
        rows, happened = rows_of(day)
        addresses = stage.predict(day + 0.25, rows[:40]) + stage.predict(day + 0.5, rows[40:])
        stage.outcomes(addresses, happened, day + 1, times=times)
        for version, weights in challengers.items():
            stage.shadow(version, answers(weights))
        if each_day is not None:
            stage.clock(day + 1)
            stage.beat(day + 1)
            each_day(day)


def ends(stage: Stage, day: float) -> None:
    """Let everything mature."""
    stage.clock(day + 2)
    stage.beat(day + 2)
