"""A cursor, writer → seq, loses no chunk whatever overlaps; a global order would."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import apsw

from gateway.journal import PredictionReader
from gateway.records import Cursor
from tests.journals import PATIENCE_S, Journal, draft

Key = tuple[int, int]


def read_by_cursor(reader: PredictionReader, cursor: Cursor, limit: int = 1_000) -> list[Key]:
    """What is new to the cursor, which moves on by it."""
    found = []
    for state in reader.writers():
        for head in reader.heads(state.writer, cursor.get(state.writer, 0), limit):
            found.append((head.writer, head.seq))
            cursor[head.writer] = head.seq
    return found


class ReaderInTimeOrder:
    """The control: a reader whose place is the time of the last chunk that it saw, as a global sequence would be."""

    def __init__(self, reader: PredictionReader) -> None:
        self._reader, self._place_us = reader, -1

    def read(self) -> list[Key]:
        heads = [h for state in self._reader.writers() for h in self._reader.heads(state.writer, 0, 1_000)]
        new = [head for head in heads if head.at_us > self._place_us]
        self._place_us = max((head.at_us for head in new), default=self._place_us)
        return [(head.writer, head.seq) for head in new]


@contextmanager
def commits_held_open(path: Path) -> Iterator[None]:
    """Nothing can be committed to this file meanwhile; who tries waits, in the middle of its commit."""
    db = apsw.Connection(str(path))
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        db.execute("ROLLBACK")
        db.close()


def test_a_commit_held_open_while_another_writer_commits_is_not_lost(journal: Journal) -> None:
    slow, quick = journal.writer(busy_s=PATIENCE_S), journal.writer()
    slow.append([draft(at_us=1)])
    quick.append([draft(at_us=2)])
    reader, cursor, control = journal.reader(), dict[int, int](), ReaderInTimeOrder(journal.reader())
    seen = read_by_cursor(reader, cursor)
    seen_by_control = control.read()
    with ThreadPoolExecutor(1) as pool:
        with commits_held_open(journal.predictions / f"{slow.writer}.1.db"):
            late = pool.submit(slow.append, [draft(at_us=3)])  # stamped first
            quick.append([draft(at_us=4)])  # committed first
            seen += read_by_cursor(reader, cursor)
            seen_by_control += control.read()
            assert not late.done()
        assert late.result(PATIENCE_S) == range(2, 3)
    seen += read_by_cursor(reader, cursor)
    seen_by_control += control.read()
    everything = {(writer.writer, seq) for writer in (slow, quick) for seq in (1, 2)}
    assert len(seen) == len(set(seen))
    assert set(seen) == everything
    assert everything - set(seen_by_control) == {(slow.writer, 2)}  # the control must lose it


def test_writers_that_commit_at_the_same_time_are_read_whole_and_each_chunk_once(journal: Journal) -> None:
    n_writers, n_appends = 3, 60
    writers = [journal.writer(max_file_bytes=40_000, checkpoint_s=0.002, busy_s=PATIENCE_S) for _ in range(n_writers)]
    go = threading.Event()

    def write(i: int) -> None:
        go.wait(PATIENCE_S)
        for n in range(n_appends):
            writers[i].append([draft(at_us=n, associations=["a"] if n % 3 else None, city="x" * 500)] * (1 + n % 2))

    reader, cursor = journal.reader(), dict[int, int]()
    seen: list[Key] = []
    with ThreadPoolExecutor(n_writers) as pool:
        running = [pool.submit(write, i) for i in range(n_writers)]
        go.set()
        while not all(task.done() for task in running):
            seen += read_by_cursor(reader, cursor, limit=7)
        for task in running:
            task.result()
    while new := read_by_cursor(reader, cursor, limit=7):
        seen += new
    n_chunks = sum(1 + n % 2 for n in range(n_appends))
    for writer in writers:
        assert [seq for number, seq in seen if number == writer.writer] == list(range(1, n_chunks + 1))
    assert len(seen) == n_writers * n_chunks


def test_every_chunk_stamped_before_a_watermark_is_there_when_the_watermark_is_read(journal: Journal) -> None:
    writer, reader = journal.writer(busy_s=PATIENCE_S), journal.reader()
    stopped = threading.Event()

    def write() -> None:
        at_us = 0
        while not stopped.is_set():
            at_us += 2
            writer.append([draft(at_us=at_us)])
            writer.heartbeat(at_us + 1)

    promises: list[tuple[int | None, int]] = []
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(write)
        try:
            while len(promises) < 500:
                promises += [(state.watermark_us, state.last_seq) for state in reader.writers()]
        finally:
            stopped.set()
        running.result(PATIENCE_S)
    stamps = {head.seq: head.at_us for head in reader.heads(writer.writer, 0, 1_000_000)}
    for watermark_us, last_seq in promises:
        if watermark_us is not None:
            assert stamps.get(last_seq + 1, watermark_us) >= watermark_us
