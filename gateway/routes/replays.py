"""The past scored by a version that was no challenger then, under `/admin/models/{m}/replays`. Never evidence."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from litestar import get, post
from litestar.params import FromPath
from msgspec import Struct

from gateway.errors import Conflict
from gateway.replays import replay_document, span_of
from gateway.routes.changes import AnyRequest, Reason, body_of, changed
from gateway.routes.parts import Using, ticket_of
from gateway.wire.strict_json import Int64, instant


class NewReplay(Struct, forbid_unknown_fields=True):
    """`POST /admin/models/{m}/replays`: rows predicted in [since, until), without those it has learned from."""

    version: Int64
    since: str
    reason: Reason
    until: str | None = None
    trained_until: str | None = None


@post(
    "/admin/models/{model:str}/replays",
    status_code=201,
    summary="Have a version score past rows that it was no challenger for",
    scope="operate",
    takes=NewReplay,
)
async def ask_replay(model: FromPath[str], request: AnyRequest, parts: Using) -> dict[str, Any]:
    """Scored by the shadow worker when nothing live waits, as everything stands now; a report, and never evidence."""
    new = await body_of(request, NewReplay)
    since = instant("since", new.since)
    until = None if new.until is None else instant("until", new.until)
    learned = None if new.trained_until is None else instant("trained_until", new.trained_until)
    await asyncio.to_thread(parts.registry.version, model, new.version)
    now = parts.clock.now()
    if parts.clock.now_us() is None:
        raise Conflict("the caller's clock was never set: nobody knows which outcomes have had their time")
    span = await parts.desk.read(lambda files: span_of(files, since, until, now))
    ask = partial(
        parts.registry.replays.ask, model, new.version, span,
        trained_until=learned, reason=new.reason, by=ticket_of(request).principal,
    )  # fmt: skip
    replay = await changed(parts, ask)
    return await parts.desk.read(lambda files: replay_document(files, replay))


@get("/admin/models/{model:str}/replays", summary="What was replayed, and how far it is", scope="read")
async def list_replays(model: FromPath[str], parts: Using) -> list[dict[str, Any]]:
    """Oldest first."""
    replays = await asyncio.to_thread(parts.registry.replays.of, model)
    return await parts.desk.read(lambda files: [replay_document(files, replay) for replay in replays])


@get("/admin/models/{model:str}/replays/{number:int}", summary="One replay, with its report", scope="read")
async def read_replay(model: FromPath[str], number: FromPath[int], parts: Using) -> dict[str, Any]:
    """`state` is asked, running, done or failed; a report is there once it is done."""
    replay = await asyncio.to_thread(parts.registry.replays.one, model, number)
    return await parts.desk.read(lambda files: replay_document(files, replay))


HANDLERS: list[Any] = [ask_replay, list_replays, read_replay]
