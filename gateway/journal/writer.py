"""The writing side of predictions: one process, one file at a time, one commit a tick.

A file belongs to one writing process, so commits never wait for another process. `seq` counts the chunks of the
process without gaps: it is taken when the commit succeeds, and after a commit of unknown fate it is read back.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, pairwise
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

    def _is_done_with(self) -> bool:
        """Whether this file is of another day or large; or its log is, which a reader that does not end holds open."""
        wal_bytes = size_of(self._path.with_name(self._path.name + "-wal"))
        return (
            self._day != self._today()
            or size_of(self._path) > self._settings.max_file_bytes
            or wal_bytes > WAL_ROUNDS * self._settings.max_wal_bytes
        )

    def _close(self, db: apsw.Connection) -> None:
        checkpoint(Path(db.filename), max_wal_bytes=0)  # closing does so only where no reader has the file open
        db.close()


def _row(seq: int, chunk: Chunk) -> tuple[Any, ...]:
    """A chunk as a row of the table."""
    head = chunk.model, chunk.generation, chunk.purpose, chunk.bucket, chunk.at_us, chunk.n_rows
    return seq, *head, encode(chunk)


Done = Callable[[range | JournalUnavailable], None]


class LoopAppender:
    """Durability `process`: the commit happens in the event loop, 13 µs, and the answer leaves after it."""

    def __init__(self, writer: PredictionWriter) -> None:
        self._writer = writer

    def append(self, drafts: Sequence[Draft], done: Done) -> None:
        """Commit, then call `done` with the seqs, or with why not."""
        try:
            seqs = self._writer.append(drafts)
        except JournalUnavailable as error:
            done(error)
        else:
            done(seqs)

    def heartbeat(self, at_us: int) -> None:
        """See `PredictionWriter.heartbeat`."""
        self._writer.heartbeat(at_us)

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


class GroupAppender:
    """Durability `power`: a thread commits with fsync whatever has piled up during the last fsync.

    A commit takes milliseconds, so it may not happen in the loop; under load one of them serves many requests.
    """

    def __init__(self, writer: PredictionWriter, loop: asyncio.AbstractEventLoop) -> None:
        self._writer, self._loop = writer, loop
        self._waiting: queue.SimpleQueue[tuple[Sequence[Draft], Done] | int | None] = queue.SimpleQueue()
        self._failed: JournalUnavailable | None = None
        """Why the last commit failed; None after one that did not."""
        self._thread = threading.Thread(target=self._commits, name="group-commit", daemon=True)
        self._thread.start()

    def append(self, drafts: Sequence[Draft], done: Done) -> None:
        """Have it committed; `done` is called in the loop, after the fsync, with the seqs or with why not."""
        self._waiting.put((drafts, done))

    def heartbeat(self, at_us: int) -> None:
        """See `PredictionWriter.heartbeat`; it takes its place behind what was appended before.

        Raises:
            JournalUnavailable: the last commit or heartbeat failed; this one will be tried all the same.
        """
        self._waiting.put(at_us)
        if self._failed is not None:
            raise self._failed

    def close(self) -> None:
        """Commit what waits, then close the file."""
        self._waiting.put(None)
        self._thread.join()
        self._writer.close()

    def _commits(self) -> None:
        stopping = False
        while not stopping:
            batch = [self._waiting.get()]
            while not self._waiting.empty():
                batch.append(self._waiting.get())
            stopping = None in batch
            self._commit([item for item in batch if isinstance(item, tuple)])
            beats = [item for item in batch if isinstance(item, int)]
            if beats:
                self._beat(max(beats))

    def _commit(self, group: list[tuple[Sequence[Draft], Done]]) -> None:
        if not group:
            return
        try:
            seqs = self._writer.append([draft for drafts, _ in group for draft in drafts])
        except Exception as error:  # noqa: BLE001  # the edge of a thread: whatever it is, nobody may wait for ever
            self._failed = error if isinstance(error, JournalUnavailable) else JournalUnavailable(repr(error))
            self._loop.call_soon_threadsafe(self._tell, [(done, self._failed) for _, done in group])
            return
        self._failed = None
        fates = (range(*ends) for ends in pairwise(accumulate((len(d) for d, _ in group), initial=seqs.start)))
        self._loop.call_soon_threadsafe(self._tell, zip((done for _, done in group), fates, strict=True))

    def _tell(self, fates: Iterable[tuple[Done, range | JournalUnavailable]]) -> None:
        """Back in the loop, which is woken once a group; each is told apart, so that one who raises stops no other."""
        for done, fate in fates:
            self._loop.call_soon(done, fate)

    def _beat(self, at_us: int) -> None:
        try:
            self._writer.heartbeat(at_us)
        except JournalUnavailable as error:  # a promise not made only keeps buckets open; the next is a second away
            self._failed = error
        else:
            self._failed = None


Appender = LoopAppender | GroupAppender
