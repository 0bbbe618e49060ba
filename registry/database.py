"""The registry's database: opened, brought to the newest schema, read in snapshots, written by one at a time.

SQLite through the standard library only, with a rollback journal (never WAL: the registry is small and rarely
written, and one file that is whole by itself can be copied). TRUNCATE with synchronous FULL: a commit is on the disk
when it returns, also across a power loss.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, select, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DatabaseError, IntegrityError, ProgrammingError
from sqlalchemy.pool import ConnectionPoolEntry

from registry import migrations
from registry.errors import StoreBusy, StoreNewer, StoreUnreachable
from registry.tables import state

# alembic keeps the migration that runs in module globals, so that in one process one runs at a time
_MIGRATING = threading.Lock()
SETTLED_NS = 100_000_000
"""Older timestamps of a file do not hide a second write: file systems tick every few milliseconds."""


class Database:
    """One SQLite file; safe to use from several threads and processes."""

    def __init__(self, engine: Engine, path: Path, busy_timeout_s: float) -> None:
        self._engine, self._path = engine, path
        self._writing = engine.execution_options(immediate=True)
        self._busy_timeout_s = busy_timeout_s

    @classmethod
    def open(cls, path: Path, *, busy_timeout_s: float) -> Database:
        """Opens the file, makes it where it is missing, and brings its tables to the newest revision.

        Raises:
            StoreNewer: the file was written by a newer Understudy; it was not touched.
        """
        engine = create_engine(URL.create("sqlite", database=str(path)), connect_args={"timeout": busy_timeout_s})
        event.listen(engine, "connect", _configure)
        event.listen(engine, "begin", _begin)
        database = cls(engine, path, busy_timeout_s)
        try:
            database._migrate()
        except BaseException:
            engine.dispose()
            raise
        return database

    def written(self) -> tuple[int, int] | None:
        """What moves whenever the file is written, for the price of a `stat`; None while that cannot be relied on.

        What was written a moment ago may be written again within the same tick of the file's timestamp.
        """
        try:
            found = self._path.stat()
        except OSError:
            return None
        settled = time.time_ns() - found.st_mtime_ns > SETTLED_NS
        return (found.st_mtime_ns, found.st_ino) if settled else None

    def close(self) -> None:
        """Closes every connection."""
        self._engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent snapshot, for several statements; raises StoreUnreachable."""
        try:
            with self._transaction(self._engine) as connection:
                yield connection
        except (TypeError, ValueError) as error:  # of text that is no UTF-8 any more, a moment or a number that is none
            raise StoreUnreachable(f"the registry cannot be used: a stored value is damaged ({error})") from error

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction that nobody else writes beside, committed at the end of the block or not at all.

        Raises:
            StoreUnreachable: the disk refuses, or (StoreBusy) another process wrote for longer than the busy timeout.
        """
        with self._transaction(self._writing) as connection:
            yield connection

    @contextmanager
    def change(self) -> Iterator[Connection]:
        """As `write`, for what a gateway worker must notice: the change stamp moves."""
        with self.write() as connection:
            connection.execute(state.update().values(change_stamp=state.c.change_stamp + 1))
            yield connection

    @contextmanager
    def _transaction(self, engine: Engine) -> Iterator[Connection]:
        try:
            with engine.connect() as connection, connection.begin():
                yield connection
        except DatabaseError as error:
            raise self._named(error) from error
        except msgspec.DecodeError as error:  # of a document in a row: the file is whole, and a byte of it is not
            raise StoreUnreachable(f"the registry cannot be used: a stored document is damaged ({error})") from error

    def _named(self, error: DatabaseError) -> Exception:
        """What happened to the store; a broken constraint or statement would be our own fault, and stays what it is."""
        if isinstance(error, IntegrityError | ProgrammingError):
            return error
        if getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
            return StoreBusy(self._busy_timeout_s)
        return StoreUnreachable(f"the registry cannot be used: {error.orig}")

    def _migrate(self) -> None:
        with self.read() as connection:
            if _revision(connection) == migrations.HEAD:
                return
        with _MIGRATING, self.write() as connection:
            # another process may have done it while this one waited for the lock
            found = _revision(connection)
            if found == migrations.HEAD:
                return
            _upgrade(connection, found)


def _configure(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    # the driver must not begin transactions by itself: it would not begin them IMMEDIATE, and would commit before DDL
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=TRUNCATE", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    # a writer that began as a reader could find, half way, that another has written: it takes the lock first
    immediate = connection.get_execution_options().get("immediate", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(select(text("version_num")).select_from(text("alembic_version")))
    return found


def _upgrade(connection: Connection, found: str | None) -> None:
    # imported here, as every command would otherwise pay for what is needed once in the life of a registry
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    folder = str(Path(migrations.__file__).parent)
    config.set_main_option("script_location", folder.replace("%", "%%"))
    known = {revision.revision for revision in ScriptDirectory(folder).walk_revisions()}
    if found is not None and found not in known:
        raise StoreNewer(found)
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
