"""A predictor of a stage's champions, and requests to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, closing
from typing import Any

import numpy as np

from gateway.batch import Answered
from gateway.columns import Columns
from gateway.front import Ticket
from gateway.journal import GroupAppender, LoopAppender, PredictionWriter
from gateway.predictor import Predictor
from gateway.records import Purpose
from gateway.wire.own import Asked, Said
from registry.types import Principal
from tests.stage import Stage


@asynccontextmanager
async def predicting(
    stage: Stage,
    *,
    max_waiting_rows: int = 1_000,
    max_wait_s: float = 60.0,
    power: bool = False,
    writer: PredictionWriter | None = None,
) -> AsyncIterator[Predictor]:
    """A predictor of the stage's champions, whose journal is committed in the loop, or in a thread (`power`)."""
    stage.lineups.refresh()
    into = writer or stage.another_writer()
    appender = GroupAppender(into, asyncio.get_running_loop()) if power else LoopAppender(into)
    predictor = Predictor(
        stage.lineups, appender, into.writer, stage.new_clock(),
        max_waiting_rows=max_waiting_rows, max_wait_s=max_wait_s,
    )  # fmt: skip
    with closing(appender), closing(predictor):
        yield predictor
        async with asyncio.timeout(30):
            await predictor.idle()


def asked(*rows: tuple[float, ...], **facts: Any) -> Asked:
    """A request of these rows."""
    return Asked(
        Columns(len(rows), {"float64": np.array(rows)}, {}), single=False, said=Said(**facts) if facts else None
    )


def ticket(purpose: Purpose = "live") -> Ticket:
    """A request that was let in."""
    return Ticket("request", None, time.perf_counter_ns(), Principal("tester"), purpose)


async def answer(predictor: Predictor, *rows: tuple[float, ...], model: str = "m", **facts: Any) -> Answered:
    """One request; a minute is for ever."""
    async with asyncio.timeout(60):
        return await predictor.predict(model, asked(*rows, **facts), ticket())


async def together(*requests: Awaitable[Answered]) -> list[Any]:
    """What becomes of each of them, asked in one turn of the loop."""
    return await asyncio.gather(*requests, return_exceptions=True)


def chunks(stage: Stage) -> list[tuple[int, tuple[int, ...], list[int]]]:
    """(rows, first row of each run, first row of each request) of every chunk."""
    return [(chunk.n_rows, chunk.runs, chunk.starts().tolist()) for _, chunk in stage.chunks()]
