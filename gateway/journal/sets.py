"""The join of `join.py` for many chunks at once: the same outcomes, by sorting and merging instead of row by row.

Of most rows there is one outcome, by an id that no other row carries: those are merged as columns. Where an id
stands on several rows, or several things were said of one, the rules of `join` themselves decide.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import count
from typing import Any

import numpy as np
from msgspec import Struct

from gateway.chunk import Chunk
from gateway.columns import Array
from gateway.journal.join import Association, Candidate, chosen, rank
from gateway.journal.ledger import Ledger
from gateway.journal.reader import PredictionReader
from gateway.journal.said import Known, Said
from gateway.records import Address, Cursor, OutcomeRecord, Purpose, association_hash


class Located(Struct, frozen=True):
    """A chunk and where it stands."""

    writer: int
    seq: int
    chunk: Chunk


class Effective(Struct, frozen=True):
    """The outcomes that count, at most one a row: `row` counts, ascending, over all rows of the chunks in question."""

    row: Array
    id: Array
    """Of the outcome in the ledger."""
    observed_us: Array
    outcome: Array
    """Objects: the class label, or a float."""


class SetJoin:
    """Finds the outcomes of many predictions of one model. One thread each.

    It holds eight bytes for each row of the model that carries an association id while it is made ready, and
    sixty for each whose id stands on another row too.
    """

    def __init__(
        self,
        reader: PredictionReader,
        ledger: Ledger,
        model: str,
        policy: Association,
        *,
        purpose: Purpose = "live",
        seen: Cursor | None = None,
        upto: Cursor | None = None,
        by_us: int | None = None,
        through: int | None = None,
    ) -> None:
        """`seen` as for `OutcomeJoin`; `upto` and `by_us` as for its `effective`; `through`: see `Known`."""
        self._reader, self._ledger, self._model, self._policy = reader, ledger, model, policy
        self._purpose: Purpose = purpose
        self._seen, self._known = seen, Known(upto, by_us, through)
        self._shared: _SharedIds | None = None

    def effective(self, chunks: Sequence[Located]) -> Effective:
        """The outcome that counts of every row of these chunks that has one; they are of the purpose, and were seen."""
        firsts = np.cumsum([0, *(each.chunk.n_rows for each in chunks)])
        found = self._by_address(chunks, firsts).followed_by(self._by_association(chunks, firsts))
        order = np.argsort(found.key, kind="stable")  # what came by address first, as in a history
        found = found.those(order)
        repeated = np.flatnonzero(found.key[1:] == found.key[:-1])
        if len(repeated):
            found = found.those(self._ranked(found))
        return Effective(found.key, found.id, found.observed_us, found.outcome)

    def records(self, chunks: Sequence[Located]) -> list[dict[int, OutcomeRecord]]:
        """For each chunk what `OutcomeJoin.effective` gives: row → the outcome that counts."""
        found = self.effective(chunks)
        records = self._records(found.id)
        firsts = np.cumsum([0, *(each.chunk.n_rows for each in chunks)])
        chunk_of = np.searchsorted(firsts, found.row, side="right") - 1
        by_chunk: list[dict[int, OutcomeRecord]] = [{} for _ in chunks]
        for place, row, number in zip(chunk_of.tolist(), found.row.tolist(), found.id.tolist(), strict=True):
            by_chunk[place][row - int(firsts[place])] = records[number]
        return by_chunk

    def _records(self, ids: Array) -> dict[int, OutcomeRecord]:
        wanted = np.unique(ids).tolist()
        return dict(zip(wanted, self._ledger.outcomes(wanted), strict=True))

    def _ranked(self, found: Said) -> Array:
        """Of each key's outcomes the place of the one that ranks highest; `found` is in order of key."""
        starts = np.flatnonzero(np.r_[True, found.key[1:] != found.key[:-1]])
        ends = np.r_[starts[1:], len(found.key)]
        several = ends - starts > 1
        ids = np.concatenate([found.id[a:b] for a, b in zip(starts[several], ends[several], strict=True)])
        records = self._records(ids)
        best = starts.copy()
        for place in np.flatnonzero(several).tolist():
            places = range(int(starts[place]), int(ends[place]))
            best[place] = max(places, key=lambda at: rank(records[int(found.id[at])]))
        return best

    def _by_address(self, chunks: Sequence[Located], firsts: Array) -> Said:
        """What names a row by its address; the key becomes the row among all."""
        parts = [self._ledger.said_of_names(self._model, [])]
        for start, stop in _runs(chunks):
            writer, seqs = chunks[start].writer, np.array([each.seq for each in chunks[start:stop]], np.int64)
            found = self._ledger.said_of_chunks(writer, int(seqs[0]), int(seqs[-1]), self._known)
            place = np.minimum(np.searchsorted(seqs, found.key), len(seqs) - 1)
            rows = firsts[start + place] + found.row
            parts.append(found.keyed(rows, (seqs[place] == found.key) & (rows < firsts[start + place + 1])))
        return _all(parts)

    def _by_association(self, chunks: Sequence[Located], firsts: Array) -> Said:
        """What names an association id that a row of these chunks carries; the key becomes the row among all."""
        place: dict[Any, int] = {}
        for each, first in zip(chunks, firsts.tolist(), strict=False):
            if each.chunk.requests.associations is not None:
                place.update(zip(each.chunk.requests.associations, count(first), strict=False))
        place.pop(None, None)
        # in the order of the ledger's index: a name is then mostly beside the one before, in a page just read
        names: list[str] = sorted(place)
        found = self._ledger.said_of_names(self._model, names, self._known)
        if len(found.key) == 0:
            return found
        if self._shared is None:
            self._shared = _SharedIds(self._reader, self._model, self._purpose, self._seen)
        rows = np.fromiter(map(place.__getitem__, names), np.int64, len(names))
        if self._shared.is_empty:
            return found.keyed(rows[found.key], found.row == 0)
        keys = np.unique(found.key)
        shared = keys[self._shared.holds([names[key] for key in keys.tolist()])]
        alone = ~np.isin(found.key, shared) & (found.row == 0)
        merged = found.keyed(rows[found.key], alone)
        return merged.followed_by(self._shared_by_several(found, names, shared, chunks, firsts))

    def _shared_by_several(
        self, found: Said, names: Sequence[str], shared: Array, chunks: Sequence[Located], firsts: Array
    ) -> Said:
        """The outcomes of ids that stand on several rows, given to those of them that the policy chooses."""
        assert self._shared is not None  # noqa: S101  # made by the caller
        here = {(each.writer, each.seq): first for each, first in zip(chunks, firsts.tolist(), strict=False)}
        order = np.argsort(found.key, kind="stable")
        starts = np.searchsorted(found.key[order], shared)
        ends = np.searchsorted(found.key[order], shared, side="right")
        places, rows = [], []
        for key, start, end in zip(shared.tolist(), starts.tolist(), ends.tolist(), strict=True):
            candidates = self._shared.candidates(names[key])
            for at in order[start:end].tolist():
                observed_us, number = int(found.observed_us[at]), int(found.row[at])
                for address in chosen(candidates, observed_us, number, self._policy):
                    if (address.writer, address.seq) in here:
                        places.append(at)
                        rows.append(here[address.writer, address.seq] + address.row)
        return found.those(np.array(places, np.int64)).keyed(np.array(rows, np.int64), slice(None))


