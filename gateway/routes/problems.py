"""Litestar's part of errors: which of them becomes which problem, and how a problem becomes its response."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import structlog
from litestar import Request, Response
from litestar.exceptions import (
    HTTPException,
    MethodNotAllowedException,
    NotFoundException,
    ValidationException,
)

from gateway.problems import MEDIA_TYPE, OURS, Problem, fault, problem, problem_of
from gateway.routes.parts import ticket_of

AnyRequest = Request[Any, Any, Any]
_log = structlog.get_logger("gateway")


def _response(said: Problem) -> Response[bytes]:
    return Response(said.body, status_code=said.status, media_type=MEDIA_TYPE, headers=said.headers)


def _known(request: AnyRequest, error: Exception) -> Response[bytes]:
    said = problem_of(ticket_of(request), error)
    return _unexpected(request, error) if said is None else _response(said)


def _of_litestar(request: AnyRequest, error: HTTPException) -> Response[bytes]:
    headers = {k.lower(): v for k, v in (error.headers or {}).items() if k.lower() in ("allow", "retry-after")}
    name, sentence = _said_by_litestar(request, error, headers)
    return _response(problem(ticket_of(request).request_id, error.status_code, name, sentence, headers))


def _unexpected(request: AnyRequest, error: Exception) -> Response[bytes]:
    request_id = ticket_of(request).request_id
    _log.error("unexpected", request_id=request_id, path=request.url.path, exc_info=error)
    return _response(fault(request_id))


def _said_by_litestar(request: AnyRequest, error: HTTPException, headers: dict[str, str]) -> tuple[str, str]:
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


HANDLERS: dict[Any, Callable[[AnyRequest, Any], Response[bytes]]] = {
    **dict.fromkeys(OURS, _known),
    HTTPException: _of_litestar,
    Exception: _unexpected,
}
"""Ours by the table, Litestar's own by their status, anything else as a plain 500."""
