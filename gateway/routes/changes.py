"""What routes that change something share: their body, the generation that they decide upon, and making it count."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import msgspec
from litestar import Request
from msgspec import Meta, Struct

from gateway.errors import InvalidInput
from gateway.front import expect_json
from gateway.routes.parts import Parts
from gateway.wire.strict_json import Int64, decode_json, refuse_duplicate_keys

T = TypeVar("T")
Reason = Annotated[str, Meta(min_length=1, max_length=2_000)]
AnyRequest = Request[Any, Any, Any]
_GENERATION = re.compile(r'[0-9]{1,18}|"[0-9]{1,18}"')


class Change(Struct, forbid_unknown_fields=True):
    """Which version, and why."""

    version: Int64
    reason: Reason


class Because(Struct, forbid_unknown_fields=True):
    """Why."""

    reason: Reason


async def body_of(request: AnyRequest, kind: type[T]) -> T:
    """The JSON body of a request. Raises BadRequest, naming the place."""
    expect_json(request.headers)
    body = await request.body()
    decoded: T = decode_json(msgspec.json.Decoder(kind).decode, body)
    refuse_duplicate_keys(body)
    return decoded


async def changed(parts: Parts, change: Callable[[], T]) -> T:
    """Make a change in a thread, and have this worker serve by it before the caller is told."""

    def both() -> T:
        result = change()
        parts.clock.refresh(parts.registry)  # both follow one stamp: who takes over the one takes over the other
        parts.front.keys.refresh()
        parts.lineups.refresh()
        return result

    return await asyncio.to_thread(both)


def expected_generation(request: AnyRequest) -> int | None:
    """What `If-Match` says.

    Raises:
        InvalidInput: it is not a generation.
    """
    text = request.headers.get("if-match")
    if text is None:
        return None
    if not _GENERATION.fullmatch(text):
        raise InvalidInput(f'if-match: expected the lineup\'s generation, like "4", got {text!r:.40}')
    return int(text.strip('"'))
