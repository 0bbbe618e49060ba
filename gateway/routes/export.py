"""`GET /admin/models/{m}/export`: the predictions of a model with their outcomes, streamed as Parquet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Annotated

from litestar import get
from litestar.params import FromPath, FromQuery, QueryParameter
from litestar.response import Stream

from gateway.export import Days, Wanted, days_of, exported
from gateway.routes.parts import Using
from gateway.wire.strict_json import instant

PARQUET = "application/vnd.apache.parquet"
Pieces = Generator[bytes, None, None]
Time = Annotated[str | None, QueryParameter(description="a time with its zone, like 2026-01-31T12:00:00Z")]


@get(
    "/admin/models/{model:str}/export",
    summary="Predictions with what really happened, as Parquet",
    scope="read",
    media_type=PARQUET,
)
async def read_export(
    model: FromPath[str],
    parts: Using,
    since: Time = None,
    until: Time = None,
    as_of: Time = None,
    with_shadow_scores: FromQuery[bool] = False,
    with_waiting: FromQuery[bool] = False,
) -> Stream:
    """Predictions of matured cohorts made in [since, until), as everything stood at `as_of` (now)."""
    wanted = Wanted(
        since=_time("since", since),
        until=_time("until", until),
        as_of=_time("as_of", as_of),
        with_shadow_scores=with_shadow_scores,
        with_waiting=with_waiting,
    )
    pieces = exported(parts.settings, parts.registry, parts.clock, model, wanted)
    # a thread of its own: outcomes and look-ups do not wait for an export
    thread = ThreadPoolExecutor(1, thread_name_prefix="export")
    try:
        first = await _next(thread, pieces)  # what cannot be exported is told before anything is answered
    except BaseException:
        thread.shutdown(wait=False)
        raise
    return Stream(_rest(thread, first, pieces), media_type=PARQUET)


@get("/admin/models/{model:str}/export/days", summary="Days that can be exported once and for all", scope="read")
async def read_days(model: FromPath[str], parts: Using, as_of: Time = None) -> Days:
    """UTC days with predictions whose cohorts have all matured, as of `as_of` (now)."""
    at = _time("as_of", as_of)
    return await asyncio.to_thread(days_of, parts.settings, parts.registry, parts.clock, model, at)


def _time(name: str, said: str | None) -> datetime | None:
    return None if said is None else instant(name, said)


async def _rest(thread: ThreadPoolExecutor, first: bytes | None, pieces: Pieces) -> AsyncIterator[bytes]:
    try:
        piece = first
        while piece is not None:
            yield piece
            piece = await _next(thread, pieces)
    finally:
        thread.submit(pieces.close)  # where the caller went away it closes the files
        thread.shutdown(wait=False)


async def _next(thread: ThreadPoolExecutor, pieces: Pieces) -> bytes | None:
    return await asyncio.get_running_loop().run_in_executor(thread, next, pieces, None)
