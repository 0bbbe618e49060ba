"""Distances between two sets of counts in the same bins; 0 where they have the same shares.

`reference` and `current` are arrays `(…, n_bins)` of counts (or weights): the last axis is compared, so that one call
measures every day, or every feature with as many bins.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[Any]

FLOOR = 1e-6
"""The least share that a bin is taken to have: an empty one would make PSI infinite."""


def shares(counts: Counts) -> Floats:
    """Counts over their sum; all 0 where there are none."""
    total = counts.sum(axis=-1, keepdims=True)
    return np.asarray(counts / np.maximum(total, 1), np.float64)


def psi(reference: Counts, current: Counts) -> Floats:
    """Population stability index: Σ (q - p) ln(q / p), each share at least `FLOOR`."""
    p, q = np.maximum(shares(reference), FLOOR), np.maximum(shares(current), FLOOR)
    return np.asarray(((q - p) * np.log(q / p)).sum(axis=-1))


def psi_by_chance(n_bins: int, n_reference: Counts | int, n_current: Counts | int) -> Floats:
    """What PSI is on average where nothing moved: (bins - 1)(1 / n + 1 / m), by its chi-squared limit."""
    n, m = np.maximum(n_reference, 1), np.maximum(n_current, 1)
    return np.asarray((n_bins - 1) * (1.0 / n + 1.0 / m))


def jensen_shannon(reference: Counts, current: Counts) -> Floats:
    """Jensen-Shannon divergence in bits: 0 to 1."""
    p, q = shares(reference), shares(current)
    middle = (p + q) / 2
    return (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2


def _relative_entropy(p: Floats, q: Floats) -> Floats:
    terms = np.where(p > 0, p * np.log2(np.where(p > 0, p, 1.0) / np.where(q > 0, q, 1.0)), 0.0)
    return np.asarray(terms.sum(axis=-1))


def kolmogorov_smirnov(reference: Counts, current: Counts) -> Floats:
    """The largest difference of the two distribution functions, at the edges of the bins."""
    difference = np.cumsum(shares(current), axis=-1) - np.cumsum(shares(reference), axis=-1)
    return np.asarray(np.abs(difference).max(axis=-1))


def wasserstein(positions: Floats, reference: Counts, current: Counts) -> Floats:
    """The least mean way from one to the other, in units of `positions` `(n_bins,)`, ascending: ∫ |F - G|."""
    difference = np.cumsum(shares(current) - shares(reference), axis=-1)[..., :-1]
    return np.asarray((np.abs(difference) * np.diff(positions)).sum(axis=-1))
