"""API keys, under `/admin/keys`. A token is in the answer that issues it, and nowhere else."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from litestar import get, post
from litestar.datastructures import CacheControlHeader
from litestar.params import FromPath
from msgspec import Struct

from gateway.routes.changes import AnyRequest, Because, body_of, changed
from gateway.routes.parts import Using, ticket_of
from gateway.wire.strict_json import instant
from registry.types import ApiKey, Scope


class NewKey(Struct, forbid_unknown_fields=True):
    """`POST /admin/keys`."""

    principal: str
    scopes: list[Scope]
    models: list[str] | None = None
    expires_at: str | None = None


class Issued(Struct, frozen=True):
    """A key, and its token, this once."""

    key: ApiKey
    token: str


@get("/admin/keys", scope="admin", summary="Every key that was ever issued, without its secret")
async def list_keys(parts: Using) -> list[ApiKey]:
    """Oldest first."""
    return await asyncio.to_thread(parts.registry.keys.all)


@post(
    "/admin/keys",
    scope="admin",
    status_code=201,
    summary="Issue a key",
    takes=NewKey,
    cache_control=CacheControlHeader(no_store=True),
)
async def issue_key(request: AnyRequest, parts: Using) -> Issued:
    """`{"principal", "scopes", "models"?, "expires_at"?}` → the key and its token, which is never shown again."""
    ticket = ticket_of(request)
    new = await body_of(request, NewKey)
    expires_at = None if new.expires_at is None else instant("expires_at", new.expires_at)
    issue = partial(
        parts.registry.keys.issue, new.principal, new.scopes, by=ticket.principal, models=new.models,
        expires_at=expires_at,
    )  # fmt: skip
    return Issued(*await changed(parts, issue))


@post(
    "/admin/keys/{key_id:str}/revoke", scope="admin", status_code=200, summary="Revoke a key, for good", takes=Because
)
async def revoke_key(key_id: FromPath[str], request: AnyRequest, parts: Using) -> ApiKey:
    """`{"reason"}` → the key; one that was revoked before stays as it is."""
    ticket = ticket_of(request)
    why = await body_of(request, Because)
    return await changed(parts, partial(parts.registry.keys.revoke, key_id, by=ticket.principal, reason=why.reason))


HANDLERS: list[Any] = [list_keys, issue_key, revoke_key]
