"""Names of sources and segments: how many are told apart, and how much one source may say."""

from __future__ import annotations

import hashlib

import numpy as np

from gateway.columns import Array

OTHERS = "(others)"
MOST_NAMED = 60
"""Below the number of names of which sums can be kept a bucket."""


def few(names: Array) -> Array:
    """The same names, the rarest as one where there are too many."""
    distinct, which, counts = np.unique(names, return_inverse=True, return_counts=True)
    if len(distinct) <= MOST_NAMED:
        return names
    common = np.argsort(-counts, kind="stable")[:MOST_NAMED]
    return np.where(np.isin(which, common), names, OTHERS)


def within_cap(source: Array, addresses: Array, n_known: int, share: float) -> Array:
    """Which rows count, where no source may bring more than `share` of the known outcomes: a boolean a row.

    A source may bring share / (1 - share) times what all others bring, so that with one source alone nothing counts.
    Which of its rows do is chosen by a hash of their addresses `(n, 3)`: nobody can choose them. Rows that nobody
    reported (no name) all count.
    """
    keep = np.ones(len(source), bool)
    for name in np.unique(source[source != ""]):
        mine = np.flatnonzero(source == name)
        allowed = int(share / (1.0 - share) * (n_known - len(mine)))
        if len(mine) > allowed:
            by_hash = sorted(mine.tolist(), key=lambda row: hashlib.blake2b(addresses[row].tobytes()).digest())
            keep[by_hash[allowed:]] = False
    return keep
