"""Pools of scored rows with a known truth; a stream draws from one with replacement.

The risk is a probit: an outcome is 1 where a standard normal score exceeds the quantile of 2 % positives. Each version
sees a part of that score and answers the exact probability given what it sees, so both are calibrated, and how much
better one is and how much they agree are dials. Equal pairs are made exactly equal on the pool itself: mirrored, or
moved until the mean difference of losses is 0 to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from retrain.evidence import Pairs, Rule
from retrain.evidence.losses import PairedLosses, paired_losses

Floats = NDArray[np.float64]

BASE_RATE = 0.02
N_ROWS = 1 << 19
LOG_LOSS = Rule(task="binary", base_rate=BASE_RATE)
"""Clipped at a twentieth of the base rate, no margin: equal versions stand on the very edge of the claim."""
BRIER = Rule(task="binary", loss="brier", base_rate=BASE_RATE)
UNCLIPPED = Rule(task="binary", base_rate=BASE_RATE, clip=1e-6)


class Pool(msgspec.Struct, frozen=True, eq=False):
    """`n` scored rows, their losses under `rule`, and what they amount to."""

    pairs: Pairs
    rule: Rule
    losses: PairedLosses

    @property
    def mean(self) -> float:
        """Mean of d over the pool: what is true of every stream from it."""
        return float(self.losses.difference.mean())

    @property
    def deviation(self) -> float:
        """Standard deviation of d."""
        return float(self.losses.difference.std())

    @property
    def gain(self) -> float:
        """Mean d as a share of the champion's mean loss."""
        return self.mean / abs(float(self.losses.champion.mean()))

    @property
    def n80(self) -> float:
        """Outcomes with which one look by a one-sided test of level 5 % would see this gain in 80 % of streams."""
        return float(((ndtri(0.95) + ndtri(0.80)) * self.deviation / self.mean) ** 2)


class Gain(msgspec.Struct, frozen=True):
    """Areas under the curve of both versions; `agreement`: correlation of what they see, None where nested."""

    champion_auc: float
    challenger_auc: float
    agreement: float | None = None


GAINS = {
    "ll20": Gain(0.792, 0.911),
    "ll10": Gain(0.814, 0.876),
    "ll5": Gain(0.824, 0.856),
    "ll2": Gain(0.793, 0.810),
    "auc80_84": Gain(0.787, 0.838, 0.55),
    "auc80_82": Gain(0.794, 0.816, 0.6),
}


@lru_cache(maxsize=2)
def better(name: str, rule: Rule = LOG_LOSS, *, seed: int = 11) -> Pool:
    """A pool in which the challenger is better, by a name of `GAINS`."""
    gain = GAINS[name]
    champion, challenger = explained(gain.champion_auc), explained(gain.challenger_auc)
    agreement = (champion / challenger) ** 0.5 if gain.agreement is None else gain.agreement
    return _pool(_scored(np.random.default_rng(seed), champion, challenger, agreement), rule)


@lru_cache(maxsize=2)
def equal(name: str, rule: Rule | None = None, *, seed: int = 12) -> Pool:
    """A pool in which neither is better: one of `EQUAL`."""
    made, its_rule = EQUAL[name]
    return made(np.random.default_rng(seed), its_rule if rule is None else rule)


