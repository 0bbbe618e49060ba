"""Outcomes meet predictions here, when somebody reads; nothing is joined when it arrives, so early and late are one.

An outcome names its row by address, or by an association id that names one or more rows. Of several outcomes of a
row the effective one has the highest (observed_at, source, digest): a total order, the same on every machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec import Struct

from gateway.chunk import Chunk
from gateway.journal.ledger import Ledger
from gateway.journal.reader import PredictionReader
from gateway.records import Address, Cursor, OutcomeRecord, Purpose

Association = Literal["latest", "first", "all"]
"""Which of the predictions with an association id an outcome belongs to: the latest before it, the first, or all."""


class Candidate(Struct, frozen=True):
    """A row that carries an association id: where it stands, when it was predicted, and which request of its chunk."""

    address: Address
    at_us: int
    request: int

    @property
    def made_by(self) -> tuple[int, int, int]:
        """The request that asked for it."""
        return self.address.writer, self.address.seq, self.request


class OutcomeJoin:
    """Finds the outcomes of predictions. One thread each."""

    def __init__(self, reader: PredictionReader, ledger: Ledger, seen: Cursor | None = None) -> None:
        """`seen`: as if no prediction had been made after this cursor, so that a closed cohort can be joined again."""
        self._reader, self._ledger, self._seen = reader, ledger, seen

    def history(self, writer: int, seq: int, chunk: Chunk, policy: Association) -> dict[int, list[OutcomeRecord]]:
        """Row → everything that was ever said of it, in the order of receipt; rows without outcome are left out."""
        found: dict[int, list[OutcomeRecord]] = {}
        for outcome in self._ledger.outcomes_of_chunk(writer, seq):
            found.setdefault(outcome.row, []).append(outcome)
        for row, name in enumerate(chunk.requests.associations or ()):
            if name is None:
                continue
            for outcome in self._ledger.outcomes_of_association(chunk.model, name):
                if Address(writer, seq, row) in self.rows_named(outcome, policy, chunk.purpose):
                    found.setdefault(row, []).append(outcome)
        return found

    def effective(
        self,
        writer: int,
        seq: int,
        chunk: Chunk,
        policy: Association,
        upto: Cursor | None = None,
        by_us: int | None = None,
    ) -> dict[int, OutcomeRecord]:
        """Row → the outcome that counts, of those received up to a cursor, and by a time (all, where they are None)."""
        counted: dict[int, OutcomeRecord] = {}
        for row, outcomes in self.history(writer, seq, chunk, policy).items():
            in_time = [
                o
                for o in outcomes
                if (upto is None or o.receipt[1] <= upto.get(o.receipt[0], 0))
                and (by_us is None or o.received_at_us <= by_us)
            ]
            if in_time:
                counted[row] = max(in_time, key=rank)
        return counted

    def rows_named(self, outcome: OutcomeRecord, policy: Association, purpose: Purpose = "live") -> list[Address]:
        """The rows of a purpose that an outcome belongs to; none while its prediction has not been made.

        An association id may stand on several rows of one request; `row` then counts among them. A load test that
        repeats the ids of real requests takes no outcome away from them.
        """
        if outcome.address is not None:
            return [outcome.address]
        if outcome.association_id is None:
            return []
        carriers = [
            Candidate(address, at_us, self._request_of(address))
            for address, at_us in self._reader.associated(outcome.model, outcome.association_id, purpose)
            if self._seen is None or address.seq <= self._seen.get(address.writer, 0)
        ]
        return chosen(carriers, outcome.observed_at_us, outcome.row, policy)

    def _request_of(self, address: Address) -> int:
        starts = self._reader.chunk(address.writer, address.seq).starts()
        return int(starts.searchsorted(address.row, side="right"))


def chosen(carriers: Sequence[Candidate], observed_us: int, number: int, policy: Association) -> list[Address]:
    """The rows that an outcome of an association id belongs to, of those that carry the id, oldest first.

    They are those made before the outcome, or else those of the first request after it: an outcome that came before
    its prediction (`early`) waits for the next one. `number` counts among the rows of a request that carry the id.
    """
    before = [one for one in carriers if one.at_us <= observed_us]
    if not before:
        before = [one for one in carriers if one.made_by == carriers[0].made_by]
    requests: dict[tuple[int, int, int], list[Address]] = {}
    for one in before:
        requests.setdefault(one.made_by, []).append(one.address)
    which = {"latest": slice(-1, None), "first": slice(0, 1), "all": slice(None)}[policy]
    rows = [sorted(addresses) for addresses in list(requests.values())[which]]
    return [addresses[number] for addresses in rows if number < len(addresses)]


def rank(outcome: OutcomeRecord) -> tuple[int, str, bytes]:
    """The order of outcomes of one row: the last one is effective."""
    value = msgspec.json.encode(outcome.outcome)
    return outcome.observed_at_us, outcome.source, hashlib.blake2b(value, digest_size=16).digest()
