"""The writing side of predictions: one process, one file at a time, one commit a tick.

A file belongs to one writing process, so commits never wait for another process. `seq` counts the chunks of the
process without gaps: it is taken when the commit succeeds, and after a commit of unknown fate it is read back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import apsw
from msgspec import Struct

from gateway.chunk import Chunk, Layout, encode
from gateway.config import JournalSettings
from gateway.errors import JournalUnavailable
from gateway.journal.sqlite import Checkpointer, abandon, checkpoint, connect, size_of, store_layout
from gateway.locks import let_go
from gateway.records import association_hash

SCHEMA = """
CREATE TABLE chunk (
    seq INTEGER PRIMARY KEY,
    model TEXT NOT NULL, generation INTEGER NOT NULL, purpose TEXT NOT NULL,
    bucket INTEGER NOT NULL, at_us INTEGER NOT NULL, n_rows INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE TABLE layout (digest BLOB PRIMARY KEY, document BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE association (
    model TEXT NOT NULL, hash INTEGER NOT NULL, seq INTEGER NOT NULL, row INTEGER NOT NULL,
    PRIMARY KEY (model, hash, seq, row)
) STRICT, WITHOUT ROWID;
CREATE TABLE heartbeat (one INTEGER PRIMARY KEY CHECK (one = 1), at_us INTEGER NOT NULL) STRICT;
"""
INSERT = "INSERT INTO chunk VALUES (?, ?, ?, ?, ?, ?, ?, ?)"


WAL_ROUNDS = 4
"""A log that is so many times larger than it should be is left to its reader, with its file."""


def utc_day() -> int:
    """Days since 1970, by the machine's clock."""
    return int(time.time() // 86_400)


class Draft(Struct, frozen=True):
    """A chunk about to be committed, and what its columns are called."""

    chunk: Chunk
    layout: Layout


def file_name(writer: int, first_seq: int) -> str:
    """`<writer>.<first seq>.db`, so that a reader finds the file of a seq by name."""
    return f"{writer}.{first_seq}.db"


class PredictionWriter:
    """Appends chunks, a transaction each `append`. Use it from one thread; its checkpointer has another."""

    def __init__(
        self, folder: Path, writer: int, lock: int, settings: JournalSettings, today: Callable[[], int] = utc_day
    ) -> None:
        """`today` is asked for the number of the day: each file holds the predictions of one."""
        self.writer = writer
        self._today, self._day = today, today()
        self._folder, self._lock, self._settings = folder, lock, settings
        self._last_seq = 0
        self._rotate = False
        self._layouts: set[bytes] = set()
        self._retired: list[apsw.Connection] = []
        self._left: list[Path] = []
        """Files that are done with, and whose logs a reader held."""
        self._db: apsw.Connection | None = None
        self._path = folder / file_name(writer, 1)  # made by the first commit
        self._checkpointer = Checkpointer(
            lambda: self._path,
            every_s=settings.checkpoint_s,
            max_wal_bytes=settings.max_wal_bytes,
            after=self._look_after_files,
        )

    def append(self, drafts: Sequence[Draft]) -> range:
        """Commit these chunks together, in order.

        Returns:
            Their seqs.

        Raises:
            JournalUnavailable: nothing of them was committed (or the disk failed so badly that nobody can say;
                then a later `append` finds out, and continues after whatever is there).
        """
        db = self._file()
        try:  # before the transaction begins: what cannot be encoded leaves nothing open
            stored = [_row(seq, draft.chunk) for seq, draft in enumerate(drafts, self._last_seq + 1)]
        except (TypeError, ValueError, OverflowError) as error:
            raise JournalUnavailable(f"a chunk cannot be encoded ({error})") from error
        try:
            simple = len(drafts) == 1 and drafts[0].layout.digest in self._layouts
            if not simple or drafts[0].chunk.requests.associations is not None:
                db.execute("BEGIN IMMEDIATE")
            for row, draft in zip(stored, drafts, strict=True):
                self._insert(db, row, draft)
            if db.in_transaction:
                db.execute("COMMIT")
        except apsw.Error as error:
            self._recover()
            raise JournalUnavailable(f"{type(error).__name__.removesuffix('Error').lower()} ({error})") from error
        if not simple:
            self._layouts.update(draft.layout.digest for draft in drafts)
        first, self._last_seq = self._last_seq + 1, self._last_seq + len(drafts)
        return range(first, self._last_seq + 1)

    def heartbeat(self, at_us: int) -> None:
        """Promise that no later chunk will be stamped earlier than `at_us`.

        Raises:
            JournalUnavailable: the promise was not recorded.
        """
        db = self._file()
        try:
            db.execute("INSERT INTO heartbeat VALUES (1, ?) ON CONFLICT DO UPDATE SET at_us = excluded.at_us", (at_us,))
        except apsw.Error as error:
            self._recover()
            raise JournalUnavailable(str(error)) from error

    def close(self) -> None:
        """Checkpoint and close the file, and let go of the lock. Calling it again does nothing."""
        if self._lock < 0:
            return
        self._checkpointer.stop()
        self._look_after_files()
        if self._db is not None:
            self._close(self._db)
        let_go(self._folder, self.writer, self._lock)
        self._lock = -1

    def _insert(self, db: apsw.Connection, row: tuple[Any, ...], draft: Draft) -> None:
        if draft.layout.digest not in self._layouts:
            store_layout(db, draft.layout)
        db.execute(INSERT, row)
        if draft.chunk.requests.associations is not None:
            named = [
                (draft.chunk.model, association_hash(name), row[0], number)
                for number, name in enumerate(draft.chunk.requests.associations)
                if name is not None
            ]
            db.executemany("INSERT INTO association VALUES (?, ?, ?, ?)", named)

    def _file(self) -> apsw.Connection:
        """The file to write to: the open one, a new one after rotation, or the lost one opened again."""
        if self._lock < 0:
            raise JournalUnavailable("this writer has ended")
        if self._db is not None and not self._rotate:
            return self._db
        if self._db is not None:
            self._retired.append(self._db)
            self._path = self._folder / file_name(self.writer, self._last_seq + 1)
            self._db = None
        db = connect(self._path, SCHEMA, durability=self._settings.durability, busy_s=self._settings.busy_s)
        try:
            self._last_seq = db.execute("SELECT max(seq) FROM chunk").get or self._last_seq
        except apsw.Error as error:
            abandon(db)
            raise JournalUnavailable(str(error)) from error
        self._db, self._rotate, self._day = db, False, self._today()
        self._layouts.clear()
        return db

    def _recover(self) -> None:
        """After a failed commit: undo what is open, and read back how far the file really is.

        Where even that fails, the file is closed; the next `append` opens it again and must be able to read it,
        as a seq may not be given twice.
        """
        self._layouts.clear()
        db = self._db
        if db is None:
            return
        try:
            if db.in_transaction:
                db.execute("ROLLBACK")
            self._last_seq = max(self._last_seq, db.execute("SELECT max(seq) FROM chunk").get or 0)
        except apsw.Error:
            self._db = None
            abandon(db)

    def _look_after_files(self) -> None:
        """In the checkpointer's thread: ask for a new file when this one is done with, close the ones left behind."""
        if self._db is not None and self._is_done_with():
            self._rotate = True
        while self._retired:
            self._close(self._retired.pop())
        self._left = [path for path in self._left if not _is_cut(path)]

    def _is_done_with(self) -> bool:
        """Whether this file is of another day or large; or its log is, which a reader that does not end holds open."""
        wal_bytes = size_of(self._path.with_name(self._path.name + "-wal"))
        return (
            self._day != self._today()
            or size_of(self._path) > self._settings.max_file_bytes
            or wal_bytes > WAL_ROUNDS * self._settings.max_wal_bytes
        )

    def _close(self, db: apsw.Connection) -> None:
        path = Path(db.filename)
        if not _is_cut(path):  # closing does so only where no reader has the file open
            self._left.append(path)
        db.close()


def _is_cut(path: Path) -> bool:
    """Move the log of a file that is done with into it; False while a reader holds it."""
    checkpoint(path, max_wal_bytes=0)
    return size_of(path.with_name(path.name + "-wal")) == 0


def _row(seq: int, chunk: Chunk) -> tuple[Any, ...]:
    """A chunk as a row of the table."""
    head = chunk.model, chunk.generation, chunk.purpose, chunk.bucket, chunk.at_us, chunk.n_rows
    return seq, *head, encode(chunk)
