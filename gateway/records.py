"""The records that travel between the gateway, its journal and the workers that read it.

Times are integers: microseconds since 1970 in UTC (`…_us`). They become aware datetimes at the edges
(`moment`, `micros`), where people and callers read them.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Literal

from msgspec import Struct

Purpose = Literal["live", "test", "pinned"]
"""Why a prediction was asked for. Only `live` ones are mirrored and become evidence."""

Cursor = dict[int, int]
"""How far a reader has come: writer → last seq. Writers share no order, so nothing coarser is safe."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def micros(at: datetime) -> int:
    """Microseconds since 1970 of an aware datetime, exactly (a float would lose the last digits)."""
    return (at - EPOCH) // MICROSECOND


def moment(at_us: int) -> datetime:
    """The aware datetime of microseconds since 1970."""
    return EPOCH + at_us * MICROSECOND


class Address(Struct, frozen=True, order=True):
    """Where a row stands in the journal."""

    writer: int
    seq: int
    row: int


# A prediction id is 25 bytes, and so 40 letters of base32 without padding:
# 5 bytes writer, 6 bytes seq, 4 bytes first row, 10 bytes tag.
_ADDRESS_BYTES = 15
_TAG_BYTES = 10
ID_LENGTH = 40
SECRET_BYTES = 16
_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"
_PAIRS = tuple(first + second for first in _LETTERS for second in _LETTERS)
"""Ten bits in base32 (RFC 4648), in lower case: the standard library's own encoder takes three times as long."""


def prediction_ids(writer: int, seq: int, rows: Iterable[int], secret: bytes) -> list[str]:
    """The ids of the requests of one chunk, by their first rows: addresses that nobody can guess from another one.

    The tag is a BLAKE2b of the address, keyed with the chunk's own secret (RFC 7693). Holding the ids of a
    thousand requests says nothing about the tag of the next.
    """
    ids, two = [], _PAIRS
    start = (writer << 48 | seq) << 32
    head = _base32_40(writer) + _base32_40(seq >> 8)
    for row in rows:
        address = (start | row).to_bytes(_ADDRESS_BYTES, "big")
        tag = int.from_bytes(blake2b(address, key=secret, digest_size=_TAG_BYTES).digest(), "big")
        a, b, c = (seq & 0xFF) << 32 | row, tag >> 40, tag & 0xFF_FFFF_FFFF
        ids.append(
            f"{head}{two[a >> 30]}{two[a >> 20 & 1023]}{two[a >> 10 & 1023]}{two[a & 1023]}"
            f"{two[b >> 30]}{two[b >> 20 & 1023]}{two[b >> 10 & 1023]}{two[b & 1023]}"
            f"{two[c >> 30]}{two[c >> 20 & 1023]}{two[c >> 10 & 1023]}{two[c & 1023]}"
        )
    return ids


def prediction_id(writer: int, seq: int, row: int, secret: bytes) -> str:
    """The id of the one request that starts at `row`; see `prediction_ids`."""
    return prediction_ids(writer, seq, (row,), secret)[0]


def _base32_40(bits: int) -> str:
    """Eight letters for forty bits."""
    return f"{_PAIRS[bits >> 30]}{_PAIRS[bits >> 20 & 1023]}{_PAIRS[bits >> 10 & 1023]}{_PAIRS[bits & 1023]}"


def address_of(text: str) -> tuple[Address, bytes] | None:
    """The address in a prediction id and its 10-byte tag, still unproven; None where it is no such id at all."""
    if len(text) != ID_LENGTH or not text.isascii() or text != text.lower() or "=" in text:
        return None
    try:
        raw = base64.b32decode(text.upper())
    except binascii.Error:
        return None
    writer, seq, row = (int.from_bytes(raw[a:b], "big") for a, b in ((0, 5), (5, 11), (11, 15)))
    return Address(writer, seq, row), raw[_ADDRESS_BYTES:]


def is_genuine(address: Address, tag: bytes, secret: bytes) -> bool:
    """Whether this tag belongs to this address under the chunk's secret."""
    raw = address.writer.to_bytes(5, "big") + address.seq.to_bytes(6, "big") + address.row.to_bytes(4, "big")
    return hmac.compare_digest(blake2b(raw, key=secret, digest_size=_TAG_BYTES).digest(), tag)


def association_hash(association_id: str) -> int:
    """A signed 64-bit hash, for the index. Whoever looks up compares the full value afterwards."""
    return int.from_bytes(blake2b(association_id.encode(), digest_size=8).digest(), "big", signed=True)


class OutcomeRecord(Struct, frozen=True):
    """One outcome as it was received: appended, never changed, joined to its prediction when read.

    Exactly one of `address` and `association_id` is set. `outcome` is canonical: the class label, or a float.
    `stated` says whether the caller gave `observed_at_us` (else it is the time of the first receipt).
    """

    model: str
    address: Address | None
    association_id: str | None
    row: int
    outcome: int | float | str
    source: str
    observed_at_us: int
    stated: bool
    received_at_us: int
    receipt: tuple[int, int] = (0, 0)
    """(writer, seq) under which it was received: whether it was there at a closing is a matter of cursors."""


class Receipt(Struct):
    """What became of the outcomes of one request: every one of them is counted exactly once."""

    accepted: int = 0
    duplicate: int = 0
    corrected: int = 0
    early: int = 0
    unknown: int = 0
    rejected: list[dict[str, int | str]] = []


class WriterState(Struct, frozen=True):
    """One process that writes predictions, alive or not.

    `watermark_us`: it promises that no later chunk of its own will be stamped earlier. None: nothing promised yet.
    """

    writer: int
    alive: bool
    last_seq: int
    watermark_us: int | None
    problem: str | None = None
    """Why what it wrote cannot be relied on: a file is damaged. Nobody knows how much there was where last_seq is 0."""

    @property
    def is_unreadable(self) -> bool:
        """Whether nothing at all is known of what it wrote last."""
        return self.problem is not None and self.last_seq == 0


class MirrorCount(Struct):
    """The exact account of one challenger: eligible = scored + failed + skipped, with reasons."""

    eligible: int = 0
    scored: int = 0
    failed: int = 0
    skipped: int = 0
    reasons: dict[str, int] = {}
