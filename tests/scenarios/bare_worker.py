"""A gateway's core without its front: a prediction a line in, its id a line out. `early` acknowledges too soon.

    python -m tests.scenarios.bare_worker STORE after|early

Only for tests: it is the control of the stories that kill. Both kinds are told apart by the journal alone.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from gateway.clock import JournalClock
from gateway.columns import Columns
from gateway.config import ClockSettings, JournalSettings
from gateway.front import Ticket
from gateway.journal import Draft, LoopAppender, PredictionWriter, open_ledger, open_writer
from gateway.lineup import Lineups
from gateway.predictor import Predictor
from gateway.wire.own import Asked
from registry.store import Registry


class EarlyAppender(LoopAppender):
    """Says that chunks are committed, and commits them when the next ones come: fast, and a lie."""

    def __init__(self, writer: PredictionWriter) -> None:
        super().__init__(writer)
        self._promised: list[Sequence[Draft]] = []
        self._next_seq = 1

    def append(self, drafts: Sequence[Draft], done: Any) -> None:
        """Acknowledge, and put off."""
        for earlier in self._promised:
            self._writer.append(earlier)
        self._promised = [drafts]
        first, self._next_seq = self._next_seq, self._next_seq + len(drafts)
        done(range(first, self._next_seq))


async def answer_lines(store: Path, kind: str) -> None:
    """Answer every line of standard input until it ends."""
    settings = JournalSettings(busy_s=30.0)
    with (
        Registry.open(store, now=lambda: datetime.now(UTC)) as registry,
        closing(open_ledger(store, settings)) as ledger,
    ):
        writer = open_writer(store, settings, ledger, kind="gateway", now_us=time.time_ns() // 1_000)
        appender = EarlyAppender(writer) if kind == "early" else LoopAppender(writer)
        lineups = Lineups(registry, 1_000)
        lineups.refresh()
        predictor = Predictor(
            lineups, appender, writer.writer, JournalClock(ClockSettings(), 86_400), max_waiting_rows=9
        )
        while line := await asyncio.to_thread(sys.stdin.readline):
            row = np.array([json.loads(line)], np.float64)
            ticket = Ticket("line", None, time.perf_counter_ns())
            found = await predictor.predict("m", Asked(Columns(1, {"float64": row}, {}), True), ticket)
            told = {"prediction_id": found.prediction_id, "outputs": found.outputs.rows(found.start, found.stop)[0]}
            sys.stdout.write(msgspec.json.encode(told).decode() + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(answer_lines(Path(sys.argv[1]), sys.argv[2]))
