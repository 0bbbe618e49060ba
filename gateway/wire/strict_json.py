"""JSON that means what it says: UTF-8, one value, no key twice, and complaints that name the place.

JSON lets a key be given twice, and parsers keep the last. Here that is an error, and cheap to see: outside of strings
each key brings exactly one colon, so a body with as many colons as its decoded keys and strings account for has none
twice. Only when the count differs is the body read again by a parser that looks at every key.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from gateway.errors import InvalidInput, NotJson

AwareDatetime = Annotated[datetime, Meta(tz=True)]
Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
"""What a column, a database and msgpack can hold."""
EARLIEST, LATEST = datetime(2, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
"""A year from the ends of the calendar, so that zones and buckets can be added to any time."""
MAX_SHOWN = 200
"""How much of a caller's own words is said back."""
MAX_DIGITS = 4_300
"""Longer integers are refused by msgspec and by Python alike."""

_AT = " - at `$"
_UNKNOWN = "Object contains unknown field "
_LACKING = "Object missing required field "


def decode_json(decode: Any, body: bytes) -> Any:
    """Decode, with msgspec's complaints turned into ours.

    Raises:
        NotJson: not UTF-8, not JSON, or nested too deeply.
        InvalidInput: JSON that does not fit.
    """
    try:
        return decode(body)
    except msgspec.ValidationError as error:
        raise InvalidInput(_sentence(str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotJson(f"the body is not JSON: {str(error).removeprefix('JSON is malformed: ')}") from None
    except RecursionError:
        raise NotJson("the body is not JSON that is meant: it is nested too deeply") from None


def instant(name: str, said: object) -> datetime:
    """A moment as a caller states it.

    Raises:
        InvalidInput: `name` is no time with its zone, or lies at the end of the calendar.
    """
    try:
        at = msgspec.convert(said, AwareDatetime)
    except msgspec.ValidationError:
        raise InvalidInput(
            f"{name}: expected a time with its zone, like 2026-01-31T12:00:00Z, got {said!r:.100}"
        ) from None
    if not EARLIEST <= at < LATEST:
        raise InvalidInput(f"{name}: expected a time in the years 2 to 9998, got {said!r:.100}")
    return at


def _sentence(complaint: str) -> str:
    """`Expected `float`, got `str` - at `$.inputs.age`` → `inputs.age: expected float, got str`."""
    for start, fact in ((_UNKNOWN, "expected no such field"), (_LACKING, "expected a value, got none")):
        if complaint.startswith(start):
            name, path = _parted(complaint.removeprefix(start), complaint.count(_AT))
            return f"{path}.{name[1:-1]:.{MAX_SHOWN}}: {fact}".removeprefix(".")
    what, path = _parted(complaint, 1)
    if what.endswith("out of range"):
        what = "Expected a number in range, got one beyond it"
    what = re.sub(r"`([^`]*)`", r"\1", what)
    return f"{path or 'the body'}: {what[0].lower()}{what[1:]}"


def _parted(complaint: str, nth: int) -> tuple[str, str]:
    """What is wrong, and the path of where: behind the `nth` mark, as names may hold one too."""
    pieces = complaint.split(_AT)
    if not nth or len(pieces) == 1:
        return complaint, ""
    return _AT.join(pieces[:nth]), _AT.join(pieces[nth:]).removesuffix("`").lstrip(".")


def refuse_duplicate_keys(body: bytes, *, n_colons: int | None = None) -> None:
    """Look for keys given twice in a body whose decoded keys and strings hold `n_colons` colons, where that is known.

    Raises:
        NotJson: an object of it gives a key twice; or a part that was not decoded before cannot be read.
    """
    # an escaped colon could make up for a hidden one
    if n_colons is not None and body.count(b":") == n_colons and b"\\" not in body:
        return

    def pairs(items: list[tuple[str, Any]]) -> None:
        seen = set()
        for key, _ in items:
            if key in seen:
                raise NotJson(f"the key '{key:.{MAX_SHOWN}}' is given twice in one object")
            seen.add(key)

    try:
        json.loads(body, object_pairs_hook=pairs)
    except RecursionError:
        raise NotJson("the body is not JSON that is meant: it is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise NotJson(f"the body is not JSON: {error}") from None
    except ValueError:  # of decoded JSON only this is left: an ignored integer that Python refuses to read
        raise NotJson(f"the body has an integer of more than {MAX_DIGITS:,} digits") from None
