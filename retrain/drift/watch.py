"""The worker's part: each day that has ended is reduced to counts, once; each cohort that is closed, to what happened.

A day's reference is that of the champion that answered last in it. A version that was trained here brings its own;
for any other the first days of its reign as champion are taken, and they are not judged themselves.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import structlog

from gateway.clock import MICROSECONDS, JournalClock
from gateway.config import Settings
from gateway.errors import GatewayError, JournalDamaged
from gateway.journal import Ledger, PredictionReader
from gateway.records import Cursor, WriterState, moment
from registry.errors import RegistryError
from registry.store import Registry
from registry.types import ClosedBucket, Lineup, Model, Reign
from retrain.cohorts import matured_us
from retrain.drift import days as derived
from retrain.drift import reference as references
from retrain.drift.days import DayReader, Realised, Stretch
from retrain.drift.reference import Scores
from retrain.drift.report import document_of
from retrain.drift.series import Series
from retrain.evidence import EvidenceError
from retrain.terms import rule_of

REFERENCE_DAYS = 7
REFERENCE_ROWS = 10_000
"""A reference of traffic is complete with so many days, or rows, whatever comes first …"""
FEWEST_ROWS = 500
"""… but never with fewer rows than this."""
HEADS_AT_ONCE = 10_000
REFRESH_S = 2.0
_log = structlog.get_logger("retrain")


class DriftWatch:
    """Derives the drift of every model of one store."""

    def __init__(
        self, registry: Registry, reader: PredictionReader, ledger: Ledger, clock: JournalClock, settings: Settings
    ) -> None:
        self._registry, self._reader, self._ledger, self._clock = registry, reader, ledger, clock
        self._bucket_s = settings.cohorts.bucket_s
        self._models: dict[str, ModelDrift] = {}
        self._stepped_s = -REFRESH_S
        self._problems: dict[str, str] = {}

    def look(self) -> None:
        """`step`, at most every two seconds."""
        if time.monotonic() - self._stepped_s >= REFRESH_S:
            self.step()
            self._stepped_s = time.monotonic()

    def step(self) -> None:
        """Derive what can be derived now; what fails of one model is said, retried, and holds up no other."""
        self._clock.refresh(self._registry)
        now_us = self._clock.now_us()
        if now_us is None:
            return
        writers = self._reader.writers()  # before the chunks: see PredictionReader.writers
        for model in self._registry.models():
            try:
                lineups = self._registry.lineups(model.name)
                if not lineups:
                    continue
                known = self._models.get(model.name)
                if known is None or known.model != model:
                    self._models[model.name] = ModelDrift(
                        self._registry, self._reader, self._ledger, model, self._bucket_s
                    )
                self._models[model.name].advance(lineups, writers, now_us)
                self._problems.pop(model.name, None)
            except (GatewayError, RegistryError, EvidenceError) as error:
                if self._problems.get(model.name) != str(error):
                    _log.warning("drift waits", model=model.name, reason=str(error), kind=type(error).__name__)
                self._problems[model.name] = str(error)

    def has_counted(self, model: str, until_us: int) -> bool:
        """Whether no day of a model that had ended by then is still to be counted; True where that goes on failing."""
        return model in self._problems or model not in self._models or self._models[model].has_counted(until_us)


class ModelDrift:
    """What is known of one model's days; made anew from what is stored when a worker starts."""

    def __init__(
        self, registry: Registry, reader: PredictionReader, ledger: Ledger, model: Model, bucket_s: int
    ) -> None:
        self.model, self._bucket_s = model, bucket_s
        self._registry, self._reader, self._ledger = registry, reader, ledger
        self._cursor: Cursor = {}
        self._stretches: dict[int, Stretch] = {}
        self._series: dict[int, Series] = {}
        self._collecting: dict[int, list[int]] = {}
        self._n_late_rows = 0
        self._shown = False
        restored = [self._restored(version.number) for version in registry.versions(model.name)]
        # not the days of a reference: it is kept when days are lost, and must not hide those of the champion before
        self._through = max((bucket for series in restored for bucket in series.days), default=-1)

    def advance(self, lineups: Sequence[Lineup], writers: Sequence[WriterState], now_us: int) -> None:
        """Take in the heads of new chunks, then every day that ended and every cohort that was closed since."""
        self._read(writers)
        signatures = {version.number: version.signature for version in self._registry.versions(self.model.name)}
        reading = DayReader(self._reader, self._ledger, self.model, signatures)
        by_generation = {lineup.generation: lineup for lineup in lineups}
        changed = not self._shown
        for bucket in sorted(b for b in self._stretches if b > self._through):
            stretch = self._stretches[bucket]
            if not self._has_ended(bucket, writers, now_us) or stretch.generation not in by_generation:
                break
            self._take(bucket, by_generation[stretch.generation].champion, reading)
            self._through, changed = bucket, True
        changed |= self._realise(reading, by_generation)
        if changed:
            champion = lineups[-1].champion
            document = document_of(
                self.model, lineups[-1], self._series.get(champion, Series(champion)),
                training=self._registry.version(self.model.name, champion).training,
                learned=self._learned(lineups[-1].challengers),
                bucket_s=self._bucket_s, n_late_rows=self._n_late_rows,
                collecting=[self._stretches[b] for b in self._collecting.get(champion, [])],
            )  # fmt: skip
            document["as_of"] = moment(now_us).isoformat()
            self._registry.drift.save_document(self.model.name, document, moment(now_us))
            self._shown = True

    def _learned(self, versions: Sequence[int]) -> dict[int, Scores]:
        """The scores of each version in its training, where it was trained here."""
        bodies = {version: self._registry.drift.reference(self.model.name, version) for version in versions}
        made = {version: references.decode(body) for version, body in bodies.items() if body is not None}
        return {version: reference.scores for version, reference in made.items() if reference.source == "training"}

    def has_counted(self, until_us: int) -> bool:
        """Whether no day that had ended by then is still to be counted: its end has to be promised by every writer."""
        first = until_us // (self._bucket_s * MICROSECONDS)
        return not any(self._through < bucket < first for bucket in self._stretches)

    def _restored(self, version: int) -> Series:
        shelf, name = self._registry.drift, self.model.name
        series = Series(version)
        if (body := shelf.reference(name, version)) is not None:
            series.begin(references.decode(body))
            for bucket, stored in shelf.days(name, version, "rows").items():
                series.add(bucket, derived.decode_day(stored))
            for bucket, stored in shelf.days(name, version, "outcomes").items():
                series.realised[bucket] = derived.decode_realised(stored)
        self._series[version] = series
        return series

    def _read(self, writers: Sequence[WriterState]) -> None:
        for state in writers:
            while (after := self._cursor.get(state.writer, 0)) < state.last_seq:
                heads = self._reader.heads(state.writer, after, HEADS_AT_ONCE)
                if not heads:
                    raise JournalDamaged(f"writer {state.writer} has no chunk between {after} and {state.last_seq}")
                for head in heads:
                    if head.model == self.model.name and head.purpose == "live":
                        self._note(head.bucket, head.writer, head.seq, head.n_rows, head.generation)
                self._cursor[state.writer] = heads[-1].seq

    def _note(self, bucket: int, writer: int, seq: int, n_rows: int, generation: int) -> None:
        """Remember where a bucket's rows are; what comes after the bucket was read is late."""
        series = next((series for series in self._series.values() if bucket in series.days), None)
        day = None if series is None else series.days[bucket]
        if day is not None and seq > day.chunks.get(str(writer), (0, 0))[1]:
            self._n_late_rows += n_rows
        elif bucket > self._through or (series is not None and bucket not in series.realised):
            self._stretches.setdefault(bucket, Stretch()).add(writer, seq, n_rows, generation)

    def _has_ended(self, bucket: int, writers: Sequence[WriterState], now_us: int) -> bool:
        end_us = (bucket + 1) * self._bucket_s * MICROSECONDS
        promised = all(not w.alive or (w.watermark_us is not None and w.watermark_us >= end_us) for w in writers)
        return promised and now_us >= end_us

    def _take(self, bucket: int, champion: int, reading: DayReader) -> None:
        """Reduce a day that has ended, or count it to the reference that is still being collected."""
        name = self.model.name
        series = self._series.get(champion) or self._restored(champion)
        if series.reference is None and (body := self._registry.drift.reference(name, champion)) is not None:
            series.begin(references.decode(body))  # it was trained a moment ago
        if series.reference is not None:
            if bucket <= (series.reference.through or -1):
                return  # a day that the reference was made of
            day = reading.day(bucket, self._stretches[bucket], series.reference, series.guesser)
            self._registry.drift.save_day(name, champion, bucket, "rows", derived.encode(day))
            series.add(bucket, day)
            return
        collecting = self._collecting.setdefault(champion, [])
        collecting.append(bucket)
        n_rows = sum(self._stretches[b].n_rows for b in collecting)
        if n_rows >= FEWEST_ROWS and (len(collecting) >= REFERENCE_DAYS or n_rows >= REFERENCE_ROWS):
            made = reading.reference({b: self._stretches[b] for b in collecting})
            if made is not None:
                self._registry.drift.save_reference(name, champion, references.encode(made))
                series.begin(made)
                del self._collecting[champion]

    def _realise(self, reading: DayReader, lineups: dict[int, Lineup]) -> bool:
        """Add what happened to each day whose cohort was closed since; whether there was any."""
        waiting = {
            bucket: series for series in self._series.values() for bucket in series.days.keys() - series.realised.keys()
        }
        waiting = {bucket: series for bucket, series in waiting.items() if bucket in self._stretches}
        if not waiting:
            return False
        done = False
        for reign in self._registry.reigns(self.model.name)[::-1]:
            for closed in self._registry.closed_buckets(self.model.name, reign.number):
                series = waiting.pop(closed.bucket, None)
                if series is None or series.reference is None:
                    continue
                realised = self._realised(reading, closed, reign, series, lineups)
                body = derived.encode(realised)
                self._registry.drift.save_day(self.model.name, series.version, closed.bucket, "outcomes", body)
                series.realised[closed.bucket] = realised
                del self._stretches[closed.bucket]
                done = True
            if not waiting:
                break
        return done

    def _realised(
        self, reading: DayReader, closed: ClosedBucket, reign: Reign, series: Series, lineups: dict[int, Lineup]
    ) -> Realised:
        stretch = self._stretches[closed.bucket]
        versions = {v.number: v.signature for v in self._registry.versions(self.model.name)}
        playing = lineups[stretch.generation].challengers
        assert series.reference is not None  # noqa: S101  # its days were counted into it
        return reading.realised(
            closed.bucket, stretch, series.reference, rule_of(self.model, reign, self._bucket_s),
            {version: versions[version] for version in playing},
            seen=_cursor(closed.prediction_cursor), upto=_cursor(closed.outcome_cursor),
            by_us=matured_us(closed.bucket, self._bucket_s * MICROSECONDS, reign.policy),
        )  # fmt: skip


def _cursor(stored: dict[str, int]) -> Cursor:
    return {int(writer): seq for writer, seq in stored.items()}
