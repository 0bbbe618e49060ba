"""The figures of a series of days, each with its sentence.

A verdict of a feature is by PSI over the last seven days, less what chance alone would give: `stable` below 0.1,
`watch` from there, `act` from 0.25. They are habits of the trade without an error rate; the alarm has one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from gateway.clock import MICROSECONDS
from gateway.records import moment
from registry.types import Model, Task, TrainingReport
from retrain.drift import measures
from retrain.drift.bets import ALARM_DAYS, Detector
from retrain.drift.estimate import estimated
from retrain.drift.reference import N_SCORE_BINS, Bins, Scores
from retrain.drift.series import FIRST_DAYS, WINDOW_DAYS, Series, merged, total
from retrain.drift.words import day_of, feature_sentence, percent, where

Array = NDArray[Any]
Verdict = Literal["stable", "watch", "act"]

WATCH, ACT = 0.1, 0.25
SHOWN_DAYS = 60


class Figures:
    """The parts of the document of a series that has a reference: figures, and a sentence for each."""

    def __init__(self, model: Model, series: Series, training: TrainingReport | None, bucket_s: int) -> None:
        assert series.reference is not None  # noqa: S101  # see the class
        self._task: Task = model.task
        self._series, self._training, self._bucket_s = series, training, bucket_s
        self._reference = series.reference

    def at(self, bucket: int) -> datetime:
        """When a bucket begins."""
        return moment(bucket * self._bucket_s * MICROSECONDS)

    def reference(self) -> dict[str, Any]:
        """What is compared with."""
        made = self._reference
        if made.first is None or made.through is None:
            said = f"compared with the {made.n_rows:,} rows that version {self._series.version} was trained on"
            return {"source": made.source, "n_rows": made.n_rows, "since": None, "until": None, "sentence": said}
        since, until = self.at(made.first), self.at(made.through + 1)
        said = (
            f"version {self._series.version} was not trained here: compared with {made.n_rows:,} rows of its first "
            f"traffic, from {day_of(since)} to {day_of(self.at(made.through))}"
        )
        return {
            "source": made.source, "n_rows": made.n_rows,
            "since": since.isoformat(), "until": until.isoformat(), "sentence": said,
        }  # fmt: skip

    def alarm(self) -> dict[str, Any]:
        """Whether the traffic can be told from the reference."""
        return self._detected(self._series.alarms(), "traffic can be told from the reference", self._series.buckets)

    def _detected(self, detector: Detector, finding: str, buckets: Sequence[int]) -> dict[str, Any]:
        """What a detector has come to; an alarm is shown while the last one is no older than a window."""
        last = detector.alarms[-1] if detector.alarms else None
        alarmed = last is not None and last in buckets[-WINDOW_DAYS:]
        first = next((b for i, b in enumerate(detector.alarms) if _unbroken(detector.alarms[i:], buckets)), None)
        since = self.at(first) if alarmed and first is not None else None
        said = (
            f"alarm: {finding} since {day_of(since)}; false alarms are at least {ALARM_DAYS} days apart on average"
            if since is not None
            else f"no alarm: nothing shows that {finding}"
        )
        return {
            "state": "alarm" if alarmed else "quiet",
            "since": None if since is None else since.isoformat(),
            "n_alarms": len(detector.alarms),
            "log_r": None if np.isinf(detector.log_r) else detector.log_r,
            "log_r_threshold": float(np.log(ALARM_DAYS)),
            "sentence": said,
        }

    def features(self) -> list[dict[str, Any]]:
        """Every feature over the last window, those that moved most first."""
        told = [self._feature(place, bins) for place, bins in enumerate(self._reference.bins)]
        return sorted(told, key=lambda each: -each["psi"])

    def _feature(self, place: int, bins: Bins) -> dict[str, Any]:
        before = np.array(bins.counts, np.int64)
        windows = self._series.windows(place, bins.n_bins)
        now = windows[-1]
        moved = self._moved(before, windows)
        p, q = measures.shares(before), measures.shares(now)
        told: dict[str, Any] = {
            "name": bins.name, "dtype": bins.dtype, "n_rows": int(now.sum()), **moved,
            "jensen_shannon": float(measures.jensen_shannon(before, now)),
            "ks": None, "wasserstein": None,
            "missing_share": float(q[-1]), "reference_missing_share": float(p[-1]), "new_share": None,
        }  # fmt: skip
        if bins.dtype == "string":
            told["new_share"] = float(q[len(bins.values) + 1]) if bins.all_known else None
        elif before[:-1].any() and now[:-1].any():
            told["ks"] = float(measures.kolmogorov_smirnov(before[:-1], now[:-1]))
            told["wasserstein"] = self._way(place, bins, before, now)
        told["bins"] = {
            "cuts": list(bins.cuts),
            "values": list(bins.values),
            "reference": p.tolist(),
            "now": q.tolist(),
        }
        return told | {"sentence": feature_sentence(told, where(bins, p, q))}

    def _way(self, place: int, bins: Bins, before: Array, now: Array) -> float:
        """The mean way in standard deviations; of bins by their centres, and never less than the means moved."""
        unit = bins.sd or 1.0
        between = float(measures.wasserstein(np.array(bins.centres), before[:-1], now[:-1])) if bins.cuts else 0.0
        mean = self._series.mean(place)
        return max(between, 0.0 if mean is None else abs(mean - bins.mean)) / unit

    def _moved(self, before: Array, windows: Array) -> dict[str, Any]:
        """PSI of the last window, what chance gives, the verdict, and since when it is none of `stable`."""
        psi = np.where(windows.sum(axis=1) > 0, measures.psi(before, windows), 0.0)
        n_bins = int(((before > 0) | (windows[-1] > 0)).sum())
        chance = measures.psi_by_chance(n_bins, int(before.sum()), windows.sum(axis=1))
        surplus = np.where(windows.sum(axis=1) > 0, psi - chance, 0.0)
        verdict: Verdict = "act" if surplus[-1] >= ACT else "watch" if surplus[-1] >= WATCH else "stable"
        since = None
        if verdict != "stable":
            quiet = np.flatnonzero(surplus < WATCH)
            since = self.at(self._series.buckets[int(quiet[-1]) + 1 if len(quiet) else 0]).isoformat()
        return {"verdict": verdict, "psi": float(psi[-1]), "psi_by_chance": float(chance[-1]), "since": since}

    def scores(self, versions: Sequence[int], learned: Mapping[int, Scores]) -> list[dict[str, Any]]:
        """How each version's scores have moved: from those in its training, else from those of its own first days.

        `learned`: the scores of challengers in their trainings, where those are known. Answers of a regression are
        counted between the champion's cuts, so that those of another training cannot be compared with them.
        """
        of_training = {**learned, self._series.version: self._reference.scores}
        told = []
        for version in versions:
            days = self._series.scores(version)
            scores = of_training.get(version)
            known = scores.score_counts if scores and scores.cuts == self._reference.scores.cuts else ()
            first = [] if known else days[:FIRST_DAYS]
            later = days[len(first) :][-WINDOW_DAYS:]
            if not later or (not known and len(first) < FIRST_DAYS):
                continue
            before = self._coarse(np.array(known) if known else total([sketch.counts for _, sketch in first]))
            now = self._coarse(total([sketch.counts for _, sketch in later]))
            against = "its own first days"
            if known:
                against = "the reference" if version == self._series.version else "its training"
            told.append({"version": version, **self._pair(before, now, f"scores of version {version}", against)})
        return told

    def _coarse(self, counts: Array) -> Array:
        """Tenths of probability instead of hundredths, and classes as they are."""
        if self._task == "regression":
            return counts
        tenths = counts[:N_SCORE_BINS].reshape(10, -1).sum(axis=1)
        return tenths if self._task == "binary" else counts[N_SCORE_BINS:]

    def _pair(self, before: Array, now: Array, what: str, against: str) -> dict[str, Any]:
        psi = float(measures.psi(before, now))
        chance = float(measures.psi_by_chance(int(((before > 0) | (now > 0)).sum()), before.sum(), now.sum()))
        verdict: Verdict = "act" if psi - chance >= ACT else "watch" if psi - chance >= WATCH else "stable"
        return {
            "verdict": verdict, "psi": psi, "psi_by_chance": chance, "n_rows": int(now.sum()),
            "jensen_shannon": float(measures.jensen_shannon(before, now)),
            "sentence": f"{what}: PSI {psi:.2f} against {against}",
        }  # fmt: skip

    def outcomes(self) -> dict[str, Any] | None:
        """How outcomes have moved; None while too few cohorts are closed."""
        days = [day.outcome_counts for _, day in sorted(self._series.realised.items()) if day.n]
        known = self._reference.scores.outcome_counts
        first = [] if known else days[:FIRST_DAYS]
        later = days[len(first) :][-WINDOW_DAYS:]
        if not later:
            return None
        before, now = np.array(known) if known else total(first), total(later)
        told = self._pair(before, now, "outcomes", "the training's" if known else "those of the first days")
        shares = {"reference": measures.shares(before).tolist(), "now": measures.shares(now).tolist()}
        if self._task == "binary":
            told["sentence"] += f": {percent(shares['now'][1])} positive, {percent(shares['reference'][1])} before"
        return told | {"shares": shares}

    def performance(self) -> dict[str, Any] | None:
        """The champion's loss on closed cohorts against its reference loss; None while nothing is closed."""
        losses = self._series.losses()
        if not losses:
            return None
        found = self._series.reference_loss(self._training)
        closed = [bucket for bucket, _, _ in losses]
        alarm = self._detected(self._series.loss_alarms(self._training), "the champion loses more than it did", closed)
        recent = losses[-WINDOW_DAYS:]
        n = sum(each[1] for each in recent)
        loss = sum(of_day * mean for _, of_day, mean in recent) / n
        if found is None:
            said = f"loss {loss:.4f} on {n:,} outcomes; there are too few closed days to compare it with"
        else:
            source = "in training" if not found[1] else "on its first days"
            said = f"loss {loss:.4f} on {n:,} outcomes of the last closed days, {found[0]:.4f} {source}"
            said += f"; {alarm['sentence']}"
        return {
            "loss": loss, "n_outcomes": n, "reference_loss": found and found[0], "alarm": alarm, "sentence": said,
            "days": [
                {"at": self.at(bucket).isoformat(), "n_outcomes": of_day, "loss": mean,
                 "estimated_log_loss": self._estimated_loss(bucket)}
                for bucket, of_day, mean in losses[-SHOWN_DAYS:]
            ],
        }  # fmt: skip

    def _estimated_loss(self, bucket: int) -> float | None:
        day = self._series.days[bucket].scores.get(self._series.version)
        promised = None if day is None else estimated(self._task, day)
        return None if promised is None else promised.log_loss

    def estimate(self) -> dict[str, Any] | None:
        """What the champion's scores promise for the days whose outcomes are not in yet: an estimate, not a fact."""
        blind = [b for b in self._series.buckets if b not in self._series.realised]
        days = {b: s for b, s in self._series.scores(self._series.version) if b in blind}
        promised = estimated(self._task, merged(days.values()))
        if promised is None:
            return None
        checked = [(n, loss, self._estimated_loss(bucket)) for bucket, n, loss in self._series.losses()]
        known = [(n, loss, said) for n, loss, said in checked if said is not None]
        off = sum(n * (loss - said) for n, loss, said in known) / sum(n for n, _, _ in known) if known else None
        said = (
            f"estimated, not observed: log loss {promised.log_loss:.4f}, accuracy {percent(promised.accuracy)} on "
            f"{promised.n_rows:,} rows since {day_of(self.at(min(days)))} whose outcomes are not in, if the scores are "
            "calibrated and what they mean has not changed"
        )
        if off is not None:
            said += (
                f"; on closed days the loss was {abs(off):.4f} {'higher' if off > 0 else 'lower'} than such estimates"
            )
        return {
            **msgspec.structs.asdict(promised),
            "since": self.at(min(days)).isoformat(),
            "off_by": off,
            "sentence": said,
        }


def _unbroken(alarms: Sequence[int], buckets: Sequence[int]) -> bool:
    """Whether these alarms follow each other within windows."""
    place = {bucket: i for i, bucket in enumerate(buckets)}
    return all(place[b] - place[a] <= WINDOW_DAYS for a, b in pairwise(alarms))
