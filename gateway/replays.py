"""Replays at the journal's desk: which chunks a span of time is, and how far one is scored."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from gateway.desk import Files
from gateway.errors import JournalDamaged
from gateway.records import Cursor, micros
from registry.replay import Span
from registry.types import Replay


def span_of(files: Files, since: datetime, until: datetime | None, as_of: datetime) -> Span:
    """The chunks that may hold rows predicted in [since, until), and the outcomes, as everything stands now.

    Until `as_of`, where nobody says otherwise. A row is predicted no later than its chunk is stamped, and stamps never
    decrease within a writer, so that what was stamped before `since` is before the span; where it ends only rows tell.

    Raises:
        JournalDamaged: of some writer nobody knows what it wrote.
    """
    begin: Cursor = {}
    end: Cursor = {}
    for state in files.reader.writers():
        if state.is_unreadable:
            raise JournalDamaged(f"nothing is replayed while predictions cannot be read ({state.problem})")
        begin[state.writer] = files.reader.last_seq_at(state, micros(since) - 1)
        end[state.writer] = state.last_seq
    outcomes = files.ledger.outcome_cursor()
    return Span(since, as_of if until is None else until, as_of, _named(begin), _named(end), _named(outcomes))


def replay_document(files: Files, replay: Replay) -> dict[str, Any]:
    """A replay as it is told, with how far it is: in chunks that the span goes over, and in rows by their fate."""
    span = replay.asked.span
    cursor = files.ledger.replayed.cursor(replay)
    n_chunks = sum(seq - span.begin[writer] for writer, seq in span.end.items())
    n_done = sum(min(cursor[int(writer)], span.end[writer]) - seq for writer, seq in span.begin.items())
    window = msgspec.to_builtins(replay.asked.window)
    n_rows = files.ledger.replayed.n_rows(replay)
    return {
        "model": replay.model,
        "number": replay.number,
        "version": replay.version,
        "is_evidence": False,
        "state": "running" if replay.state == "asked" and n_rows else replay.state,
        "since": span.since,
        "until": span.until,
        "as_of": span.as_of,
        "trained_from": window["begin"],
        "trained_until": window["end"],
        "trained_until_is_stated": window["is_stated"],
        "by": replay.asked.by,
        "reason": replay.asked.reason,
        "at": replay.asked.at,
        "ended_at": replay.ended_at,
        "progress": {"n_chunks": n_chunks, "n_chunks_done": n_done, "n_rows": n_rows},
        "report": replay.report,
    }


def _named(cursor: Cursor) -> dict[str, int]:
    return {str(writer): seq for writer, seq in sorted(cursor.items())}
