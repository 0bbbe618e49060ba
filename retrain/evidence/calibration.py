"""Whether probabilities mean what they say: an e-process against the challenger, beside that of the champion.

If 30 % is said, 30 % should happen: y - p is then a martingale difference, and Π(1 + λ s (y - p)) with signs s = ±1 an
e-process for "calibrated", of all rows and of the rows in each band of scores. No model is calibrated to the last
digit, and enough rows show it, so each row allows what an error of `tolerance` in log-odds makes: tolerance · p(1 - p).
The capital is spread evenly over both signs, bands and bets; averages of e-processes are e-processes.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from retrain.evidence.bets import Floats
from retrain.evidence.eprocess import equal_grid, log_mixture

BETS = (0.4, 0.1, 0.025)
EDGES = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8)
"""Of the bands of scores; with the band of all rows there are ten."""
N_SUMS = 2 * (len(EDGES) + 2) * len(BETS)

_GRID = equal_grid([1.0] * N_SUMS)  # only its shares count: every bet here survives every row


def log_growth_miscalibrated(outcome: Floats, probability: Floats, tolerance: float) -> tuple[float, ...]:
    """Log capital of each sign and bet, of all rows and of each band: that it happens more, or less, than was said.

    Equals, for each: sum(log(1 + λ * (s * (y - p) - tolerance * p * (1 - p))) for the rows of the band)
    """
    allowed = tolerance * probability * (1.0 - probability)
    band = np.searchsorted(EDGES, probability, side="right")
    more = outcome - probability
    sums: list[float] = []
    for sign in (1.0, -1.0):
        for bet in BETS:
            of_bands = np.bincount(band, weights=np.log1p(bet * (sign * more - allowed)), minlength=len(EDGES) + 1)
            sums += (float(of_bands.sum()), *of_bands.tolist())
    return tuple(sums)


def log_e_miscalibrated(growth: Sequence[float]) -> float:
    """The log of E against "calibrated within the tolerance"; 0 before the first outcome."""
    return log_mixture(growth, _GRID, 0.0) if any(growth) else 0.0


def total(parts: Iterable[Sequence[float]]) -> tuple[float, ...]:
    """The sums of all of these."""
    return tuple(map(math.fsum, zip(*parts, strict=True)))
