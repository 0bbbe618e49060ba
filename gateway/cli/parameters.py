"""Kinds of values on a command line: how long something takes, and when something was."""

from __future__ import annotations

import re
from typing import Any

import rich_click as click

from gateway.cli.moments import moments_of

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|h|d|w)")
_UNITS_S = {"s": 1, "min": 60, "h": 3_600, "d": 86_400, "w": 604_800}


class Duration(click.ParamType[int]):
    """`90s`, `15min`, `3h`, `2d`, `6w`, in microseconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Microseconds."""
        found = _DURATION.fullmatch(str(value).strip())
        if found is None:
            self.fail(f"expected a duration such as 90s, 15min, 3h, 2d or 6w; got {value!r:.40}", param, ctx)
        return round(float(found[1]) * _UNITS_S[found[2]] * 1e6)


class Start(click.ParamType[int]):
    """A date, or a moment, in microseconds since 1970."""

    name = "date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Microseconds since 1970."""
        read = moments_of([str(value).strip()])
        if read.unclear[0]:
            self.fail(f"expected a date such as 2024-01-31, got {value!r:.40}", param, ctx)
        return int(read.at_us[0])
