"""Whether the challenger orders worse: the difference of two AUCs from counts of scores, at any time.

Bets on single rows cannot see an order. But the joint counts of both versions' scores, by class, add up over buckets,
and hold all that DeLong, DeLong & Clarke-Pearson (1988) need: both AUCs and the variance of their difference. Scores
are counted in fixed steps of log-odds (a quarter, from 0.0003 to 0.9997) and ties count half, so that both AUCs are
those of scores rounded alike.
"""

import math
from collections.abc import Iterable

import msgspec
import numpy as np
from numpy.typing import NDArray

from retrain.evidence.bets import Scored
from retrain.evidence.confseq import RHO_OUTCOMES, two_sided_radius

STEP = 0.25
REACH = 32
N_STEPS = 2 * REACH + 1
"""Levels of log-odds -8 … 8; what is beyond counts with the outermost."""


class ScoreCounts(msgspec.Struct, frozen=True, array_like=True):
    """How often each pair of levels occurred with each outcome y: cell = (champion's · 65 + challenger's) · 2 + y."""

    cells: dict[int, int]

    @classmethod
    def sum(cls, parts: "Iterable[ScoreCounts]") -> "ScoreCounts":
        """The counts of all of these, in the order of their cells."""
        cells: dict[int, int] = {}
        for part in parts:
            for cell, count in part.cells.items():
                cells[cell] = cells.get(cell, 0) + count
        return cls(dict(sorted(cells.items())))

    def tables(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Champion's level × challenger's level, of negatives and of positives."""
        flat = np.zeros(N_STEPS * N_STEPS * 2, dtype=np.int64)
        flat[list(self.cells)] = list(self.cells.values())
        table = flat.reshape(N_STEPS, N_STEPS, 2)
        return table[..., 0], table[..., 1]


class PairedAuc(msgspec.Struct, frozen=True):
    """Both areas under the curve, and the variance of their estimated difference."""

    champion: float
    challenger: float
    variance: float


def score_counts(scored: Scored) -> ScoreCounts:
    """Counts of the scores of one bucket."""
    levels = [_levels(scores) for scores in (scored.champion, scored.challenger)]
    cell = (levels[0] * N_STEPS + levels[1]) * 2 + (scored.outcome >= 0.5)
    cells, counts = np.unique(cell, return_counts=True)
    return ScoreCounts(dict(zip(cells.tolist(), counts.tolist(), strict=True)))


def paired_auc(negatives: NDArray[np.int64], positives: NDArray[np.int64]) -> PairedAuc | None:
    """AUCs and DeLong's variance of their difference, from counts by level of champion × challenger.

    None while a class has fewer than two outcomes. Equals, with placement(p) = mean over the negatives n of 1{n < p} +
    1{n = p}/2, and likewise for negatives: variance = var(placement of B - of A, over positives)/n_positives +
    the same over negatives, each with n - 1.
    """
    n_negatives, n_positives = int(negatives.sum()), int(positives.sum())
    if min(n_negatives, n_positives) < 2:
        return None
    auc, of_positives, of_negatives = [], [], []
    for axis in (1, 0):
        negative, positive = negatives.sum(axis=axis), positives.sum(axis=axis)
        below = (np.cumsum(negative) - negative / 2.0) / n_negatives
        above = 1.0 - (np.cumsum(positive) - positive / 2.0) / n_positives
        auc.append(float(below @ positive) / n_positives)
        of_positives.append(below)
        of_negatives.append(above)
    variance = sum(
        _variance(placements[1][np.newaxis, :] - placements[0][:, np.newaxis], table) / n
        for placements, table, n in ((of_positives, positives, n_positives), (of_negatives, negatives, n_negatives))
    )
    return PairedAuc(auc[0], auc[1], variance)


def lowest_gain(auc: PairedAuc, n: int, alpha: float) -> float:
    """Lower end of the one-sided confidence sequence of AUC(challenger) - AUC(champion) after n outcomes.

    Asymptotic (Waudby-Smith et al. 2024): the radius of n outcomes of unit variance, times the standard error.
    """
    radius = two_sided_radius(n, 2.0 * alpha, RHO_OUTCOMES) / math.sqrt(n)
    return auc.challenger - auc.champion - radius * math.sqrt(auc.variance)


def _levels(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    p = np.clip(scores, 1e-6, 1.0 - 1e-6)
    return np.clip(np.rint(np.log(p / (1.0 - p)) / STEP), -REACH, REACH).astype(np.int64) + REACH


def _variance(values: NDArray[np.float64], counts: NDArray[np.int64]) -> float:
    n = int(counts.sum())
    mean = float((values * counts).sum()) / n
    return float((counts * (values - mean) ** 2).sum()) / (n - 1)
