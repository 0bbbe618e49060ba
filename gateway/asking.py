"""What a challenger is asked of the next chunks: how many of them at once, and which of their columns."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np
import structlog

from gateway.challenger import Challenger
from gateway.chunk import Chunk, unpack_columns
from gateway.columns import Array, Columns
from gateway.errors import JournalDamaged
from gateway.journal import PredictionReader
from gateway.journal.reader import ChunkHead
from gateway.seat import SCORED, Question, Seat

_log = structlog.get_logger("shadow")


class Asker:
    """Makes batches of the journal's chunks, and questions of batches."""

    def __init__(self, reader: PredictionReader, batch_rows: int) -> None:
        self._reader, self._batch_rows = reader, batch_rows

    def batch(self, seat: Seat, heads: Sequence[ChunkHead], oldest_us: float) -> tuple[list[ChunkHead], int]:
        """The first chunks for a seat, up to a batch, all lagging or none, and how far its cursor moves by them."""
        batch: list[ChunkHead] = []
        n_rows, last_seq = 0, heads[0].seq - 1
        for head in heads:
            if seat.takes(head):
                full = n_rows + head.n_rows > self._batch_rows
                if batch and (full or seat.lags(head, oldest_us) != seat.lags(batch[0], oldest_us)):
                    break
                batch.append(head)
                n_rows += head.n_rows
            last_seq = head.seq
        return batch, last_seq

    def questions(self, seat: Seat, batch: Sequence[ChunkHead]) -> list[Question]:
        """What a challenger is asked of each of these chunks; neighbours of one layout are one question."""
        parts = [_Part(head, self._intact(head), seat) for head in batch]
        return [self._question(seat.challenger, list(group)) for _, group in groupby(parts, key=lambda part: part.kind)]

    def _question(self, challenger: Challenger, parts: Sequence[_Part]) -> Question:
        """One question about chunks of one kind."""
        n_rows, spared = [part.n_asked for part in parts], [part.spared for part in parts]
        kind = parts[0].kind
        if isinstance(kind, str):
            return Question(n_rows, kind, spared)
        layout = self._reader.layout(parts[0].head.writer, kind)
        columns = Columns.joined([unpack_columns(part.chunk, layout) for part in parts if part.chunk is not None])
        asked = np.concatenate([part.asked for part in parts])
        named = columns.by_name(layout.groups)
        taken = {name: values for name, values in named.items() if name in challenger.features}
        if len(taken) < len(challenger.features):  # they were logged before the feature was
            return Question(n_rows, "missing_feature", spared)
        if not asked.all():
            taken = {name: values[asked] for name, values in taken.items()}
        return Question(n_rows, taken, spared)

    def _intact(self, head: ChunkHead) -> Chunk | None:
        """The chunk; None where the disk does not give back what was written, which is no fault of a challenger."""
        try:
            return self._reader.chunk(head.writer, head.seq)
        except JournalDamaged as error:
            _log.error("a chunk is damaged: its rows are skipped", writer=head.writer, seq=head.seq, reason=str(error))
            return None


class _Part:
    """One chunk of a batch. `kind`: its layout, or why nothing of it can be asked."""

    def __init__(self, head: ChunkHead, chunk: Chunk | None, seat: Seat) -> None:
        self.head, self.chunk = head, chunk
        self.spared: Array | None = None if chunk is None else seat.spared(chunk)
        self.asked = np.ones(head.n_rows, bool) if self.spared is None else self.spared == SCORED
        self.n_asked = int(self.asked.sum())
        self.kind: bytes | str
        if chunk is None:
            self.kind = "damaged"
        elif self.n_asked == 0:
            self.kind = "not_asked"
        elif chunk.inputs is None:  # they were erased
            self.kind = "expired"
        else:
            self.kind = chunk.layout
