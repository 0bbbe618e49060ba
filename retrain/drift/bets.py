"""Whether a day can be told from the reference: bets on a classifier's guesses, honest however often one looks.

The classifier adds up, over the features, the log-odds of a row's bins between the days before and the reference; it
knows nothing of the day that it is tried on. Each of some rows of the day is set beside a row of the reference that
the classifier has not seen. Where it gives the day's row more, it is right; less, wrong; the same, neither: the sign s.
If the rows come from one source, s is 0 on average whatever the classifier learned, so

    f = mean over λ of Π (1 + λ (s - τ))

is an e-value of the day for "the signs average at most τ", and R ← (R + 1) f, stopped at A, gives false alarms at
least A days apart on average (e-detector: Shin, Ramdas and Rinaldo 2023; bets on held-out signs: Podkopaev and
Ramdas 2023). τ is the difference that is not worth an alarm: with enough rows anything differs from anything, and the
reference is a finite sample itself. Rows of one day are taken as independent; shocks that move a whole day's signs by
more than τ count as drift. Differences that leave every feature's own distribution as it was are not seen.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from retrain.drift.reference import Reference
from retrain.drift.sketch import Sketch

Array = NDArray[Any]

N_BETS = 100
"""Rows of a day that are bet on."""
TOLERANCE = 0.1
"""τ: a classifier that is right in 55 of 100 comparisons has found nothing worth an alarm."""
STAKES = (0.05, 0.1, 0.2, 0.4, 0.6)
"""λ, below 1 / (1 + τ)."""
ALARM_DAYS = 365
"""A: false alarms are at least so many days apart, on average."""
MEMORY = 0.8
"""How much a day weighs one day later in what the classifier has learned."""
LEARNED_ROWS = 50.0
"""Rows (weighed) that the classifier must have learned from before it is bet on."""
_PRIOR = 1.0


class Signs(Struct, frozen=True):
    """How the comparisons of a day came out."""

    right: int = 0
    wrong: int = 0
    neither: int = 0

    def log_factor(self) -> float:
        """Natural logarithm of f."""
        logs = [
            self.right * math.log1p(stake * (1 - TOLERANCE))
            + self.wrong * math.log1p(-stake * (1 + TOLERANCE))
            + self.neither * math.log1p(-stake * TOLERANCE)
            for stake in STAKES
        ]
        return float(np.logaddexp.reduce(logs)) - math.log(len(STAKES))


class Guesser:
    """The classifier: log-odds a bin between the days so far and the reference. Feed it in order of days."""

    def __init__(self, reference: Reference) -> None:
        self._partners = reference.partner_codes()
        self._n_bins = [bins.n_bins for bins in reference.bins]
        self._firsts = np.cumsum([0, *self._n_bins])[:-1]
        reference_counts = np.concatenate([np.array(bins.counts, np.float64) for bins in reference.bins])
        kept = np.bincount((self._partners + self._firsts).ravel(), minlength=len(reference_counts))
        self._reference: Array = reference_counts - kept  # what it learns from it is not tried on
        self._days = np.zeros(len(reference_counts))
        self._n_rows = 0.0

    def signs(self, codes: Array) -> Signs:
        """Try it on rows of a day, `(n, n_features)` numbers of bins, before it learns from that day."""
        if self._n_rows < LEARNED_ROWS or len(codes) == 0 or len(self._partners) == 0:
            return Signs()
        odds = self._log_odds()
        of_day = odds[codes + self._firsts].sum(axis=1)
        partners = odds[self._partners + self._firsts].sum(axis=1)
        difference = of_day - partners[np.arange(len(of_day)) % len(partners)]
        right, wrong = int((difference > 1e-12).sum()), int((difference < -1e-12).sum())
        return Signs(right, wrong, len(codes) - right - wrong)

    def learn(self, day: Sketch) -> None:
        """Take a day in."""
        counts = [np.array(c or [0] * n, np.float64) for c, n in zip(day.counts, self._n_bins, strict=True)]
        self._days = MEMORY * self._days + np.concatenate(counts)
        self._n_rows = MEMORY * self._n_rows + day.n_rows

    def _log_odds(self) -> Array:
        """ln(q / p) of every bin, drawn to 0 where there are few rows of either."""
        odds = np.empty_like(self._days)
        for first, n in zip(self._firsts.tolist(), self._n_bins, strict=True):
            p, q = self._reference[first : first + n], self._days[first : first + n]
            expected = (p + _PRIOR) / (p.sum() + n * _PRIOR)
            odds[first : first + n] = np.log((q + _PRIOR * n * expected) / (q.sum() + _PRIOR * n) / expected)
        return odds


class Detector(Struct):
    """R, and when it passed A: it then starts again, so that a lasting drift alarms again and again."""

    log_r: float = -math.inf
    alarms: tuple[int, ...] = ()
    """The buckets at whose ends it alarmed."""

    def see(self, bucket: int, log_factor: float) -> None:
        """R ← (R + 1) f."""
        self.log_r = float(np.logaddexp(self.log_r, 0.0)) + log_factor
        if self.log_r >= math.log(ALARM_DAYS):
            self.alarms = (*self.alarms, bucket)
            self.log_r = -math.inf


def detected(days: Iterable[tuple[int, Signs]]) -> Detector:
    """The detector after these days, in order."""
    detector = Detector()
    for bucket, signs in days:
        detector.see(bucket, signs.log_factor())
    return detector


def loss_factor(loss: float, reference_loss: float, tolerance: float = 0.1) -> float:
    """Natural logarithm of f for a day's mean loss, for "losses average at most a tenth more than the reference's".

    The mean of 1 + λ(L / m - 1) over stakes λ in [0, 1), m = (1 + tolerance) · reference loss, is at most 1 on
    average wherever L >= 0 averages at most m, however outcomes of a day depend on each other: a day is one bet.
    (Waudby-Smith and Ramdas 2024, one-sided; the risk of a deployed model: Podkopaev and Ramdas 2022.)
    """
    ratio = loss / ((1 + tolerance) * reference_loss)
    stakes = (0.1, 0.25, 0.5, 0.75, 0.95)
    return math.log(sum(1 + stake * (ratio - 1) for stake in stakes) / len(stakes))
