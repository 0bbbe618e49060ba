"""`journal.db`: what several processes write: outcomes, shadow chunks with their cursors, and the writers' numbers.

Outcomes are appended as they come and joined when read. Shadow chunks are stored in one transaction with the cursor
that says so and with the account of their rows: each exactly once, and never one without the other.
"""

from __future__ import annotations

import hashlib
import os
import socket
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from gateway.chunk import SKIPPED, STATUSES, Layout, ShadowChunk, decode_shadow, encode
from gateway.errors import Conflict, JournalDamaged, SettingsRefused
from gateway.journal.replayed import Replayed
from gateway.journal.said import EVERYTHING, OF_CHUNKS, OF_NAMES, Known, Said, said
from gateway.journal.sqlite import Durability, connect, load_layout, rows, scalar, store_layout, transaction
from gateway.locks import take_lock
from gateway.records import Address, Cursor, MirrorCount, OutcomeRecord

SCHEMA = """
CREATE TABLE writer (
    id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, started_us INTEGER NOT NULL,
    pid INTEGER NOT NULL, host TEXT NOT NULL
) STRICT;
CREATE TABLE outcome (
    id INTEGER PRIMARY KEY,
    writer INTEGER NOT NULL, seq INTEGER NOT NULL,
    model TEXT NOT NULL, to_writer INTEGER, to_seq INTEGER, association TEXT, row INTEGER NOT NULL,
    outcome TEXT NOT NULL, source TEXT NOT NULL, observed_us INTEGER NOT NULL, stated INTEGER NOT NULL,
    received_us INTEGER NOT NULL, digest BLOB NOT NULL UNIQUE
) STRICT;
CREATE INDEX outcome_of_prediction ON outcome (to_writer, to_seq, row) WHERE to_writer IS NOT NULL;
CREATE INDEX outcome_of_association ON outcome (model, association) WHERE association IS NOT NULL;
CREATE INDEX outcome_received ON outcome (writer, seq);
CREATE TABLE layout (digest BLOB PRIMARY KEY, document BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE shadow_chunk (
    writer INTEGER NOT NULL, seq INTEGER NOT NULL, version INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (writer, seq, version)
) STRICT;
CREATE TABLE cursor (
    model TEXT NOT NULL, version INTEGER NOT NULL, writer INTEGER NOT NULL, seq INTEGER NOT NULL,
    PRIMARY KEY (model, version, writer)
) STRICT, WITHOUT ROWID;
CREATE TABLE mirrored (
    model TEXT NOT NULL, version INTEGER NOT NULL, generation INTEGER NOT NULL, status INTEGER NOT NULL,
    n_rows INTEGER NOT NULL, PRIMARY KEY (model, version, generation, status)
) STRICT, WITHOUT ROWID;
"""
SETTLED = "CREATE TABLE IF NOT EXISTS settled (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT"
"""Apart from the others, as stores from before do not have it."""
COLUMNS = "writer, seq, model, to_writer, to_seq, association, row, outcome, source, observed_us, stated, received_us"


class Mirrored(Struct, frozen=True):
    """A challenger's answers to one chunk, about to be stored."""

    writer: int
    seq: int
    generation: int
    chunk: ShadowChunk


