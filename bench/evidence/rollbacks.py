"""T5: after a promotion. How often an equal champion is sent back, how long a worse one stays, and the detector."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from bench.evidence import day_streams, pools, reigns, table
from bench.evidence.days import Process
from bench.evidence.effort import Effort, generator
from bench.evidence.pools import Floats, Pool
from bench.evidence.reigns import Reign
from bench.evidence.table import Line
from retrain.evidence import BucketSums, detect, judge_probation, probation_rule
from retrain.evidence.confseq import windows_of
from retrain.evidence.detector import BUCKETS_BETWEEN_ALARMS, CONFIRMING_DAYS, detector_course

PROBATION_DAYS, YEAR = 90, 365
A_DAY, EFFECT = 300, 4.0
"""A probation lasts for twice the outcomes of its promotion; here that took six weeks."""
EFFECTIVE_DAYS = (4, 7, 14, 28)
"""What could be asked before going back; a spread needs four days, the rule asks for fourteen."""
SHOCKS = (
    "independent, Gaussian",
    "AR .3",
    "AR .6",
    "AR .9",
    "mix: 88 % AR .35, 12 % AR .95",
    day_streams.FLIGHTS,
    *day_streams.ELEC2_DAYS,
)
N_CHECKED = 2


def false_rollbacks(effort: Effort) -> Iterator[Line]:
    """An equal champion in probation on days that share shocks."""
    pool = pools.equal("aa_ll")
    known = day_streams.processes(effort)[0]
    for name, process in {name: known[name] for name in SHOCKS if name in known}.items():
        lived = _probations(pool, process, PROBATION_DAYS, A_DAY, effort.n_probations, "T5", name)
        for asked, days in _sent_back(lived).items():
            yield table.share(
                sum(day is not None for day in days),
                len(days),
                target="T5",
                process=f"equal; probation of {PROBATION_DAYS} days: {name}; {A_DAY} a day, design effect {EFFECT:g}",
                claim=f"false rollback, {asked} effective days asked",
                limit=5.0 if asked == pool.rule.min_effective_days_worse else None,
                is_detail=asked not in (4, pool.rule.min_effective_days_worse),
            )


def delays(effort: Effort) -> Iterator[Line]:
    """A champion that loses 10 % more than the previous one, without shocks and with those of flights."""
    pool = pools.better("ll10")
    known = day_streams.processes(effort)[0]
    processes = {"no shocks": _no_shocks} | {name: known[name] for name in (day_streams.FLIGHTS,) if name in known}
    for name, process in processes.items():
        for a_day in (A_DAY, 1_000):
            lived = _probations(pool, process, YEAR, a_day, effort.n_alone, "T5 delay", name)
            for asked, days in _sent_back(lived).items():
                yield table.median(
                    [None if day is None else day * a_day for day in days],
                    target="T5",
                    process=f"loses 10 % more; {a_day:,} a day, {name}",
                    claim=f"median delay of the rollback, {asked} effective days asked",
                    unit="outcomes",
                    limit=6_000.0 if (asked, a_day, name) == (14, A_DAY, "no shocks") else None,
                    is_detail=asked not in (4, pool.rule.min_effective_days_worse),
                )


def detector(effort: Effort) -> Iterator[Line]:
    """The Shiryaev-Roberts detector: days between false alarms, and its delay from its lowest point."""
    equal, better = pools.equal("aa_ll"), pools.better("ll10")
    known = day_streams.processes(effort)[0]
    shocks = {"no shocks": _no_shocks} | {name: known[name] for name in (day_streams.FLIGHTS, "AR .6") if name in known}
    n_streams = effort.n_alone // 2
    for name, process in shocks.items():
        lived = _probations(equal, process, YEAR, A_DAY, n_streams, "T5 detector", name)
        yield from _between(name, [_first_alarms(each) for each in lived])
    for name in ("no shocks", day_streams.FLIGHTS):
        if name in shocks:
            lived = _probations(better, shocks[name], YEAR, A_DAY, n_streams, "T5 detector, worse", name)
            found = [_first_alarms(each) for each in lived]
            for at, what in enumerate(("alarm", "confirmed alarm")):
                yield table.median(
                    [None if (day := days[at]) is None else A_DAY * day for days in found],
                    target="T5",
                    process=f"turns 10 % worse; {A_DAY} a day, {name}",
                    claim=f"median delay of the detector's {what}",
                    unit="outcomes",
                )


def _between(name: str, found: Sequence[tuple[int | None, int | None]]) -> Iterator[Line]:
    for at, what in enumerate(("alarms", "confirmed alarms")):
        days = [each[at] for each in found]
        n_alarms, n_days = sum(day is not None for day in days), sum(day or YEAR for day in days)
        between = n_days / max(1, n_alarms)
        yield Line(
            target="T5",
            process=f"equal; after probation, {A_DAY} a day, {name}",
            claim=f"mean days between false {what} of the detector",
            note="" if n_alarms else f"none in {n_days:,} days",
            unit="days",
            measured=between,
            error=between / math.sqrt(max(1, n_alarms)),
            limit=BUCKETS_BETWEEN_ALARMS,
            at_least=True,
            n_streams=len(days),
        )


def _probations(pool: Pool, process: Process, n_days: int, a_day: int, n_streams: int, *named: str) -> Iterator[Reign]:
    """Reigns in which the previous champion is the challenger, as `probation_rule` has it; some are checked."""
    rng, rule = generator(*named, str(a_day)), probation_rule(pool.rule)
    scale = pool.deviation * math.sqrt((EFFECT - 1) / a_day)
    for number in range(n_streams):
        lived = reigns.reign(pool, rule, scale * process(rng, n_days), a_day, rng)
        if number < N_CHECKED:
            check(lived)
        yield lived


def _sent_back(lived: Iterator[Reign]) -> dict[int, list[int | None]]:
    """The day of the rollback in each reign, for each number of effective days that could be asked."""
    found: dict[int, list[int | None]] = {asked: [] for asked in EFFECTIVE_DAYS}
    for each in lived:
        for asked, days in found.items():
            days.append(first_day(each, asked))
    return found


def first_day(lived: Reign, min_effective_days: float) -> int | None:
    """The day of the rollback, if that many effective days are asked; None if it never comes."""
    needed = (math.log(1.0 / lived.rule.alpha),)
    return reigns.firsts(lived, "better", log_e_needed=needed, min_effective_days=min_effective_days).both[0]


def _first_alarms(lived: Reign) -> tuple[int | None, int | None]:
    """The days of the first alarm and of the first confirmed one."""
    sums = _sums(lived)
    course = detector_course(*_growth(sums), lived.rule.grid)
    alarms = [day for day, (log_sr, _) in enumerate(course, 1) if log_sr >= math.log(BUCKETS_BETWEEN_ALARMS)]
    confirmed = (
        day
        for day in alarms
        if day >= CONFIRMING_DAYS
        and windows_of([each.sum_d for each in sums[day - CONFIRMING_DAYS : day]]).log_e
        >= math.log(1.0 / lived.rule.alpha)
    )
    return next(iter(alarms), None), next(confirmed, None)


def _growth(sums: Sequence[BucketSums]) -> tuple[list[tuple[float, ...]], list[float]]:
    return [day.log_growth for day in sums], [day.largest_unpaid for day in sums]


def _sums(lived: Reign) -> list[BucketSums]:
    return [lived.sums_of_day(day) for day in range(len(lived.shock))]


def check(lived: Reign) -> None:
    """See that `judge_probation` and `detect` act on the days that are found here, and not on the day before.

    Raises:
        AssertionError: they do not.
    """
    sums, rule = _sums(lived), lived.rule
    first, (alarm, confirmed) = first_day(lived, rule.min_effective_days_worse), _first_alarms(lived)
    if first is not None:
        assert judge_probation(sums[:first], rule, n_promoted=10**9).course == "roll_back"
        assert judge_probation(sums[: first - 1], rule, n_promoted=10**9).course == "in_probation"
    found = detect(sums, rule)
    assert (found.alarm, found.confirmed) == (alarm is not None, confirmed is not None)
    assert alarm is None or not detect(sums[: alarm - 1], rule).alarm
    assert confirmed is None or not detect(sums[: confirmed - 1], rule).confirmed


def _no_shocks(_: np.random.Generator, n_days: int) -> Floats:
    return np.zeros(n_days)
