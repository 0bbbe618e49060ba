"""Small pictures of how evidence went over days, as SVG that stands in a page by itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from html import escape

from msgspec import Struct

WIDTH, HEIGHT = 340.0, 138.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 10.0, 12.0, 22.0


class Curve(Struct, frozen=True):
    """One quantity over days; `low` and `high` are its interval where there is one. `name`: of no other on the page."""

    name: str
    title: str
    at: Sequence[datetime]
    value: Sequence[float]
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()
    mark: float | None = None
    """A level that is asked for, drawn across."""
    mark_name: str = ""


def drawn(curve: Curve) -> str:
    """The picture; levels are chosen so that value, interval and mark are in it."""
    band = [
        (low, high) for low, high in zip(curve.low, curve.high, strict=True) if low is not None and high is not None
    ]
    # the first intervals are as wide as nothing is known: they may leave the picture, the later ones may not
    seen = [*curve.value, 0.0, *([] if curve.mark is None else [curve.mark])]
    seen += [edge for pair in band[len(band) // 4 :] for edge in pair]
    levels = _levels(min(seen), max(seen))
    across, up = _Scale(0, max(1, len(curve.at) - 1), LEFT, WIDTH - RIGHT), _Scale(
        levels[0], levels[-1], HEIGHT - BOTTOM, TOP
    )  # fmt: skip
    parts = [
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{up(level):.1f}" y2="{up(level):.1f}"/>'
        f'<text class="tick" x="{LEFT - 5}" y="{up(level) + 3:.1f}" text-anchor="end">{level:.4g}</text>'
        for level in levels
    ]
    if levels[0] <= 0.0 <= levels[-1]:
        parts.append(f'<line class="zero" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{up(0.0):.1f}" y2="{up(0.0):.1f}"/>')
    known = [place for place, low in enumerate(curve.low) if low is not None]
    if known:
        edges = [(place, curve.high[place]) for place in known] + [(place, curve.low[place]) for place in known[::-1]]
        corners = " ".join(f"{across(place):.1f},{up(edge or 0.0):.1f}" for place, edge in edges)
        parts.append(f'<polygon class="band" clip-path="url(#{curve.name})" points="{corners}"/>')
    if curve.mark is not None:
        y = up(curve.mark)
        parts.append(
            f'<line class="mark" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="name" x="{WIDTH - RIGHT}" y="{y - 4:.1f}" text-anchor="end">{escape(curve.mark_name)}</text>'
        )
    points = " ".join(f"{across(place):.1f},{up(value):.1f}" for place, value in enumerate(curve.value))
    parts.append(f'<polyline class="line" points="{points}"/>')
    parts.append(f'<circle class="dot" cx="{across(len(curve.at) - 1):.1f}" cy="{up(curve.value[-1]):.1f}" r="2.6"/>')
    for place, anchor in ((0, "start"), (len(curve.at) - 1, "end")):
        if place or len(curve.at) == 1 or anchor == "start":
            day = curve.at[place].strftime("%-d %b %Y")
            parts.append(
                f'<text class="tick" x="{across(place):.1f}" y="{HEIGHT - 7}" text-anchor="{anchor}">{day}</text>'
            )
    return (
        f'<figure><figcaption>{escape(curve.title)}</figcaption><svg viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" '
        f'aria-label="{escape(curve.title)}"><clipPath id="{curve.name}"><rect x="{LEFT}" y="{TOP}" '
        f'width="{WIDTH - LEFT - RIGHT}" height="{HEIGHT - TOP - BOTTOM}"/></clipPath>'
        + "".join(parts)
        + "</svg></figure>"
    )


class _Scale(Struct, frozen=True):
    first: float
    last: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.first) / (self.last - self.first) * (self.end - self.start)


def _levels(low: float, high: float) -> list[float]:
    """Three to six round levels around [low, high]."""
    span = (high - low) or 1.0
    step = 10.0 ** math.floor(math.log10(span))
    step = next(step * factor for factor in (0.2, 0.5, 1.0, 2.0) if span / (step * factor) <= 5)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [n * step for n in range(first, max(last, first + 1) + 1)]
