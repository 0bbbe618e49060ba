"""What is in a journal of which a part is cold: as it is stored, and as readers are told."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

from gateway.chunk import encode
from gateway.journal import PredictionReader
from gateway.journal.sqlite import opened, rows
from tests.journals import Journal, journal_in

DAY_US = 86_400_000_000
LATER_US = 2**60
"""Later than anything in these stories."""


def bodies(journal: Journal, name: str = "1.1.db") -> list[bytes]:
    """The stored bodies of a file, in order."""
    with closing(opened(journal.predictions / name)) as db:
        return [row[0] for row in rows(db, "SELECT body FROM chunk ORDER BY seq")]


def everything(reader: PredictionReader) -> list[Any]:
    """All that readers are told."""
    told: list[Any] = []
    for state in reader.writers():
        heads = reader.heads(state.writer, 0, 10_000)
        told += [state.last_seq, state.watermark_us, heads]
        for head in heads:
            chunk = reader.chunk(state.writer, head.seq)
            told += [encode(chunk), reader.layout(state.writer, chunk.layout)]
            told += [reader.associated(chunk.model, name) for name in chunk.requests.associations or () if name]
    return told


def read(store: Path) -> list[Any]:
    """The same, by somebody who has just come."""
    with journal_in(store) as journal:
        return everything(journal.reader())
