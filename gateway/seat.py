"""A challenger's seat at the mirror: what it is eligible for, what it is being asked, how its answers are stored."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import structlog
from msgspec import Struct

from gateway.challenger import Challenger, Scores, failed
from gateway.chunk import STATUSES, Chunk, Layout, ShadowChunk, pack_outputs
from gateway.columns import Array
from gateway.journal import Ledger, Mirrored
from gateway.journal.reader import ChunkHead
from gateway.records import Cursor, WriterState
from registry.types import Model

SCORED = STATUSES.index("scored")
MOST_TIMED = 16
"""Chunks of a batch whose first row is asked again alone, where the terms limit latency: it must cost little."""
RETRY_S = 1.0
"""How long what could not be read or started is left alone."""
_log = structlog.get_logger("shadow")


class Question(Struct, frozen=True):
    """Rows of some chunks that follow each other: the columns for a challenger, or why it is not asked."""

    n_rows: list[int]
    """Of each chunk."""
    columns: dict[str, Array] | str
    spared: list[Array | None]
    """Of each chunk, where the challenger is not asked of all of its rows: a status a row, that of SCORED if it is."""


class Said(Struct, frozen=True):
    """What a challenger said of one chunk; `alone_us`: what the first row took by itself, where that was timed."""

    scores: Scores
    alone_us: int | None = None


class Asked(Struct, frozen=True):
    """A batch that a challenger was given: its answers to each chunk, when they come, and the cursors around it."""

    batch: Sequence[ChunkHead]
    said: Future[list[Said]]
    before: Cursor
    after: Cursor


class Seat:
    """One version that is, or was, mirrored: what it is eligible for, and how its answers are stored.

    It is asked in a thread of its own, one batch at a time, so that one that hangs keeps no other one waiting. Only
    the challenger itself is used there; files are read and written by the mirror's thread.
    """

    def __init__(self, model: Model, challenger: Challenger, generations: frozenset[int]) -> None:
        self.model, self.challenger = model, challenger
        self.generations = generations
        """The generations whose live rows it is eligible for."""
        self.layout = Layout.of(model.schema, challenger.version.signature)
        self.finished: set[int] = set()
        """Writers that have ended, or are past its generations for good: nothing of theirs will ever be for it."""
        self.asked: Asked | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"{model.name}-{challenger.version.number}")
        self._rests_until_s = 0.0
        self._turn = 0
        self._problem: str | None = None

    @property
    def is_asked(self) -> bool:
        """Whether it has a batch whose answers are not stored yet."""
        return self.asked is not None

    @property
    def rests(self) -> bool:
        """Whether something failed a moment ago that was not the challenger's doing."""
        return time.monotonic() < self._rests_until_s

    def rest(self) -> None:
        """Try again in a while."""
        self._rests_until_s = time.monotonic() + RETRY_S

    def in_turn(self, writers: Sequence[WriterState]) -> list[WriterState]:
        """The writers that may have something for it, another one first each time."""
        waiting = [state for state in writers if state.writer not in self.finished]
        self._turn += 1
        first = self._turn % len(waiting) if waiting else 0
        return waiting[first:] + waiting[:first]

    def ask(self, batch: Sequence[ChunkHead], questions: Sequence[Question], before: Cursor, after: Cursor) -> None:
        """Give the challenger a batch; `asked` holds what becomes of it."""
        self.asked = Asked(batch, self._thread.submit(self._answers, questions), before, after)

    def close(self) -> None:
        """End the child, whatever it is doing; what it was asked is asked again by the next worker."""
        self.challenger.end()
        self._thread.shutdown()

    def _answers(self, questions: Sequence[Question]) -> list[Said]:
        n_chunks = sum(len(question.n_rows) for question in questions)
        every = max(1, -(-n_chunks // MOST_TIMED))
        said: list[Said] = []
        for question in questions:
            for scores, row in self._scores(question):
                is_timed = self._times and row is not None and len(said) % every == 0 and scores.status[0] == SCORED
                said.append(Said(scores, self.challenger.alone_us(row) if is_timed and row is not None else None))
        return said

    def _scores(self, question: Question) -> Iterator[tuple[Scores, dict[str, Array] | None]]:
        """What the challenger answers to each chunk, with the chunk's first row where it was asked at all."""
        columns = question.columns
        if isinstance(columns, str):
            answered = failed(sum(question.n_rows), self.layout.outputs, columns)
        else:
            answered = self.challenger.score(columns)
        bounds = pairwise(np.cumsum([0, *question.n_rows]).tolist())
        for (start, stop), spared in zip(bounds, question.spared, strict=True):
            row = None if isinstance(columns, str) else {name: c[start : start + 1] for name, c in columns.items()}
            said = answered.rows(start, stop)
            yield said if spared is None else self._among(said, spared), row

    def _among(self, said: Scores, spared: Array) -> Scores:
        """Answers to the rows of a chunk that were asked, in their places among those that were not."""
        asked = spared == SCORED
        whole = failed(len(spared), self.layout.outputs, "not_asked")
        whole.status[:] = spared
        whole.status[asked] = said.status
        for name, values in said.outputs.items():
            whole.outputs[name][asked] = values
        return whole

    def cursor(self, ledger: Ledger) -> Cursor:
        """How far it has come."""
        return ledger.cursor(self.model.name, self.version)

    def keep(self, ledger: Ledger, mirrored: Sequence[Mirrored], before: Cursor, after: Cursor) -> None:
        """Store what was said with the cursor that says so; raises as `Ledger.store_shadow`."""
        ledger.store_shadow(self.model.name, self.version, mirrored, self.layout, before, after)

    def reach(self, state: WriterState) -> int:
        """Up to which seq of a writer there may be something for it."""
        return state.last_seq

    def is_past(self, heads: Sequence[ChunkHead]) -> bool:
        """Whether a writer will never have anything for it, as these chunks show: generations only grow within one."""
        latest = max((head.generation for head in heads if head.model == self.model.name), default=0)
        return latest > max(self.generations) and not any(self.takes(head) for head in heads)

    def lags(self, head: ChunkHead, oldest_us: float) -> bool:
        """Whether a chunk is too old to be tried."""
        return head.at_us < oldest_us

    def has_left(self, newest_generation: int) -> bool:
        """Whether nothing new can be for it, so that its child ends when it has nothing to do."""
        return newest_generation not in self.generations

    def spared(self, chunk: Chunk) -> Array | None:
        """Of which rows it is not asked: none, as all of them are eligible."""
        return None

    @property
    def _times(self) -> bool:
        """Whether the terms limit latency, and so somebody will look at what it takes."""
        return self.model.policy.latency_limit_ms is not None

    @property
    def version(self) -> int:
        """The number of the version."""
        return self.challenger.version.number

    def takes(self, head: ChunkHead) -> bool:
        """Whether the rows of a chunk are eligible."""
        return head.model == self.model.name and head.purpose == "live" and head.generation in self.generations

    def say(self, problem: str | None) -> None:
        """Log why it waits, once; None when it does not."""
        if problem is not None and problem != self._problem:
            _log.warning("a challenger waits", model=self.model.name, version=self.version, reason=problem)
        self._problem = problem

    def stored(self, head: ChunkHead, said: Said, at_us: int) -> Mirrored:
        """The shadow chunk of what was said."""
        scores = said.scores
        answered = bool((scores.status == SCORED).any())
        outputs = pack_outputs(scores.outputs, self.layout.outputs) if answered else None
        chunk = ShadowChunk(self.layout.digest, scores.status.tobytes(), outputs, at_us, alone_us=said.alone_us)
        return Mirrored(head.writer, head.seq, head.generation, chunk)
