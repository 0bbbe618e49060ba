"""How journal files are opened: through apsw only, in WAL mode, checkpointed by their owner alone.

No file is ever opened by two SQLite libraries: closing one library's handle drops the POSIX locks of the other.
So the journal belongs to apsw, and the registry to the standard library.

Every page of a file carries a checksum, which is looked at whenever the page is read: a flipped byte in a row, an
index or a cursor is an error and never an answer. Files that were made before there were any are read as they are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, Literal

import apsw
import apsw.sqlite_extra
import msgspec

from gateway.chunk import Layout
from gateway.errors import JournalDamaged, JournalUnavailable
from gateway.locks import alone_in

OLDEST_SAFE = (3, 51, 3)
"""Before it, a WAL file could be reset under a reader while another connection checkpoints: silent corruption."""

CHECKSUM_BYTES = 8
"""At the end of each page, as SQLite's checksum VFS wants them: https://sqlite.org/cksumvfs.html."""

BUSY_MS = 5_000
"""How long a lock is waited for by work that is rare; what callers wait for has limits of its own."""

CLEAN, LOOSE = 2, 1
"""The `application_id` of a file: nothing that was deleted or moved has left anything in it; or it is to be shrunk."""

SYNCHRONOUS = {"process": "NORMAL", "power": "FULL"}
"""OFF is not an option: it survives kill -9, passes every such test, and loses data with the power."""

Durability = Literal["process", "power"]


def check_library() -> None:
    """Refuse to run on an SQLite that can corrupt a WAL database.

    Raises:
        JournalUnavailable: apsw carries an SQLite older than 3.51.3.
    """
    found = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
    if found < OLDEST_SAFE:
        raise JournalUnavailable(
            f"SQLite {apsw.sqlite_lib_version()} can corrupt a WAL database: install apsw >= 3.51.3"
        )


@cache
def _checksummed() -> str:
    """The name of the VFS that looks at checksums, on top of the one that is the default at the first call."""
    with closing(apsw.Connection(":memory:")) as db:
        try:
            apsw.sqlite_extra.load(db, "cksumvfs")
        except (apsw.sqlite_extra.NotAvailable, apsw.ExtensionLoadingError) as error:
            raise JournalUnavailable(
                f"apsw came without its extensions, of which cksumvfs is needed ({error})"
            ) from None
    return "cksmvfs"


def opened(path: Path, flags: int = apsw.SQLITE_OPEN_READWRITE) -> apsw.Connection:
    """A connection to a journal file that is there, which waits for locks as rare work may; raises apsw.Error."""
    db = apsw.Connection(str(path), flags=flags, vfs=_checksummed())
    db.set_busy_timeout(BUSY_MS)
    return db


@contextmanager
def unchecked(path: Path) -> Iterator[apsw.Connection]:
    """A file as it is, damaged pages too: for what has a checksum of its own. Raises as `rows`."""
    try:
        with closing(opened(path)) as db:
            db.pragma("checksum_verification", False)
            db.pragma("query_only", True)
            yield db
    except apsw.Error as error:
        raise named(path, error) from error


def has_checksums(db: apsw.Connection) -> bool:
    """Whether the pages of this file carry checksums; those of a store from before do not."""
    return db.reserve_bytes() == CHECKSUM_BYTES


def connect(path: Path, schema: str, *, durability: Durability = "process", busy_s: float) -> apsw.Connection:
    """Open (and make, where it is missing) a journal file.

    Raises:
        JournalUnavailable: it cannot be opened or made.
    """
    db: apsw.Connection | None = None
    try:
        with alone_in(path.parent):  # of two that find a file empty, one would fail to make its tables
            db = opened(path, apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE)
            if db.pragma("page_count") == 0:
                db.reserve_bytes(reserve=CHECKSUM_BYTES)
            db.pragma("journal_mode", "wal")
            db.pragma("synchronous", SYNCHRONOUS[durability])
            db.pragma("wal_autocheckpoint", 0)
            db.pragma("secure_delete", "fast")  # or a page that is split keeps a copy of what it gave away
            if db.pragma("user_version") == 0:
                db.execute(
                    f"BEGIN IMMEDIATE; {schema} PRAGMA user_version = 1; PRAGMA application_id = {CLEAN}; COMMIT"
                )
        db.set_busy_timeout(round(busy_s * 1_000))
    except (apsw.Error, OSError) as error:
        if db is not None:
            abandon(db)  # the error holds on to it, and it may hold a lock
        why = str(named(path, error)) if isinstance(error, apsw.Error) else f"{path.name}: {error}"
        raise JournalUnavailable(why) from error
    return db


def abandon(db: apsw.Connection) -> None:
    """Close a file that has failed, whatever more it has to say."""
    with suppress(apsw.Error):
        db.close(True)


