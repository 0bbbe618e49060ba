"""T1, T2: how often condition one alone passes for a challenger that is not better, at unlimited looks."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from bench.evidence import paths, pools, table
from bench.evidence.effort import Effort, generator
from bench.evidence.table import Line

INFORMED_BET = 0.25
"""A backtest had promised a gain of some percent."""
PROCESSES = {
    "aa_ll": "equal, log loss",
    "skew15": "equal, rare large losses",
    "swan": "equal, but garbage on 0.1 % of rows, loss hardly clipped",
}
N_CHECKED = 20_000


def false_promotions(effort: Effort) -> Iterator[Line]:
    """T1: 100,000 outcomes, a look at every 100th."""
    for name in PROCESSES:
        yield from _streams(effort.n_equal, name, "T1", 100_000, 100)


def long_streams(effort: Effort) -> Iterator[Line]:
    """T2: 1,000,000 outcomes, a look at every 500th."""
    for name in PROCESSES:
        yield from _streams(effort.n_equal_long, name, "T2", 1_000_000, 500)


def _streams(n_streams: int, name: str, target: str, n_outcomes: int, n_at_a_look: int) -> Iterator[Line]:
    rng = generator(target, name)
    made = paths.table(pools.equal(name), INFORMED_BET)
    generic = msgspec.structs.replace(made.rule, informed_bet=None)
    paths.check(made, paths.drawn(made, rng, N_CHECKED), 100)
    n_passed = {"generic bets": 0, "informed bets": 0}
    for _ in range(n_streams):
        seen = paths.looks(made, paths.drawn(made, rng, n_outcomes), n_at_a_look)
        for bets, rule in zip(n_passed, (generic, made.rule), strict=True):
            n_passed[bets] += paths.first_promotion(seen, rule) is not None
    for bets, n in n_passed.items():
        yield table.share(
            n,
            n_streams,
            target=target,
            process=PROCESSES[name],
            claim=f"false promotion by {n_outcomes:,} outcomes, condition one, {bets}",
            limit=5.0,
            upper_limit=5.6 if n_streams >= 2_000 else None,
        )
