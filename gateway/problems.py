"""Errors on the wire: the one table from what went wrong to an HTTP status, and the one body that says it.

RFC 9457 problem+json, with a member `error` that holds the sentence, as clients of the Open Inference Protocol
look for it there.
"""

from __future__ import annotations

import re
from functools import cache
from http import HTTPStatus

import msgspec
from msgspec import Struct

from gateway import errors, front
from registry import errors as registry_errors

STATUS: dict[type[Exception], int] = {
    errors.BodyTooLarge: 413,
    errors.TooManyRows: 413,
    errors.NotJson: 400,
    errors.WrongContentType: 415,
    errors.InvalidInput: 422,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Gone: 410,
    errors.Conflict: 409,
    errors.ModelFailed: 502,
    errors.Overloaded: 503,
    errors.JournalUnavailable: 503,
    errors.JournalDamaged: 500,
    front.Compressed: 415,
    front.CrossSite: 403,
    registry_errors.UnknownModel: 404,
    registry_errors.UnknownVersion: 404,
    registry_errors.UnknownGeneration: 404,
    registry_errors.UnknownReign: 404,
    registry_errors.UnknownProposal: 404,
    registry_errors.UnknownTraining: 404,
    registry_errors.UnknownReplay: 404,
    registry_errors.NoChampionYet: 404,
    registry_errors.NoChampion: 409,
    registry_errors.ModelExists: 409,
    registry_errors.ModelInUse: 409,
    registry_errors.SchemaRefused: 422,
    registry_errors.ArtifactRefused: 422,
    registry_errors.TransitionRefused: 409,
    registry_errors.VersionBarred: 409,
    registry_errors.RuleRests: 409,
    registry_errors.ApprovalNeeded: 403,
    registry_errors.ApproverRefused: 403,
    registry_errors.ProposalClosed: 409,
    registry_errors.ProposalRefused: 409,
    registry_errors.ProposalDiffers: 412,
    registry_errors.ReplayRefused: 409,
    registry_errors.GenerationMoved: 412,
    registry_errors.LeaseLost: 409,
    registry_errors.ClockRefused: 409,
    registry_errors.KeyRefused: 422,
    registry_errors.UnknownKey: 404,
    registry_errors.StoreUnreachable: 503,
}

MEDIA_TYPE = "application/problem+json"
MAX_SENTENCE = 1_000
"""What a caller sent is said back in part only."""
OURS = (errors.GatewayError, registry_errors.RegistryError)
"""What is refused, and answered by the table; anything else is a fault of ours."""


class Problem(Struct, frozen=True):
    """An answer that is none: its status, its body, and what it says in headers besides."""

    status: int
    body: bytes
    headers: dict[str, str]


def problem(request_id: str, status: int, name: str, sentence: str, headers: dict[str, str] | None = None) -> Problem:
    """The answer that says this sentence."""
    sentence = sentence if len(sentence) <= MAX_SENTENCE else sentence[: MAX_SENTENCE - 1] + "…"
    body = {
        "type": _type(name),
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": sentence,
        "request_id": request_id,
        "error": sentence,
    }
    return Problem(status, msgspec.json.encode(body), headers or {})


def problem_of(ticket: front.Ticket, error: Exception) -> Problem | None:
    """The answer to what was refused; None for an error that is not in the table, and so is a fault of ours."""
    ticket.refused = type(error).__name__
    status = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), None)
    if status is None:
        return None
    headers = {}
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["retry-after"] = str(getattr(error, "retry_after_s", 1))
    if status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    return problem(ticket.request_id, status, type(error).__name__, str(error), headers)


def fault(request_id: str) -> Problem:
    """The answer where something is wrong on our side, which is told to the log and not to the caller."""
    sentence = f"something is wrong on our side; the log has it under request_id {request_id}"
    return problem(request_id, HTTPStatus.INTERNAL_SERVER_ERROR, "Unexpected", sentence)


@cache
def _type(name: str) -> str:
    return f"urn:understudy:{re.sub(r'(?<!^)(?=[A-Z])', '-', name).lower()}"
