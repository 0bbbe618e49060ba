"""What is derived of one day (or other bucket): its rows as counts, and later what really happened to them.

The first part is made when the day has ended, the second when its cohort is closed, at the very cursors of the
evidence. Both are functions of the journal, read again in the same order: they come out byte for byte the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from gateway.chunk import STATUSES, unpack_outputs
from gateway.columns import Array, score_of
from gateway.journal import Ledger, PredictionReader
from gateway.journal.arrow import numbers_of, strings_of
from gateway.journal.scan import stored
from gateway.journal.sets import Located, SetJoin
from gateway.records import Cursor
from registry.types import Model, Signature
from retrain.drift.bets import N_BETS, Guesser, Signs
from retrain.drift.estimate import ScoreSketch, score_sketch
from retrain.drift.reference import Reference, Scores, cuts_of, reference_of, score_counts_of
from retrain.drift.sketch import Sketch, Sketcher, empty
from retrain.evidence import EvidenceError, Pairs, Rule
from retrain.evidence.losses import paired_losses

PAGE_ROWS = 65_536
N_REFERENCE_ROWS = 50_000
"""Rows of traffic that a reference is made of at most, evenly spread."""
_SCORED = STATUSES.index("scored")


class Stretch(Struct):
    """Where the live rows of one bucket are: writer → its first and last chunk, other buckets' chunks among them."""

    chunks: dict[int, tuple[int, int]] = {}
    n_rows: int = 0
    generation: int = 0
    """The newest of them."""

    def add(self, writer: int, seq: int, n_rows: int, generation: int) -> None:
        """One more chunk; those of a writer come in order."""
        first, _ = self.chunks.get(writer, (seq, seq))
        self.chunks[writer] = first, seq
        self.n_rows += n_rows
        self.generation = max(self.generation, generation)


class Day(Struct, frozen=True):
    """The rows of a bucket: counts in the bins of a reference, bets against it, and the scores of who answered."""

    sketch: Sketch
    signs: Signs
    scores: dict[int, ScoreSketch]
    chunks: dict[str, tuple[int, int]]
    n_unreadable: int = 0
    """Rows that are erased, and chunks that are damaged."""


class Realised(Struct, frozen=True):
    """What happened to the rows of a bucket: outcomes that are known, what the champion lost, challengers' scores.

    `sum_loss` is NaN where a row cannot be judged.
    """

    n: int
    sum_loss: float
    outcome_counts: tuple[int, ...]
    scores: dict[int, ScoreSketch]


encode = msgspec.msgpack.Encoder().encode
decode_day = msgspec.msgpack.Decoder(Day).decode
decode_realised = msgspec.msgpack.Decoder(Realised).decode


