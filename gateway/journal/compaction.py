"""Compaction: the bodies of cold chunks move into Parquet files, for each model and day, and leave stubs behind.

A file of predictions is cold when nobody writes to it any more and its last chunk is older than was asked for. Of each:

    write    its chunks into new Parquet files, which take their names once they are whole and on the disk
    prove    read every chunk back from there: only one that comes back byte for byte becomes a stub
    shrink   the file of predictions itself

Killed anywhere, the next run goes on: a chunk without a stub is still hot, and a Parquet file that a stub names is
whole; one that none names is written again. Readers are not in its way, nor it in theirs: the file stays the same file,
and its transactions are short.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import apsw
import pyarrow as pa
from msgspec import Struct

from gateway.chunk import Chunk, decode, encode
from gateway.errors import JournalDamaged, JournalUnavailable
from gateway.journal.cold import DAY_US, LAYOUT_BYTES, STUB, Bodies, cold_path, discard_unfinished, stub_of
from gateway.journal.cold_file import SUM_BYTES, ColdWriter
from gateway.journal.reader import files_in
from gateway.journal.sets import Located
from gateway.journal.sqlite import (
    LOOSE,
    checkpoint,
    load_layout,
    opened,
    rebuild,
    rows,
    scalar,
    size_of,
    transaction,
)
from gateway.locks import is_locked, lock_path

CHUNKS_AT_ONCE = 256
LEAST_BYTES = 65_536
"""Of bodies of a model and day: a Parquet file takes some 7 kB before it holds anything."""
MODELS_AT_ONCE = 100
"""Each has a file open while its day is written; a file of predictions of more models is gone through again."""
_IS_STUB = f"substr(body, 1, {len(STUB)}) = x'{STUB.hex()}'"
_DAY = f"at_us / {DAY_US}"
_WORTH = (
    f"SELECT model, {_DAY} FROM chunk GROUP BY 1, 2 HAVING total(length(body) * NOT {_IS_STUB}) >= ? OR max({_IS_STUB})"
)
"""The days of models that are large enough, or were begun."""
_BEGUN = (
    f"SELECT DISTINCT model, {_DAY}, substr(body, {len(STUB) + 1}, {LAYOUT_BYTES + SUM_BYTES}) "
    f"FROM chunk WHERE {_IS_STUB}"
)
"""Which Parquet files stubs name: the beginnings of their layouts, and the checksums of their footers."""
_SOME = f"SELECT seq, model, at_us, {_IS_STUB} FROM chunk WHERE seq > ? ORDER BY seq LIMIT ?"
_BODY = "SELECT body FROM chunk WHERE seq = ?"
Row = tuple[int, str, int, bytes]


class Compacted(Struct):
    """What a compaction did. Bytes are those of the files of predictions that it worked on, and of what it made."""

    n_files: int = 0
    n_chunks: int = 0
    n_predictions: int = 0
    n_left: int = 0
    """Chunks that stay as they are: erased, or damaged, or not the same when they are read back."""
    n_bytes_before: int = 0
    n_bytes_after: int = 0
    faults: list[str] = []
    """What should not be: of a file that was left as it is, and of the first such chunk of a file; a sentence each."""


def compact(
    store: Path,
    before_us: int,
    progress: Callable[[str], None] = lambda _: None,
    *,
    least_bytes: int = LEAST_BYTES,
) -> Compacted:
    """Compact every file of predictions whose last chunk was stamped before that time. One at a time in a store.

    Args:
        store: the folder.
        before_us: microseconds since 1970.
        progress: is told the name of each file that is worked on.
        least_bytes: a model's days whose bodies take less in a file stay where they are.

    Raises:
        JournalUnavailable: the disk is full; nothing is lost, and the next run goes on.
    """
    made = Compacted()
    discard_unfinished(store)
    for file in list(_done_with(store / "predictions")):
        try:
            _File(store, file, made, least_bytes).compact(before_us, progress)
        except (JournalDamaged, JournalUnavailable) as error:
            if _is_full(error.__cause__):
                raise
            made.faults.append(str(error))
        except (OSError, pa.ArrowException, apsw.Error) as error:
            said = JournalUnavailable(f"{file.name}: {error}")
            if _is_full(error):
                raise said from error
            made.faults.append(str(said))  # of this file; the others may be reached all the same
    return made


def _is_full(error: BaseException | None) -> bool:
    """Whether there is no room on the disk, so that no other file would fare better."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return isinstance(error, apsw.FullError)


def _done_with(folder: Path) -> Iterator[Path]:
    """The files that nobody writes to: all but the newest of each writer that is alive."""
    for writer, files in files_in(folder).items():
        alive = is_locked(lock_path(folder, writer))
        yield from list(files.values())[: -1 if alive else None]


