"""JSON that means what it says: UTF-8, one value, no key twice, and complaints that name the place.

JSON lets a key be given twice, and parsers keep the last. Here that is an error, and cheap to see: outside of strings
each key brings exactly one colon, so a body with as many colons as its decoded keys and strings account for has none
twice. Only when the count differs is the body read again by a parser that looks at every key.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from gateway.errors import InvalidInput, NotJson

AwareDatetime = Annotated[datetime, Meta(tz=True)]


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
        raise NotJson(f"the body is not JSON: {error}") from None
    except RecursionError:
        raise NotJson("the body is not JSON that is meant: it is nested too deeply") from None


def _sentence(complaint: str) -> str:
    """`Expected `float`, got `str` - at `$.inputs.age`` → `inputs.age: expected float, got str`."""
    what, _, where = complaint.partition(" - at `$")
    what = re.sub(r"`([^`]*)`", r"\1", what)
    path = where.rstrip("`").lstrip(".")
    return f"{path}: {what[0].lower()}{what[1:]}" if path else what


def refuse_duplicate_keys(body: bytes, *, n_colons: int) -> None:
    """Look for keys given twice in a body whose decoded keys and strings hold `n_colons` colons.

    Raises:
        NotJson: an object of it gives a key twice.
    """
    if body.count(b":") == n_colons and b"\\" not in body:  # an escaped colon could make up for a hidden one
        return

    def pairs(items: list[tuple[str, Any]]) -> None:
        seen = set()
        for key, _ in items:
            if key in seen:
                raise NotJson(f"the key '{key}' is given twice in one object")
            seen.add(key)

    json.loads(body, object_pairs_hook=pairs)