class _SharedIds:
    """The association ids of a model that stand on several rows, with all of those rows."""

    def __init__(self, reader: PredictionReader, model: str, purpose: Purpose, seen: Cursor | None) -> None:
        hashes = [page[:, 0] for _, page in reader.associations(model, ["hash"])]
        every = np.sort(np.concatenate([np.empty(0, np.int64), *hashes]))
        self._hashes = np.unique(every[1:][every[1:] == every[:-1]])
        del hashes, every
        columns = [_carriers(reader, model, purpose, seen, self._hashes)] if len(self._hashes) else []
        table = np.concatenate([np.empty((0, 7), np.int64), *columns])
        self._table = table[np.lexsort(table.T[::-1])]
        """Hash, check, predicted at, writer, seq, row, request: oldest first for each id."""

    @property
    def is_empty(self) -> bool:
        """Whether every id stands on one row."""
        return len(self._hashes) == 0

    def holds(self, names: Sequence[str]) -> Array:
        """Which of these ids may stand on several rows."""
        return np.isin(np.array([association_hash(name) for name in names], np.int64), self._hashes)

    def candidates(self, name: str) -> list[Candidate]:
        """The rows that carry an id, oldest first."""
        number, check = association_hash(name), _check(name)
        start = np.searchsorted(self._table[:, 0], number)
        end = np.searchsorted(self._table[:, 0], number, side="right")
        return [
            Candidate(Address(writer, seq, row), at_us, request)
            for _, checked, at_us, writer, seq, row, request in self._table[start:end].tolist()
            if checked == check
        ]


