"""Condition one: a mixture of fixed bets on every single loss difference, exact at any sample size.

Bet a fixed share λ of a capital of 1 on "the challenger loses less": each difference d = loss(champion) -
loss(challenger) multiplies it by 1 + λ(d - δ). Because 1 + λΔ <= exp(λΔ), a challenger whose running mean difference is
at most δ cannot be expected to make it grow, whatever drifts meanwhile: this is an e-process for the weak null
(Waudby-Smith & Ramdas 2023, betting; Choe & Ramdas 2023, running means of paired losses). By Ville's inequality
it ever exceeds 1/α with probability at most α, however often anyone looks.

**Rows that could ruin a bet pay a premium.** The factor must not become negative, and what a row can lose at most, its
gap, is known from the two answers before its outcome. Where λ(gap + δ) exceeds 0.98, by κ above it, the factor is

    exp(-κ) · (1 + κ + λ(d - δ))          κ = max(0, λ(gap + δ) - 0.98)

which is at least 0.02·exp(-κ). Let Δ be the expectation of d - δ given everything before the outcome, the answers
included. Then the factor's is exp(-κ)(1 + κ + λΔ) <= exp(-κ)·exp(κ + λΔ) = exp(λΔ), for every κ >= 0 that is known
before the outcome. So the capital divided by exp(λΣΔ) is a nonnegative supermartingale, and where ΣΔ <= 0, the weak
null, the capital is at most that. λ must be the same on every row: bets that were smaller on rows with large gaps would
weigh those rows less, and a challenger that is bad there and good elsewhere would win without being better on average.
Premiums lose exp(-κ)(1 + κ) <= 1 instead, on those rows alone; one absurd answer costs a large bet once, and does not
put it out of play for the reign.

The claim is about the rows of the reign: given their answers, the challenger is not better on average over them. A
kind of row that has not come yet is not in it, however bad the challenger would be there; only bets below 1/(the
largest loss that any row could ever have) would speak of those too, and they take two to three times as long.

Nobody knows the best λ, so the capital is spread over a grid. Fixed bets make ln(capital) a plain sum over rows:
free of order, mergeable, and immune to a drift that bets which follow the recent past would fall for.
"""

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

MOST_AT_RISK = 0.98
"""A bet is made without a premium while λ times the largest loss of a row is at most this."""

SMALLEST_FACTOR = 1e-3
"""Factors are cut off here. Only bets without a premium that are no longer in play get there."""

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


def log_loss_grid() -> Grid:
    """Fourteen bets 1/2, 1/2√2, 1/4 … on differences of log loss, with shares in proportion: uniform over λ < 1/2.

    In nats one scale fits all. exp(d) is the likelihood ratio of the two answers, so for close answers the mean of d is
    half its variance where the challenger's answer is the truth, and the growth μλ - σ²λ²/2 is largest at λ = 1/2.
    Where the truth lies a share w of the way from the champion's log-odds to the challenger's, it is w - 1/2: a better
    challenger, w from 1/2 to 1, wants a bet from 0 to 1/2, and nothing else is known of it.
    """
    bets = tuple(0.5 * 2.0 ** (-j / 2) for j in range(14))
    return Grid(bets, tuple(bet / math.fsum(bets) for bet in bets))


def informed_grid(generic: Grid, bet: float) -> Grid:
    """Half of the capital on the generic bets, half on twice, once and half of `bet`."""
    local = tuple(bet * factor for factor in (2.0, 1.0, 0.5))
    return Grid(generic.bets + local, tuple(weight / 2 for weight in generic.weights) + (1 / 6,) * 3)


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


def log_growth(
    difference: NDArray[np.float64], bets: Sequence[float], margin: float, gap: NDArray[np.float64] | None = None
) -> tuple[float, ...]:
    """Log capital of each bet after all differences. Sums of `log_factors` over the rows, for each λ in `bets`."""
    parts: list[list[float]] = [[] for _ in bets]
    for start in range(0, len(difference), ROWS_AT_A_TIME):
        rows = slice(start, start + ROWS_AT_A_TIME)
        of_rows = None if gap is None else gap[rows]
        for bet, sums in zip(bets, parts, strict=True):
            sums.append(float(log_factors(difference[rows], bet, margin, of_rows).sum()))
    return tuple(math.fsum(sums) for sums in parts)


def log_factors(
    difference: NDArray[np.float64], bet: float, margin: float, gap: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """By what each row multiplies the capital, in logs.

    Equals, for each row, with κ = max(0, λ(gap + δ) - 0.98): log(1 + κ + λ(d - δ)) - κ

    `gap`: the largest loss of each row, known before its outcome and before anything else that is drawn with it. None:
    no premiums; then log(max(1e-3, 1 + λ(d - δ))), and `log_mixture` must leave out the bets that could be ruined.
    """
    change = (difference - margin) * bet
    if gap is None:
        return np.log1p(np.maximum(change, SMALLEST_FACTOR - 1.0, out=change), out=change)
    if len(gap) == 0 or bet * (float(gap.max()) + margin) <= MOST_AT_RISK:
        return np.log1p(change, out=change)
    premium = np.maximum((gap + margin) * bet - MOST_AT_RISK, 0.0)
    change += premium
    return np.subtract(np.log1p(change, out=change), premium, out=change)


def log_mixture(growth: Sequence[float], grid: Grid, largest_loss: float = 0.0) -> float:
    """Log of the capital of all bets, ln E.

    Equals log(sum(w * exp(g) for g, λ, w in zip(growth, bets, weights) if λ * largest_loss < 0.98))

    where `largest_loss` is the largest loss of any row that paid no premium, margin included: bets that it could have
    ruined are left out. It comes from predictions, before any outcome. `LOG_OF_NOTHING` if none is left.
    """
    alive = [
        math.log(weight) + log_capital
        for log_capital, bet, weight in zip(growth, grid.bets, grid.weights, strict=True)
        if bet * largest_loss < MOST_AT_RISK
    ]
    if not alive:
        return LOG_OF_NOTHING
    most = max(alive)
    return most + math.log(math.fsum(math.exp(log_capital - most) for log_capital in alive))