class Ledger:
    """The shared file of the journal. One object a thread."""

    def __init__(self, folder: Path, *, durability: Durability, busy_s: float) -> None:
        self.path = folder / "journal.db"
        self._db = connect(self.path, SCHEMA, durability=durability, busy_s=busy_s)
        self.replayed = Replayed(self._db)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def new_writer(self, kind: str, started_us: int, locks: Path) -> tuple[int, int]:
        """A number that no process had before, and the open lock that says it is alive.

        The lock is taken before the row is committed: whoever sees the number can tell whether it lives.
        """
        with transaction(self._db):
            row = (kind, started_us, os.getpid(), socket.gethostname())
            self._db.execute("INSERT INTO writer (kind, started_us, pid, host) VALUES (?, ?, ?, ?)", row)
            writer = self._db.last_insert_rowid()
            return writer, take_lock(locks, writer)

    def settle(self, name: str, value: int, *, keep: bool = True) -> None:
        """Find that a setting which a store has for good is the one it has; the first that `keep`s it decides.

        Raises:
            SettingsRefused: the store has another one.
            JournalUnavailable: it cannot be said now.
        """
        with transaction(self._db):
            self._db.execute(SETTLED)
            kept = scalar(self._db, "SELECT value FROM settled WHERE name = ?", (name,))
            if kept is None and keep:
                self._db.execute("INSERT INTO settled VALUES (?, ?)", (name, value))
        if kept not in (None, value):
            raise SettingsRefused(
                f"{name}: expected {kept}, which this store has had from the start, got {value}: begin a new store for "
                "another one"
            )

    def append_outcomes(self, writer: int, seq: int, records: Sequence[OutcomeRecord]) -> list[str]:
        """Store these outcomes in one transaction.

        Identity is (target, source, observed_at, outcome). Without a stated `observed_at`, any value that is known
        from that source already is a duplicate: a retry must not become a second fact.

        Returns:
            For each `new`, `correction` (another value of the target was known) or `duplicate`.

        Raises:
            JournalUnavailable: nothing was stored.
        """
        with transaction(self._db):
            return [self._append(writer, seq, record) for record in records]

    def _append(self, writer: int, seq: int, record: OutcomeRecord) -> str:
        value = msgspec.json.encode(record.outcome).decode()
        known = self._of_target(record)
        if not record.stated and any(row[0] == value and row[1] == record.source for row in known):
            return "duplicate"
        to = record.address
        row = (
            record.model, to and to.writer, to and to.seq, record.association_id, record.row,
            value, record.source, record.observed_at_us, record.stated, record.received_at_us,
        )  # fmt: skip
        self._db.execute(
            f"INSERT OR IGNORE INTO outcome ({COLUMNS}, digest) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (writer, seq, *row, identity_of(record)),
        )
        if self._db.changes() == 0:
            return "duplicate"
        return "correction" if any(row[0] != value for row in known) else "new"

    def _of_target(self, record: OutcomeRecord) -> list[tuple[Any, ...]]:
        """(outcome, source) of everything known of the same target."""
        to = record.address
        if to is not None:
            sql = "SELECT outcome, source FROM outcome WHERE to_writer = ? AND to_seq = ? AND row = ?"
            return rows(self._db, sql, (to.writer, to.seq, record.row))
        sql = "SELECT outcome, source FROM outcome WHERE model = ? AND association = ? AND row = ?"
        return rows(self._db, sql, (record.model, record.association_id, record.row))

    def outcomes_of_chunk(self, writer: int, seq: int) -> list[OutcomeRecord]:
        """The outcomes that name a row of this chunk by its address."""
        return self._outcomes("to_writer = ? AND to_seq = ?", (writer, seq))

    def outcomes_of_association(self, model: str, association_id: str) -> list[OutcomeRecord]:
        """The outcomes that name this association id."""
        return self._outcomes("model = ? AND association = ?", (model, association_id))

    def outcomes(self, ids: Sequence[int]) -> list[OutcomeRecord]:
        """The outcomes of these row ids, in the order in which they were received."""
        return self._outcomes("id IN (SELECT value FROM json_each(?))", (msgspec.json.encode(ids).decode(),))

    def said_of_chunks(self, writer: int, first: int, last: int, known: Known = EVERYTHING) -> Said:
        """What was said by address of the chunks first … last of a writer; `key` is the seq."""
        return said(self._db, OF_CHUNKS, (writer, first, last), known)

    def said_of_names(self, model: str, names: Sequence[str], known: Known = EVERYTHING) -> Said:
        """What was said of these association ids, which are best in order; `key` is the place in `names`."""
        return said(self._db, OF_NAMES, (msgspec.json.encode(names).decode(), model), known)

    def last_outcome(self) -> int:
        """The `id` of the last outcome that is committed now; 0 where there is none."""
        return scalar(self._db, "SELECT max(id) FROM outcome") or 0

    def outcomes_since(self, writer: int, after: int, limit: int) -> list[OutcomeRecord]:
        """Whole receipts of a writer with seq > `after`, in order: about `limit` records."""
        sql = "SELECT max(seq) FROM (SELECT seq FROM outcome WHERE writer = ? AND seq > ? ORDER BY seq LIMIT ?)"
        last = scalar(self._db, sql, (writer, after, limit))
        return self._outcomes("writer = ? AND seq > ? AND seq <= ?", (writer, after, last or after))

    def outcome_cursor(self) -> Cursor:
        """Writer → last seq of outcomes, as committed now."""
        return dict(rows(self._db, "SELECT writer, max(seq) FROM outcome GROUP BY writer"))

    def _outcomes(self, where: str, key: tuple[int | str, ...]) -> list[OutcomeRecord]:
        sql = f"SELECT {COLUMNS} FROM outcome WHERE {where} ORDER BY id"
        return [outcome_of(row) for row in rows(self._db, sql, key)]

    # --- shadow chunks

    def cursor(self, model: str, version: int) -> Cursor:
        """How far a challenger has come."""
        return dict(rows(self._db, "SELECT writer, seq FROM cursor WHERE model = ? AND version = ?", (model, version)))

    def store_shadow(
        self, model: str, version: int, mirrored: Sequence[Mirrored], layout: Layout, before: Cursor, after: Cursor
    ) -> None:
        """Store a challenger's chunks, move its cursor and count its rows, all in one transaction.

        Raises:
            Conflict: the cursor is not at `before`: another worker was here; nothing was stored.
            JournalUnavailable: nothing was stored.
        """
        # encoded before, and counted together: this worker may be niced, and whoever reports an outcome waits for it
        stored = {(item.writer, item.seq): (item.writer, item.seq, version, encode(item.chunk)) for item in mirrored}
        with transaction(self._db):
            if self.cursor(model, version) != before:
                raise Conflict(f"another worker moved the cursor of version {version} of '{model}'")
            store_layout(self._db, layout)
            fresh = [item for item in mirrored if not self._has(item, version)]  # others were counted when they came
            self._db.executemany(
                "INSERT INTO shadow_chunk VALUES (?, ?, ?, ?)", [stored[item.writer, item.seq] for item in fresh]
            )
            self._db.executemany(
                "INSERT INTO mirrored VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT DO UPDATE SET n_rows = n_rows + excluded.n_rows",
                [(model, version, *key, n_rows) for key, n_rows in _counted(fresh).items()],
            )
            self._db.executemany(
                "INSERT INTO cursor VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET seq = excluded.seq",
                [(model, version, writer, seq) for writer, seq in after.items() if before.get(writer) != seq],
            )

    def _has(self, item: Mirrored, version: int) -> bool:
        key = item.writer, item.seq, version
        sql = "SELECT 1 FROM shadow_chunk WHERE writer = ? AND seq = ? AND version = ?"
        return self._db.execute(sql, key).get is not None

    def shadow_chunk(self, writer: int, seq: int, version: int) -> ShadowChunk | None:
        """A challenger's answer to a chunk; None while there is none."""
        key = (writer, seq, version)
        body = scalar(self._db, "SELECT body FROM shadow_chunk WHERE writer = ? AND seq = ? AND version = ?", key)
        return None if body is None else decode_shadow(body)

    def shadow_chunks(self, writer: int, seq: int) -> dict[int, ShadowChunk]:
        """Version → answer, of every challenger that has one for this chunk."""
        bodies = rows(self._db, "SELECT version, body FROM shadow_chunk WHERE writer = ? AND seq = ?", (writer, seq))
        return {version: decode_shadow(body) for version, body in bodies}

    def layout(self, digest: bytes) -> Layout:
        """What the columns of a shadow chunk are called."""
        return load_layout(self._db, digest)

    def mirror_count(self, model: str, version: int, generations: range) -> MirrorCount:
        """The account of a challenger over some generations: eligible = scored + failed + skipped."""
        count = MirrorCount(reasons={})
        sql = (
            "SELECT status, sum(n_rows) FROM mirrored WHERE model = ? AND version = ? AND generation >= ? "
            "AND generation < ? GROUP BY status"
        )
        for code, n_rows in rows(self._db, sql, (model, version, generations.start, generations.stop)):
            reason = STATUSES[code]
            count.eligible += n_rows
            if reason == "scored":
                count.scored += n_rows
                continue
            if reason in SKIPPED:
                count.skipped += n_rows
            else:
                count.failed += n_rows
            count.reasons[reason] = n_rows
        return count


