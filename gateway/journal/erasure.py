"""Erasure: what a caller sent with one association id goes for good; what was answered, and what happened, stays.

Of each chunk that has a row of that id the inputs go (of all its rows, as they are stored in one piece), and of the
row's request who asked and its trace. The id itself becomes a name that says nothing, the same wherever it stood, so
that outcomes still find their rows, and evidence comes to what it came to.

    name     the new name is kept in `journal.db` beside the old one, until all is done
    rewrite  every chunk that has the id; what is cold comes back into its file first, and the cold file goes
    rename   the outcomes of the id
    scrub    the logs of all files; then forget which name it got

Killed anywhere, it is told by `doctor`, and the same call goes on under the same name.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import apsw
from msgspec import Struct
from msgspec.structs import replace

from gateway.chunk import Chunk, encode
from gateway.errors import JournalUnavailable
from gateway.journal.cold import DAY_US, Bodies, cold_path, discard_unfinished, is_stub
from gateway.journal.ledger import COLUMNS, identity_of, outcome_of
from gateway.journal.reader import ONE, STORED, files_in
from gateway.journal.sqlite import CLEAN, SYNCHRONOUS, named, opened, rebuild, rows, scalar, size_of, transaction
from gateway.records import association_hash

SCHEMA = """CREATE TABLE IF NOT EXISTS erasing (
    model TEXT NOT NULL, association TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (model, association)
) STRICT, WITHOUT ROWID"""
BUSY_S = 5.0
PATIENCE_S = 30.0
"""How long logs are waited for that somebody is reading."""
_CARRIERS = "SELECT seq, row FROM association WHERE model = ? AND hash = ? ORDER BY seq, row"
_OF_DAY = f"SELECT {STORED} FROM chunk WHERE model = ? AND at_us BETWEEN ? AND ? ORDER BY seq"


class Erased(Struct):
    """What an erasure did."""

    n_rows: int = 0
    """Rows that carried the id."""
    n_chunks: int = 0
    n_neighbours: int = 0
    """Other rows of the same chunks, whose inputs went with them."""
    n_outcomes: int = 0
    """Outcomes that named the id."""
    held: list[str] = []
    """Files whose logs somebody reads just now, so that they may still hold what was erased: erase it again later."""


def erase(
    store: Path, model: str, association_id: str, *, random: Callable[[int], bytes] = os.urandom,
    patience_s: float = PATIENCE_S,
) -> Erased:  # fmt: skip
    """Erase what was sent with an association id; erasing it again does what was left. Not beside a compaction.

    Raises:
        JournalDamaged: a chunk that may have the id cannot be read; what could be erased before it is.
        JournalUnavailable: a file cannot be written now; calling it again goes on.
    """
    made = Erased()
    discard_unfinished(store)
    predictions = [path for files in files_in(store / "predictions").values() for path in files.values()]
    journal = store / "journal.db"
    with _writing(journal) as ledger:
        _clean(ledger)
        name = _name(ledger, model, association_id, f"erased-{random(16).hex()}")
        for path in predictions:
            with _writing(path) as db:
                if scalar(db, "PRAGMA user_version"):  # or its writer was killed before it had made it
                    _File(store, path, db, made).erase(model, association_id, name)
        made.n_outcomes = _rename(ledger, model, association_id, name)
        until_s = time.monotonic() + patience_s
        made.held = [path.name for path in (*predictions, journal) if not _scrubbed(path, until_s)]
        if not made.held:
            _forget(ledger, model, association_id)
            made.held = [] if _scrubbed(journal, until_s) else [journal.name]
    return made


@contextmanager
def _writing(path: Path) -> Iterator[apsw.Connection]:
    """A file in which what is overwritten or deleted leaves nothing behind."""
    try:
        with closing(opened(path)) as db:
            db.set_busy_timeout(round(BUSY_S * 1_000))
            db.pragma("secure_delete", True)
            db.pragma("synchronous", SYNCHRONOUS["process"])  # no fsync while writers wait; the last step has one
            yield db
    except apsw.Error as error:
        raise named(path, error) from error


def _name(ledger: apsw.Connection, model: str, association_id: str, fresh: str) -> str:
    """The name that the id gets: the one of an erasure that was not finished, or a fresh one."""
    with transaction(ledger):
        ledger.execute(SCHEMA)
        ledger.execute("INSERT OR IGNORE INTO erasing VALUES (?, ?, ?)", (model, association_id, fresh))
    name: str = scalar(ledger, "SELECT name FROM erasing WHERE model = ? AND association = ?", (model, association_id))
    return name


def _rename(ledger: apsw.Connection, model: str, association_id: str, name: str) -> int:
    """Give the outcomes of the id its new name; returns how many there were."""
    with transaction(ledger):
        found = rows(ledger, f"SELECT id, {COLUMNS} FROM outcome WHERE model = ? AND association = ?",
                     (model, association_id))  # fmt: skip
        for number, *columns in found:
            digest = identity_of(replace(outcome_of(tuple(columns)), association_id=name))
            ledger.execute("UPDATE outcome SET association = ?, digest = ? WHERE id = ?", (name, digest, number))
    return len(found)


def _forget(ledger: apsw.Connection, model: str, association_id: str) -> None:
    with transaction(ledger):
        ledger.execute("DELETE FROM erasing WHERE model = ? AND association = ?", (model, association_id))


def _clean(db: apsw.Connection) -> None:
    """Have nothing left of what was deleted before; files are kept so, but not those of a store from before."""
    if db.pragma("application_id") != CLEAN:
        rebuild(db)


def _scrubbed(path: Path, until_s: float) -> bool:
    """Whether nothing is left in the log of a file; somebody who reads there is waited for."""
    while size_of(path.with_name(f"{path.name}-wal")):
        try:
            with closing(opened(path)) as db:
                db.set_busy_timeout(0)
                db.pragma("user_version")  # a connection that has read nothing does not know of the log
                db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)  # so that writers wait for little
                db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        except (apsw.BusyError, apsw.LockedError):
            if time.monotonic() > until_s:
                return False
            time.sleep(0.02)
        except apsw.Error as error:
            raise named(path, error) from error
        else:
            break
    return True


class _File:
    """One file of predictions."""

    def __init__(self, store: Path, path: Path, db: apsw.Connection, made: Erased) -> None:
        self._store, self._path, self._db, self._made = store, path, db, made
        self._bodies = Bodies(store)

    def erase(self, model: str, association_id: str, name: str) -> None:
        """Rewrite the chunks that have the id."""
        places: dict[int, list[int]] = {}
        for seq, row in rows(self._db, _CARRIERS, (model, association_hash(association_id))):
            places.setdefault(seq, []).append(row)
        for seq, candidates in places.items():
            (stored,) = rows(self._db, ONE, (seq,))
            chunk = self._bodies.chunk(self._path.name, *stored)
            names = chunk.requests.associations or []
            mine = [row for row in candidates if names[row] == association_id]  # the index has hashes
            if mine:
                _clean(self._db)
                self._thaw(chunk)
                self._rewrite(seq, chunk, mine, name)

    def _rewrite(self, seq: int, chunk: Chunk, mine: list[int], name: str) -> None:
        with transaction(self._db):
            self._db.execute("UPDATE chunk SET body = ? WHERE seq = ?", (encode(_without(chunk, mine, name)), seq))
            of = chunk.model, association_hash((chunk.requests.associations or [])[mine[0]] or "")
            for row in mine:
                self._db.execute("DELETE FROM association WHERE model = ? AND hash = ? AND seq = ? AND row = ?",
                                 (*of, seq, row))  # fmt: skip
                self._db.execute("INSERT INTO association VALUES (?, ?, ?, ?)",
                                 (chunk.model, association_hash(name), seq, row))  # fmt: skip
        self._made.n_chunks += 1
        self._made.n_rows += len(mine)
        self._made.n_neighbours += 0 if chunk.inputs is None else chunk.n_rows - len(mine)

    def _thaw(self, chunk: Chunk) -> None:
        """Where there is a cold file for the chunk: bring back every body that is in it, then have it gone for good."""
        day = chunk.at_us // DAY_US
        path = cold_path(self._store, chunk.model, day, self._path.name, chunk.layout)
        if not path.exists():
            return
        found = rows(self._db, _OF_DAY, (chunk.model, day * DAY_US, (day + 1) * DAY_US - 1))
        with transaction(self._db):
            for stored in found:
                if is_stub(stored[-1]):
                    whole = encode(self._bodies.chunk(self._path.name, *stored))
                    self._db.execute("UPDATE chunk SET body = ? WHERE seq = ?", (whole, stored[0]))
        try:
            with path.open("r+b") as file:
                file.write(bytes(path.stat().st_size))
                os.fsync(file.fileno())
            path.unlink()
        except OSError as error:
            raise JournalUnavailable(f"{path.name} cannot be removed: {error}") from error


def _without(chunk: Chunk, mine: list[int], name: str) -> Chunk:
    """The chunk without inputs; these rows carry the new name, and nobody knows who asked for them."""
    starts = chunk.starts()
    asked = {int(starts.searchsorted(row, side="right")) - 1 for row in mine}
    facts = chunk.requests
    requests = replace(
        facts,
        associations=[name if row in mine else each for row, each in enumerate(facts.associations or [])],
        principals=facts.principals and ["" if i in asked else who for i, who in enumerate(facts.principals)],
        traces=facts.traces and [None if i in asked else trace for i, trace in enumerate(facts.traces)],
    )
    return replace(chunk, inputs=None, erased=True, requests=requests)
