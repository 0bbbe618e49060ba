"""`GET /metrics`, for Prometheus."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, get

from gateway.routes.parts import Using


@get("/metrics", scope="read", summary="Counts and states of this `serve`, for Prometheus")
async def read_metrics(request: Request[Any, Any, Any], parts: Using) -> Response[bytes]:
    """Text of Prometheus; OpenMetrics where that is asked for."""
    text, content_type = await parts.exposition.text(request.headers.get("accept", ""))
    # as a header: a media type of text would be given its charset a second time
    return Response(text, headers={"content-type": content_type})
