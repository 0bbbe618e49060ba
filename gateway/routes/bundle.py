"""`GET /admin/models/{m}/bundle`: all that a decision rests on, as one zip."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from litestar import get
from litestar.params import FromPath
from litestar.response import Stream

from gateway.routes.changes import AnyRequest
from gateway.routes.overview import Generation
from gateway.routes.parts import Using, ticket_of

ZIP = "application/zip"


@get("/admin/models/{model:str}/bundle", summary="All that a decision rests on, as a zip", scope="read", media_type=ZIP)
async def read_bundle(
    model: FromPath[str],
    request: AnyRequest,
    parts: Using,
    generation: Generation = None,
    version: Generation = None,
) -> Stream:
    """Of the decision that began `generation`; or of the evidence of now, of one challenger (`version`).

    It holds decision.json, pairs.parquet, report.html and SHA256SUMS. A key for some models only is not shown what the
    audit says of others: then its chain cannot be followed to its head.
    """
    await asyncio.to_thread(parts.registry.model, model)
    if generation is not None:
        await asyncio.to_thread(parts.registry.lineup_in, model, generation)
    whole_audit = ticket_of(request).principal.models is None
    pieces = parts.bundler.pieces(model, generation, version, whole_audit=whole_audit)
    first = await anext(pieces)  # what cannot be bundled is told before anything is answered
    headers = {"content-disposition": f'attachment; filename="{model}-evidence.zip"'}
    return Stream(_rest(first, pieces), media_type=ZIP, headers=headers)


async def _rest(first: bytes, pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    try:
        yield first
        async for piece in pieces:
            yield piece
    finally:
        await pieces.aclose()
