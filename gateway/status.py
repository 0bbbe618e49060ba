"""How the mirror stands: for each challenger what it was given, what became of it, and how far behind it is."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.desk import Files
from gateway.errors import JournalDamaged
from gateway.journal import ChunkHead
from gateway.records import Cursor, WriterState
from registry.types import Lineup, Reign


def mirrored_versions(lineup: Lineup) -> tuple[int, ...]:
    """Who is given the champion's requests: the challengers, and the previous champion while it is in probation."""
    return lineup.challengers if lineup.previous is None else (*lineup.challengers, lineup.previous)


def unreadable(files: Files) -> list[str]:
    """Why some predictions cannot be read, or not all of them; empty where they can."""
    return [state.problem for state in files.reader.writers() if state.problem is not None]


def mirror_status(files: Files, lineup: Lineup, reign: Reign, now_us: int | None) -> list[dict[str, Any]]:
    """One entry a mirrored version: its account over this reign, chunks waiting, and seconds behind."""
    writers = files.reader.writers()
    generations = range(reign.first_generation, lineup.generation + 1)
    return [
        {
            "version": version,
            "role": lineup.role(version),
            "mirror": msgspec.to_builtins(files.ledger.mirror_count(lineup.model, version, generations)),
            **_lag(files, writers, lineup.model, version, now_us),
        }
        for version in mirrored_versions(lineup)
    ]


def _lag(files: Files, writers: list[WriterState], model: str, version: int, now_us: int | None) -> dict[str, Any]:
    cursor = files.ledger.cursor(model, version)
    behind = [state for state in writers if cursor.get(state.writer, 0) < state.last_seq]
    waiting = sum(state.last_seq - cursor.get(state.writer, 0) for state in behind)
    oldest = [head.at_us for state in behind for head in _next(files, state.writer, cursor)]
    lag_s = max(0.0, (now_us - min(oldest)) / 1e6) if oldest and now_us is not None else 0.0
    return {"n_chunks_waiting": waiting, "lag_s": lag_s}


def _next(files: Files, writer: int, cursor: Cursor) -> list[ChunkHead]:
    """The next chunk of a writer, if it is there and can be read; that it cannot is said by `unreadable`."""
    try:
        return files.reader.heads(writer, cursor.get(writer, 0), limit=1)
    except JournalDamaged:
        return []