def _carriers(reader: PredictionReader, model: str, purpose: Purpose, seen: Cursor | None, hashes: Array) -> Array:
    """The rows of `_SharedIds._table` whose ids have these hashes, in no order."""
    found: list[tuple[int, Array]] = []
    for writer, page in reader.associations(model, ["hash", "seq", "row"]):
        mine = page[np.isin(page[:, 0], hashes)]
        if seen is not None:
            mine = mine[mine[:, 1] <= seen.get(writer, 0)]
        found.append((writer, mine))
    table = [np.empty((0, 7), np.int64)]
    for writer in {writer for writer, _ in found}:
        pages = np.concatenate([page for whose, page in found if whose == writer])
        pages = pages[np.lexsort((pages[:, 2], pages[:, 1]))]
        by_chunk = np.split(pages, np.flatnonzero(np.diff(pages[:, 1])) + 1) if len(pages) else []
        table.extend(_of_one_chunk(reader, writer, rows, purpose) for rows in by_chunk)
    return np.concatenate(table)


def _of_one_chunk(reader: PredictionReader, writer: int, rows: Array, purpose: Purpose) -> Array:
    seq = int(rows[0, 1])
    chunk = reader.chunk(writer, seq)
    names = chunk.requests.associations
    if chunk.purpose != purpose or names is None:
        return np.empty((0, 7), np.int64)
    named = rows[[names[row] is not None for row in rows[:, 2].tolist()]]
    numbers = named[:, 2]
    table = np.empty((len(named), 7), np.int64)
    table[:, 0] = named[:, 0]
    table[:, 1] = [_check(names[row] or "") for row in numbers.tolist()]
    table[:, 2] = chunk.predicted_at_us()[numbers]
    table[:, 3], table[:, 4], table[:, 5] = writer, seq, numbers
    table[:, 6] = chunk.starts().searchsorted(numbers, side="right")
    return table


def _check(name: str) -> int:
    """Sixty-four bits more, so that ids with the same hash are told apart without keeping them."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8, key=b"check").digest(), "big", signed=True)


def _runs(chunks: Sequence[Located]) -> Iterator[tuple[int, int]]:
    """(start, stop) of the longest stretches of one writer with ascending seqs."""
    start = 0
    for at in range(1, len(chunks) + 1):
        ends = at == len(chunks) or chunks[at].writer != chunks[start].writer or chunks[at].seq <= chunks[at - 1].seq
        if ends:
            yield start, at
            start = at


def _all(parts: Sequence[Said]) -> Said:
    together = parts[0]
    for part in parts[1:]:
        together = together.followed_by(part)
    return together