def _mirrored(rng: np.random.Generator, rule: Rule) -> Pool:
    """Equally good versions that disagree; each row is there twice, with the versions in each other's place."""
    half = _scored(rng, explained(0.79), explained(0.79), 0.69, N_ROWS // 2)
    both = Pairs(
        np.tile(half.outcome, 2),
        np.concatenate([half.champion, half.challenger]),
        np.concatenate([half.challenger, half.champion]),
        np.zeros(N_ROWS, np.int64),
    )
    return _pool(both, rule)


def _skewed(rng: np.random.Generator, rule: Rule) -> Pool:
    """The same ranking: the champion gives 1.5 times the odds, the challenger as many fewer as makes them equal.

    Every outcome 0 is a small gain for the challenger, every outcome 1, one in fifty, a loss fifty times as large.
    """
    scored = _scored(rng, explained(0.79), explained(0.79), 1.0)
    champion = times_odds(scored.champion, 1.5)

    def with_odds(factor: float) -> Pairs:
        return Pairs(scored.outcome, champion, times_odds(scored.champion, factor), scored.bucket)

    return _balanced(with_odds, 1 / 3, 1.0, rule)


def _swan(rng: np.random.Generator, rule: Rule) -> Pool:
    """The challenger is a little better everywhere, but answers one in a million on 0.1 % of rows."""
    scored = _scored(rng, explained(0.79), explained(0.83), (explained(0.79) / explained(0.83)) ** 0.5)
    garbage = rng.random(N_ROWS) < 1e-3

    def with_share(share: float) -> Pairs:
        mixed = (1 - share) * scored.champion + share * scored.challenger
        return Pairs(scored.outcome, scored.champion, np.where(garbage, 1e-6, mixed), scored.bucket)

    return _balanced(with_share, 1.0, 0.0, rule)


def _surely_wrong(rng: np.random.Generator, rule: Rule) -> Pool:
    """Better on almost every row, and on one in ten thousand sure of what is wrong nine times in ten.

    Equal in the long run; but given the answers of a reign the challenger is better until such a row comes.
    """
    scored = _scored(rng, explained(0.79), explained(0.86), (explained(0.79) / explained(0.86)) ** 0.5)
    wrong = np.arange(N_ROWS) < 1e-4 * N_ROWS
    outcome = np.where(wrong, rng.random(N_ROWS) < 0.9, scored.outcome == 1)
    champion = np.where(wrong, 0.9, scored.champion)

    def with_share(share: float) -> Pairs:
        mixed = (1 - share) * scored.champion + share * scored.challenger
        return Pairs(outcome, champion, np.where(wrong, 1e-6, mixed), scored.bucket)

    return _balanced(with_share, 1.0, 0.0, rule)


EQUAL: dict[str, tuple[Callable[[np.random.Generator, Rule], Pool], Rule]] = {
    "aa_ll": (_mirrored, LOG_LOSS),
    "aa_br": (_mirrored, BRIER),
    "skew15": (_skewed, LOG_LOSS),
    "swan": (_swan, UNCLIPPED),
    "swan_ll": (_swan, LOG_LOSS),
    "surely_wrong": (_surely_wrong, LOG_LOSS),
}


def times_odds(probability: Floats, factor: float) -> Floats:
    """The probabilities whose odds are `factor` times these."""
    odds = factor * probability / (1 - probability)
    return odds / (1 + odds)


@lru_cache
def explained(auc: float) -> float:
    """The share of the score's variance that a version must see to rank with this area under the curve."""
    cut = ndtri(1 - BASE_RATE)
    grid = np.linspace(-8.0, 8.0, 4001)
    density = np.exp(-grid * grid / 2)

    def auc_of(share: float) -> float:
        positive = density * ndtr((np.sqrt(share) * grid - cut) / np.sqrt(1 - share))
        negative = density - positive
        below = np.cumsum(negative) - negative / 2
        return float((positive @ below) / (positive.sum() * negative.sum()))

    return float(brentq(lambda share: auc_of(share) - auc, 0.001, 0.999))


def _scored(
    rng: np.random.Generator, champion: float, challenger: float, agreement: float, n_rows: int = N_ROWS
) -> Pairs:
    """Rows whose versions see these shares of the score; `agreement` is the correlation of what they see."""
    shared = agreement * np.sqrt(champion * challenger)
    own_champion, own_challenger = max(0.0, champion - shared), max(0.0, challenger - shared)
    if shared + own_champion + own_challenger >= 1.0:
        raise ValueError(f"agreement: expected more, so that both see less than all together, got {agreement}")
    common, a, b, rest = rng.standard_normal((4, n_rows))
    seen_by_champion = np.sqrt(shared) * common + np.sqrt(own_champion) * a
    seen_by_challenger = np.sqrt(shared) * common + np.sqrt(own_challenger) * b
    unseen = 1.0 - shared - own_champion - own_challenger
    score = seen_by_champion + np.sqrt(own_challenger) * b + np.sqrt(unseen) * rest
    cut = ndtri(1 - BASE_RATE)
    return Pairs(
        score > cut,
        ndtr((seen_by_champion - cut) / np.sqrt(1 - champion)),
        ndtr((seen_by_challenger - cut) / np.sqrt(1 - challenger)),
        np.zeros(n_rows, np.int64),
    )


def _pool(pairs: Pairs, rule: Rule) -> Pool:
    return Pool(pairs, rule, paired_losses(pairs, rule))


def _balanced(made: Callable[[float], Pairs], better_at: float, worse_at: float, rule: Rule) -> Pool:
    """The pool on the way between two dials at which the challenger is equal, found on its own rows."""

    def mean_at(dial: float) -> float:
        return float(paired_losses(made(dial), rule).difference.mean())

    return _pool(made(brentq(mean_at, better_at, worse_at, xtol=1e-16)), rule)
