"""What the front is to reach (goal), and what a release must not be below (gate): as a table, and judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from msgspec import Struct

from bench.rounds import CONNECTIONS

Judgement = Literal["goal met", "gate met", "missed", "not measured"]


class Gate(Struct, frozen=True):
    """One figure with its goal and its gate."""

    setting: str
    figure: str
    """A key of `figures.named`."""
    goal: float
    gate: float
    unit: str
    more_is_better: bool = False


class Judged(Struct, frozen=True):
    """A gate with what was measured."""

    gate: Gate
    measured: float | None
    judgement: Judgement


def _times(setting: str, figure: str, goals: tuple[float, ...], gates: tuple[float, ...]) -> Iterator[Gate]:
    """A ratio at each number of connections for which there is a goal."""
    for connections, goal, gate in zip(CONNECTIONS, goals, gates, strict=False):
        yield Gate(f"{setting}, {connections} conn.", f"{figure}/{connections}", goal, gate, "x", more_is_better=True)


GATES = (
    *_times("no challenger / FastAPI", "process/times_fastapi_plain", (9, 6.5, 1.7), (7, 5, 1.3)),
    *_times("2 challengers, same core / FastAPI", "shadowed/times_fastapi_plain", (8, 5.5, 1.5), (6, 4, 1.2)),
    *_times("2 challengers / naive mirroring", "shadowed/times_fastapi_mirror", (18, 12, 2.5), (12, 8, 1.8)),
    *_times("power, 2 challengers / FastAPI", "power/times_fastapi_plain", (6, 3.5), (4, 2.5)),
    Gate("2 challengers on the other core: fewer requests/s", "elsewhere/cost_percent", 10, 20, "%"),
    Gate("2 challengers on the other core: p99 at half load", "elsewhere/cost_p99_ms", 0.5, 1, "ms"),
    Gate("open loop 3,000/s, no challenger: p50", "process/open_p50_ms", 0.4, 1, "ms"),
    Gate("open loop 3,000/s, no challenger: p99", "process/open_p99_ms", 1, 4, "ms"),
    Gate("open loop 3,000/s, 2 challengers, same core: p50", "shadowed/open_p50_ms", 0.4, 1, "ms"),
    Gate("open loop 3,000/s, 2 challengers, same core: p99", "shadowed/open_p99_ms", 1, 4, "ms"),
    Gate("memory (PSS) of supervisor and one worker", "process/pss_mb", 130, 180, "MB"),
    Gate("start to first answer", "process/start_s", 1, 2, "s"),
)


def judged(figures: Mapping[str, float], gates: tuple[Gate, ...] = GATES) -> list[Judged]:
    """Every gate, in the order of the table."""
    return [Judged(gate, figures.get(gate.figure), _judgement(gate, figures.get(gate.figure))) for gate in gates]


def _judgement(gate: Gate, measured: float | None) -> Judgement:
    if measured is None:
        return "not measured"
    sign = 1 if gate.more_is_better else -1
    if sign * measured >= sign * gate.goal:
        return "goal met"
    return "gate met" if sign * measured >= sign * gate.gate else "missed"
