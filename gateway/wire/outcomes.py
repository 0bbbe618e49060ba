"""Outcomes on the wire: one object, a list of them, or one a line (NDJSON)."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from gateway.errors import InvalidInput
from gateway.wire.own import Name
from gateway.wire.strict_json import Int64, decode_json, instant, refuse_duplicate_keys


class SentOutcome(Struct, forbid_unknown_fields=True):
    """An outcome as the caller sends it."""

    outcome: bool | Int64 | float | str
    prediction_id: str | UnsetType = UNSET
    association_id: Name | UnsetType = UNSET
    row: Annotated[int, Meta(ge=0, le=2**32 - 1)] | UnsetType = UNSET
    observed_at: str | UnsetType = UNSET
    source: Name | UnsetType = UNSET


_one = msgspec.json.Decoder(SentOutcome).decode
_piece = msgspec.json.Decoder(Raw).decode
_pieces = msgspec.json.Decoder(list[Raw]).decode


def split(body: bytes, *, lines: bool) -> list[bytes]:
    """The single outcomes of a body, still undecoded, so that one bad one does not spoil the others.

    Raises:
        NotJson: not one JSON value. (A line that is none is refused with its index instead.)
    """
    if lines:
        return [line for line in body.split(b"\n") if line.strip()]
    if body.lstrip()[:1] == b"[":
        return [bytes(piece) for piece in decode_json(_pieces, body)]
    return [bytes(decode_json(_piece, body))]


def decode(piece: bytes) -> SentOutcome:
    """One outcome.

    Raises:
        NotJson, InvalidInput: with the place, what was expected and what came.
    """
    sent: SentOutcome = decode_json(_one, piece)
    said = [value for value in msgspec.structs.astuple(sent) if value is not UNSET]
    n_colons = len(said) + sum(value.count(":") for value in said if isinstance(value, str))
    refuse_duplicate_keys(piece, n_colons=n_colons)
    if (sent.prediction_id is UNSET) == (sent.association_id is UNSET):
        raise InvalidInput("expected either prediction_id or association_id")
    if isinstance(sent.observed_at, str):
        instant("observed_at", sent.observed_at)
    return sent
