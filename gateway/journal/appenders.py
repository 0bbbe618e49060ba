"""When a commit happens: in the event loop at the end of a tick, or with others in a thread that waits for the disk."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, pairwise

from gateway.errors import JournalUnavailable
from gateway.journal.writer import Draft, PredictionWriter

Done = Callable[[range | JournalUnavailable], None]


class LoopAppender:
    """Durability `process`: the commit happens in the event loop, 13 µs, and the answer leaves after it."""

    def __init__(self, writer: PredictionWriter) -> None:
        self._writer = writer

    def append(self, drafts: Sequence[Draft], done: Done) -> None:
        """Commit, then call `done` with the seqs, or with why not."""
        try:
            seqs = self._writer.append(drafts)
        except JournalUnavailable as error:
            done(error)
        else:
            done(seqs)

    def heartbeat(self, at_us: int) -> None:
        """See `PredictionWriter.heartbeat`."""
        self._writer.heartbeat(at_us)

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


class GroupAppender:
    """Durability `power`: a thread commits with fsync whatever has piled up during the last fsync.

    A commit takes milliseconds, so it may not happen in the loop; under load one of them serves many requests.
    """

    def __init__(self, writer: PredictionWriter, loop: asyncio.AbstractEventLoop) -> None:
        self._writer, self._loop = writer, loop
        self._waiting: queue.SimpleQueue[tuple[Sequence[Draft], Done] | int | None] = queue.SimpleQueue()
        self._failed: JournalUnavailable | None = None
        """Why the last commit failed; None after one that did not."""
        self._thread = threading.Thread(target=self._commits, name="group-commit", daemon=True)
        self._thread.start()

    def append(self, drafts: Sequence[Draft], done: Done) -> None:
        """Have it committed; `done` is called in the loop, after the fsync, with the seqs or with why not."""
        self._waiting.put((drafts, done))

    def heartbeat(self, at_us: int) -> None:
        """See `PredictionWriter.heartbeat`; it takes its place behind what was appended before.

        Raises:
            JournalUnavailable: the last commit or heartbeat failed; this one will be tried all the same.
        """
        self._waiting.put(at_us)
        if self._failed is not None:
            raise self._failed

    def close(self) -> None:
        """Commit what waits, then close the file."""
        self._waiting.put(None)
        self._thread.join()
        self._writer.close()

    def _commits(self) -> None:
        stopping = False
        while not stopping:
            batch = [self._waiting.get()]
            while not self._waiting.empty():
                batch.append(self._waiting.get())
            stopping = None in batch
            self._commit([item for item in batch if isinstance(item, tuple)])
            beats = [item for item in batch if isinstance(item, int)]
            if beats:
                self._beat(max(beats))

    def _commit(self, group: list[tuple[Sequence[Draft], Done]]) -> None:
        if not group:
            return
        try:
            seqs = self._writer.append([draft for drafts, _ in group for draft in drafts])
        except Exception as error:  # noqa: BLE001  # the edge of a thread: whatever it is, nobody may wait for ever
            self._failed = error if isinstance(error, JournalUnavailable) else JournalUnavailable(repr(error))
            self._loop.call_soon_threadsafe(self._tell, [(done, self._failed) for _, done in group])
            return
        self._failed = None
        fates = (range(*ends) for ends in pairwise(accumulate((len(d) for d, _ in group), initial=seqs.start)))
        self._loop.call_soon_threadsafe(self._tell, zip((done for _, done in group), fates, strict=True))

    def _tell(self, fates: Iterable[tuple[Done, range | JournalUnavailable]]) -> None:
        """Back in the loop, which is woken once a group; each is told apart, so that one who raises stops no other."""
        for done, fate in fates:
            self._loop.call_soon(done, fate)

    def _beat(self, at_us: int) -> None:
        try:
            self._writer.heartbeat(at_us)
        except JournalUnavailable as error:  # a promise not made only keeps buckets open; the next is a second away
            self._failed = error
        else:
            self._failed = None


Appender = LoopAppender | GroupAppender
