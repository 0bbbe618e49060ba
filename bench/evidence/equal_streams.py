"""T1, T2: how often condition one alone passes for a challenger that is not better, at unlimited looks."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from bench.evidence import paths, pools, table
from bench.evidence.effort import Effort, generator
from bench.evidence.table import Line

INFORMED_BETS: dict[str, float] = {"log_loss": 0.25, "brier": 2.0}
"""A backtest had promised a gain of some percent."""
PROCESSES = {
    "aa_ll": "equal, log loss",
    "aa_br": "equal, Brier",
    "skew15": "equal, rare large losses",
    "swan": "equal, garbage on 0.1 % of rows, loss hardly clipped",
}
OPEN = {"surely_wrong": "equal in the long run: better on all rows but one in 10,000, surely wrong there"}
"""Exceeds the limit, which no test of what was seen so far can help; without a limit in the table."""
N_CHECKED = 20_000


def false_promotions(effort: Effort, name: str) -> Iterator[Line]:
    """T1: 100,000 outcomes, a look at every 100th."""
    yield from _streams(effort.n_equal, name, PROCESSES[name], "T1", 100_000, 100)


def surely_wrong(effort: Effort) -> Iterator[Line]:
    """What condition one cannot know: rows that have not come yet."""
    for name, process in OPEN.items():
        for line in _streams(effort.n_alone, name, process, "T1", 100_000, 100):
            yield msgspec.structs.replace(line, limit=None, upper_limit=None)


def long_streams(effort: Effort) -> Iterator[Line]:
    """T2: 1,000,000 outcomes, a look at every 500th."""
    for name, process in PROCESSES.items():
        yield from _streams(effort.n_equal_long, name, process, "T2", 1_000_000, 500)


def _streams(n_streams: int, name: str, process: str, target: str, n_outcomes: int, n_at_a_look: int) -> Iterator[Line]:
    rng = generator(target, name)
    pool = pools.equal(name)
    made = paths.table(pool, INFORMED_BETS[pool.rule.measured_by])
    generic = msgspec.structs.replace(made.rule, informed_bet=None)
    paths.check(made, paths.drawn(made, rng, N_CHECKED), 100)
    n_passed = {"generic bets": 0, "informed bets": 0, "fast mode": 0}
    for _ in range(n_streams):
        seen = paths.looks(made, paths.drawn(made, rng, n_outcomes), n_at_a_look)
        n_passed["generic bets"] += paths.first_promotion(seen, generic) is not None
        n_passed["informed bets"] += paths.first_promotion(seen, made.rule) is not None
        n_passed["fast mode"] += paths.first_fast_promotion(seen, made.rule) is not None
    for way, n in n_passed.items():
        yield table.share(
            n,
            n_streams,
            target=target,
            process=process,
            claim=f"false promotion by {n_outcomes:,} outcomes, condition one, {way}",
            limit=5.0 if way != "fast mode" else None,
            upper_limit=5.6 if way != "fast mode" and n_streams >= 2_000 else None,
            is_detail=target == "T2" and way != "generic bets",
        )
