"""Whether this worker lives, and whether it should be sent requests."""

from __future__ import annotations

from typing import Any

from litestar import Response, get

from gateway.routes.parts import Using


@get("/livez", summary="Whether this process runs", scope="open")
async def livez() -> dict[str, str]:
    """It does, if it answers."""
    return {"status": "ok"}


@get("/readyz", summary="Whether predictions would be answered", scope="open")
async def readyz(parts: Using) -> Response[dict[str, Any]]:
    """Not while draining, nor while the journal cannot be written."""
    problems = parts.pulse.problems()
    if parts.front.draining:
        problems.append("draining")
    status = {"status": "ready" if not problems else "not ready", "problems": problems, "models": parts.lineups.names}
    return Response(status, status_code=200 if not problems else 503)
