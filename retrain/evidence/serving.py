"""How both versions served the same rows: errors, slow answers, and whether the mirror took its share.

Counts of pairs, so that they add up and nothing but sums is kept. A challenger must show that it does not serve worse:
on each row x = 1{only the champion failed} - 1{only the challenger failed} is bet to be above -margin, by the same
fixed bets as the evidence; three counts give the capital of every bet.
"""

import math
from itertools import accumulate

import msgspec

from retrain.evidence.eprocess import Grid, log_mixture

BETS = Grid((0.95, 0.475, 0.2375, 0.11875, 0.059375), (0.5, 0.125, 0.125, 0.125, 0.125))
"""Margins are tenths of a percent: the large bet proves them soonest, small ones survive failures on either side."""

SRM_PRIOR = 100.0
"""How sharply a mismatch is expected near the declared share, in rows (the default of Lindon & Malek's program)."""


LEVELS_A_DOUBLING = 8


class PairedCounts(msgspec.Struct, frozen=True, array_like=True):
    """Rows on which a thing could happen to either version, and those on which it happened to just one of them."""

    n: int = 0
    champion_only: int = 0
    challenger_only: int = 0

    def __add__(self, other: "PairedCounts") -> "PairedCounts":
        return PairedCounts(
            self.n + other.n,
            self.champion_only + other.champion_only,
            self.challenger_only + other.challenger_only,
        )

    def reversed(self) -> "PairedCounts":
        """The two versions in each other's place."""
        return PairedCounts(self.n, self.challenger_only, self.champion_only)


class Serving(msgspec.Struct, frozen=True, array_like=True):
    """How the rows of a bucket were served: counts of all rows that the challenger was given, matured or not.

    `n_eligible`, `n_mirrored`: rows that it should have seen some share of, and those that it was given. `timed`: calls
    of the challenger alone with one row, by level of time (`level_of`).
    """

    errors: PairedCounts = PairedCounts()
    slow: PairedCounts = PairedCounts()
    n_eligible: int = 0
    n_mirrored: int = 0
    timed: dict[int, int] = {}

    def __add__(self, other: "Serving") -> "Serving":
        levels = sorted({*self.timed, *other.timed})
        return Serving(
            self.errors + other.errors,
            self.slow + other.slow,
            self.n_eligible + other.n_eligible,
            self.n_mirrored + other.n_mirrored,
            {level: self.timed.get(level, 0) + other.timed.get(level, 0) for level in levels},
        )

    @property
    def latency_s(self) -> float | None:
        """The 95th percentile of the timed calls, to 9 %; None while none was timed."""
        needed = 0.95 * sum(self.timed.values())
        for level, so_far in zip(sorted(self.timed), accumulate(n for _, n in sorted(self.timed.items())), strict=True):
            if so_far >= needed:
                return 1e-6 * math.exp2(level / LEVELS_A_DOUBLING)
        return None


def level_of(taken_us: float) -> int:
    """Times by eighths of a doubling: counts of them add up, and keep the order of versions that differ by more."""
    return round(LEVELS_A_DOUBLING * math.log2(max(1.0, taken_us)))


def log_e_no_worse(counts: PairedCounts, margin: float, grid: Grid = BETS) -> float:
    """The log of E for "it happens to the challenger at most `margin` more often than to the champion".

    Equals log_mixture(log_growth(x, bets, -margin), grid, 1 - margin) with x one of 1, 0, -1 a row.
    """
    n_neither = counts.n - counts.champion_only - counts.challenger_only
    growth = [
        counts.champion_only * math.log1p(bet * (1.0 + margin))
        + n_neither * math.log1p(bet * margin)
        + counts.challenger_only * math.log1p(bet * (margin - 1.0))
        for bet in grid.bets
    ]
    return log_mixture(growth, grid, 1.0 - margin)


def log_e_mismatch(n_mirrored: int, n_eligible: int, share: float) -> float:
    """The log of the posterior odds that the mirror took another share than `share`, a test martingale.

    The multinomial mixture of Lindon & Malek 2022 for two cells: a Dirichlet prior that is centred at the declared
    shares, of total `SRM_PRIOR`, against them.
    """
    cells = ((n_mirrored, share), (n_eligible - n_mirrored, 1.0 - share))
    odds = math.lgamma(SRM_PRIOR) - math.lgamma(SRM_PRIOR + n_eligible)
    for count, expected in cells:
        prior = SRM_PRIOR * expected
        odds += math.lgamma(prior + count) - math.lgamma(prior) - count * math.log(expected)
    return odds
