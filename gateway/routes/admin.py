"""The control plane, under `/admin`: models, versions, lineup, decisions, evidence, audit, clock.

Every change is the registry's, in one transaction with its audit row; a route only names it, and reads back what
stands afterwards. `If-Match` with the lineup's generation makes a change conditional on nobody having been faster.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from litestar import Request, get, post, put
from litestar.params import Parameter
from msgspec import Meta, Struct

from gateway.errors import BodyTooLarge, Conflict, InvalidInput
from gateway.front import expect_json
from gateway.routes.parts import Parts
from gateway.status import mirror_status
from gateway.wire.strict_json import AwareDatetime, decode_json
from registry.types import Feature, InputSchema, Lineup, Policy, Task

T = TypeVar("T")
Reason = Annotated[str, Meta(min_length=1, max_length=2_000)]
AnyRequest = Request[Any, Any, Any]


class NewModel(Struct, forbid_unknown_fields=True):
    """`POST /admin/models`."""

    name: str
    task: Task
    features: list[Feature]
    policy: Policy = Policy()


class Change(Struct, forbid_unknown_fields=True):
    """Which version, and why."""

    version: int
    reason: Reason


class Because(Struct, forbid_unknown_fields=True):
    """Why."""

    reason: Reason


class Tick(Struct, forbid_unknown_fields=True):
    """`POST /admin/clock`."""

    now: AwareDatetime


async def body_of(request: AnyRequest, kind: type[T]) -> T:
    """The JSON body of a request. Raises BadRequest, naming the place."""
    expect_json(request.headers)
    decoded: T = decode_json(msgspec.json.Decoder(kind).decode, await request.body())
    return decoded


async def changed(parts: Parts, change: Callable[[], T]) -> T:
    """Make a change in a thread, and have this worker serve by it before the caller is told."""

    def both() -> T:
        result = change()
        parts.lineups.refresh()
        return result

    return await asyncio.to_thread(both)


def expected_generation(request: AnyRequest) -> int | None:
    """What `If-Match` says.

    Raises:
        InvalidInput: it is not a generation.
    """
    text = request.headers.get("if-match")
    if text is None:
        return None
    try:
        return int(text.strip().strip('"'))
    except ValueError:
        raise InvalidInput(f'if-match: expected the lineup\'s generation, like "4", got {text!r:.40}') from None


@get("/admin/models", summary="Every model, with who plays")
async def list_models(parts: Parts) -> list[dict[str, Any]]:
    """In order of name."""
    models = await asyncio.to_thread(parts.registry.models)
    return [await document_of(model.name, parts) for model in models]


@post("/admin/models", status_code=201, summary="Declare a model: its name, task and input schema")
async def create_model(request: AnyRequest, parts: Parts) -> dict[str, Any]:
    """The same declaration again changes nothing."""
    ticket = parts.front.enter(request.headers)
    new = await body_of(request, NewModel)
    schema = InputSchema(tuple(new.features))
    create = partial(parts.registry.create_model, new.name, schema, new.task, new.policy, by=ticket.principal)
    await changed(parts, create)
    return await document_of(new.name, parts)


@get("/admin/models/{model:str}", summary="One model: schema, policy, lineup, versions, mirror")
async def read_model(model: str, parts: Parts) -> dict[str, Any]:
    """Everything about it but its evidence."""
    return await document_of(model, parts)


async def document_of(model: str, parts: Parts) -> dict[str, Any]:
    """What `GET /admin/models/{m}` answers."""
    declared = await asyncio.to_thread(parts.registry.model, model)
    versions = await asyncio.to_thread(parts.registry.versions, model)
    document: dict[str, Any] = {
        "name": model,
        "task": declared.task,
        "schema": declared.schema,
        "policy": declared.policy,
        "versions": versions,
        "lineup": None,
        "reign": None,
        "mirror": [],
    }
    lineups = await asyncio.to_thread(parts.registry.lineups, model)
    if lineups:
        lineup, reign = lineups[-1], await asyncio.to_thread(parts.registry.reign, model)
        now_us = parts.clock.now_us()
        mirror = await parts.desk.read(lambda files: mirror_status(files, lineup, reign, now_us))
        document |= {"lineup": lineup, "reign": {"number": reign.number, "since": reign.since}, "mirror": mirror}
    return document


@get("/admin/models/{model:str}/versions", summary="The versions of a model")
async def list_versions(model: str, parts: Parts) -> list[Any]:
    """Oldest first."""
    return await asyncio.to_thread(parts.registry.versions, model)


@post(
    "/admin/models/{model:str}/versions",
    status_code=201,
    summary="Upload a version: raw ONNX bytes",
    request_max_body_size=None,  # its own limit, server.max_model_bytes, is held below
)
async def upload_version(
    model: str,
    request: AnyRequest,
    parts: Parts,
    role: Annotated[Literal["champion", "challenger"], Parameter(query="as")] = "challenger",
    score: str | None = None,
    classes: str | None = None,
    features: str | None = None,
    reason: str = "",
) -> Any:
    """It is loaded in a limited process first, and refused with one sentence if it should not be loaded here."""
    ticket = parts.front.enter(request.headers)
    upload = partial(
        parts.registry.register,
        model,
        await limited_body(request, parts.settings.server.max_model_bytes),
        role,
        by=ticket.principal,
        reason=reason,
        score=score,
        classes=None if classes is None else tuple(_label(text) for text in classes.split(",")),
        features=None if features is None else tuple(features.split(",")),
    )
    return await changed(parts, upload)


async def limited_body(request: AnyRequest, limit_bytes: int) -> bytes:
    """The whole body, read no further than the limit.

    Raises:
        BodyTooLarge: there is more.
    """
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > limit_bytes:
            raise BodyTooLarge(limit_bytes, "server.max_model_bytes")
    return bytes(body)


def _label(text: str) -> int | str:
    return int(text) if text.lstrip("-").isdigit() else text


@post("/admin/models/{model:str}/challengers", status_code=200, summary="Make a version a challenger again")
async def enlist(model: str, request: AnyRequest, parts: Parts) -> Lineup:
    """`{"version", "reason"}` → the lineup."""
    return await _by_version(model, request, parts, parts.registry.enlist)


@post("/admin/models/{model:str}/promote", status_code=200, summary="Make a challenger the champion")
async def promote(model: str, request: AnyRequest, parts: Parts) -> Lineup:
    """`{"version", "reason"}` → the lineup."""
    return await _by_version(model, request, parts, parts.registry.promote)


@post("/admin/models/{model:str}/retire", status_code=200, summary="Take a challenger out of play")
async def retire(model: str, request: AnyRequest, parts: Parts) -> Lineup:
    """`{"version", "reason"}` → the lineup."""
    return await _by_version(model, request, parts, parts.registry.retire)


async def _by_version(model: str, request: AnyRequest, parts: Parts, change: Callable[..., Lineup]) -> Lineup:
    ticket = parts.front.enter(request.headers)
    what = await body_of(request, Change)
    generation = expected_generation(request)
    return await changed(
        parts,
        partial(change, model, what.version, reason=what.reason, by=ticket.principal, expected_generation=generation),
    )


@post("/admin/models/{model:str}/rollback", status_code=200, summary="Give the previous champion its place back")
async def rollback(model: str, request: AnyRequest, parts: Parts) -> Lineup:
    """`{"reason"}` → the lineup."""
    ticket = parts.front.enter(request.headers)
    why = await body_of(request, Because)
    generation = expected_generation(request)
    undo = partial(
        parts.registry.rollback, model, reason=why.reason, by=ticket.principal, expected_generation=generation
    )
    return await changed(parts, undo)


@get("/admin/models/{model:str}/evidence", summary="What is known of the challengers, and what is missing")
async def read_evidence(model: str, parts: Parts) -> dict[str, Any]:
    """The latest evidence, with the mirror's account as it is now."""
    lineup = await asyncio.to_thread(parts.registry.lineup, model)
    reign = await asyncio.to_thread(parts.registry.reign, model)
    document = await asyncio.to_thread(parts.registry.evidence, model)
    if document is None or document["reign"] != reign.number:
        document = {
            "model": model,
            "generation": lineup.generation,
            "reign": reign.number,
            "champion": lineup.champion,
            "previous": lineup.previous,
            "as_of": None,
            "closed_through": None,
            "challengers": [],
        }
    now_us = parts.clock.now_us()
    mirror = await parts.desk.read(lambda files: mirror_status(files, lineup, reign, now_us))
    live = {entry["version"]: {"mirror": entry["mirror"], "lag_s": entry["lag_s"]} for entry in mirror}
    document["challengers"] = [entry | live.get(entry["version"], {}) for entry in document["challengers"]]
    return document


