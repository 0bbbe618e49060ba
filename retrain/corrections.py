"""What became known of closed buckets after their time: it is counted and shown, and un-decides nothing.

An outcome is late where it was received after its bucket had matured, whenever that bucket was closed. So what is
counted at a moment is the same for a worker that was there and for one that came a week later.
"""

from __future__ import annotations

from msgspec import Struct

from gateway.journal import ChunkHead, Ledger, PredictionReader
from gateway.journal.join import OutcomeJoin, rank
from gateway.records import Address, Cursor, OutcomeRecord
from registry.types import Policy
from retrain.cohorts import Contender, matured_us

AT_ONCE = 10_000


class Late(Struct, frozen=True):
    """How many rows have another outcome by now than when their bucket was closed, and how many only now have one."""

    n_corrected: int = 0
    n_arrived: int = 0


class _Row(Struct):
    """A row of which something was said after its time."""

    head: ChunkHead
    history: list[OutcomeRecord]


class Corrections:
    """The late outcomes of one model in one reign."""

    def __init__(
        self,
        reader: PredictionReader,
        ledger: Ledger,
        *,
        model: str,
        first_generation: int,
        policy: Policy,
        bucket_us: int,
    ) -> None:
        self._reader, self._ledger = reader, ledger
        self._join = OutcomeJoin(reader, ledger)
        self._model, self._first_generation, self._policy = model, first_generation, policy
        self._bucket_us = bucket_us
        self._cursor: Cursor = {}
        self._rows: dict[Address, _Row] = {}
        self._last: ChunkHead | None = None

    def read(self, first_bucket: int) -> None:
        """Take in what was received since; `first_bucket` is the first one that may be closed in this reign."""
        earliest_us = matured_us(first_bucket, self._bucket_us, self._policy)
        for writer, last in self._ledger.outcome_cursor().items():
            while (after := self._cursor.get(writer, 0)) < last:
                records = self._ledger.outcomes_since(writer, after, AT_ONCE)
                for record in records:
                    if record.model == self._model and record.received_at_us > earliest_us:
                        self._take(record)
                self._cursor[writer] = max((record.receipt[1] for record in records), default=last)

    def late(self, contender: Contender, closed: frozenset[int], through: int) -> Late:
        """Of the rows of a contender in closed buckets, as it was known when the bucket `through` had matured."""
        by_us = matured_us(through, self._bucket_us, self._policy)
        n_corrected = n_arrived = 0
        for row in self._rows.values():
            if row.head.bucket in closed and row.head.generation in contender.generations:
                before = self._value(row, matured_us(row.head.bucket, self._bucket_us, self._policy))
                after = self._value(row, by_us)
                n_corrected += before is not None and after != before
                n_arrived += before is None and after is not None
        return Late(n_corrected, n_arrived)

    def buckets(self, closed: frozenset[int]) -> dict[int, int]:
        """Closed bucket → how many of its rows something was said of after its time."""
        counts: dict[int, int] = {}
        for row in self._rows.values():
            if row.head.bucket in closed:
                counts[row.head.bucket] = counts.get(row.head.bucket, 0) + len(row.history)
        return counts

    def _value(self, row: _Row, by_us: int) -> int | float | str | None:
        """The outcome that counts of those received by then; the declared one where none was."""
        known = [record for record in row.history if record.received_at_us <= by_us]
        return max(known, key=rank).outcome if known else self._policy.default_outcome

    def _take(self, record: OutcomeRecord) -> None:
        for address in self._join.rows_named(record, self._policy.association):
            head = self._head(address)
            if head is None or not self._is_late(head, record):
                continue
            chunk = self._reader.chunk(address.writer, address.seq)
            history = self._join.history(address.writer, address.seq, chunk, self._policy.association)
            self._rows[address] = _Row(head, history.get(address.row, []))

    def _head(self, address: Address) -> ChunkHead | None:
        """Of the chunk of a row; the last one is kept, as the outcomes of a chunk often come together."""
        if self._last is None or (self._last.writer, self._last.seq) != (address.writer, address.seq):
            found = self._reader.heads(address.writer, address.seq - 1, 1)
            if not found or found[0].seq != address.seq:
                return None
            self._last = found[0]
        return self._last

    def _is_late(self, head: ChunkHead, record: OutcomeRecord) -> bool:
        mine = head.model == self._model and head.purpose == "live" and head.generation >= self._first_generation
        return mine and record.received_at_us > matured_us(head.bucket, self._bucket_us, self._policy)
