"""From visits to figures: medians over rounds, ratios taken within a round first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

from msgspec import Struct

from bench.elsewhere import Cost
from bench.rounds import CONNECTIONS, Mirrored, Visit
from bench.systems import REFERENCE

BUSY = 0.95
"""A load generator that used more of its core than this was the limit itself."""


class Speed(Struct, frozen=True):
    """Medians of one system at one number of connections."""

    requests_per_s: float
    p50_us: float
    p99_us: float
    cpu_us: float
    """A request, of all processes of the system."""
    n_errors: int
    """In all rounds."""
    load_bound: bool
    """Whether wrk was the limit in any round."""


class Summary(Struct, frozen=True):
    """Medians of one system."""

    system: str
    rounds: int
    speeds: dict[int, Speed]
    """By connections."""
    start_s: float
    pss_bytes: dict[str, float]
    """By role."""
    shadow_cpu_share: float
    """Of the core, at the most connections: shadow worker and challengers."""
    paced_p50_us: float | None = None
    paced_p99_us: float | None = None
    paced_errors: int = 0
    mirrored: tuple[Mirrored, ...] = ()
    """At the end of the last round."""


def summary(visits: Sequence[Visit]) -> Summary:
    """Of all visits to one system, at least one."""
    paced = [visit.paced for visit in visits if visit.paced is not None]
    at_most = [visit.cells[0] for visit in visits]
    return Summary(
        visits[0].system,
        len(visits),
        {connections: _speed(visits, connections) for connections in CONNECTIONS},
        median(visit.start_s for visit in visits),
        {role: median(visit.pss_bytes.get(role, 0) for visit in visits) for role in visits[0].pss_bytes},
        median((c.cpu_us.get("shadow", 0) + c.cpu_us.get("challenger", 0)) / c.load.duration_us for c in at_most),
        median(each.p50_us for each in paced) if paced else None,
        median(each.p99_us for each in paced) if paced else None,
        sum(each.n_errors for each in paced),
        visits[-1].mirrored,
    )


def summaries(visits: Sequence[Visit]) -> dict[str, Summary]:
    """By system."""
    names = dict.fromkeys(visit.system for visit in visits)
    return {name: summary([visit for visit in visits if visit.system == name]) for name in names}


def ratio(visits: Sequence[Visit], system: str, against: str, connections: int) -> float | None:
    """How many times the requests/s of another system: of each round, then the median. None if no round had both."""
    ours, theirs = (_by_round(visits, name, connections) for name in (system, against))
    both = [ours[number] / theirs[number] for number in ours.keys() & theirs.keys() if theirs[number]]
    return median(both) if both else None


def named(visits: Sequence[Visit], costs: Sequence[Cost]) -> dict[str, float]:
    """Every figure that a gate may name, as `system/what` or `system/what/connections`.

    What was not measured is not there. A cell with errors has no figures: whatever it shows, it is not the speed of
    right answers.
    """
    found: dict[str, float | None] = {}
    every = summaries(visits)
    for name, each in every.items():
        for connections in CONNECTIONS:
            for against in (REFERENCE, "fastapi_mirror"):
                clean = each.speeds[connections].n_errors == 0
                got = ratio(visits, name, against, connections) if clean else None
                found[f"{name}/times_{against}/{connections}"] = got
        found[f"{name}/start_s"] = each.start_s
        found[f"{name}/pss_mb"] = front_pss_mb(each)
        if not each.paced_errors:
            found[f"{name}/open_p50_ms"] = _ms(each.paced_p50_us)
            found[f"{name}/open_p99_ms"] = _ms(each.paced_p99_us)
    if costs:
        found["elsewhere/cost_percent"] = median(cost.requests_percent for cost in costs)
        found["elsewhere/cost_p99_ms"] = median(cost.half_p99_us for cost in costs) / 1e3
    return {key: value for key, value in found.items() if value is not None}


def front_pss_mb(each: Summary) -> float:
    """Megabytes of what answers: the gateway worker and the supervisor; shadow, challengers and retrain apart."""
    apart = ("shadow", "challenger", "retrain")
    return sum(size for role, size in each.pss_bytes.items() if role not in apart) / 1e6


def _ms(us: float | None) -> float | None:
    return None if us is None else us / 1e3


def _speed(visits: Sequence[Visit], connections: int) -> Speed:
    cells = [cell for visit in visits for cell in visit.cells if cell.connections == connections]

    def middle(figure: Callable[[int], float]) -> float:
        return median(figure(i) for i in range(len(cells)))

    return Speed(
        middle(lambda i: cells[i].load.requests_per_s),
        middle(lambda i: cells[i].load.p50_us),
        middle(lambda i: cells[i].load.p99_us),
        middle(lambda i: sum(cells[i].cpu_us.values()) / max(1, cells[i].load.n_requests)),
        sum(cell.load.n_errors for cell in cells),
        any(cell.load.busy > BUSY for cell in cells),
    )


def _by_round(visits: Sequence[Visit], system: str, connections: int) -> dict[int, float]:
    return {
        visit.round: cell.load.requests_per_s
        for visit in visits
        if visit.system == system
        for cell in visit.cells
        if cell.connections == connections
    }
