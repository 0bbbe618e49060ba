"""What versions said of past rows that were never theirs: apart from shadow chunks, so that nothing can mix them up.

Evidence, drift, exports and the mirror's account read shadow chunks, and would have to leave these out one by one.
Here each replay has its own, under its own cursor, and what a live challenger says of a chunk finds nobody in its
place. They are in the same file, stored in the same way: chunks, the cursor that says so and the account of their
rows in one transaction, each chunk once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import apsw

from gateway.chunk import STATUSES, Layout, ShadowChunk, decode_shadow, encode
from gateway.errors import Conflict
from gateway.journal.sqlite import rows, scalar, store_layout, transaction
from gateway.records import Cursor
from registry.types import Replay

if TYPE_CHECKING:
    from gateway.journal.ledger import Mirrored

SCHEMA = """
CREATE TABLE IF NOT EXISTS replayed_chunk (
    model TEXT NOT NULL, replay INTEGER NOT NULL, writer INTEGER NOT NULL, seq INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (model, replay, writer, seq)
) STRICT;
CREATE TABLE IF NOT EXISTS replay_cursor (
    model TEXT NOT NULL, replay INTEGER NOT NULL, writer INTEGER NOT NULL, seq INTEGER NOT NULL,
    PRIMARY KEY (model, replay, writer)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS replayed (
    model TEXT NOT NULL, replay INTEGER NOT NULL, status INTEGER NOT NULL, n_rows INTEGER NOT NULL,
    PRIMARY KEY (model, replay, status)
) STRICT, WITHOUT ROWID;
"""
"""Made when the first replay is stored, as stores from before do not have them."""
OF = "WHERE model = ? AND replay = ?"


class Replayed:
    """The replays in `journal.db`. One object a thread, as the ledger that it is part of."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db

    def cursor(self, replay: Replay) -> Cursor:
        """How far it has come; before the first chunk it is at the beginning of its span."""
        stored = self._rows("SELECT writer, seq FROM replay_cursor", replay)
        return dict(stored) or {int(writer): seq for writer, seq in replay.asked.span.begin.items()}

    def is_over(self, replay: Replay) -> bool:
        """Whether every chunk of its span was dealt with."""
        cursor = self.cursor(replay)
        return all(cursor.get(int(writer), 0) >= seq for writer, seq in replay.asked.span.end.items())

    def store(
        self, replay: Replay, mirrored: Sequence[Mirrored], layout: Layout, before: Cursor, after: Cursor
    ) -> None:
        """Store what was said of some chunks, move the cursor and count the rows, all in one transaction.

        Raises:
            Conflict: the cursor is not at `before`: another worker was here; nothing was stored.
            JournalUnavailable: nothing was stored.
        """
        key = replay.model, replay.number
        n_rows = Counter(code for item in mirrored for code in item.chunk.status)
        chunks = [(*key, item.writer, item.seq, encode(item.chunk)) for item in mirrored]
        with transaction(self._db):
            self._db.execute(SCHEMA)
            if self.cursor(replay) != before:
                raise Conflict(f"another worker moved the cursor of replay {replay.number} of '{replay.model}'")
            store_layout(self._db, layout)
            self._db.executemany("INSERT INTO replayed_chunk VALUES (?, ?, ?, ?, ?)", chunks)
            self._db.executemany(
                "INSERT INTO replayed VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET n_rows = n_rows + excluded.n_rows",
                [(*key, code, n) for code, n in n_rows.items()],
            )
            self._db.executemany(
                "INSERT INTO replay_cursor VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET seq = excluded.seq",
                [(*key, writer, seq) for writer, seq in after.items()],
            )

    def chunk(self, replay: Replay, writer: int, seq: int) -> ShadowChunk | None:
        """What was said of a chunk; None where it was not replayed (yet)."""
        found = self._rows("SELECT body FROM replayed_chunk", replay, " AND writer = ? AND seq = ?", (writer, seq))
        return decode_shadow(found[0][0]) if found else None

    def n_rows(self, replay: Replay) -> dict[str, int]:
        """Status → rows, of all that were dealt with so far."""
        return {STATUSES[code]: n for code, n in self._rows("SELECT status, n_rows FROM replayed", replay)}

    def _rows(self, what: str, replay: Replay, more: str = "", values: tuple[int, ...] = ()) -> list[tuple[Any, ...]]:
        if scalar(self._db, "SELECT 1 FROM sqlite_schema WHERE name = 'replayed'") is None:
            return []
        return rows(self._db, f"{what} {OF}{more}", (replay.model, replay.number, *values))
