"""Performance before outcomes are known, if the scores are calibrated: sums over rows of what is then expected.

For a probability p of the positive class the expected log loss is -p ln p - (1 - p) ln(1 - p), the expected Brier
score p(1 - p), and the answer p > 1/2 is right with probability max(p, 1 - p) (confidence-based performance
estimation, as NannyML names it). It says what a calibrated model would lose on these rows. A model that is wrong about
the world of now is wrong about this too: it is an estimate, never a measurement, and it sees no change of P(y | x).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from registry.types import Task
from retrain.drift.reference import N_SCORE_BINS, score_counts_of

Array = NDArray[Any]
_CLIP = 1e-12


class ScoreSketch(Struct, frozen=True):
    """The scores of some rows. Expected losses are sums over rows, 0 for regression; `sums` adds p by bin (binary)."""

    n: int = 0
    counts: tuple[int, ...] = ()
    sums: tuple[float, ...] = ()
    total: float = 0.0
    log_loss: float = 0.0
    brier: float = 0.0
    right: float = 0.0

    def merge(self, other: ScoreSketch) -> ScoreSketch:
        """Of both."""
        if not self.n or not other.n:
            return self if self.n else other
        return ScoreSketch(
            self.n + other.n,
            tuple(a + b for a, b in zip(self.counts, other.counts, strict=True)),
            tuple(a + b for a, b in zip(self.sums, other.sums, strict=True)),
            self.total + other.total,
            self.log_loss + other.log_loss,
            self.brier + other.brier,
            self.right + other.right,
        )


class Estimate(Struct, frozen=True):
    """What a calibrated model would reach on some rows, a row; `auc` of two classes only."""

    n_rows: int
    log_loss: float
    brier: float
    accuracy: float
    auc: float | None


def score_sketch(task: Task, scores: Array, cuts: tuple[float, ...]) -> ScoreSketch:
    """The sketch of scores `(n,)`, or `(n, n_classes)`; NaN, a score that there is not, is left out."""
    there = scores[~np.isnan(scores)] if scores.ndim == 1 else scores[~np.isnan(scores).any(axis=1)]
    if len(there) == 0:
        return ScoreSketch()
    counts = tuple(score_counts_of(task, there, cuts).tolist())
    if task == "regression":
        return ScoreSketch(len(there), counts, total=float(there.sum()))
    p = np.stack([1 - there, there], axis=1) if there.ndim == 1 else there
    clipped = np.clip(p, _CLIP, 1.0)
    sums: tuple[float, ...] = ()
    if task == "binary":
        places = np.clip((there * N_SCORE_BINS).astype(np.int64), 0, N_SCORE_BINS - 1)
        sums = tuple(np.bincount(places, there, N_SCORE_BINS).tolist())
    return ScoreSketch(
        len(there), counts, sums, float(there.sum()) if there.ndim == 1 else 0.0,
        log_loss=float(-(p * np.log(clipped)).sum()),
        brier=float((p * (1 - p)).sum()) / (2 if task == "binary" else 1),
        right=float(p.max(axis=1).sum()),
    )  # fmt: skip


def estimated(task: Task, sketch: ScoreSketch) -> Estimate | None:
    """What these scores promise; None for no rows, and for regression: its answers say nothing of their errors."""
    if task == "regression" or not sketch.n:
        return None
    auc = expected_auc(np.array(sketch.sums), np.array(sketch.counts)) if task == "binary" else None
    n = sketch.n
    return Estimate(n, sketch.log_loss / n, sketch.brier / n, sketch.right / n, auc)


def expected_auc(positives: Array, counts: Array) -> float | None:
    """Of expected positives by bin, ascending: Σ P_i (Σ_{j<i} N_j + N_i / 2) / (Σ P · Σ N); ties count half."""
    negatives = counts - positives
    below = np.cumsum(negatives) - negatives
    pairs = positives.sum() * negatives.sum()
    return float((positives * (below + negatives / 2)).sum() / pairs) if pairs > 0 else None