def _counted(items: Iterable[Mirrored]) -> Counter[tuple[int, int]]:
    """(generation, status) → how many rows."""
    n_rows: Counter[tuple[int, int]] = Counter()
    for item in items:
        for code, n in Counter(item.chunk.status).items():
            n_rows[item.generation, code] += n
    return n_rows


def identity_of(record: OutcomeRecord) -> bytes:
    """What makes an outcome itself, in 16 bytes: (target, source, observed_at, outcome)."""
    to, value = record.address, msgspec.json.encode(record.outcome).decode()
    target = to and to.writer, to and to.seq, record.association_id, record.row
    identity = msgspec.msgpack.encode((record.model, target, record.source, record.observed_at_us, value))
    return hashlib.blake2b(identity, digest_size=16).digest()


def outcome_of(row: tuple[Any, ...]) -> OutcomeRecord:
    """The outcome in a row of COLUMNS.

    Raises:
        JournalDamaged: its value is no JSON.
    """
    writer, seq, model, to_writer, to_seq, association, number, outcome, source, observed_us, stated, received_us = row
    address = None if to_writer is None else Address(to_writer, to_seq, number)
    try:
        value = msgspec.json.decode(outcome)
    except msgspec.DecodeError as error:
        raise JournalDamaged(f"journal.db: an outcome of {model} cannot be read ({error})") from None
    return OutcomeRecord(
        model, address, association, number, value, source, observed_us, bool(stated), received_us, (writer, seq)
    )
