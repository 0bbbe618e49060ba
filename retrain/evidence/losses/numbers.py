"""Losses of numbers: how far a forecast was off, and what a recommendation earned."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LARGEST_NUMBER = 1e100  # its square, summed over any run, is still a float64


def is_number(values: Floats) -> NDArray[np.bool_]:
    """Which are finite, and small enough to be squared and summed."""
    return np.abs(values) <= LARGEST_NUMBER


def is_chance(values: Floats, above: float = -1.0) -> NDArray[np.bool_]:
    """Which are probabilities (of showing what was shown)."""
    return (values >= 0.0) & (values > above) & (values <= 1.0)


def deviation(
    outcome: Floats, champion: Floats, challenger: Floats, quantile: float | None
) -> tuple[Floats, Floats, Floats, Floats]:
    """Loss of the champion, of the challenger, gap and gap in reverse: absolute error, or pinball of a quantile τ.

    By the triangle inequality no outcome, however far out, makes a difference larger than the distance of the two
    forecasts, times what a unit costs on the side it is on: pinball costs τ a unit below the outcome and 1 - τ above.
    """

    def lost(forecast: Floats) -> Floats:
        miss = outcome - forecast
        return np.abs(miss) if quantile is None else np.maximum(quantile * miss, (quantile - 1.0) * miss)

    below, above = (1.0, 1.0) if quantile is None else (quantile, 1.0 - quantile)
    lower, higher = np.maximum(0.0, champion - challenger), np.maximum(0.0, challenger - champion)
    gap = below * lower + above * higher  # a high outcome is worst for the lower forecast, and the other way round
    gap_reverse = below * higher + above * lower
    return lost(champion), lost(challenger), gap, gap_reverse


def reward(
    outcome: Floats, champion: Floats, challenger: Floats, propensity: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    """What was not earned: minus the reward r in [0, 1], as it would have been under either version's chances.

    d = r (π_challenger - π_champion) / π_logged, which is r (w - 1) where the champion showed the items: its
    expectation is what the challenger would earn more (Horvitz & Thompson). However large w is, -d is at most
    π_champion/π_logged: that bound, not the smaller one of the shown item, is the gap, because the item is drawn too.
    """
    of_champion, of_challenger = champion / propensity, challenger / propensity
    return -outcome * of_champion, -outcome * of_challenger, of_champion, of_challenger