class _File:
    """One file of predictions."""

    def __init__(self, store: Path, file: Path, made: Compacted, least_bytes: int) -> None:
        self._store, self._file, self._made, self._least_bytes = store, file, made, least_bytes
        self._writer = int(file.name.partition(".")[0])
        self._worth: set[tuple[str, int]] = set()
        self._footer_sums: dict[Path, bytes] = {}
        """Of the Parquet files that stubs name, or that were written just now; no other one is believed."""

    def compact(self, before_us: int, progress: Callable[[str], None]) -> None:
        """All three steps, where there is something to do."""
        n_bytes = self._n_bytes()
        with closing(opened(self._file)) as db:
            if scalar(db, "PRAGMA user_version") == 0:
                return  # its writer was killed before it had made it
            last_us = scalar(db, "SELECT at_us FROM chunk ORDER BY seq DESC LIMIT 1")
            if last_us is None or last_us >= before_us:
                return
            worth = rows(db, _WORTH, (self._least_bytes,))
            self._worth = set(worth)
            if not self._has_work(db):
                return
            progress(self._file.name)
            for model, day, known in rows(db, _BEGUN):
                path = cold_path(self._store, model, day, self._file.name, known[:LAYOUT_BYTES])
                self._footer_sums[path] = known[LAYOUT_BYTES:]
            models = sorted({model for model, _ in worth})
            n_written = 0
            for first in range(0, len(models), MODELS_AT_ONCE):
                some = set(models[first : first + MODELS_AT_ONCE])
                self._worth = {(model, day) for model, day in worth if model in some}
                n_written += sum(size_of(path) for path in self._write(db))
                self._prove(db)
            if db.pragma("application_id") == LOOSE:
                rebuild(db)
        checkpoint(self._file, max_wal_bytes=0)
        self._made.n_files += 1
        self._made.n_bytes_before += n_bytes
        self._made.n_bytes_after += self._n_bytes() + n_written

    def _n_bytes(self) -> int:
        return size_of(self._file) + size_of(self._wal)

    @property
    def _wal(self) -> Path:
        return self._file.with_name(f"{self._file.name}-wal")

    def _has_work(self, db: apsw.Connection) -> bool:
        return bool(size_of(self._wal) or db.pragma("application_id") == LOOSE or next(self._hot(db), None))

    def _hot(self, db: apsw.Connection) -> Iterator[Row]:
        """The rows whose bodies are still there and worth moving, one body in memory at once."""
        after = 0
        while page := rows(db, _SOME, (after, CHUNKS_AT_ONCE)):
            after = page[-1][0]
            for seq, model, at_us, stub in page:
                if not stub and (model, at_us // DAY_US) in self._worth:
                    yield seq, model, at_us, scalar(db, _BODY, (seq,))

    def _write(self, db: apsw.Connection) -> list[Path]:
        """Write the Parquet files that no stub names yet; returns which."""
        growing: dict[Path, tuple[int, ColdWriter]] = {}
        written: list[Path] = []

        def finish(path: Path) -> None:
            _, writer = growing[path]
            self._footer_sums[path] = writer.finish()
            written.append(path)
            del growing[path]

        try:
            for seq, model, at_us, body in self._hot(db):
                try:
                    chunk = decode(body)
                    day, path = at_us // DAY_US, self._path_of(model, at_us, chunk)
                except JournalDamaged:
                    continue  # `_prove` says why
                if chunk.erased or chunk.inputs is None or path in self._footer_sums:
                    continue
                if path not in growing:
                    for done in [other for other, (before, _) in growing.items() if before < day]:
                        finish(done)  # stamps never go back, so it has had its last chunk
                    growing[path] = day, ColdWriter(path, load_layout(db, chunk.layout), like=self._file)
                growing[path][1].add(Located(self._writer, seq, chunk), len(body))
            for path in list(growing):
                finish(path)
        finally:
            for _, writer in growing.values():
                writer.give_up()
        return written

    def _prove(self, db: apsw.Connection) -> None:
        """Make stubs of the chunks that come back from the Parquet files as they are."""
        bodies = Bodies(self._store)
        faults: list[str] = []
        stubs: list[tuple[bytes, int]] = []
        for row in self._hot(db):
            try:
                proven = self._proven(bodies, *row)
            except JournalDamaged as error:
                faults.append(f"{self._file.name}: chunk {row[0]} stays there: {error}")
                proven = None
            if proven is None:
                self._made.n_left += 1
                continue
            stubs.append((proven[0], row[0]))
            self._made.n_predictions += proven[1]
            if len(stubs) == CHUNKS_AT_ONCE:
                self._leave(db, stubs)
        self._leave(db, stubs)
        self._made.faults += faults[:1]

    def _leave(self, db: apsw.Connection, stubs: list[tuple[bytes, int]]) -> None:
        """Have these stubs in place of the bodies."""
        if stubs:
            with transaction(db):
                db.pragma("application_id", LOOSE)
                db.executemany("UPDATE chunk SET body = ? WHERE seq = ?", stubs)
        self._made.n_chunks += len(stubs)
        stubs.clear()

    def _proven(self, bodies: Bodies, seq: int, model: str, at_us: int, body: bytes) -> tuple[bytes, int] | None:
        """The stub of a chunk that is the same when it is read back, and its number of rows; None: it was erased."""
        chunk = decode(body)
        if chunk.erased or chunk.inputs is None:
            return None
        stub = stub_of(chunk.layout, self._footer_sums[self._path_of(model, at_us, chunk)], body)
        if encode(bodies.chunk(self._file.name, seq, model, at_us, stub)) != body:
            raise JournalDamaged("it is not the same when it is read back")
        return stub, chunk.n_rows

    def _path_of(self, model: str, at_us: int, chunk: Chunk) -> Path:
        return cold_path(self._store, model, at_us // DAY_US, self._file.name, chunk.layout)
