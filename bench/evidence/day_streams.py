"""T3: both conditions on days that share shocks, and what days alone cost a better challenger."""

from __future__ import annotations

import math
from collections.abc import Iterator

import msgspec
import numpy as np

from bench.evidence import pools, reigns, table
from bench.evidence.days import PROCESSES, Process, bootstrapped
from bench.evidence.effort import Effort, generator
from bench.evidence.equal_streams import INFORMED_BETS
from bench.evidence.pools import Pool
from bench.evidence.real_days import ELEC2, elec2_days, flight_days
from bench.evidence.reigns import Firsts, Reign
from bench.evidence.table import Line
from gateway.cli.flights import FlightsMissing
from retrain.evidence import Evidence, Rule, judge

YEAR = 365
THRESHOLDS = (20.0, 40.0)
"""n_slots/α of one slot, and of two."""
CELLS = ((300, 4.0), (1_000, 2.0), (1_000, 10.0))
"""Outcomes a day, design effect."""
LIMITS: dict[str, tuple[float, float]] = {
    "independent, Gaussian": (1.0, 1.0),
    "independent, t3": (1.0, 1.0),
    "weekday pattern": (1.0, 1.0),
    "AR .6": (5.0, 2.5),
    "elec2, 180 against 360 days": (2.5, 1.2),
    "ten days worse, ten better": (1.0, 1.0),
}
FLIGHTS = "flights"
CONDITIONS = ("evidence", "clustered_evidence", "effective_days", "outcomes", "minority", "coverage")
N_CHECKED = 2
"""Streams of a cell that `judge` must agree on."""
ELEC2_DAYS = {"elec2, 180 against 360 days": (180, 360), "elec2, 60 against 180 days": (60, 180)}


def processes(effort: Effort) -> tuple[dict[str, Process], list[str]]:
    """All of them by name, and a sentence for each that must be left out."""
    found, missing = dict(PROCESSES), []
    try:
        found[FLIGHTS] = bootstrapped(flight_days())
    except FlightsMissing as reason:
        missing.append(f"{FLIGHTS} was left out: {reason}")
    for name, (champion, challenger) in ELEC2_DAYS.items():
        if effort.folder is not None and (effort.folder / ELEC2).is_file():
            found[name] = bootstrapped(elec2_days(effort.folder, champion, challenger))
        else:
            missing.append(f"{name} was left out: there is no {ELEC2} in the folder given by --data")
    return found, missing


def false_promotions(effort: Effort) -> Iterator[Line]:
    """A year of reigns in each cell, the worst cell told; thresholds for one slot and for two."""
    pool = pools.equal("aa_ll")
    rule = msgspec.structs.replace(pool.rule, informed_bet=INFORMED_BETS["log_loss"])
    for name, process in processes(effort)[0].items():
        cells = [_cell(name, process, pool, rule, cell, effort.n_day_streams) for cell in CELLS]
        for at, threshold in enumerate(THRESHOLDS):
            worst, (a_day, effect), _ = max(
                (sum(firsts.both[at] is not None for firsts in lived), cell, number)
                for number, (lived, cell) in enumerate(zip(cells, CELLS, strict=True))
            )
            yield table.share(
                worst,
                effort.n_day_streams,
                target="T3",
                process=f"days: {name}",
                claim=f"false promotion by day {YEAR}, both conditions, threshold {threshold:g}",
                note=f"worst of {len(CELLS)} cells: {a_day:,} a day, design effect {effect:g}",
                limit=LIMITS[name][at] if name in LIMITS else None,
                is_detail=at > 0,
            )


def _cell(name: str, process: Process, pool: Pool, rule: Rule, cell: tuple[int, float], n_streams: int) -> list[Firsts]:
    a_day, effect = cell
    rng = generator("T3", name, str(a_day), str(effect))
    scale = pool.deviation * math.sqrt((effect - 1) / a_day)
    firsts = []
    for number in range(n_streams):
        lived = reigns.reign(pool, rule, scale * process(rng, YEAR), a_day, rng)
        firsts.append(firsts_of(lived))
        if number < N_CHECKED:
            check(lived, firsts[-1])
    return firsts


def outcomes_alone(effort: Effort) -> Iterator[Line]:
    """What condition one alone would do there: the control."""
    pool = pools.equal("aa_ll")
    a_day, effect = CELLS[0]
    scale = pool.deviation * math.sqrt((effect - 1) / a_day)
    for name in ("independent, Gaussian", "AR .6", "AR .9"):
        rng = generator("T3 alone", name)
        reign_of = [
            reigns.reign(pool, pool.rule, scale * PROCESSES[name](rng, YEAR), a_day, rng) for _ in range(effort.n_alone)
        ]
        yield table.share(
            sum(reigns.first_by_outcomes_alone(each, "better", math.log(20)) is not None for each in reign_of),
            effort.n_alone,
            target="T3",
            process=f"{name}; {a_day:,} a day, design effect {effect:g}",
            claim="control: condition one alone, threshold 20",
        )


def waits(effort: Effort) -> Iterator[Line]:
    """A gain of 5 % on days without shocks."""
    pool = pools.better("ll5")
    for a_day, limit in ((100, None), (300, 40.0), (1_000, None)):
        rng = generator("T3 waits", str(a_day))
        lived = [firsts_of(reigns.reign(pool, pool.rule, np.zeros(YEAR), a_day, rng)) for _ in range(effort.n_gain)]
        yield table.median(
            [firsts.both[0] for firsts in lived],
            target="T3",
            process=f"log loss {100 * pool.gain:.0f} % lower; {a_day:,} a day, no shocks",
            claim="median wait, both conditions, threshold 20",
            unit="days",
            limit=limit,
        )


def firsts_of(lived: Reign) -> Firsts:
    """When both conditions would have promoted, for one slot and for two."""
    return reigns.firsts(
        lived,
        "better",
        log_e_needed=tuple(map(math.log, THRESHOLDS)),
        min_effective_days=lived.rule.min_effective_days,
        min_minority=lived.rule.min_minority,
        min_outcomes=lived.rule.min_outcomes,
    )


def check(lived: Reign, firsts: Firsts) -> None:
    """See that by `judge` the conditions hold on the first day, and did not on the day before.

    Raises:
        AssertionError: they do not.
    """
    (first, *_), days = firsts.both, [lived.sums_of_day(day) for day in range(len(lived.shock))]
    assert _hold(judge(days[:first], lived.rule)) == (first is not None)
    assert first is None or not _hold(judge(days[: first - 1], lived.rule))


def _hold(evidence: Evidence) -> bool:
    """Both conditions and the minimums; vetoes only ever forbid, and are left out of what is measured here."""
    return all(condition.holds for condition in evidence.conditions if condition.name in CONDITIONS)
