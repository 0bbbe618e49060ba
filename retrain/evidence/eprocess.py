"""Condition one: a mixture of fixed bets on every single loss difference, exact at any sample size.

Bet a fixed share λ of a capital of 1 on "the challenger loses less": each difference d = loss(champion) -
loss(challenger) multiplies it by 1 + λ(d - δ). While λ times the largest possible loss stays below 1 the capital
cannot become negative, and because ln(1 + λΔ) <= λΔ, a challenger whose running mean difference is at most δ
cannot be expected to make it grow, whatever drifts meanwhile: this is an e-process for the weak null
(Waudby-Smith & Ramdas 2023, betting; Choe & Ramdas 2023, running means of paired losses). By Ville's inequality
it ever exceeds 1/α with probability at most α, however often anyone looks.

Nobody knows the best λ, so the capital is spread over a grid. Fixed bets make ln(capital) a plain sum over rows:
free of order, mergeable, and immune to a drift that bets which follow the recent past would fall for.
"""

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

ALIVE_BELOW = 0.98
"""A bet is in play while λ(B + δ) is below this, B the largest loss that the predictions made possible so far."""

SMALLEST_FACTOR = 1e-3
"""Factors are cut off here. Only bets that are no longer alive get there: 1 + λ(d - δ) > 0.02 for the others."""

LOG_OF_NOTHING = -1.0e9
"""Stands for ln 0 when no bet is alive, because JSON carries no infinity."""

ROWS_AT_A_TIME = 8192  # one column of these stays in the processor's cache while all bets are made on it


class Grid(msgspec.Struct, frozen=True):
    """Fixed bets (fractions λ > 0 per unit of loss) and the share of the capital on each."""

    bets: tuple[float, ...]
    weights: tuple[float, ...]


def generic_grid(bound: float) -> Grid:
    """Eleven bets 2^3 … 2^-7 times 0.95/`bound`, where `bound` is the nominal largest loss; equal shares."""
    return equal_grid([0.95 / bound * 2.0**j for j in range(3, -8, -1)])


def informed_grid(bound: float, bet: float) -> Grid:
    """Half of the capital on the generic bets, half on twice, once and half of `bet`."""
    generic = generic_grid(bound)
    local = tuple(bet * factor for factor in (2.0, 1.0, 0.5))
    shares = tuple(weight / 2 for weight in generic.weights) + (1 / 6,) * 3
    return Grid(generic.bets + local, shares)


def equal_grid(bets: Sequence[float]) -> Grid:
    """These bets, with equal shares."""
    return Grid(tuple(bets), (1 / len(bets),) * len(bets))


def informed_bet(difference: NDArray[np.float64], gap: NDArray[np.float64]) -> float | None:
    """The bet that would have grown fastest on an earlier backtest, or None if the challenger did not win there.

    That is mean/variance of `difference`, capped at 0.48 / (99.99 % quantile of `gap`), so that twice the bet
    still survives the largest gaps. A wrong value costs time, never validity.
    """
    if len(difference) == 0 or difference.mean() <= 0.0 or difference.var() <= 0.0:
        return None
    largest_gap = float(np.quantile(gap, 0.9999))
    growth_optimal = float(difference.mean() / difference.var())
    return growth_optimal if largest_gap <= 0.0 else min(growth_optimal, 0.48 / largest_gap)


def log_growth(difference: NDArray[np.float64], bets: Sequence[float], margin: float) -> tuple[float, ...]:
    """Log capital of each bet after all differences.

    Equals, for each λ in `bets`: sum(log(max(1e-3, 1 + λ * (d - margin))) for d in difference)
    """
    factor = np.empty(min(len(difference), ROWS_AT_A_TIME))
    parts: list[list[float]] = [[] for _ in bets]
    for start in range(0, len(difference), ROWS_AT_A_TIME):
        won = difference[start : start + ROWS_AT_A_TIME] - margin
        for bet, sums in zip(bets, parts, strict=True):
            change = np.multiply(won, bet, out=factor[: len(won)])
            np.maximum(change, SMALLEST_FACTOR - 1.0, out=change)
            sums.append(float(np.log1p(change, out=change).sum()))
    return tuple(math.fsum(sums) for sums in parts)


def log_mixture(growth: Sequence[float], grid: Grid, largest_loss: float) -> float:
    """Log of the capital of all bets that are still alive, ln E.

    Equals log(sum(w * exp(g) for g, λ, w in zip(growth, bets, weights) if λ * largest_loss < 0.98))

    where `largest_loss` is B + δ. It comes from predictions, before any outcome, so putting a bet out of play keeps
    the guarantee. `LOG_OF_NOTHING` if none is left.
    """
    alive = [
        math.log(weight) + log_capital
        for log_capital, bet, weight in zip(growth, grid.bets, grid.weights, strict=True)
        if bet * largest_loss < ALIVE_BELOW
    ]
    if not alive:
        return LOG_OF_NOTHING
    most = max(alive)
    return most + math.log(math.fsum(math.exp(log_capital - most) for log_capital in alive))
