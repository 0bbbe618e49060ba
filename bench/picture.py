"""The figures as one picture: a group of bars for each number of connections. Plain SVG, light and dark."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape

from bench.figures import Summary
from bench.rounds import CONNECTIONS
from bench.systems import SYSTEMS

WIDTH, LEFT, RIGHT = 760, 230, 70
BAR, GAP, HEAD, SPACE = 16, 6, 30, 18
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.head { font-weight: 600 }
.ours { fill: #1a7f5a }
.theirs { fill: #9aa4ae }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .ours { fill: #3fb98a }
  .theirs { fill: #6e7781 }
}
"""
DRAWN = tuple(system for system in SYSTEMS if system.name not in ("named", "no_lane"))
"""Those two are the same server, asked or set otherwise: they are in the table."""
OURS = ("process", "shadowed", "power")


def svg(summaries: Mapping[str, Summary]) -> str:
    """Requests/s of every system that was measured; each group has a scale of its own, from 0 to its longest bar."""
    shown = [
        (system.title, system.name in OURS, summaries[system.name]) for system in DRAWN if system.name in summaries
    ]
    group = HEAD + len(shown) * (BAR + GAP) + SPACE
    height = group * len(CONNECTIONS) + SPACE
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'role="img" aria-label="Requests a second by system">'
    )
    parts = [
        opening,
        f"<style>{STYLE}</style>",
        *(part for i, n in enumerate(CONNECTIONS) for part in _group(shown, n, SPACE + i * group)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _group(shown: Sequence[tuple[str, bool, Summary]], connections: int, top: int) -> Iterator[str]:
    plural = "" if connections == 1 else "s"
    yield f'<text class="head" x="{LEFT}" y="{top + 12}">requests/s at {connections} connection{plural}</text>'
    longest = max((each.speeds[connections].requests_per_s for _, _, each in shown), default=0) or 1.0
    for i, (title, ours, each) in enumerate(shown):
        y = top + HEAD + i * (BAR + GAP) - 6
        value = each.speeds[connections].requests_per_s
        length = value / longest * (WIDTH - LEFT - RIGHT)
        kind = "ours" if ours else "theirs"
        yield f'<text x="{LEFT - 8}" y="{y + 13}" text-anchor="end">{escape(title)}</text>'
        yield f'<rect class="{kind}" x="{LEFT}" y="{y}" width="{max(length, 1):.1f}" height="{BAR}" rx="2"/>'
        yield f'<text x="{LEFT + length + 6:.1f}" y="{y + 13}">{value:,.0f}</text>'
