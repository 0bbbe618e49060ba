"""The audit, under `/admin/audit`: read page by page, and held against what the registry stores."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from litestar import get
from litestar.params import FromQuery, QueryParameter

from gateway.routes.parts import Using
from registry.types import AuditRow
from registry.verification import Verified

Count = Annotated[int, QueryParameter(ge=0, le=2**63 - 1)]


@get("/admin/audit", summary="Who did what, each line chained to the line before", scope="read")
async def read_audit(
    parts: Using, after: Count = 0, limit: Count = 1_000, model: FromQuery[str | None] = None
) -> list[AuditRow]:
    """Oldest first, from the line after `after`; `model` keeps those of one model."""
    return await asyncio.to_thread(lambda: parts.registry.audit(model, after=after, limit=limit))


@get("/admin/audit/verify", summary="Whether the audit is whole, and the registry is what it says", scope="read")
async def verify_audit(parts: Using, head: FromQuery[str | None] = None) -> Verified:
    """Every fault in one sentence. `head`: a hash that was kept elsewhere, against lines cut from the end."""
    return await asyncio.to_thread(parts.registry.verified, head)


HANDLERS: list[Any] = [read_audit, verify_audit]
