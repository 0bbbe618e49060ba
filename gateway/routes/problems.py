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
from litestar.exceptions import (
    HTTPException,
    MethodNotAllowedException,
    NotFoundException,
    ValidationException,
)

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
    front.Compressed: 415,
    front.CrossSite: 403,
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
    registry_errors.StoreUnreachable: 503,
}

MAX_SENTENCE = 1_000
"""What a caller sent is said back in part only."""

_log = structlog.get_logger("gateway")


def problem(request_id: str, status: int, name: str, sentence: str, headers: dict[str, str]) -> Response[bytes]:
    """The body and headers of an error."""
    sentence = sentence if len(sentence) <= MAX_SENTENCE else sentence[: MAX_SENTENCE - 1] + "…"
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
        status = STATUS[kind]
        headers = {"retry-after": str(getattr(error, "retry_after_s", 1))} if status == 503 else {}
        return problem(door.request_id(request.headers), status, type(error).__name__, str(error), headers)

    def of_litestar(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
        headers = {k.lower(): v for k, v in (error.headers or {}).items() if k.lower() in ("allow", "retry-after")}
        name, sentence = _said_by_litestar(request, error, headers)
        return problem(door.request_id(request.headers), error.status_code, name, sentence, headers)

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


def _said_by_litestar(
    request: Request[Any, Any, Any], error: HTTPException, headers: dict[str, str]
) -> tuple[str, str]:
    """Name and sentence of an error that the framework found, in our words: it names fields only in `extra`."""
    match error:
        case ValidationException(extra=[{"key": key, "message": message}, *_]):
            return "InvalidInput", f"{key}: {message[:1].lower()}{message[1:]}".replace("`", "")
        case MethodNotAllowedException():
            return "MethodNotAllowed", f"method: expected {headers.get('allow')}, got {request.method}"
        case NotFoundException():
            return "NotFound", "there is nothing at this path"
    if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return "BodyTooLarge", "the body is larger than allowed (server.max_body_bytes)"
    return HTTPStatus(error.status_code).phrase.title().replace(" ", ""), error.detail
