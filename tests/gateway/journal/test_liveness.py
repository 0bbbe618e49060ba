"""Who is alive, what they promise, and that a number is never given twice."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.journals import Journal, draft, seqs

WRITER = """
import os, signal, sys
from pathlib import Path
from gateway.config import JournalSettings
from gateway.journal import open_ledger, open_writer
from tests.journals import draft

store, order = Path(sys.argv[1]), sys.argv[2]
settings = JournalSettings(checkpoint_s=0.01)
ledger = open_ledger(store, settings)
writer = open_writer(store, settings, ledger, kind="gateway", now_us=0)
print(writer.writer, flush=True)
seq = 0
while sys.stdin.readline():
    seq += 1
    if order == "answers first":  # the control
        print(seq, flush=True)
        if seq == 5:
            os.kill(os.getpid(), signal.SIGKILL)
    writer.append([draft(at_us=seq)])
    if order == "commits first":
        print(seq, flush=True)
"""


@contextmanager
def process(journal: Journal, order: str = "commits first") -> Iterator[subprocess.Popen[str]]:
    """A process that appends a chunk for every line that it is sent, and answers with its seq."""
    command = [sys.executable, "-c", WRITER, str(journal.store), order]
    root = Path(__file__).parents[3]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) as child:
        try:
            yield child
        finally:
            child.kill()


def line(child: subprocess.Popen[str]) -> int:
    assert child.stdout is not None
    return int(child.stdout.readline())


def ask(child: subprocess.Popen[str], n: int) -> None:
    assert child.stdin is not None
    child.stdin.write("\n" * n)
    child.stdin.flush()


def test_a_killed_writer_is_dead_at_once_and_what_it_acknowledged_is_there(journal: Journal) -> None:
    reader = journal.reader()
    with process(journal) as child:
        number = line(child)
        ask(child, 1_000)
        acknowledged = [line(child) for _ in range(40)]
        (state,) = reader.writers()
        assert state.alive
        child.kill()
        child.wait()
        acknowledged += [int(rest) for rest in child.stdout or () if rest.endswith("\n")]
    (state,) = reader.writers()
    assert (state.writer, state.alive) == (number, False)
    read = seqs(reader, number)
    assert read == list(range(1, state.last_seq + 1))
    assert set(acknowledged) <= set(read)
    assert [reader.chunk(number, seq).at_us for seq in read] == read


def test_a_writer_that_answered_before_its_commit_would_lose_what_it_acknowledged(journal: Journal) -> None:
    reader = journal.reader()
    with process(journal, "answers first") as child:
        number = line(child)
        ask(child, 10)
        acknowledged = [line(child) for _ in range(5)]
        child.wait()
    assert set(acknowledged) - set(seqs(reader, number)) == {5}


def test_the_number_of_a_dead_writer_is_never_given_again(journal: Journal) -> None:
    given = []
    for _ in range(2):
        with process(journal) as child:
            given.append(line(child))
            ask(child, 1)
            line(child)
            child.kill()
            child.wait()
        closed = journal.writer()
        closed.append([draft()])
        given.append(closed.writer)
        closed.close()
    assert given == sorted(set(given))
    reader = journal.reader()
    assert [state.writer for state in reader.writers()] == given
    assert not any(state.alive for state in reader.writers())
    again = journal.writer()
    assert again.writer > max(given)
    again.append([draft()])
    assert [state.writer for state in reader.writers() if state.alive] == [again.writer]


def test_a_writer_is_alive_until_it_is_closed(journal: Journal) -> None:
    writer, reader = journal.writer(), journal.reader()
    assert reader.writers() == []
    writer.append([draft(at_us=9)])
    assert [state.alive for state in reader.writers()] == [True]
    assert [state.alive for state in journal.reader().writers()] == [True]
    writer.close()
    writer.close()
    assert [state.alive for state in reader.writers()] == [False]
    assert seqs(reader, writer.writer) == [1]


def test_an_idle_writer_promises_by_heartbeats_and_a_busy_one_by_its_chunks(journal: Journal) -> None:
    writer, reader = journal.writer(), journal.reader()

    def watermark() -> int | None:
        (state,) = reader.writers()
        return state.watermark_us

    writer.heartbeat(5)
    assert (watermark(), reader.writers()[0].last_seq) == (5, 0)
    writer.append([draft(at_us=7)])
    assert watermark() == 7
    writer.heartbeat(8)
    assert (watermark(), reader.writers()[0].last_seq) == (8, 1)
    writer.append([draft(at_us=20), draft(at_us=30)])
    assert watermark() == 30


def test_a_file_whose_writer_was_killed_before_it_wrote_a_byte_does_not_disturb_readers(journal: Journal) -> None:
    writer, reader = journal.writer(), journal.reader()
    writer.append([draft(at_us=3)])
    (journal.predictions / "77.1.db").touch()
    states = {state.writer: state for state in reader.writers()}
    assert (states[77].alive, states[77].last_seq, states[77].watermark_us) == (False, 0, None)
    assert (seqs(reader, 77), seqs(reader, writer.writer)) == ([], [1])
    assert reader.associated("loans", "a") == []


def test_a_reader_keeps_few_files_open_however_many_writers_there_were(journal: Journal) -> None:
    def n_open() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    writers = []
    for i in range(90):
        writer = journal.writer()
        writer.append([draft(at_us=i)])
        writers.append(writer.writer)
        writer.close()
    before, reader = n_open(), journal.reader()
    for _ in range(2):
        states = reader.writers()
        assert [(state.writer, state.alive, state.last_seq) for state in states] == [(w, False, 1) for w in writers]
        assert all(reader.chunk(writer, 1).at_us == i for i, writer in enumerate(writers))
    assert n_open() - before < 3 * 70
