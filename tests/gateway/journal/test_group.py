"""The two appenders: an answer leaves after its commit, in order, whatever commits it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import apsw
import pytest

from gateway.errors import JournalUnavailable
from gateway.journal import Appender, Draft, GroupAppender, LoopAppender, PredictionReader, PredictionWriter
from tests.journals import LAYOUT, PATIENCE_S, Journal, draft, seqs

Made = Callable[[PredictionWriter], Appender]


def grouped(writer: PredictionWriter) -> Appender:
    return GroupAppender(writer, asyncio.get_running_loop())


APPENDERS: list[Made] = [LoopAppender, grouped]


class Answers:
    """What the appender said, and what a reader saw when it said so."""

    def __init__(self, reader: PredictionReader, writer: int) -> None:
        self._reader, self._writer = reader, writer
        self._came = asyncio.Event()
        self.fates: list[tuple[str, range | JournalUnavailable]] = []
        self.early: list[str] = []

    def of(self, name: str) -> Callable[[range | JournalUnavailable], None]:
        def done(fate: range | JournalUnavailable) -> None:
            asyncio.get_running_loop()  # answers come in the loop's thread
            assert threading.current_thread() is threading.main_thread()
            if isinstance(fate, range) and not set(fate) <= set(seqs(self._reader, self._writer)):
                self.early.append(name)
            self.fates.append((name, fate))
            self._came.set()

        return done

    async def wait(self, n: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while len(self.fates) < n:
                self._came.clear()
                await self._came.wait()


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(story)


@pytest.mark.parametrize("made", APPENDERS)
def test_each_answer_comes_in_order_after_its_commit(journal: Journal, made: Made) -> None:
    async def story() -> None:
        writer = journal.writer(durability="power")
        answers = Answers(journal.reader(), writer.writer)
        appender = made(writer)
        for i in range(100):
            appender.append([draft(at_us=i)] * (1 + i % 3), answers.of(str(i)))
        await answers.wait(100)
        appender.close()
        assert answers.early == []
        assert [name for name, _ in answers.fates] == [str(i) for i in range(100)]
        expected, first = [], 1
        for i in range(100):
            expected.append(range(first, first + 1 + i % 3))
            first = expected[-1].stop
        assert [fate for _, fate in answers.fates] == expected

    run(story())


@pytest.mark.parametrize("made", APPENDERS)
def test_after_a_failed_commit_everyone_in_it_is_told_and_the_next_succeeds(journal: Journal, made: Made) -> None:
    async def story() -> None:
        writer = journal.writer(durability="power", busy_s=0.005)
        reader = journal.reader()
        answers = Answers(reader, writer.writer)
        appender = made(writer)
        appender.append([draft()], answers.of("before"))
        await answers.wait(1)
        other = apsw.Connection(str(journal.predictions / f"{writer.writer}.1.db"))
        other.execute("BEGIN IMMEDIATE")
        for i in range(5):
            appender.append([draft()], answers.of(f"refused {i}"))
        await answers.wait(6)
        with pytest.raises(JournalUnavailable):  # also where a thread commits, /readyz comes to know
            appender.heartbeat(1)
        other.close(True)
        appender.append([draft()], answers.of("after"))
        await answers.wait(7)
        appender.heartbeat(2)
        appender.close()
        fates = dict(answers.fates)
        assert all(isinstance(fates[f"refused {i}"], JournalUnavailable) for i in range(5))
        assert (fates["before"], fates["after"]) == (range(1, 2), range(2, 3))
        assert seqs(reader, writer.writer) == [1, 2]

    run(story())


@pytest.mark.parametrize("made", APPENDERS)
def test_closing_commits_what_waits(journal: Journal, made: Made) -> None:
    async def story() -> None:
        writer = journal.writer(durability="power")
        reader = journal.reader()
        answers = Answers(reader, writer.writer)
        appender = made(writer)
        for i in range(50):
            appender.append([draft(at_us=i)], answers.of(str(i)))
        appender.heartbeat(77)
        appender.close()
        assert seqs(reader, writer.writer) == list(range(1, 51))
        (state,) = reader.writers()
        assert (state.alive, state.watermark_us) == (False, 77)
        await answers.wait(50)
        assert answers.early == []

    run(story())


@pytest.mark.parametrize("made", APPENDERS)
def test_a_heartbeat_takes_its_place_behind_what_was_appended_before(journal: Journal, made: Made) -> None:
    async def story() -> None:
        writer = journal.writer(durability="power")
        reader = journal.reader()
        answers = Answers(reader, writer.writer)
        appender = made(writer)
        promises = []
        for i in range(1, 60):
            appender.append([draft(at_us=2 * i)], answers.of(str(i)))
            appender.heartbeat(2 * i + 1)
            promises += [(state.watermark_us or 0, state.last_seq) for state in reader.writers()]
            await asyncio.sleep(0)
        appender.close()
        for watermark_us, last_seq in promises:
            assert 2 * (last_seq + 1) >= watermark_us  # the first chunk not seen yet is stamped no earlier

    run(story())


def test_requests_that_come_during_a_commit_share_the_next_one(journal: Journal, tmp_path: Path) -> None:
    async def story() -> None:
        writer = journal.writer(durability="power", busy_s=PATIENCE_S)
        answers = Answers(journal.reader(), writer.writer)
        appender = grouped(writer)
        appender.append([draft()], answers.of("first"))
        await answers.wait(1)
        path = journal.predictions / f"{writer.writer}.1.db"
        other = apsw.Connection(str(path))
        other.execute("BEGIN IMMEDIATE")
        appender.append([draft()], answers.of("waits for the lock"))
        for i in range(200):
            appender.append([draft()], answers.of(str(i)))
        assert len(answers.fates) == 1
        frames_before = path.with_name(path.name + "-wal").stat().st_size
        other.close(True)
        await answers.wait(202)
        frames = (path.with_name(path.name + "-wal").stat().st_size - frames_before) / 4_120
        assert frames < 100  # alone, each of 200 commits would have written at least a page
        appender.close()

    run(story())


def test_a_fault_that_nobody_thought_of_is_answered_and_does_not_end_the_thread(journal: Journal) -> None:
    async def story() -> None:
        writer = journal.writer(durability="power")
        reader = journal.reader()
        answers = Answers(reader, writer.writer)
        appender = GroupAppender(writer, asyncio.get_running_loop())
        appender.append([Draft(None, LAYOUT)], answers.of("impossible"))  # type: ignore[arg-type]
        await answers.wait(1)
        with pytest.raises(JournalUnavailable):
            appender.heartbeat(1)
        appender.append([draft()], answers.of("after"))
        await answers.wait(2)
        appender.close()
        fates = dict(answers.fates)
        assert isinstance(fates["impossible"], JournalUnavailable)
        assert fates["after"] == range(1, 2)

    run(story())
