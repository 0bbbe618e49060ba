"""A soak as one picture: memory, logs and files, lag and latency over time. Plain SVG, light and dark."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape

from bench.soak_report import Sample

WIDTH, LEFT, RIGHT, TOP, HEIGHT, SPACE = 760, 60, 150, 30, 120, 46
COLOURS = ("#1a7f5a", "#3572b0", "#b5651d", "#8250a5", "#9aa4ae")
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.head { font-weight: 600 }
.axis { stroke: #9aa4ae; stroke-width: 1 }
polyline { fill: none; stroke-width: 1.6 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } }
"""


def svg(samples: Sequence[Sample]) -> str:
    """Three panels under one another, over the minutes of the run; each has a scale of its own, from 0."""
    minutes = [each.at_s / 60 for each in samples]
    roles = sorted({role for each in samples for role in each.pss_bytes})
    panels: list[tuple[str, Mapping[str, list[float]]]] = [
        ("memory (PSS), MiB", {role: [each.pss_bytes.get(role, 0) / 2**20 for each in samples] for role in roles}),
        (
            "write-ahead logs, MiB, and prediction files",
            {
                "largest log": [each.largest_wal_bytes / 2**20 for each in samples],
                "log of journal.db": [each.ledger_wal_bytes / 2**20 for each in samples],
                "files": [float(each.n_files) for each in samples],
            },
        ),
        ("mirror behind, s", {"lag": [each.lag_s for each in samples]}),
        (
            "latency from when requests were due, ms",
            {"p50": [each.p50_ms for each in samples], "p99": [each.p99_ms for each in samples]},
        ),
    ]
    height = len(panels) * (TOP + HEIGHT + SPACE)
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'role="img" aria-label="Memory, logs, lag and latency of a long run">'
    )
    drawn = (
        line
        for i, (title, series) in enumerate(panels)
        for line in _panel(title, minutes, series, i * (TOP + HEIGHT + SPACE) + TOP)
    )
    return "\n".join([opening, f"<style>{STYLE}</style>", *drawn, "</svg>"]) + "\n"


def _panel(title: str, minutes: Sequence[float], series: Mapping[str, list[float]], top: int) -> Iterator[str]:
    width, bottom = WIDTH - LEFT - RIGHT, top + HEIGHT
    last = max(minutes[-1], 1e-9)
    most = max((max(values) for values in series.values()), default=0.0) or 1.0
    yield f'<text class="head" x="{LEFT}" y="{top - 10}">{escape(title)}</text>'
    yield f'<line class="axis" x1="{LEFT}" y1="{bottom}" x2="{LEFT + width}" y2="{bottom}"/>'
    yield f'<line class="axis" x1="{LEFT}" y1="{top}" x2="{LEFT}" y2="{bottom}"/>'
    for share in (0.0, 0.5, 1.0):
        y = bottom - share * HEIGHT
        yield f'<text x="{LEFT - 6}" y="{y + 4:.0f}" text-anchor="end">{share * most:,.4g}</text>'
        x = LEFT + share * width
        yield f'<text x="{x:.0f}" y="{bottom + 16}" text-anchor="middle">{share * last:.0f} min</text>'
    ends: list[float] = []
    for colour, (name, values) in zip(COLOURS, series.items(), strict=False):
        points = " ".join(
            f"{LEFT + at / last * width:.1f},{bottom - min(value / most, 1.0) * HEIGHT:.1f}"
            for at, value in zip(minutes, values, strict=True)
            if value == value  # a slice without an answer has no latency
        )
        yield f'<polyline points="{points}" stroke="{colour}"/>'
        y = bottom - values[-1] / most * HEIGHT + 4 if values[-1] == values[-1] else bottom
        while any(abs(y - other) < 13 for other in ends):  # names must not lie on one another
            y -= 13
        ends.append(y)
        yield f'<text x="{LEFT + width + 8}" y="{y:.0f}" style="fill: {colour}">{escape(name)}</text>'
