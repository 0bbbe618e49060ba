"""One model in a store of its own, in this process: a story is told by calling its workers step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace

from gateway.batch import Ask, Cohort, draft, run
from gateway.chunk import STATUSES, Chunk, Layout, ShadowChunk, pack_outputs, unpack_columns
from gateway.clock import JournalClock
from gateway.columns import Array, Columns
from gateway.config import ClockSettings, CohortSettings, JournalSettings, RetrainSettings, Settings, ShadowSettings
from gateway.front import Ticket
from gateway.journal import ChunkHead, Mirrored, PredictionWriter, open_ledger, open_reader, open_writer
from gateway.lineup import Lineups, Serving
from gateway.records import Address, Cursor, OutcomeRecord, Purpose, moment
from gateway.shadow import Mirror
from gateway.status import mirrored_versions
from gateway.wire.own import Asked, Said
from registry.store import Registry
from registry.types import Dtype, InputSchema, Policy, Principal, Signature, Task, TrainingReport
from retrain.cycle import Cycle
from retrain.drift.watch import DriftWatch
from retrain.training.watch import TrainingWatch
from tests.actors import SCHEMA, signature

ME = Principal.local_operator()
DAY = 86_400
DAY_US = DAY * 1_000_000
FIRST = 20_000
"""The first day of a story, in days since 1970 (4 October 2024): its bucket number, where buckets are days."""
PATIENT = JournalSettings(outcomes_busy_s=30.0, busy_s=30.0)


def at_us(day: float) -> int:
    """The time so many days after the first midnight of the story."""
    return round((FIRST + day) * DAY_US)


def at(day: float) -> datetime:
    """The same as a moment."""
    return moment(at_us(day))


class Stage:
    """A model named `m` and everything of its store. Close it by leaving `staged`."""

    def __init__(self, folder: Path, opened: ExitStack, settings: Settings) -> None:
        self.folder, self.settings = folder, settings
        self._opened = opened
        self._shown: datetime | None = None
        self.registry = opened.enter_context(Registry.open(folder, now=self._now))
        self.ledger = opened.enter_context(closing(open_ledger(folder, PATIENT)))
        self.reader = opened.enter_context(closing(open_reader(folder)))
        self.lineups = Lineups(self.registry, 10_000)
        self._writer: PredictionWriter | None = None
        self._outcome_seq = 0
        self.name = "m"

    def _now(self) -> datetime:
        """What the caller's clock shows; before it was set, the day before the story."""
        return self._shown or datetime(2024, 10, 3, tzinfo=UTC)

    # --- who plays

    def declare(self, policy: Policy | None = None, task: Task = "binary", schema: InputSchema = SCHEMA) -> None:
        """The model."""
        self.registry.create_model(self.name, schema, task, policy, by=ME)

    def version(self, model_bytes: bytes, said: Signature | None = None, training: TrainingReport | None = None) -> int:
        """Keep a version without admitting it; retired until it is cast."""
        if said is None:
            said = signature(model_bytes, self.registry.model(self.name).task)
        return self.registry.add_version(self.name, model_bytes, said, training, by=ME).number

    def champion(self, model_bytes: bytes, **more: Any) -> int:
        """The first champion."""
        number = self.version(model_bytes, **more)
        self.registry.appoint(self.name, number, reason="first", by=ME)
        return number

    def challenger(self, model_bytes: bytes, **more: Any) -> int:
        """One more challenger: a new generation."""
        number = self.version(model_bytes, **more)
        self.registry.enlist(self.name, number, reason="try it", by=ME)
        return number

    def clock(self, day: float) -> None:
        """Set the caller's clock."""
        self.registry.set_clock(at(day), by=ME)
        self._shown = at(day)

    # --- what is predicted

    @property
    def writer(self) -> PredictionWriter:
        """The one that writes now."""
        if self._writer is None:
            self._writer = self.another_writer()
        return self._writer

    def another_writer(self) -> PredictionWriter:
        """A new writing process, as it were."""
        made = open_writer(self.folder, PATIENT, self.ledger, kind="gateway", now_us=0)
        return self._opened.enter_context(closing(made))

    def predict(
        self,
        day: float,
        rows: Array,
        *,
        purpose: Purpose = "live",
        associations: Sequence[str] | None = None,
        decisions: Sequence[int | str] | None = None,
        propensities: Sequence[float] | None = None,
        writer: PredictionWriter | None = None,
        stamped: float | None = None,
        serving: Serving | None = None,
        texts: Sequence[tuple[str, ...]] | None = None,
        spread: Sequence[float] | None = None,
    ) -> list[Address]:
        """The present champion answers `rows`, `(n, 2)`, at a time of the caller's; returns where they stand.

        `texts`: each row's string features, where the model's schema has any; `spread`: each row's own time, if any.
        `stamped`: when the run is stamped, if that is another time; `serving`: by which lineup, if not the present one.
        """
        if serving is None:
            if self.lineups.moved():
                self.lineups.refresh()
            serving = self.lineups[self.name]
        blocks: dict[Dtype, Array] = {"float64": np.ascontiguousarray(rows, np.float64)}
        if texts is not None:
            blocks["string"] = np.array(texts, object)
        columns = Columns(len(rows), blocks, {})
        times = [at_us(each) for each in spread or [day] * len(rows)]
        said = Said(
            associations=list(associations) if associations else None,
            predicted_at_us=times,
            decisions=list(decisions) if decisions else None,
            propensities=list(propensities) if propensities else None,
        )
        asked = Asked(columns, single=False, said=said)
        ask = Ask(asked, Ticket("request", None, 0, Principal("tester"), purpose), lambda _: None)
        bucket = at_us(day) // (self.settings.cohorts.bucket_s * 1_000_000)
        ran = run(serving, Cohort([ask], purpose, bucket, at_us(day if stamped is None else stamped)))
        assert not ran.failed, ran.failed
        into = writer or self.writer
        (seq,) = into.append([draft(serving, ran, bytes(16), 0)])
        return [Address(into.writer, seq, row) for row in range(len(rows))]

    def beat(self, day: float, writer: PredictionWriter | None = None) -> None:
        """The writer promises to stamp nothing earlier."""
        (writer or self.writer).heartbeat(at_us(day))

    # --- what happened

    def outcomes(
        self,
        addresses: Iterable[Address],
        outcomes: Iterable[Any],
        day: float,
        *,
        source: str = "default",
        times: int = 1,
    ) -> None:
        """What really happened, observed and received then; delivered `times` times."""
        records = [
            OutcomeRecord(self.name, address, None, address.row, value, source, at_us(day), True, at_us(day))
            for address, value in zip(addresses, outcomes, strict=True)
        ]
        for _ in range(times):
            self._outcome_seq += 1
            self.ledger.append_outcomes(self.writer.writer, self._outcome_seq, records)

    # --- the workers

    def new_clock(self) -> JournalClock:
        """The clock of one worker."""
        return JournalClock(self.settings.clock, self.settings.cohorts.bucket_s)

    @contextmanager
    def mirror(self, **shadow: Any) -> Iterator[Mirror]:
        """A shadow worker with files of its own."""
        settings = replace(self.settings.shadow, **shadow)
        with (
            closing(open_ledger(self.folder, PATIENT)) as ledger,
            closing(open_reader(self.folder)) as reader,
            closing(Mirror(self.registry, reader, ledger, self.new_clock(), settings)) as mirror,
        ):
            yield mirror

    def mirrored(self, **shadow: Any) -> None:
        """Mirror everything that there is."""
        with self.mirror(**shadow) as mirror:
            while mirror.step():
                pass

    def cycle(self) -> Cycle:
        """A retrain worker that has just started."""
        return Cycle(self.registry, self.reader, self.ledger, self.new_clock(), self.settings)

    def close_all(self, cycle: Cycle | None = None) -> None:
        """Step until nothing can be closed."""
        cycle = cycle or self.cycle()
        while cycle.step():
            pass

    def drift(self) -> DriftWatch:
        """The drift of a retrain worker that has just started."""
        return DriftWatch(self.registry, self.reader, self.ledger, self.new_clock(), self.settings)

    @contextmanager
    def training(self) -> Iterator[TrainingWatch]:
        """What asks for trainings, and has them done, in a retrain worker that has just started."""
        with closing(TrainingWatch(self.registry, self.reader, self.drift(), self.settings)) as watch:
            yield watch

    def shadow(
        self, version: int, answer: Callable[[Array], Array], status: str = "scored", *, alone_us: int | None = None
    ) -> None:
        """Write a binary challenger's answers to every eligible row that it has none for, without running it.

        `answer`: rows `(n, 2)` → P(1), of which NaN is a failure. `alone_us`: what a row alone took.
        """
        before = self.ledger.cursor(self.name, version)
        after: Cursor = dict(before)
        kept: list[Mirrored] = []
        mine = {line.generation for line in self.registry.lineups(self.name) if version in mirrored_versions(line)}
        layout = Layout.of(SCHEMA, self.registry.version(self.name, version).signature)
        for head, chunk in self.chunks(before):
            after[head.writer] = head.seq
            if head.purpose != "live" or head.generation not in mine:
                continue
            p = answer(unpack_columns(chunk, self.reader.layout(head.writer, chunk.layout)).blocks["float64"])
            codes = np.where(np.isnan(p), STATUSES.index("error"), STATUSES.index(status)).astype(np.uint8)
            two = np.stack([1 - p, p], axis=1).astype(np.float32)
            outputs = pack_outputs({"label": (p > 0.5).astype(np.int64), "probabilities": two}, layout.outputs)
            said = outputs if status == "scored" else None
            shadow = ShadowChunk(layout.digest, codes.tobytes(), said, chunk.at_us, alone_us=alone_us)
            kept.append(Mirrored(head.writer, head.seq, head.generation, shadow))
        self.ledger.store_shadow(self.name, version, kept, layout, before, after)

    # --- what can be read

    def chunks(self, after: Cursor | None = None) -> list[tuple[ChunkHead, Chunk]]:
        """Every chunk of every writer, from a cursor on."""
        return [
            (head, self.reader.chunk(head.writer, head.seq))
            for state in self.reader.writers()
            for head in self.reader.heads(state.writer, (after or {}).get(state.writer, 0), 1_000_000)
        ]

    def statuses(self, version: int) -> list[str]:
        """What became of each row that a challenger was given, in order."""
        shadows = (self.ledger.shadow_chunk(head.writer, head.seq, version) for head, _ in self.chunks())
        return [STATUSES[code] for shadow in shadows if shadow is not None for code in shadow.status]

    def closed(self, reign: int = 1) -> list[int]:
        """The buckets of a reign that are closed, as days of the story."""
        return [bucket.bucket - FIRST for bucket in self.registry.closed_buckets(self.name, reign)]

    def entry(self, version: int) -> dict[str, Any]:
        """What the evidence says of a challenger."""
        document = self.registry.evidence(self.name)
        assert document is not None
        found: dict[str, Any] = next(e for e in document["challengers"] if e["version"] == version)
        return found

    def promotions(self) -> list[tuple[int, int]]:
        """(version, the bucket upon which it was decided) of each promotion by the rule."""
        decided = self.registry.decisions(self.name)
        return [(d.version, (d.cursors or {})["bucket"]) for d in decided if d.kind == "promote" and d.by == "rule"]


@contextmanager
def staged(
    folder: Path,
    *,
    source: Any = "caller",
    bucket_s: int = DAY,
    shadow: Mapping[str, Any] | None = None,
    retrain: Mapping[str, Any] | None = None,
) -> Iterator[Stage]:
    """An empty stage."""
    settings = Settings(
        store=str(folder),
        clock=ClockSettings(source=source),
        cohorts=CohortSettings(bucket_s=bucket_s),
        shadow=ShadowSettings(**(shadow or {})),
        retrain=RetrainSettings(**(retrain or {})),
    )
    with ExitStack() as opened:
        yield Stage(folder, opened, settings)