def rows(db: apsw.Connection, sql: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """What a query finds.

    Raises:
        JournalDamaged: the file is not what was written.
        JournalUnavailable: it cannot be read now.
    """
    try:
        return db.execute(sql, values).fetchall()
    except (apsw.Error, UnicodeDecodeError) as error:
        raise named(Path(db.filename), error) from error


def named(path: Path, error: apsw.Error | UnicodeDecodeError) -> JournalDamaged | JournalUnavailable:
    """What an error of SQLite means: what was written is not there any more, or it cannot be reached now."""
    if isinstance(error, apsw.CorruptError | apsw.NotADBError | UnicodeDecodeError):
        return JournalDamaged(f"{path.name}: {error}")
    if getattr(error, "extendedresult", None) == apsw.SQLITE_IOERR_DATA:
        return JournalDamaged(f"{path.name}: a page does not match its checksum")
    return JournalUnavailable(f"{path.name}: {error}")


def scalar(db: apsw.Connection, sql: str, values: tuple[Any, ...] = ()) -> Any:
    """The first column of the first row; None where there is none. Raises as `rows`."""
    return next((row[0] for row in rows(db, sql, values)), None)


class transaction:  # noqa: N801 (reads as a verb where it is used)
    """BEGIN IMMEDIATE … COMMIT; whatever is raised rolls back, and what SQLite raises becomes JournalUnavailable."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        try:
            self._db.execute("BEGIN IMMEDIATE")
        except apsw.Error as error:
            raise JournalUnavailable(str(error)) from error

    def __exit__(self, kind: type[BaseException] | None, raised: BaseException | None, trace: object) -> None:
        try:
            if kind is None:
                self._db.execute("COMMIT")
        except apsw.Error as error:
            kind, raised = type(error), error
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
        if isinstance(raised, apsw.Error):
            raise JournalUnavailable(str(raised)) from raised


def store_layout(db: apsw.Connection, layout: Layout) -> None:
    """Keep what the columns of a layout are called, once a file."""
    db.execute("INSERT OR IGNORE INTO layout VALUES (?, ?)", (layout.digest, msgspec.json.encode(layout)))


def load_layout(db: apsw.Connection, digest: bytes) -> Layout:
    """The layout that a chunk of this file names.

    Raises:
        JournalDamaged: it is not there, or is not the one of that digest.
    """
    document = scalar(db, "SELECT document FROM layout WHERE digest = ?", (digest,))
    try:
        layout = msgspec.json.decode(document or b"", type=Layout)
    except msgspec.DecodeError as error:
        raise JournalDamaged(f"{Path(db.filename).name}: layout {digest.hex()} cannot be read ({error})") from None
    if layout.digest != digest:
        raise JournalDamaged(f"{Path(db.filename).name}: layout {digest.hex()} does not match its digest")
    return layout


def rebuild(db: apsw.Connection) -> None:
    """Make the file as small as it can be, with nothing left of what was deleted; raises apsw.Error.

    It takes memory of the size of what stays: of where temporary files are, and what is left of them, nobody knows.
    """
    db.pragma("temp_store", "memory")
    db.execute(f"VACUUM; PRAGMA application_id = {CLEAN}")


class Checkpointer:
    """Moves a file's write-ahead log into the file, from a thread with a connection of its own.

    PASSIVE never waits for anyone. Above `max_wal_bytes` a TRUNCATE is tried with no patience at all: it succeeds
    in a moment without readers, and otherwise the next round tries again.
    """

    def __init__(
        self, path: Callable[[], Path], *, every_s: float, max_wal_bytes: int, after: Callable[[], None] | None = None
    ) -> None:
        """`path` is asked each round, as files rotate; `after` is called when a round is done, in the thread."""
        self._path, self._every_s, self._max_wal_bytes, self._after = path, every_s, max_wal_bytes, after
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._rounds, name="checkpointer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the round under way."""
        self._stopped.set()
        self._thread.join()

    def _rounds(self) -> None:
        while not self._stopped.wait(self._every_s):
            checkpoint(self._path(), self._max_wal_bytes)
            if self._after is not None:
                self._after()


def checkpoint(path: Path, max_wal_bytes: int) -> None:
    """One round for one file; a busy or full disk leaves the log as it is, for the next round."""
    wal_bytes = size_of(path.with_name(path.name + "-wal"))
    if wal_bytes == 0:
        return
    try:
        db = opened(path)
        try:
            db.set_busy_timeout(0)
            db.pragma("user_version")  # a connection that has read nothing does not know of the log, and copies nothing
            db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            if wal_bytes > max_wal_bytes:  # the writer waits during this one, so little should be left to copy
                db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        finally:
            db.close()
    except apsw.Error:
        return


def size_of(path: Path) -> int:
    """The size of a file in bytes; 0 where there is none (any more)."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
