"""The reading side of predictions: any process, all writers' files, never a lock that a writer waits for.

Chunks are read writer by writer in the order of seq. There is no order between writers, so a reader's place is a
cursor: writer → last seq. A writer is alive while the kernel holds its lock file locked, so a killed one is known
to be dead at once, and for ever, as its number is never given again.

A page that does not match its checksum holds several chunks, of which most are whole: they are read all the same, as
each has a checksum of its own, and the one that is damaged is the only one that is lost. Of cold ones, which lie
together in a row group of a Parquet file, all that lie in it are.
"""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import apsw
import msgspec
import numpy as np
from msgspec import Struct

from gateway.chunk import Chunk, Layout
from gateway.columns import Array
from gateway.errors import JournalDamaged, JournalUnavailable, NotFound
from gateway.journal.cold import Bodies, is_stub
from gateway.journal.sqlite import load_layout, named, opened, rows, scalar, unchecked
from gateway.journal.writer import file_name
from gateway.locks import is_locked, lock_path
from gateway.records import Address, Purpose, WriterState, association_hash

SETTLED_NS = 2_000_000_000
"""Longer than a tick of any file system's timestamps."""
RECENT_CHUNKS = 128
CACHE_KIB = 256
"""Of each open file: most is read once, in order, and SQLite's own 2 MB a file would add up to hundreds."""
OPEN_FILES = 64
"""Every start of a worker leaves a file, and each open one takes three descriptors."""
FILE_NAME = re.compile(r"(\d+)\.(\d+)\.db")
HEAD = "seq, model, generation, purpose, bucket, at_us, n_rows"
HEADS = f"SELECT {HEAD} FROM chunk WHERE seq > ? ORDER BY seq LIMIT ?"
HEADS_AND_BODIES = HEADS.replace("n_rows", "n_rows, body")
STORED = "seq, model, at_us, body"
"""What `PredictionReader.unpacked` makes a chunk of."""
ONE = f"SELECT {STORED} FROM chunk WHERE seq = ?"
_integers = msgspec.json.Decoder(list[int]).decode
LAST = "SELECT seq, at_us FROM chunk ORDER BY seq DESC LIMIT 1"


class ChunkHead(Struct, frozen=True):
    """What is known of a chunk without unpacking it."""

    writer: int
    seq: int
    model: str
    generation: int
    purpose: Purpose
    bucket: int
    at_us: int
    n_rows: int


