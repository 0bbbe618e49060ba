"""Which rows can have an outcome at all, and what those that have one stand for.

A rejected application never shows whether it would have been paid back. Where the chance of a decision was logged with
it (`propensity`), rows that were approved stand for those that might have been (Horvitz & Thompson 1952), and the
claim is about all of them. Where it was not, the claim is about what was approved, and says so.
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from gateway.chunk import Requests
from gateway.columns import Array
from registry.types import Policy


class Population(Struct, frozen=True, array_like=True):
    """How much of what a version answered can be held against an outcome; adds up over buckets.

    `n_due`: rows that have an outcome, or a logged chance of one.
    """

    n_rows: int = 0
    n_due: int = 0
    n_over_cap: int = 0
    """Outcomes left out, as their source had reported its share already."""
    n_learned: int = 0
    """Rows that are no part of all this, as they are of the time that the version learned from."""

    def __add__(self, other: Population) -> Population:
        return Population(
            self.n_rows + other.n_rows, self.n_due + other.n_due, self.n_over_cap + other.n_over_cap,
            self.n_learned + other.n_learned,
        )  # fmt: skip


class Observed(Struct, frozen=True, eq=False):
    """Of each row of a chunk: whether its outcome was seen or could be, and 1 / the chance of that (NaN: not seen)."""

    seen: Array
    due: Array
    weight: Array | None


def observed(requests: Requests, n_rows: int, policy: Policy) -> Observed:
    """By what was logged with the predictions, and nothing later."""
    everything = np.ones(n_rows, bool)
    if policy.observed == "always":
        return Observed(everything, everything, None)
    seen = everything
    if policy.approved_decisions:
        decisions = requests.decisions or [None] * n_rows
        seen = np.array([decision in policy.approved_decisions for decision in decisions], bool)
    if policy.metric.loss == "reward":  # by its weight what was shown stands for what another version would show
        return Observed(seen, seen, None)
    chance = np.array([np.nan if p is None else p for p in requests.propensities or [None] * n_rows], np.float64)
    might = ~seen & (chance < 1.0)
    weight = np.where(seen, np.where(np.isnan(chance), 1.0, 1.0 / chance), np.nan)
    is_plain = not might.any() and bool((weight[seen] == 1.0).all())
    return Observed(seen, seen | might, None if is_plain else weight)


def words_of(population: Population, policy: Policy, *, weighted: bool) -> str:
    """What outcomes were looked at, to follow "matured outcomes"; empty where every row has one."""
    if policy.observed == "always" or policy.metric.loss == "reward" or weighted:
        return ""  # weighted outcomes stand for all rows, and the sentence says for how many
    told = " or ".join(map(str, policy.approved_decisions)) or "any"
    if population.n_due == population.n_rows:
        return f" of rows decided {told}"
    share = 100 * (1 - population.n_due / population.n_rows)
    return f" of rows decided {told}, which say nothing of the {share:.1f} % decided otherwise"
