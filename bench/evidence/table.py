"""A line of the table: what was claimed of which process, what was measured, and how surely."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec
import numpy as np
from scipy.stats import beta

Unit = Literal["%", "x n80", "days", "outcomes", "buckets", "relative"]


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One figure. `error`: its standard error; `upper`: 99 % upper bound of a share; in `unit`, as the limit is."""

    target: str
    process: str
    claim: str
    unit: Unit
    measured: float
    error: float | None = None
    upper: float | None = None
    limit: float | None = None
    upper_limit: float | None = None
    at_least: bool = False
    """The limit is a lower one."""
    n_streams: int = 1
    note: str = ""
    is_detail: bool = False
    """Left out of README."""

    @property
    def holds(self) -> bool | None:
        """Whether it is within its limits; None where none was set."""
        if self.limit is None:
            return None
        within = self.measured >= self.limit if self.at_least else self.measured <= self.limit
        return within and (self.upper_limit is None or self.upper is None or self.upper <= self.upper_limit)


def share(k: int, n: int, **facts: object) -> Line:
    """A line of `k` streams of `n`, in percent, with the binomial bound of Clopper & Pearson (1934)."""
    upper = 1.0 if k == n else float(beta.ppf(0.99, k + 1, n - k))
    error = (max(k, 1) / n * (1 - k / n) / n) ** 0.5
    measured = {"unit": "%", "measured": 100 * k / n, "error": 100 * error, "upper": 100 * upper, "n_streams": n}
    return msgspec.convert(measured | facts, Line)


def median(times: Iterable[float | None], *, per: float = 1.0, **facts: object) -> Line:
    """A line of a median time, None being never; its error is half the distance of the order statistics around it."""
    known = np.sort([np.inf if time is None else time / per for time in times])
    half = 0.5 / len(known) ** 0.5
    low, middle, high = np.quantile(known, [0.5 - half, 0.5, 0.5 + half], method="nearest")
    measured: dict[str, object] = {"measured": float(middle), "error": float((high - low) / 2), "n_streams": len(known)}
    if not np.isfinite([middle, high]).all():
        measured |= {"measured": 1e9, "error": None}
        facts |= {"note": f"{100 * np.isfinite(known).mean():.0f} % within the time looked at"}
    return msgspec.convert(measured | facts, Line)


def markdown(lines: Sequence[Line]) -> str:
    """All lines as one table."""
    head = ["", "process", "claim", "limit", "measured (s.e.)", "streams", ""]
    rows = [[*_cells(line)] for line in lines]
    ruled = [head, ["---", "---", "---", "---:", "---:", "---:", "---"], *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in ruled) + "\n"


def _cells(line: Line) -> Iterable[str]:
    yield line.target
    yield line.process
    yield line.claim + (f" ({line.note})" if line.note else "")
    sign = ">=" if line.at_least else "<="
    yield "–" if line.limit is None else f"{sign} {_figure(line.limit, line)}"
    measured = "never" if line.measured >= 1e9 else _figure(line.measured, line)
    error = "" if line.error is None else f" ({_figure(line.error, line, unit=False)})"
    upper = (
        f", 99 % bound {_figure(line.upper, line)}" if line.upper is not None and line.upper_limit is not None else ""
    )
    yield measured + error + upper
    yield f"{line.n_streams:,}"
    yield {True: "held", False: "**exceeded**", None: ""}[line.holds]


def _figure(value: float, line: Line, *, unit: bool = True) -> str:
    match line.unit:
        case "%":
            return f"{value:.2f}" + (" %" if unit else "")
        case "x n80":
            return f"{value:.2f}" + ("x" if unit else "")
        case "relative":
            return f"{value:.1e}"
        case _:
            return f"{value:,.0f}" + (f" {line.unit}" if unit else "")
