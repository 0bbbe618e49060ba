"""T9: outcomes that come at their own pace. Positives wait thirty days on average, negatives five."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np

from bench.evidence import paths, pools, table
from bench.evidence.effort import Effort, generator
from bench.evidence.paths import Rows, Table
from bench.evidence.table import Line

N_DAYS, A_DAY = 200, 500
POSITIVE_DAYS, NEGATIVE_DAYS = 30.0, 5.0
WINDOW_DAYS = 90.0
LIMIT = 5.0


def label_delays(effort: Effort) -> Iterator[Line]:
    """Equal versions, rare large losses.

    An outcome is "positive within the window", as a declared default makes it: positives never come later. Joined when
    they arrive, the first weeks hold the small gains of the negatives and few of the losses.
    """
    made = paths.table(pools.equal("skew15"))
    rng = generator("T9")
    n_on_arrival = n_matured = 0
    for _ in range(effort.n_delayed):
        stream = paths.drawn(made, rng, N_DAYS * A_DAY)
        predicted = np.repeat(np.arange(N_DAYS), A_DAY) + rng.random(N_DAYS * A_DAY)
        arrived = predicted + _delays(made, stream, rng)
        as_they_arrive = stream[np.argsort(arrived)][: int((arrived < N_DAYS).sum())]
        n_on_arrival += _promoted(made, as_they_arrive)
        n_matured += _promoted(made, stream)  # cohorts close in order of prediction, each when all of its are there
    facts = {"target": "T9", "process": "equal, rare large losses; positives 30 days late on average, negatives 5"}
    yield table.share(
        n_matured,
        effort.n_delayed,
        claim="false promotion, closed cohorts with the declared default, condition one",
        limit=LIMIT,
        **facts,
    )
    yield table.share(n_on_arrival, effort.n_delayed, claim="control: joined on arrival", **facts)


def _delays(made: Table, stream: Rows, rng: np.random.Generator) -> pools.Floats:
    """Exponential; those of positives given that they end within the window."""
    positive = made.pool.losses.label[stream] == 1
    within = -np.log1p(-rng.random(len(stream)) * -np.expm1(-WINDOW_DAYS / POSITIVE_DAYS)) * POSITIVE_DAYS
    return np.where(positive, within, rng.exponential(NEGATIVE_DAYS, len(stream)))


def _promoted(made: Table, stream: Rows) -> bool:
    rule = msgspec.structs.replace(made.rule, informed_bet=None)
    return paths.first_promotion(paths.looks(made, stream, 100), rule, rule.min_minority) is not None
