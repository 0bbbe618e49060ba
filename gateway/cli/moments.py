"""Moments as people write them, to microseconds since 1970: ISO 8601, and days with the year last.

What says no time zone is taken as UTC. Whether 03/04/2013 is in March or in April is decided by the whole column: one
day above 12 settles it, and where none does, nobody can know.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from gateway.records import micros

DAY_US = 86_400_000_000
MONTH_US = -1
"""In place of a length: that of the month that the moment begins."""
EXAMPLES = "2013-06-30, 2013-06-30 17:45, 2013-06-30T17:45:00Z, 30.06.2013 or 06/30/2013"

_TIME = r"(?:[T ]+(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<second>\d\d)(?P<part>\.\d+)?)?(?P<half> ?[AaPp][Mm])?)?"
_ZONE = r" ?(?P<zone>Z|UTC|[+-]\d\d:?\d\d)?"
_YEAR_FIRST = re.compile(rf"(?P<year>\d{{4}})[-/.](?P<month>\d{{1,2}})(?:[-/.](?P<day>\d{{1,2}}){_TIME}{_ZONE})?")
_YEAR_LAST = re.compile(rf"(?P<first>\d{{1,2}})(?P<by>[-/.])(?P<other>\d{{1,2}})(?P=by)(?P<year>\d{{4}}){_TIME}{_ZONE}")


class Moments(Struct, frozen=True, eq=False):
    """What some texts say: `(n,)` microseconds since 1970, 0 where `unclear`."""

    at_us: NDArray[np.int64]
    unclear: NDArray[np.bool_]
    unit_us: int
    """The span that they leave open: a day, `MONTH_US`, or 0 where a time of day is said."""


def moments_of(texts: Sequence[str]) -> Moments:
    """The moments that these texts say."""
    day_first = _day_first(texts)
    read = [_moment(text, day_first) for text in texts]
    at_us = np.array([0 if found is None else micros(found[0]) for found in read], np.int64)
    units = {found[1] for found in read if found is not None}
    unit_us = 0 if 0 in units else DAY_US if DAY_US in units else MONTH_US if units else 0
    return Moments(at_us, np.array([found is None for found in read], np.bool_), unit_us)


def _day_first(texts: Sequence[str]) -> bool | None:
    """Whether days come before months where the year is last; None where nothing says so."""
    for text in texts:
        found = _YEAR_LAST.fullmatch(text)
        if found and found["by"] == ".":
            return True
        if found and int(found["first"]) > 12:
            return True
        if found and int(found["other"]) > 12:
            return False
    return None


def _moment(text: str, day_first: bool | None) -> tuple[datetime, int] | None:
    """The moment, and what it leaves open; None where it is none."""
    found = _YEAR_FIRST.fullmatch(text)
    if found:
        month, day = found["month"], found["day"]
    else:
        found = _YEAR_LAST.fullmatch(text)
        if found is None or day_first is None:
            return None
        day, month = (found["first"], found["other"]) if day_first else (found["other"], found["first"])
    try:
        at = datetime(int(found["year"]), int(month), int(day or 1), tzinfo=UTC)
        if found["hour"] is None:
            return at, MONTH_US if day is None else DAY_US
        return _at_time(at, found), 0
    except ValueError:
        return None


def _at_time(day: datetime, found: re.Match[str]) -> datetime:
    """Raises ValueError for a time that no clock shows."""
    hour, half = int(found["hour"]), (found["half"] or "").strip().lower()
    if half:
        if not 1 <= hour <= 12:
            raise ValueError(hour)
        hour = hour % 12 + (12 if half == "pm" else 0)
    part = float(found["part"] or 0)
    at = day.replace(hour=hour, minute=int(found["minute"]), second=int(found["second"] or 0))
    at = at.replace(microsecond=min(round(part * 1e6), 999_999))
    zone = found["zone"]
    if zone in (None, "Z", "UTC"):
        return at
    return at.replace(tzinfo=datetime.strptime(zone.replace(":", ""), "%z").tzinfo)


def spread(at_us: NDArray[np.int64], unit_us: int) -> NDArray[np.int64]:
    """The same moments, in order, with rows of one day (or month) spread evenly over it."""
    starts, first, counts = np.unique(at_us, return_index=True, return_counts=True)
    months = starts.astype("datetime64[us]").astype("datetime64[M]")
    ends = (months + 1).astype("datetime64[us]").astype(np.int64) if unit_us == MONTH_US else starts + unit_us
    which = np.repeat(np.arange(len(starts)), counts)
    place = np.arange(len(at_us)) - first[which]
    return np.asarray(at_us + place * (ends - starts)[which] // counts[which], np.int64)