class PredictionReader:
    """Reads all prediction files of a folder. One thread each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: OrderedDict[Path, apsw.Connection] = OrderedDict()
        self._ended: dict[int, WriterState] = {}
        self._dead: set[int] = set()
        self._layouts: dict[bytes, Layout] = {}
        self._recent: OrderedDict[tuple[int, int], Chunk] = OrderedDict()
        self._bodies = Bodies(folder.parent)
        self._listed: dict[int, dict[int, Path]] = {}
        self._listed_ns = -1

    def close(self) -> None:
        """Close every file."""
        for db in self._open.values():
            db.close()
        self._open.clear()

    def writers(self) -> list[WriterState]:
        """Every writer that ever wrote here, with its watermark; one whose files cannot be read has a `problem`.

        Read this **before** the chunks: then every chunk stamped before a watermark is there to be read.
        """
        # Asked before their files are listed and read: what a writer did before it died is still complete.
        alive = {writer: self._is_alive(writer) for writer in self._files()}
        states = []
        for writer, files in self._files().items():
            if writer in self._ended:
                states.append(self._ended[writer])
                continue
            is_alive = alive.get(writer, True)
            try:
                state = self._state(writer, is_alive, files)
            except (JournalDamaged, JournalUnavailable) as error:  # nobody else's predictions are less readable by it
                state = WriterState(writer, is_alive, 0, None, str(error))
            states.append(state)
            if not is_alive and state.problem is None:
                self._ended[writer] = state  # it will never write again
        return states

    def _state(self, writer: int, is_alive: bool, files: dict[int, Path]) -> WriterState:
        for first, path in reversed(files.items()):
            db = self._connection(path)
            if db is None:
                continue
            try:
                beat = scalar(db, "SELECT at_us FROM heartbeat")  # before the chunks that it says are there
                last = rows(db, LAST)
            except JournalDamaged as error:
                with unchecked(path) as whole:
                    last = rows(whole, LAST)
                return WriterState(writer, is_alive, last[0][0] if last else 0, None, str(error))
            marks = [mark for mark in (beat, *(at_us for _, at_us in last)) if mark is not None]
            if marks:
                return WriterState(writer, is_alive, last[0][0] if last else first - 1, max(marks))
        return WriterState(writer, is_alive, 0, None)

    def heads(self, writer: int, after: int, limit: int) -> list[ChunkHead]:
        """Up to `limit` chunks of a writer with seq > `after`, in order, without their bodies."""
        found: list[ChunkHead] = []
        for db in self.connections(writer, after):
            values = after, limit - len(found)
            try:
                taken = rows(db, HEADS, values)
            except JournalDamaged:
                with unchecked(Path(db.filename)) as whole:
                    taken = [self._believed(db, row) for row in rows(whole, HEADS_AND_BODIES, values)]
            found.extend(ChunkHead(writer, *row) for row in taken)
            if len(found) >= limit:
                break
        if found and found[-1].seq - found[0].seq >= len(found):
            raise JournalDamaged(f"writer {writer}: of the chunks {found[0].seq} to {found[-1].seq} some are missing")
        return found

    def chunk(self, writer: int, seq: int, *, anew: bool = False) -> Chunk:
        """One chunk by its key; `anew`: as it is now, though it was read a moment ago, as only an erasure changes it.

        Raises:
            NotFound: there is none.
            JournalDamaged: a stored byte is not what was written.
        """
        key = writer, seq
        if key in self._recent and not anew:  # several challengers read it one after the other
            self._recent.move_to_end(key)
            return self._recent[key]
        for db in self.connections(writer, seq - 1):
            try:
                found = rows(db, ONE, (seq,))
            except JournalDamaged:
                with unchecked(Path(db.filename)) as whole:
                    found = rows(whole, ONE, (seq,))
            if found:
                return self._remembered(key, self.unpacked(db, found[0]))
        raise NotFound(f"no chunk {seq} of writer {writer}")

    def last_seq_at(self, state: WriterState, at_us: int) -> int:
        """The last chunk of a writer that was stamped by then; stamps never decrease within a writer."""
        low, high = 0, state.last_seq
        while low < high:
            middle = (low + high + 1) // 2
            (stamped,) = [*(head.at_us for head in self.heads(state.writer, middle - 1, 1)), at_us + 1][:1]
            low, high = (middle, high) if stamped <= at_us else (low, middle - 1)
        return low

    def associations(
        self, model: str, columns: Sequence[Literal["hash", "seq", "row"]], rows_at_once: int = 200_000
    ) -> Iterator[tuple[int, Array]]:
        """Every row of a model that carries an association id: (writer, `(n, len(columns))`), some at once."""
        lists = ", ".join(f"json_group_array({column})" for column in columns)
        sql = f"SELECT {lists} FROM association WHERE model = ? AND hash BETWEEN ? AND ?"
        for writer in self._files():
            for db in self.connections(writer, 0):
                n_rows = scalar(db, "SELECT count(*) FROM association WHERE model = ?", (model,))
                # hashes are spread evenly, so as many of them lie in each of the equal parts of their range
                width = 2**64 // max(1, -(-n_rows // rows_at_once)) + 1
                for first in range(-(2**63), 2**63, width) if n_rows else ():
                    (found,) = rows(db, sql, (model, first, min(first + width, 2**63) - 1))
                    yield writer, np.array([_integers(each) for each in found], np.int64).T

    def unpacked(self, db: apsw.Connection, stored: tuple[Any, ...]) -> Chunk:
        """The chunk of a row of that file, given as STORED.

        Raises:
            JournalDamaged: it is not what was written.
            JournalUnavailable: it is cold, and cannot be read now.
        """
        try:
            return self._bodies.chunk(db.filename, *stored)
        except JournalDamaged:
            now = rows(db, ONE, stored[:1]) if is_stub(stored[-1]) else []
            if not now or now[0] == stored:
                raise
            return self._bodies.chunk(db.filename, *now[0])  # an erasure has brought it back meanwhile

    def _believed(self, db: apsw.Connection, row: tuple[Any, ...]) -> tuple[Any, ...]:
        """A head as the chunk's own bytes have it, which have a checksum; as it stands where those are damaged."""
        *head, body = row
        seq, model, _, _, _, at_us, _ = head
        try:
            chunk = self.unpacked(db, (seq, model, at_us, body))
        except JournalDamaged:
            return tuple(head)
        return seq, chunk.model, chunk.generation, chunk.purpose, chunk.bucket, chunk.at_us, chunk.n_rows

    def _remembered(self, key: tuple[int, int], chunk: Chunk) -> Chunk:
        self._recent[key] = chunk
        if len(self._recent) > RECENT_CHUNKS:
            self._recent.popitem(last=False)
        return chunk

    def layout(self, writer: int, chunk_layout: bytes) -> Layout:
        """What the columns of a chunk of that writer are called."""
        if chunk_layout not in self._layouts:
            for db in self.connections(writer, 0):
                if rows(db, "SELECT 1 FROM layout WHERE digest = ?", (chunk_layout,)):
                    self._layouts[chunk_layout] = load_layout(db, chunk_layout)
                    break
            else:
                raise NotFound(f"writer {writer} has no layout {chunk_layout.hex()}")
        return self._layouts[chunk_layout]

    def associated(self, model: str, association_id: str, purpose: Purpose | None = None) -> list[tuple[Address, int]]:
        """The rows (of a purpose) that carry an association id, with the time of each prediction, oldest first.

        The index holds hashes; the full value is compared here.
        """
        found: list[tuple[Address, int]] = []
        sql = "SELECT seq, row FROM association WHERE model = ? AND hash = ?"
        for writer in self._files():
            for db in self.connections(writer, 0):
                for seq, row in rows(db, sql, (model, association_hash(association_id))):
                    chunk = self.chunk(writer, seq)
                    names = chunk.requests.associations
                    if names is not None and names[row] == association_id and purpose in (None, chunk.purpose):
                        found.append((Address(writer, seq, row), int(chunk.predicted_at_us()[row])))
        return sorted(found, key=lambda pair: (pair[1], pair[0]))

    def _files(self) -> dict[int, dict[int, Path]]:
        """Writer → first seq → file, each in ascending order; listed again only when the folder has changed.

        What has just changed may change again within the same tick of its timestamp, so it is not relied on yet.
        """
        changed_ns = self._folder.stat().st_mtime_ns
        if changed_ns != self._listed_ns:
            self._listed = files_in(self._folder)
            self._listed_ns = changed_ns if time.time_ns() - changed_ns > SETTLED_NS else -1
        return self._listed

    def connections(self, writer: int, after: int) -> Iterator[apsw.Connection]:
        """The files of a writer that may hold a seq above `after`, in order."""
        files = list(self._files().get(writer, {}).items())
        for i, (_, path) in enumerate(files):
            following = files[i + 1][0] if i + 1 < len(files) else None
            if following is None or following > after + 1:
                db = self._connection(path)
                if db is not None:
                    yield db

    def _connection(self, path: Path) -> apsw.Connection | None:
        """The open file; None for one that its writer has not finished making (and may never, if it was killed)."""
        if path not in self._open:
            try:
                db = opened(path)  # not for reading only: a WAL reader shares its index
                db.set_busy_timeout(1_000)
                db.pragma("query_only", True)
                db.pragma("cache_size", -CACHE_KIB)
                if db.pragma("user_version") == 0:
                    db.close()
                    return None
            except apsw.Error as error:
                raise named(path, error) from error
            self._open[path] = db
            if len(self._open) > OPEN_FILES:
                self._open.popitem(last=False)[1].close()
        self._open.move_to_end(path)
        return self._open[path]

    def _is_alive(self, writer: int) -> bool:
        if writer not in self._dead and not is_locked(lock_path(self._folder, writer)):
            self._dead.add(writer)
        return writer not in self._dead


def files_in(folder: Path) -> dict[int, dict[int, Path]]:
    """Writer → first seq → file of predictions, each in ascending order; nothing where there is no folder."""
    names = (FILE_NAME.fullmatch(path.name) for path in (folder.iterdir() if folder.exists() else ()))
    files: dict[int, dict[int, Path]] = {}
    for writer, first in sorted((int(name[1]), int(name[2])) for name in names if name is not None):
        files.setdefault(writer, {})[first] = folder / file_name(writer, first)
    return files
