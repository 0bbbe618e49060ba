"""The journal: the durable record of predictions, shadow scores and outcomes.

    <store>/predictions/<writer>.<first seq>.db    written by one process each      writer, reader
    <store>/predictions/<writer>.lock              locked while that process lives
    <store>/cold/<model>/day=…/….parquet           what was in old ones of those    compaction, reader
    <store>/journal.db                             written by several               ledger

`join` finds the outcome of a row, `sets` those of many rows at once, and `table` reads all of it as Arrow batches.

Each part opens what it needs: a gateway worker a writer, a reader and a ledger; the shadow and retrain workers a
reader and a ledger. No transaction spans files, and none has to.
"""

from __future__ import annotations

from pathlib import Path

from gateway.config import JournalSettings
from gateway.journal.appenders import Appender, GroupAppender, LoopAppender
from gateway.journal.ledger import Ledger, Mirrored
from gateway.journal.reader import ChunkHead, PredictionReader
from gateway.journal.sqlite import check_library
from gateway.journal.writer import Draft, PredictionWriter
from gateway.locks import only_one

__all__ = [
    "Appender", "ChunkHead", "Draft", "GroupAppender", "Ledger", "LoopAppender", "Mirrored", "PredictionReader",
    "PredictionWriter", "only_one", "open_ledger", "open_reader", "open_writer",
]  # fmt: skip


def predictions_folder(store: Path) -> Path:
    """Where the prediction files are; made where it is missing."""
    folder = store / "predictions"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def open_reader(store: Path) -> PredictionReader:
    """Read the predictions of every writer."""
    return PredictionReader(predictions_folder(store))


def open_ledger(store: Path, settings: JournalSettings, *, busy_s: float | None = None) -> Ledger:
    """Read and write outcomes and shadow chunks; `busy_s` is the patience of a worker that nobody waits for."""
    check_library()
    store.mkdir(parents=True, exist_ok=True)
    return Ledger(store, durability=settings.durability, busy_s=settings.outcomes_busy_s if busy_s is None else busy_s)


def open_writer(store: Path, settings: JournalSettings, ledger: Ledger, *, kind: str, now_us: int) -> PredictionWriter:
    """Become a writer: a new number, a lock that dies with this process, a file of its own."""
    folder = predictions_folder(store)
    writer, lock = ledger.new_writer(kind, now_us, folder)
    return PredictionWriter(folder, writer, lock, settings)
