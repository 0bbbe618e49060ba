"""Who agrees to what, under `/admin/models/{m}`: proposals, and the bars that a rollback sets up.

`GET …/proposals` shows what is asked for with its evidence and its digest; whoever approves sends that digest back, so
that nothing else is agreed to than what was seen.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated, Any

from litestar import get, post
from litestar.params import FromPath
from msgspec import Meta, Struct

from gateway.errors import InvalidInput
from gateway.routes.changes import AnyRequest, Because, Change, Reason, body_of, changed, expected_generation
from gateway.routes.parts import Using, ticket_of
from gateway.wire.strict_json import Int64
from registry.consent import Bar, Proposal
from registry.types import Policy


class NewProposal(Struct, forbid_unknown_fields=True):
    """`POST /admin/models/{m}/proposals`: to promote a version, or to change the terms."""

    reason: Reason
    version: Int64 | None = None
    policy: Policy | None = None


class Agreement(Struct, forbid_unknown_fields=True):
    """`POST …/proposals/{n}/approve`."""

    digest: Annotated[str, Meta(min_length=1, max_length=100, description="of the proposal, as it was read")]
    reason: Reason


@get("/admin/models/{model:str}/proposals", summary="What is or was proposed, with its evidence", scope="read")
async def list_proposals(model: FromPath[str], parts: Using) -> list[Proposal]:
    """Oldest first; an open one is `stale` once the lineup has moved on."""
    return await asyncio.to_thread(parts.registry.proposals, model)


@get("/admin/models/{model:str}/proposals/{number:int}", summary="One proposal", scope="read")
async def read_proposal(model: FromPath[str], number: FromPath[int], parts: Using) -> Proposal:
    """With its evidence, and the digest that an approval names."""
    return await asyncio.to_thread(parts.registry.proposal, model, number)


@post(
    "/admin/models/{model:str}/proposals",
    status_code=201,
    summary="Propose to promote a challenger, or to change the terms",
    scope=("operate", "approve"),
    takes=NewProposal,
)
async def propose(model: FromPath[str], request: AnyRequest, parts: Using) -> Proposal:
    """`{"version", "reason"}` or `{"policy", "reason"}` → the proposal."""
    new, registry = await body_of(request, NewProposal), parts.registry
    because = partial(
        partial, reason=new.reason, by=ticket_of(request).principal, expected_generation=expected_generation(request)
    )
    match new:
        case NewProposal(version=int(version), policy=None):
            return await changed(parts, because(registry.propose, model, version))
        case NewProposal(version=None, policy=Policy() as policy):
            return await changed(parts, because(registry.propose_policy, model, policy))
    raise InvalidInput("expected either version or policy")


@post(
    "/admin/models/{model:str}/proposals/{number:int}/approve",
    status_code=200,
    summary="Agree to a proposal, and make the change",
    scope="approve",
    takes=Agreement,
)
async def approve(model: FromPath[str], number: FromPath[int], request: AnyRequest, parts: Using) -> Proposal:
    """`{"digest", "reason"}` → the proposal; lineup, decision and audit have changed with it, or nothing has."""
    agreed = await body_of(request, Agreement)
    agree = partial(
        parts.registry.approve, model, number, agreed.digest, reason=agreed.reason, by=ticket_of(request).principal,
        expected_generation=expected_generation(request),
    )  # fmt: skip
    return await changed(parts, agree)


@post(
    "/admin/models/{model:str}/proposals/{number:int}/reject",
    status_code=200,
    summary="Refuse a proposal, for good",
    scope="approve",
    takes=Because,
)
async def reject(model: FromPath[str], number: FromPath[int], request: AnyRequest, parts: Using) -> Proposal:
    """`{"reason"}` → the proposal."""
    why = await body_of(request, Because)
    refuse = partial(parts.registry.reject, model, number, reason=why.reason, by=ticket_of(request).principal)
    return await changed(parts, refuse)


@get(
    "/admin/models/{model:str}/bars",
    summary="Versions that were rolled back, and until when the rule rests",
    scope="read",
)
async def list_bars(model: FromPath[str], parts: Using) -> dict[str, Any]:
    """Lifted ones too, oldest first."""
    bars = await asyncio.to_thread(parts.registry.bars, model)
    return {"bars": bars, "rule_rests_until": await asyncio.to_thread(parts.registry.rests_until, model)}


@post(
    "/admin/models/{model:str}/bars/lift",
    status_code=200,
    summary="Let a version that was rolled back play again",
    scope="approve",
    takes=Change,
)
async def lift_bar(model: FromPath[str], request: AnyRequest, parts: Using) -> Bar:
    """`{"version", "reason"}` → the bar that was."""
    what = await body_of(request, Change)
    lift = partial(parts.registry.lift_bar, model, what.version, reason=what.reason, by=ticket_of(request).principal)
    return await changed(parts, lift)


HANDLERS: list[Any] = [list_proposals, read_proposal, propose, approve, reject, list_bars, lift_bar]
