"""The control plane as it stands, under `/admin`: models, versions, lineup, decisions, evidence, clock."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from litestar import get
from litestar.params import FromPath, FromQuery, QueryParameter

from gateway.errors import InvalidInput
from gateway.routes.parts import Parts, Using
from gateway.status import mirror_status, unreadable
from gateway.wire.strict_json import instant
from registry.types import InputSchema, Lineup, Policy

Generation = Annotated[int | None, QueryParameter(ge=0, le=2**63 - 1)]


@get("/admin/models", summary="Every model, with who plays", scope="read")
async def list_models(parts: Using) -> list[dict[str, Any]]:
    """In order of name."""
    models = await asyncio.to_thread(parts.registry.models)
    return [await document_of(model.name, parts) for model in models]


@get("/admin/models/{model:str}", summary="One model: schema, policy, lineup, versions, mirror", scope="read")
async def read_model(model: FromPath[str], parts: Using) -> dict[str, Any]:
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
        "served_generation": None,
        "mirror": [],
    }
    lineups = await asyncio.to_thread(parts.registry.lineups, model)
    if lineups:
        lineup, reign = lineups[-1], await asyncio.to_thread(parts.registry.reign, model)
        now_us = parts.clock.now_us()
        mirror = await parts.desk.read(lambda files: mirror_status(files, lineup, reign, now_us))
        document |= {"lineup": lineup, "reign": {"number": reign.number, "since": reign.since}, "mirror": mirror}
        document["served_generation"] = parts.lineups.generation(model)
    document["unreadable"] = await parts.desk.read(unreadable)
    return document


@get("/admin/models/{model:str}/versions", summary="The versions of a model", scope="read")
async def list_versions(model: FromPath[str], parts: Using) -> list[Any]:
    """Oldest first."""
    return await asyncio.to_thread(parts.registry.versions, model)


@get(
    "/admin/models/{model:str}/evidence", summary="What is known of the challengers, and what is missing", scope="read"
)
async def read_evidence(model: FromPath[str], parts: Using) -> dict[str, Any]:
    """The latest evidence of this reign about those who still play, with lineup and mirror as they are now."""
    lineup = await asyncio.to_thread(parts.registry.lineup, model)
    reign = await asyncio.to_thread(parts.registry.reign, model)
    document = await asyncio.to_thread(parts.registry.evidence, model)
    if document is None or document["reign"] != reign.number:
        document = {"model": model, "as_of": None, "closed_through": None, "probation": None, "challengers": []}
    now_us = parts.clock.now_us()
    mirror = await parts.desk.read(lambda files: mirror_status(files, lineup, reign, now_us))
    live = {entry["version"]: {"mirror": entry["mirror"], "lag_s": entry["lag_s"]} for entry in mirror}
    judged = [entry for entry in document["challengers"] if entry["version"] in lineup.challengers]
    return document | {
        "generation": lineup.generation,
        "reign": reign.number,
        "champion": lineup.champion,
        "previous": lineup.previous,
        "probation": document.get("probation") if lineup.previous is not None else None,
        "challengers": [entry | live[entry["version"]] for entry in judged],
    }


@get("/admin/models/{model:str}/drift", summary="How far traffic, scores and outcomes have moved", scope="read")
async def read_drift(model: FromPath[str], parts: Using) -> dict[str, Any]:
    """As the retrain worker derived it last; nothing while it has not looked yet."""
    document = await asyncio.to_thread(parts.registry.drift.document, model)
    if document is None:
        said = "nothing is derived yet: the retrain worker looks when the model has a champion"
        return {"model": model, "as_of": None, "sentences": [said]}
    return document


@get(
    "/admin/models/{model:str}/decisions", summary="Every change of the lineup, with what was known then", scope="read"
)
async def list_decisions(model: FromPath[str], parts: Using) -> list[Any]:
    """Oldest first."""
    return await asyncio.to_thread(parts.registry.decisions, model)


@get("/admin/models/{model:str}/lineup", summary="Who plays, or played at a moment or in a generation", scope="read")
async def read_lineup(
    model: FromPath[str], parts: Using, at: FromQuery[str | None] = None, generation: Generation = None
) -> Lineup:
    """Now; or with `at` at that moment, to the microsecond; or with `generation` in that one."""
    registry = parts.registry
    match at, generation:
        case None, None:
            return await asyncio.to_thread(registry.lineup, model)
        case str(), None:
            return await asyncio.to_thread(registry.lineup_at, model, instant("at", at))
        case None, int():
            return await asyncio.to_thread(registry.lineup_in, model, generation)
    raise InvalidInput("expected either at or generation, got both")


@get("/admin/models/{model:str}/schema", summary="The input schema", scope="read")
async def read_schema(model: FromPath[str], parts: Using) -> InputSchema:
    """As requests are validated against it."""
    return (await asyncio.to_thread(parts.registry.model, model)).schema


@get("/admin/models/{model:str}/policy", summary="How decisions and outcomes are treated", scope="read")
async def read_policy(model: FromPath[str], parts: Using) -> Policy:
    """As it stands."""
    return (await asyncio.to_thread(parts.registry.model, model)).policy


@get("/admin/clock", summary="What time it is, and whose time", scope="read")
async def read_clock(parts: Using) -> dict[str, Any]:
    """None while the caller's clock was never set."""
    now = await asyncio.to_thread(parts.registry.clock) if parts.clock.of_caller else parts.clock.now()
    return {"source": parts.settings.clock.source, "now": now}


HANDLERS = [
    list_models, read_model, list_versions, read_evidence, read_drift, list_decisions, read_lineup, read_schema,
    read_policy, read_clock,
]  # fmt: skip
