"""The journal as a table: predictions with what really happened, as Arrow record batches of bounded size.

A row holds only what was known when it was predicted, and the outcome as it was known at a stated time:

    predicted_at bucket version generation writer seq row association_id decision propensity weight
    inputs.<feature>…   null where the caller did not send it, or where the schema did not have it yet
    outputs.<output>…   score   shadow.<version>…
    outcome   observed_at (null for the declared default)   matured

Live rows only, writer by writer in the order in which they were recorded. What was erased or is damaged, and (unless
asked for) what has not had its time, is left out and counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from msgspec import Struct

from gateway.chunk import STATUSES, Chunk, Layout, unpack_outputs
from gateway.columns import Array, score_of
from gateway.errors import JournalDamaged
from gateway.journal.arrow import MOMENT, TYPES, each_row, inputs_of, output_column, scores_column, vector
from gateway.journal.ledger import Ledger
from gateway.journal.reader import PredictionReader
from gateway.journal.scan import stored
from gateway.journal.sets import Effective, Located, SetJoin
from registry.types import Model, Signature

MICROSECONDS = 1_000_000
EVER = 2**62
"""Later than any time, in microseconds."""
_SCORED = STATUSES.index("scored")


class Span(Struct, frozen=True):
    """Which predictions: made in [since, until), as everything stood at `as_of`. Microseconds since 1970."""

    as_of_us: int
    since_us: int = 0
    until_us: int = EVER
    with_waiting: bool = False
    """Also rows whose outcomes have not had their time: those known already are not a fair sample."""


class Account(Struct):
    """Rows that are in the table, and rows that are not, by why."""

    n_rows: int = 0
    n_with_outcome: int = 0
    n_waiting: int = 0
    n_erased: int = 0
    n_damaged_chunks: int = 0


class PredictionTable:
    """The predictions of one model as a table. One thread each, and read once."""

    def __init__(
        self,
        reader: PredictionReader,
        ledger: Ledger,
        model: Model,
        signatures: Mapping[int, Signature],
        span: Span,
        *,
        bucket_us: int,
        shadows: Sequence[int] = (),
        rows_at_once: int = 65_536,
    ) -> None:
        """`signatures`: of every version. `shadows`: challengers whose scores are wanted too."""
        self._reader, self._ledger, self._model, self._span = reader, ledger, model, span
        self._signatures, self._shadows = signatures, tuple(shadows)
        self._bucket_us, self._rows_at_once = bucket_us, rows_at_once
        self._signature = next(iter(signatures.values()))
        self.account = Account()
        self.schema = self._schema()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The table, some ten thousand rows at once.

        Raises:
            JournalUnavailable, JournalDamaged: it cannot be read on.
        """
        writers = self._reader.writers()
        for state in writers:
            if state.problem is not None and state.last_seq == 0:
                raise JournalDamaged(f"writer {state.writer}: {state.problem}")
        seen = {state.writer: self._reader.last_seq_at(state, self._span.as_of_us) for state in writers}
        join = SetJoin(
            self._reader, self._ledger, self._model.name, self._model.policy.association,
            seen=seen, by_us=self._span.as_of_us, through=self._ledger.last_outcome(),
        )  # fmt: skip
        for writer, last in seen.items():
            for chunks in self._pages(writer, last):
                batch = self._batch(chunks, join.effective(chunks))
                if batch.num_rows:
                    yield batch

    # --- which chunks

    def _pages(self, writer: int, last: int) -> Iterator[list[Located]]:
        """The chunks of a writer that have rows of the table, some together: those of a page have one layout."""
        span, after = self._span, 0
        buckets = span.since_us // self._bucket_us, (span.until_us - 1) // self._bucket_us
        while after < last:
            found, after = stored(
                self._reader, writer, after, last, self._model.name, buckets, "live", self._rows_at_once
            )
            page: list[Located] = []
            for seq, chunk in found:
                if chunk is None:
                    self.account.n_damaged_chunks += 1
                elif self._counts(chunk):
                    if page and page[-1].chunk.layout != chunk.layout:
                        yield page
                        page = []
                    page.append(Located(writer, seq, chunk))
            if page:
                yield page

    def _counts(self, chunk: Chunk) -> bool:
        if chunk.erased or chunk.inputs is None:
            self.account.n_erased += int(self._in_span(chunk.predicted_at_us()).sum())
            return False
        if not self._is_matured(chunk) and not self._span.with_waiting:
            self.account.n_waiting += int(self._in_span(chunk.predicted_at_us()).sum())
            return False
        return True

    def _is_matured(self, chunk: Chunk) -> bool:
        maturity_us = round(self._model.policy.maturity_s * MICROSECONDS)
        return (chunk.bucket + 1) * self._bucket_us + maturity_us <= self._span.as_of_us

    def _in_span(self, predicted_at_us: Array) -> Array:
        return np.asarray((predicted_at_us >= self._span.since_us) & (predicted_at_us < self._span.until_us))

    # --- what their rows hold

    def _schema(self) -> pa.Schema:
        score = vector(pa.float64(), len(self._signature.classes) if self._signature.task == "multiclass" else None)
        columns = {
            "predicted_at": MOMENT, "bucket": pa.int64(), "version": pa.int32(), "generation": pa.int32(),
            "writer": pa.int64(), "seq": pa.int64(), "row": pa.int32(), "association_id": pa.string(),
            "decision": pa.string(), "propensity": pa.float64(), "weight": pa.float64(),
        }  # fmt: skip
        columns |= {f"inputs.{feature.name}": TYPES[feature.dtype] for feature in self._model.schema.features}
        columns |= {f"outputs.{out.name}": vector(TYPES[out.dtype], out.width) for out in self._signature.outputs}
        columns |= {"score": score} | {f"shadow.{version}": score for version in self._shadows}
        columns |= {"outcome": self._outcome_type(), "observed_at": MOMENT, "matured": pa.bool_()}
        return pa.schema(columns)

    def _outcome_type(self) -> pa.DataType:
        classes = self._signature.classes
        if self._signature.task == "regression":
            return pa.float64()
        return pa.int64() if all(isinstance(label, int) for label in classes) else pa.string()

    def _batch(self, page: Sequence[Located], known: Effective) -> pa.RecordBatch:
        lengths = [each.chunk.n_rows for each in page]
        predicted_at_us = np.concatenate([each.chunk.predicted_at_us() for each in page])
        layout = self._reader.layout(page[0].writer, page[0].chunk.layout)
        propensity = each_row(page, "propensities", pa.float64())
        columns: list[Any] = [
            pa.array(predicted_at_us, MOMENT),
            *(pa.array(np.repeat(values, lengths), kind) for values, kind in (
                ([each.chunk.bucket for each in page], pa.int64()), ([each.chunk.version for each in page], pa.int32()),
                ([each.chunk.generation for each in page], pa.int32()), ([each.writer for each in page], pa.int64()),
                ([each.seq for each in page], pa.int64()),
            )),
            pa.array(np.concatenate([np.arange(n) for n in lengths]), pa.int32()),
            each_row(page, "associations", pa.string()),
            each_row(page, "decisions", pa.string()),
            propensity,
            pa.array(1.0 / propensity.fill_null(1.0).to_numpy(zero_copy_only=False)),
        ]  # fmt: skip
        inputs = inputs_of(page, layout)
        n_rows = len(predicted_at_us)
        columns += [
            inputs[feature.name] if feature.name in inputs else pa.nulls(n_rows, TYPES[feature.dtype])
            for feature in self._model.schema.features
        ]
        columns += self._answers(page, layout)
        columns += [self._shadow(page, version) for version in self._shadows]
        columns += self._outcomes(page, known, n_rows)
        batch = pa.RecordBatch.from_arrays(columns, schema=self.schema)
        inside = self._in_span(predicted_at_us)
        if not inside.all():
            batch = batch.filter(pa.array(inside))
        self.account.n_rows += batch.num_rows
        self.account.n_with_outcome += batch.num_rows - batch.column("outcome").null_count
        return batch

    def _answers(self, page: Sequence[Located], layout: Layout) -> list[Any]:
        """The outputs, and the score as it is compared with the outcome."""
        answers = [unpack_outputs(each.chunk.outputs, layout.outputs) for each in page]
        outputs = {out.name: np.concatenate([answer[out.name] for answer in answers]) for out in layout.outputs}
        scores = [
            score_of(answer, self._signatures[each.chunk.version]) for answer, each in zip(answers, page, strict=True)
        ]
        named = {out.name: out for out in layout.outputs}
        columns = [output_column(outputs[out.name], named[out.name]) for out in self._signature.outputs]
        return [*columns, scores_column(np.concatenate(scores))]

    def _shadow(self, page: Sequence[Located], version: int) -> Any:
        """A challenger's scores beside the champion's."""
        signature, scores = self._signatures[version], []
        width = (len(signature.classes),) if signature.task == "multiclass" else ()
        for each in page:
            values = np.full((each.chunk.n_rows, *width), np.nan)
            shadow = self._ledger.shadow_chunk(each.writer, each.seq, version)
            if shadow is not None and shadow.outputs is not None:
                scored = np.frombuffer(shadow.status, np.uint8) == _SCORED
                answers = unpack_outputs(shadow.outputs, self._ledger.layout(shadow.layout).outputs)
                values[scored] = score_of(answers, signature)[scored]
            scores.append(values)
        return scores_column(np.concatenate(scores))

    def _outcomes(self, page: Sequence[Located], known: Effective, n_rows: int) -> list[Any]:
        """What happened, when it was observed, and whether every outcome of the bucket has had its time."""
        matured = np.repeat([self._is_matured(each.chunk) for each in page], [each.chunk.n_rows for each in page])
        happened = np.full(n_rows, None, object)
        default = self._model.policy.default_outcome
        if default is not None:
            happened[matured] = default
        happened[known.row] = known.outcome
        kind = self._outcome_type()
        values = [None if value is None else str(value) for value in happened] if kind == pa.string() else happened
        observed_us, unseen = np.zeros(n_rows, np.int64), np.ones(n_rows, bool)
        observed_us[known.row], unseen[known.row] = known.observed_us, False
        return [pa.array(values, kind), pa.array(observed_us, MOMENT, mask=unseen), pa.array(matured)]
