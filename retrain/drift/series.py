"""The days of one version's reign, in order, against its reference: what every figure of drift is a function of."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from registry.types import TrainingReport
from retrain.drift.bets import Detector, Guesser, detected, loss_factor
from retrain.drift.days import Day, Realised
from retrain.drift.estimate import ScoreSketch
from retrain.drift.reference import Reference

Array = NDArray[Any]

WINDOW_DAYS = 7
"""Days that are looked at together, so that a week-end is no drift."""
FIRST_DAYS = 7
"""Days that stand for the reference of what the training said nothing about."""
FEWEST_OUTCOMES = 20
"""A day with fewer outcomes says nothing of the mean loss."""


class Series:
    """Days as they were derived. Add them in order."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.reference: Reference | None = None
        self.days: dict[int, Day] = {}
        self.realised: dict[int, Realised] = {}
        self._guesser: Guesser | None = None

    def begin(self, reference: Reference) -> None:
        """With what the days are compared."""
        self.reference, self._guesser = reference, Guesser(reference)

    @property
    def guesser(self) -> Guesser:
        """The classifier, as it is after the days so far."""
        assert self._guesser is not None  # noqa: S101  # without a reference there are no days
        return self._guesser

    def add(self, bucket: int, day: Day) -> None:
        """One more day, later than all others."""
        self.days[bucket] = day
        self.guesser.learn(day.sketch)

    @property
    def buckets(self) -> list[int]:
        """The days, in order."""
        return sorted(self.days)

    def windows(self, place: int, n_bins: int) -> Array:
        """Counts of a feature in the window that ends with each day, `(n_days, n_bins)`."""
        table = np.array([self.days[b].sketch.counts[place] or (0,) * n_bins for b in self.buckets], np.int64)
        return _rolling(table)

    def mean(self, place: int) -> float | None:
        """Of a feature's numbers in the last window."""
        recent = [self.days[b].sketch for b in self.buckets[-WINDOW_DAYS:]]
        n = sum(sum(sketch.counts[place][:-1]) for sketch in recent)
        return sum(sketch.sums[place] for sketch in recent) / n if n else None

    def alarms(self) -> Detector:
        """What the bets have come to."""
        return detected((bucket, self.days[bucket].signs) for bucket in self.buckets)

    def scores(self, version: int) -> list[tuple[int, ScoreSketch]]:
        """(bucket, scores) of the days on which a version answered, as champion or beside it."""
        found = []
        for bucket in self.buckets:
            own = self.days[bucket].scores.get(version)
            beside = self.realised[bucket].scores.get(version) if bucket in self.realised else None
            sketch = own or beside
            if sketch is not None and sketch.n:
                found.append((bucket, sketch))
        return found

    def losses(self) -> list[tuple[int, int, float]]:
        """(bucket, outcomes, mean loss) of the closed days with enough outcomes."""
        return [
            (bucket, day.n, day.sum_loss / day.n)
            for bucket, day in sorted(self.realised.items())
            if day.n >= FEWEST_OUTCOMES and not math.isnan(day.sum_loss)
        ]

    def reference_loss(self, training: TrainingReport | None) -> tuple[float, int] | None:
        """The loss that days are compared with, and how many first days were taken for it (0: it is the training's)."""
        if training is not None and training.reference_loss is not None:
            return training.reference_loss, 0
        first = self.losses()[:FIRST_DAYS]
        n = sum(each[1] for each in first)
        if len(first) < FIRST_DAYS:
            return None
        loss = sum(n_of * loss for _, n_of, loss in first) / n
        return (loss, FIRST_DAYS) if loss > 0 else None

    def loss_alarms(self, training: TrainingReport | None) -> Detector:
        """The detector over the mean losses of closed days."""
        detector, found = Detector(), self.reference_loss(training)
        if found is not None:
            reference_loss, n_first = found
            for bucket, _, loss in self.losses()[n_first:]:
                detector.see(bucket, loss_factor(loss, reference_loss))
        return detector


def merged(sketches: Iterable[ScoreSketch]) -> ScoreSketch:
    """All of these as one."""
    together = ScoreSketch()
    for sketch in sketches:
        together = together.merge(sketch)
    return together


def total(counts: Sequence[Sequence[int]]) -> Array:
    """The sum of some lists of counts of one length; at least one."""
    return np.asarray(np.array(counts, np.int64).sum(axis=0))


def _rolling(table: Array) -> Array:
    """Sums over the `WINDOW_DAYS` rows that end with each row."""
    sums = np.cumsum(table, axis=0)
    sums[WINDOW_DAYS:] = sums[WINDOW_DAYS:] - sums[:-WINDOW_DAYS]
    return sums
