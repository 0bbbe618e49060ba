"""The control plane, under `/admin`: what changes something is here, what only reads is in `overview`.

Every change is the registry's, in one transaction with its audit row; a route only names it, and reads back what
stands afterwards. `If-Match` with the lineup's generation makes a change conditional on nobody having been faster.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Annotated, Any, get_args

import msgspec
from litestar import delete, post, put
from litestar.params import FromPath, FromQuery, QueryParameter
from msgspec import Struct

from gateway.errors import BadRequest, BodyTooLarge, Conflict, InvalidInput
from gateway.front import refuse_compressed
from gateway.routes import overview
from gateway.routes.changes import AnyRequest, Because, Change, body_of, changed, expected_generation
from gateway.routes.parts import Parts, Using, ticket_of
from gateway.wire.strict_json import decode_json, instant
from registry.types import Feature, FirstRole, InputSchema, Lineup, Policy, Task, TrainingReport

ROLES: tuple[FirstRole, ...] = get_args(FirstRole)
_INTEGER = re.compile(r"-?[0-9]{1,18}")


class NewModel(Struct, forbid_unknown_fields=True):
    """`POST /admin/models`."""

    name: str
    task: Task
    features: list[Feature]
    policy: Policy = Policy()


class Tick(Struct, forbid_unknown_fields=True):
    """`POST /admin/clock`."""

    now: str


@post(
    "/admin/models",
    status_code=201,
    summary="Declare a model: its name, task and input schema",
    scope="operate",
    takes=NewModel,
)
async def create_model(request: AnyRequest, parts: Using) -> dict[str, Any]:
    """The same declaration again changes nothing."""
    new = await body_of(request, NewModel)
    schema = InputSchema(tuple(new.features))
    create = partial(
        parts.registry.create_model, new.name, schema, new.task, new.policy, by=ticket_of(request).principal
    )
    await changed(parts, create)
    return await overview.document_of(new.name, parts)


@delete(
    "/admin/models/{model:str}",
    status_code=200,
    summary="Take back a declaration: a model that never had a version",
    scope="operate",
    takes=Because,
)
async def delete_model(model: FromPath[str], request: AnyRequest, parts: Using) -> dict[str, str]:
    """`{"reason"}` → its name, which is free again."""
    why = await body_of(request, Because)
    withdraw = partial(parts.registry.delete_model, model, reason=why.reason, by=ticket_of(request).principal)
    await changed(parts, withdraw)
    return {"deleted": model}


@post(
    "/admin/models/{model:str}/versions",
    status_code=201,
    summary="Upload a version: raw ONNX bytes",
    scope="operate",
    takes=bytes,
    request_max_body_size=None,  # its own limit, server.max_model_bytes, is held below
)
async def upload_version(
    model: FromPath[str],
    request: AnyRequest,
    parts: Using,
    as_: Annotated[str, QueryParameter(name="as", description="champion, challenger or retired")] = "challenger",
    score: FromQuery[str | None] = None,
    classes: FromQuery[str | None] = None,
    features: FromQuery[str | None] = None,
    training: FromQuery[str | None] = None,
    reason: FromQuery[str] = "",
) -> Any:
    """It is loaded in a limited process first, and refused with one sentence if it should not be loaded here."""
    refuse_compressed(request.headers)
    if as_ not in ROLES:
        raise InvalidInput(f"as: expected {' or '.join(ROLES)}, got {as_!r:.40}")
    upload = partial(
        parts.registry.register,
        model,
        await limited_body(request, parts.settings.server.max_model_bytes),
        as_,
        by=ticket_of(request).principal,
        reason=reason,
        score=score,
        classes=None if classes is None else tuple(_label(text) for text in classes.split(",")),
        features=None if features is None else tuple(features.split(",")),
        training=None if training is None else _report(training),
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


def _report(text: str) -> TrainingReport:
    """What training knew of the version, as a JSON object: evidence of its reign is measured against it.

    Raises:
        InvalidInput: nothing could be measured against it.
    """
    try:
        report: TrainingReport = decode_json(msgspec.json.Decoder(TrainingReport).decode, text.encode())
    except BadRequest as error:
        raise InvalidInput(f"training: {error}") from None
    return report


def _label(text: str) -> int | str:
    return int(text) if _INTEGER.fullmatch(text) else text


@post(
    "/admin/models/{model:str}/challengers",
    status_code=200,
    summary="Make a version a challenger again",
    scope="operate",
    takes=Change,
)
async def enlist(model: FromPath[str], request: AnyRequest, parts: Using) -> Lineup:
    """`{"version", "reason"}` → the lineup."""
    return await _by_version(model, request, parts, parts.registry.enlist)


@post(
    "/admin/models/{model:str}/promote",
    status_code=200,
    summary="Make a challenger the champion",
    scope="approve",
    takes=Change,
)
async def promote(model: FromPath[str], request: AnyRequest, parts: Using) -> Lineup:
    """`{"version", "reason"}` → the lineup."""
    return await _by_version(model, request, parts, parts.registry.promote)


@post(
    "/admin/models/{model:str}/retire",
    status_code=200,
    summary="Take a challenger out of play",
    scope="operate",
    takes=Change,
)
async def retire(model: FromPath[str], request: AnyRequest, parts: Using) -> Lineup:
    """`{"version", "reason"}` → the lineup."""
    return await _by_version(model, request, parts, parts.registry.retire)


async def _by_version(model: str, request: AnyRequest, parts: Parts, change: Callable[..., Lineup]) -> Lineup:
    what = await body_of(request, Change)
    generation = expected_generation(request)
    return await changed(
        parts,
        partial(
            change,
            model,
            what.version,
            reason=what.reason,
            by=ticket_of(request).principal,
            expected_generation=generation,
        ),
    )


@post(
    "/admin/models/{model:str}/rollback",
    status_code=200,
    summary="Give the previous champion its place back",
    scope="approve",
    takes=Because,
)
async def rollback(model: FromPath[str], request: AnyRequest, parts: Using) -> Lineup:
    """`{"reason"}` → the lineup."""
    why = await body_of(request, Because)
    generation = expected_generation(request)
    undo = partial(
        parts.registry.rollback,
        model,
        reason=why.reason,
        by=ticket_of(request).principal,
        expected_generation=generation,
    )
    return await changed(parts, undo)


@put(
    "/admin/models/{model:str}/policy",
    status_code=200,
    summary="Other terms: a new reign begins",
    scope="approve",
    takes=Policy,
)
async def set_policy(model: FromPath[str], request: AnyRequest, parts: Using) -> Policy:
    """Evidence starts from zero, as it may not be judged by rules chosen after it was seen."""
    policy = await body_of(request, Policy)
    generation = expected_generation(request)
    put_it = partial(
        parts.registry.set_policy, model, policy, by=ticket_of(request).principal, expected_generation=generation
    )
    return (await changed(parts, put_it)).policy


@post("/admin/clock", status_code=200, summary="Advance the caller's clock", scope="operate", takes=Tick)
async def set_clock(request: AnyRequest, parts: Using) -> dict[str, datetime]:
    """It never goes back (409); under the server's clock it is not the caller's to set (409)."""
    now = instant("now", (await body_of(request, Tick)).now)
    if not parts.clock.of_caller:
        raise Conflict('the clock is the server\'s (clock.source = "server"): it cannot be set')

    def move() -> None:
        parts.registry.set_clock(now, by=ticket_of(request).principal)
        parts.clock.refresh(parts.registry)

    await asyncio.to_thread(move)
    return {"now": now}


HANDLERS = [
    *overview.HANDLERS,
    create_model,
    delete_model,
    upload_version,
    enlist,
    promote,
    retire,
    rollback,
    set_policy,
    set_clock,
]