@get("/admin/models/{model:str}/decisions", summary="Every change of the lineup, with what was known then")
async def list_decisions(model: str, parts: Parts) -> list[Any]:
    """Oldest first."""
    return await asyncio.to_thread(parts.registry.decisions, model)


@get("/admin/models/{model:str}/schema", summary="The input schema")
async def read_schema(model: str, parts: Parts) -> InputSchema:
    """As requests are validated against it."""
    return (await asyncio.to_thread(parts.registry.model, model)).schema


@get("/admin/models/{model:str}/policy", summary="How decisions and outcomes are treated")
async def read_policy(model: str, parts: Parts) -> Policy:
    """As it stands."""
    return (await asyncio.to_thread(parts.registry.model, model)).policy


@put("/admin/models/{model:str}/policy", status_code=200, summary="Other terms: a new reign begins")
async def set_policy(model: str, request: AnyRequest, parts: Parts) -> Policy:
    """Evidence starts from zero, as it may not be judged by rules chosen after it was seen."""
    ticket = parts.front.enter(request.headers)
    policy = await body_of(request, Policy)
    generation = expected_generation(request)
    put_it = partial(parts.registry.set_policy, model, policy, by=ticket.principal, expected_generation=generation)
    return (await changed(parts, put_it)).policy


@get("/admin/audit", summary="Who did what, each line chained to the line before")
async def read_audit(parts: Parts, after: int = 0, limit: int = 1_000) -> list[Any]:
    """Oldest first, from the line after `after`."""
    return await asyncio.to_thread(lambda: parts.registry.audit(after=after, limit=limit))


@get("/admin/clock", summary="What time it is, and whose time")
async def read_clock(parts: Parts) -> dict[str, Any]:
    """Under the server's clock, the server's time."""
    return {"source": parts.settings.clock.source, "now": await asyncio.to_thread(parts.registry.clock)}


@post("/admin/clock", status_code=200, summary="Advance the caller's clock")
async def set_clock(request: AnyRequest, parts: Parts) -> dict[str, datetime]:
    """It never goes back (409); under the server's clock it is not the caller's to set (409)."""
    ticket = parts.front.enter(request.headers)
    tick = await body_of(request, Tick)
    if not parts.clock.of_caller:
        raise Conflict('the clock is the server\'s (clock.source = "server"): it cannot be set')

    def move() -> None:
        parts.registry.set_clock(tick.now, by=ticket.principal)
        parts.clock.refresh(parts.registry)

    await asyncio.to_thread(move)
    return {"now": tick.now}


HANDLERS = [
    list_models, create_model, read_model, list_versions, upload_version, enlist, promote, retire, rollback,
    read_evidence, list_decisions, read_schema, read_policy, set_policy, read_audit, read_clock, set_clock,
]  # fmt: skip
