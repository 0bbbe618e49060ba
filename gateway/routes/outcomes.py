"""`POST /models/{m}/outcomes`."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, post
from litestar.params import FromPath

from gateway.front import JSON, expect_json
from gateway.routes.parts import Using, ticket_of
from gateway.wire.outcomes import SentOutcome
from gateway.wire.own import encode

LINES = ("application/x-ndjson", "application/ndjson", "application/jsonl")


@post(
    "/models/{model:str}/outcomes",
    status_code=200,
    summary="What really happened, acknowledged once it is stored",
    scope="outcome",
    takes=SentOutcome | list[SentOutcome],
)
async def take_outcomes(model: FromPath[str], request: Request[Any, Any, Any], parts: Using) -> Response[bytes]:
    """One outcome, a list, or one a line → how many were accepted, duplicate, corrected, early, unknown, rejected."""
    lines = expect_json(request.headers, *LINES) in LINES
    ticket = ticket_of(request)
    receipt = await parts.desk.take(model, await request.body(), lines=lines, by=ticket.principal)
    ticket.model = model
    parts.front.tally.count_outcomes(model, receipt)
    return Response(encode(receipt), media_type=JSON)
