"""Errors on the wire: the one table from what went wrong to an HTTP status, and the one body that says it.

RFC 9457 problem+json, with a member `error` that holds the sentence, as clients of the Open Inference Protocol
look for it there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException

from gateway import errors, front
from registry import errors as registry_errors

STATUS: dict[type[Exception], int] = {
    errors.BodyTooLarge: 413,
    errors.TooManyRows: 413,
    errors.NotJson: 400,
    errors.WrongContentType: 415,
    errors.InvalidInput: 422,
    errors.NotFound: 404,
    errors.Gone: 410,
    errors.Conflict: 409,
    errors.ModelFailed: 502,
    errors.Overloaded: 503,
    errors.JournalUnavailable: 503,
    errors.JournalDamaged: 500,
    front.Draining: 503,
    registry_errors.UnknownModel: 404,
    registry_errors.UnknownVersion: 404,
    registry_errors.UnknownGeneration: 404,
    registry_errors.UnknownReign: 404,
    registry_errors.NoChampion: 409,
    registry_errors.ModelExists: 409,
    registry_errors.SchemaRefused: 422,
    registry_errors.ArtifactRefused: 422,
    registry_errors.TransitionRefused: 409,
    registry_errors.GenerationMoved: 412,
    registry_errors.ClockRefused: 409,
}

_log = structlog.get_logger("gateway")


def problem(request_id: str, status: int, name: str, sentence: str, headers: dict[str, str]) -> Response[bytes]:
    """The body and headers of an error."""
    body = {
        "type": f"urn:understudy:{re.sub(r'(?<!^)(?=[A-Z])', '-', name).lower()}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": sentence,
        "request_id": request_id,
        "error": sentence,
    }
    return Response(
        msgspec.json.encode(body),
        status_code=status,
        media_type="application/problem+json",
        headers={front.REQUEST_ID: request_id, **headers},
    )


def handlers(door: front.Front) -> dict[Any, Callable[[Request[Any, Any, Any], Any], Response[bytes]]]:
    """Exception handlers for Litestar: ours by the table, its own by their status, anything else as a plain 500."""

    def known(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
        kind = next((kind for kind in type(error).__mro__ if kind in STATUS), None)
        if kind is None:
            return unexpected(request, error)
        retry_after_s = getattr(error, "retry_after_s", None)
        headers = {} if retry_after_s is None else {"retry-after": str(retry_after_s)}
        return problem(door.request_id(request.headers), STATUS[kind], type(error).__name__, str(error), headers)

    def of_litestar(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
        name = HTTPStatus(error.status_code).phrase.title().replace(" ", "")
        headers = {k: v for k, v in (error.headers or {}).items() if k.lower() in ("allow", "retry-after")}
        return problem(door.request_id(request.headers), error.status_code, name, error.detail, headers)

    def unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
        request_id = door.request_id(request.headers)
        _log.error("unexpected", request_id=request_id, path=request.url.path, exc_info=error)
        sentence = f"something is wrong on our side; the log has it under request_id {request_id}"
        return problem(request_id, 500, "Unexpected", sentence, {})

    return {
        errors.GatewayError: known,
        registry_errors.RegistryError: known,
        HTTPException: of_litestar,
        Exception: unexpected,
    }
