"""The reading side of predictions: any process, all writers' files, never a lock that a writer waits for.

Chunks are read writer by writer in the order of seq. There is no order between writers, so a reader's place is a
cursor: writer → last seq. A writer is alive while the kernel holds its lock file locked, so a killed one is known
to be dead at once, and for ever, as its number is never given again.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
from msgspec import Struct

from gateway.chunk import Chunk, Layout, decode
from gateway.errors import JournalUnavailable, NotFound
from gateway.journal.locks import is_locked, lock_path
from gateway.journal.sqlite import load_layout
from gateway.journal.writer import file_name
from gateway.records import Address, Purpose, WriterState, association_hash

HEAD = "seq, model, generation, purpose, bucket, at_us, n_rows"


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
        self._open: dict[Path, apsw.Connection] = {}
        self._dead: set[int] = set()
        self._layouts: dict[bytes, Layout] = {}
        self._listed: dict[int, dict[int, Path]] = {}
        self._listed_ns = -1

    def close(self) -> None:
        """Close every file."""
        for db in self._open.values():
            db.close()
        self._open.clear()

    def writers(self) -> list[WriterState]:
        """Every writer that ever wrote here, with its watermark.

        Read this **before** the chunks: then every chunk stamped before a watermark is there to be read.
        """
        states = []
        for writer, files in sorted(self._files().items()):
            alive = self._is_alive(writer)  # before its last seq is read: what dies in between is still complete
            last_seq, watermark = 0, None
            for path in reversed(list(files.values())):
                db = self._connection(path)
                if db is None:
                    continue
                last = db.execute("SELECT seq, at_us FROM chunk ORDER BY seq DESC LIMIT 1").fetchone()
                beat = db.execute("SELECT at_us FROM heartbeat").get
                marks = [mark for mark in (beat, last[1] if last else None) if mark is not None]
                watermark = max(marks, default=watermark)
                if last is not None:
                    last_seq = last[0]
                if marks:
                    break
            states.append(WriterState(writer, alive, last_seq, watermark))
        return states

    def heads(self, writer: int, after: int, limit: int) -> list[ChunkHead]:
        """Up to `limit` chunks of a writer with seq > `after`, in order, without their bodies."""
        found: list[ChunkHead] = []
        for db in self._connections(writer, after):
            rows = db.execute(
                f"SELECT {HEAD} FROM chunk WHERE seq > ? ORDER BY seq LIMIT ?",
                (after, limit - len(found)),
            )
            found.extend(ChunkHead(writer, *row) for row in rows)
            if len(found) >= limit:
                break
        return found

    def bodies(self, writer: int, model: str, after: int, upto: int, limit: int) -> list[tuple[int, Chunk]]:
        """Up to `limit` chunks of a model with `after` < seq <= `upto`, in order, with their seqs.

        Raises:
            JournalDamaged: a stored byte is not what was written.
        """
        found: list[tuple[int, Chunk]] = []
        for db in self._connections(writer, after):
            rows = db.execute(
                "SELECT seq, body FROM chunk WHERE seq > ? AND seq <= ? AND model = ? ORDER BY seq LIMIT ?",
                (after, upto, model, limit - len(found)),
            )
            found.extend((seq, decode(body)) for seq, body in rows)
            if len(found) >= limit:
                break
        return found

    def chunk(self, writer: int, seq: int) -> Chunk:
        """One chunk by its key.

        Raises:
            NotFound: there is none.
        """
        for db in self._connections(writer, seq - 1):
            body = db.execute("SELECT body FROM chunk WHERE seq = ?", (seq,)).get
            if body is not None:
                return decode(body)
        raise NotFound(f"no chunk {seq} of writer {writer}")

    def layout(self, writer: int, chunk_layout: bytes) -> Layout:
        """What the columns of a chunk of that writer are called."""
        if chunk_layout not in self._layouts:
            for db in self._connections(writer, 0):
                if db.execute("SELECT 1 FROM layout WHERE digest = ?", (chunk_layout,)).get is not None:
                    self._layouts[chunk_layout] = load_layout(db, chunk_layout)
                    break
            else:
                raise NotFound(f"writer {writer} has no layout {chunk_layout.hex()}")
        return self._layouts[chunk_layout]

    def associated(self, model: str, association_id: str) -> list[tuple[Address, int]]:
        """The rows that carry an association id, with the time of each prediction, oldest first.

        The index holds hashes; the full value is compared here.
        """
        found: list[tuple[Address, int]] = []
        sql = "SELECT seq, row FROM association WHERE model = ? AND hash = ?"
        for writer in self._files():
            for db in self._connections(writer, 0):
                rows: list[tuple[Any, ...]] = db.execute(sql, (model, association_hash(association_id))).fetchall()
                for seq, row in rows:
                    chunk = self.chunk(writer, seq)
                    names = chunk.requests.associations
                    if names is not None and names[row] == association_id:
                        found.append((Address(writer, seq, row), int(chunk.predicted_at_us()[row])))
        return sorted(found, key=lambda pair: (pair[1], pair[0]))

    def _files(self) -> dict[int, dict[int, Path]]:
        """Writer → first seq → file, each in ascending order; listed again only when the folder has changed."""
        changed_ns = self._folder.stat().st_mtime_ns
        if changed_ns != self._listed_ns:
            keys = sorted(tuple(int(part) for part in path.stem.split(".")) for path in self._folder.glob("*.db"))
            files: dict[int, dict[int, Path]] = {}
            for writer, first in keys:
                files.setdefault(writer, {})[first] = self._folder / file_name(writer, first)
            self._listed, self._listed_ns = files, changed_ns
        return self._listed

    def _connections(self, writer: int, after: int) -> Iterator[apsw.Connection]:
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
                db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)  # a WAL reader shares its index
                db.set_busy_timeout(1_000)
                db.pragma("query_only", True)
                if db.pragma("user_version") == 0:
                    db.close()
                    return None
            except apsw.Error as error:
                raise JournalUnavailable(f"{path.name}: {error}") from error
            self._open[path] = db
        return self._open[path]

    def _is_alive(self, writer: int) -> bool:
        if writer not in self._dead and not is_locked(lock_path(self._folder, writer)):
            self._dead.add(writer)
        return writer not in self._dead
