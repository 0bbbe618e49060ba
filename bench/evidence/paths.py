"""Sums of a stream at every look, and the first look at which condition one holds.

Growth a row and bet is computed once a pool; a stream is a list of row numbers, and its sums are gathered. The
decision is the product's `log_mixture`: since shares add to 1 it never exceeds its best bet, so looks at which no bet
has reached the threshold are left out, and only those.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from bench.evidence.pools import Floats, Pool
from retrain.evidence import Rule, judge, sums_of
from retrain.evidence.confseq import log_e_of_outcomes
from retrain.evidence.eprocess import log_factors, log_mixture
from retrain.evidence.guards import MOST_OF_ONE

Rows = NDArray[np.int64]

AT_A_TIME = 10_000
"""Rows gathered at once: what they take stays in the processor's cache."""


class Table(msgspec.Struct, frozen=True, eq=False):
    """What a stream gathers: of each row of a pool the growth under each bet of `rule`, then outcome, d and d²."""

    pool: Pool
    rule: Rule
    columns: Floats
    """(rows, bets + 3)"""
    largest_unpaid: float
    """Of recommendations, whose gap is the same on every row here; else 0, as rows pay premiums."""


class Looks(msgspec.Struct, frozen=True, eq=False):
    """A stream at each of its looks: sums so far, `growth` (looks, bets), and the largest gap so far."""

    growth: Floats
    n_positive: Floats
    sum_d: Floats
    sum_d2: Floats
    gap: Floats
    largest_unpaid: float
    n_at_a_look: int


def table(pool: Pool, informed_bet: float | None = None) -> Table:
    """The table of a pool under its rule, with three bets around an informed one if there is one."""
    rule = replace(pool.rule, informed_bet=informed_bet)
    losses = pool.losses
    pays = rule.measured_by != "reward"
    growth = [log_factors(losses.difference, bet, rule.delta, losses.gap if pays else None) for bet in rule.grid.bets]
    columns = np.column_stack([*growth, losses.label, losses.difference, losses.difference**2])
    return Table(pool, rule, columns, 0.0 if pays else float(losses.gap.max()) + rule.delta)


def drawn(made: Table, rng: np.random.Generator, n_outcomes: int) -> Rows:
    """A stream: row numbers, with replacement."""
    return rng.integers(0, len(made.columns), n_outcomes)


def looks(made: Table, stream: Rows, n_at_a_look: int) -> Looks:
    """The stream's sums after every `n_at_a_look` outcomes; what is left at its end is not looked at."""
    n_looks = len(stream) // n_at_a_look
    step = max(1, AT_A_TIME // n_at_a_look)
    sums = np.empty((n_looks, made.columns.shape[1]))
    for first in range(0, n_looks, step):
        rows = stream[first * n_at_a_look : min(n_looks, first + step) * n_at_a_look]
        sums[first : first + step] = made.columns[rows].reshape(-1, n_at_a_look, sums.shape[1]).sum(axis=1)
    sums = np.cumsum(sums, axis=0)
    gap = made.pool.losses.gap[stream[: n_looks * n_at_a_look]].reshape(n_looks, n_at_a_look).max(axis=1)
    return Looks(
        sums[:, :-3],
        sums[:, -3],
        sums[:, -2],
        sums[:, -1],
        np.maximum.accumulate(gap),
        made.largest_unpaid,
        n_at_a_look,
    )


def first_promotion(seen: Looks, rule: Rule, min_minority: int = 0) -> int | None:
    """Outcomes at the first look at which condition one holds, and as many of the rarer class were seen, or None.

    `rule` may be without the informed bet of the table: the bets it has are the first of those.
    """
    grid = rule.grid
    growth = seen.growth[:, : len(grid.bets)]
    for look in np.flatnonzero((growth.max(axis=1) >= rule.log_e_threshold) & (seen.n_positive >= min_minority)):
        if log_mixture(growth[look].tolist(), grid, seen.largest_unpaid) >= rule.log_e_threshold:
            return int((look + 1) * seen.n_at_a_look)
    return None


def first_fast_promotion(seen: Looks, rule: Rule) -> int | None:
    """The same in fast mode: the asymptotic mixture, where Lindeberg's condition and the minority allow it.

    Looks at which the total is not twice its spread are left out: no e-value of 20 is that near.
    """
    n = seen.n_at_a_look * np.arange(1, len(seen.sum_d) + 1)
    normal = (seen.gap <= MOST_OF_ONE * np.sqrt(seen.sum_d2)) & (seen.n_positive >= rule.min_minority)
    for look in np.flatnonzero(normal & (seen.sum_d > 2.0 * np.sqrt(np.maximum(seen.sum_d2 - seen.sum_d**2 / n, 0.0)))):
        log_e = log_e_of_outcomes(int(n[look]), float(seen.sum_d[look]), float(seen.sum_d2[look]), rule.delta)
        if log_e >= rule.log_e_threshold:
            return int(n[look])
    return None


def check(made: Table, stream: Rows, n_at_a_look: int) -> None:
    """See that the last look says what `judge` says over `sums_of` the same rows, one bucket a look; fast mode too.

    Raises:
        AssertionError: it does not, to 1e-9.
    """
    n_looks = len(stream) // n_at_a_look
    rows = made.pool.pairs.rows(stream[: n_looks * n_at_a_look])
    rows = replace(rows, bucket=np.arange(len(rows)) // n_at_a_look)
    sums = [sums_of(bucket, made.rule) for bucket in rows.by_bucket()]
    evidence, fast = judge(sums, made.rule), judge(sums, replace(made.rule, fast=True))
    seen = looks(made, stream, n_at_a_look)
    log_e = log_mixture(seen.growth[-1].tolist(), made.rule.grid, made.largest_unpaid)
    assert math.isclose(log_e, evidence.log_e, rel_tol=1e-9, abs_tol=1e-9), f"{log_e} here, {evidence.log_e} by judge"
    log_e = log_e_of_outcomes(len(rows), float(seen.sum_d[-1]), float(seen.sum_d2[-1]), made.rule.delta)
    assert math.isclose(log_e, fast.log_e, rel_tol=1e-9, abs_tol=1e-9), (
        f"{log_e} here, {fast.log_e} by judge in fast mode"
    )
    assert evidence.n_minority in (None, min(seen.n_positive[-1], len(rows) - seen.n_positive[-1]))