class DayReader:
    """Reads the buckets of one model. One thread each."""

    def __init__(
        self, reader: PredictionReader, ledger: Ledger, model: Model, signatures: Mapping[int, Signature]
    ) -> None:
        self._reader, self._ledger, self._model, self._signatures = reader, ledger, model, signatures
        self.n_unreadable = 0

    def day(self, bucket: int, stretch: Stretch, reference: Reference, guesser: Guesser) -> Day:
        """The first part; `guesser` has learned from the days before, and not from this one."""
        self.n_unreadable = 0
        sketcher, sketch, scores = Sketcher(reference), empty(reference), dict[int, ScoreSketch]()
        wanted = np.unique(np.linspace(0, stretch.n_rows - 1, min(N_BETS, stretch.n_rows)).astype(np.int64))
        codes, start = [], 0
        for page in self._pages(bucket, stretch):
            layout = self._reader.layout(page[0].writer, page[0].chunk.layout)
            of_page = sketcher.sketch(page, layout)
            rows = wanted[(wanted >= start) & (wanted < start + of_page.n_rows)] - start
            if len(rows):
                codes.append(sketcher.codes(page, layout, rows))
            start += of_page.n_rows
            sketch = sketch.merge(of_page)
            for version, answered in self._scores(page).items():
                made = score_sketch(self._model.task, answered, reference.scores.cuts)
                scores[version] = scores.get(version, ScoreSketch()).merge(made)
        signs = guesser.signs(np.concatenate(codes)) if codes else Signs()
        chunks = {str(writer): ends for writer, ends in sorted(stretch.chunks.items())}
        return Day(sketch, signs, dict(sorted(scores.items())), chunks, self.n_unreadable)

    def realised(
        self,
        bucket: int,
        stretch: Stretch,
        reference: Reference,
        rule: Rule,
        challengers: Mapping[int, Signature],
        *,
        seen: Cursor,
        upto: Cursor,
        by_us: int,
    ) -> Realised:
        """The second part, at the cursors and by the time of the bucket's closing; `rule` says what a loss is."""
        policy, cuts = self._model.policy, reference.scores.cuts
        join = SetJoin(
            self._reader, self._ledger, self._model.name, policy.association, seen=seen, upto=upto, by_us=by_us
        )
        n, sum_loss, counted = 0, 0.0, np.zeros(len(self._classes()) or len(cuts) + 1, np.int64)
        scores: dict[int, ScoreSketch] = {}
        for page in self._pages(bucket, stretch):
            n_rows = sum(each.chunk.n_rows for each in page)
            known = join.effective(page)
            default = policy.default_outcome
            outcomes = np.full(n_rows, np.nan if default is None else self._as_number(default))
            outcomes[known.row] = [self._as_number(value) for value in known.outcome.tolist()]
            there = ~np.isnan(outcomes)
            champion = np.concatenate([answered for _, answered in self._answers(page)])
            if there.any():
                sum_loss += _loss(outcomes[there], champion[there], rule)
            n += int(there.sum())
            happened = outcomes[there]
            places = happened.astype(np.int64) if self._classes() else np.searchsorted(np.array(cuts), happened)
            counted += np.bincount(places, minlength=len(counted))
            for version, signature in challengers.items():
                made = score_sketch(self._model.task, self._shadow(page, version, signature), cuts)
                scores[version] = scores.get(version, ScoreSketch()).merge(made)
        return Realised(n, sum_loss, tuple(counted.tolist()), {v: s for v, s in sorted(scores.items()) if s.n})

    def reference(self, stretches: Mapping[int, Stretch]) -> Reference | None:
        """The reference that these first buckets make; None where no row of them can be read."""
        stride = max(1, sum(each.n_rows for each in stretches.values()) // N_REFERENCE_ROWS)
        columns: dict[str, list[Array]] = {feature.name: [] for feature in self._model.schema.features}
        scores: list[Array] = []
        for bucket, stretch in stretches.items():
            for page in self._pages(bucket, stretch):
                taken = slice(None, None, stride)
                for name, values in self._columns(page).items():
                    columns[name].append(values[taken])
                scores.append(np.concatenate([answered for _, answered in self._answers(page)])[taken])
        if not scores:
            return None
        answered = np.concatenate(scores)
        cuts = cuts_of(answered) if self._model.task == "regression" else ()
        counts = tuple(score_counts_of(self._model.task, answered, cuts).tolist())
        features = [feature for feature in self._model.schema.features if len(columns[feature.name]) == len(scores)]
        return reference_of(
            {feature.name: np.concatenate(columns[feature.name]) for feature in features}, features, "traffic",
            scores=Scores(cuts, counts), buckets=(min(stretches), max(stretches)),
        )  # fmt: skip

    # --- rows of chunks

    def _pages(self, bucket: int, stretch: Stretch) -> Iterator[list[Located]]:
        """The readable chunks of a bucket, some together; those of a page have one layout."""
        for writer, (first, last) in sorted(stretch.chunks.items()):
            after = first - 1
            while after < last:
                found, after = stored(
                    self._reader, writer, after, last, self._model.name, (bucket, bucket), "live", PAGE_ROWS
                )
                page: list[Located] = []
                for seq, chunk in found:
                    if chunk is None or chunk.erased or chunk.inputs is None:
                        self.n_unreadable += 1 if chunk is None else chunk.n_rows
                        continue
                    if page and page[-1].chunk.layout != chunk.layout:
                        yield page
                        page = []
                    page.append(Located(writer, seq, chunk))
                if page:
                    yield page

    def _answers(self, page: list[Located]) -> Iterator[tuple[int, Array]]:
        """(version, scores) of each chunk."""
        for each in page:
            layout = self._reader.layout(each.writer, each.chunk.layout)
            outputs = unpack_outputs(each.chunk.outputs, layout.outputs)
            yield each.chunk.version, score_of(outputs, self._signatures[each.chunk.version])

    def _scores(self, page: list[Located]) -> dict[int, Array]:
        by_version: dict[int, list[Array]] = {}
        for version, answered in self._answers(page):
            by_version.setdefault(version, []).append(answered)
        return {version: np.concatenate(parts) for version, parts in by_version.items()}

    def _shadow(self, page: list[Located], version: int, signature: Signature) -> Array:
        """A challenger's scores of the rows that it scored."""
        width = (len(signature.classes),) if signature.task == "multiclass" else ()
        scores = [np.empty((0, *width))]
        for each in page:
            shadow = self._ledger.shadow_chunk(each.writer, each.seq, version)
            if shadow is not None and shadow.outputs is not None:
                answers = unpack_outputs(shadow.outputs, self._ledger.layout(shadow.layout).outputs)
                scores.append(score_of(answers, signature)[np.frombuffer(shadow.status, np.uint8) == _SCORED])
        return np.concatenate(scores)

    def _columns(self, page: list[Located]) -> dict[str, Array]:
        """Feature name → values as the version saw them."""
        layout = self._reader.layout(page[0].writer, page[0].chunk.layout)
        columns: dict[str, Any] = {}
        for place, (dtype, names) in enumerate(layout.groups.items()):
            if dtype == "string":
                strings = strings_of(page, place, len(names))
                columns |= {n: s.to_numpy(zero_copy_only=False) for n, s in zip(names, strings, strict=True)}
            else:
                columns |= dict(zip(names, numbers_of(page, place, dtype, len(names)), strict=True))
        return columns

    def _classes(self) -> tuple[int | str, ...]:
        return next(iter(self._signatures.values())).classes

    def _as_number(self, outcome: int | float | str) -> float:
        classes = self._classes()
        return float(classes.index(outcome)) if classes else float(outcome)


def _loss(outcomes: Array, champion: Array, rule: Rule) -> float:
    """The champion's losses added up; NaN where the evidence could not judge these rows either."""
    try:
        pairs = Pairs(outcomes, champion, champion, np.zeros(len(outcomes), np.int64))
        return float(paired_losses(pairs, rule).champion.sum())
    except EvidenceError:
        return math.nan
