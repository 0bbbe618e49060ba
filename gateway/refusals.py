"""What a connection is held to by its sender's side: limits of a head, and the bytes of the answer that refuses it."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from gateway.config import ServerSettings
from gateway.front import REQUEST_ID
from gateway.problems import MEDIA_TYPE, Problem

Lines = Sequence[tuple[bytes, bytes]]


class Refused(Exception):
    """A request that is not read further."""

    def __init__(self, status: HTTPStatus, name: str, sentence: str) -> None:
        self.status, self.name, self.sentence = status, name, sentence
        super().__init__(sentence)


def malformed(sentence: str) -> Refused:
    """A request that is none."""
    return Refused(HTTPStatus.BAD_REQUEST, "MalformedRequest", sentence)


def check_size(n_bytes: int, settings: ServerSettings) -> None:
    """Hold a head to its size.

    Raises:
        Refused: it is too large.
    """
    if n_bytes > settings.max_header_bytes:
        limit = f"the head is larger than {settings.max_header_bytes:,} bytes (server.max_header_bytes)"
        raise Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "HeaderTooLarge", limit)


def check_head(url: bytes, headers: Lines, http_version: str, settings: ServerSettings) -> None:
    """Hold a complete head to its limits.

    Raises:
        Refused: it is too large, or names no Host or several.
    """
    check_size(len(url) + sum(len(name) + len(value) for name, value in headers), settings)
    if len(headers) > settings.max_headers:
        limit = f"expected at most {settings.max_headers} headers (server.max_headers)"
        raise Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "HeaderTooLarge", limit)
    n_hosts = sum(name == b"host" for name, _ in headers)
    if n_hosts != 1 and (n_hosts > 1 or http_version != "1.0"):
        raise malformed(f"host: expected one, got {n_hosts}")


def head_of(default_headers: Lines, said: Problem, request_id: str, *, keep_alive: bool) -> bytes:
    """The bytes before a problem's body, as uvicorn writes what Litestar answers."""
    lines = [STATUS_LINE[said.status], *(b"%b: %b\r\n" % line for line in default_headers)]
    named = {**said.headers, "content-type": MEDIA_TYPE, "content-length": str(len(said.body))}
    lines += [f"{name}: {value}\r\n".encode("latin-1") for name, value in named.items()]
    lines.append(f"{REQUEST_ID}: {request_id}\r\n".encode("latin-1"))
    lines.append(b"\r\n" if keep_alive else b"connection: close\r\n\r\n")
    return b"".join(lines)
