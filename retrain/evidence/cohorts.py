"""What is kept of a bucket: sums that add up to the evidence, whatever the order, the shards or the restarts."""

import math
from collections.abc import Iterable, Sequence
from functools import reduce
from itertools import groupby
from operator import add
from typing import TypeVar

import msgspec
import numpy as np
from msgspec.structs import asdict

from retrain.evidence import calibration
from retrain.evidence.bets import Bets, Scored, bets_of, is_weighted
from retrain.evidence.eprocess import log_growth
from retrain.evidence.errors import MismatchedPairs, MismatchedSums, TooManyNames
from retrain.evidence.losses import n_classes_of
from retrain.evidence.pairs import Pairs
from retrain.evidence.ranking import ScoreCounts, score_counts
from retrain.evidence.rule import Rule
from retrain.evidence.serving import Serving
from retrain.evidence.tallies import Tallies, tallies_of

MOST_NAMES = 64
"""Segments, or sources, of one bucket that sums are kept of."""

T = TypeVar("T")


class Sums(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of one challenger under one rule, as about 400 bytes of sums.

    d is loss(champion) - loss(challenger), in units of loss, times the row's weight where it has one; all sums run over
    the bets: rows (or entities, see `bets`) whose outcome is known, or that were due where rows are weighted.
    """

    n_due: int
    """Rows, or entities, whose outcome was due, whether it arrived or not."""
    n: int
    """Those whose outcome is known."""
    n_bets: int
    """What a mean is taken over: `n`, or `n_due` where rows are weighted."""
    n_failed: int
    """Rows among `n` that the challenger failed on; they hold the prior's loss."""
    class_counts: tuple[int, ...]
    """Outcomes of each class; empty for numbers. Which class is the rarer one is seen over the whole reign."""
    sum_d: float
    sum_d2: float
    sum_champion_loss: float
    sum_weight: float
    sum_weight2: float
    at_stake: float
    """Σ of the span between the best and the worst difference that each row made possible, where it is known."""
    at_stake_unseen: float
    """The same where no outcome arrived."""
    gap: float
    """B: the largest loss against the champion that the answers made possible on one row."""
    largest_unpaid: float
    """The same, with δ, over bets that paid no premium for it (see `eprocess`): all or none of a reign's."""
    largest_unpaid_reverse: float
    log_growth: tuple[float, ...]
    """For each bet λ, Σ ln(1 + λ(d - δ)), with premiums where they are paid (`eprocess.log_factors`)."""
    log_growth_reverse: tuple[float, ...]
    """For each bet λ, Σ ln(1 - λd): the other direction has no margin, worse is worse."""

    @property
    def n_minority(self) -> int | None:
        """Outcomes of the class that is rarest in these sums; None where there are no classes."""
        return min(self.class_counts) if self.class_counts else None

    @property
    def is_weighted(self) -> bool:
        """Whether outcomes stand for more than themselves."""
        return self.n_bets != self.n or self.sum_weight != self.n

    @property
    def n_effective(self) -> float:
        """How many equally weighted outcomes these are worth: (Σw)²/Σw² (Kish 1965)."""
        return self.sum_weight**2 / self.sum_weight2 if self.sum_weight2 > 0.0 else 0.0


class Calibration(msgspec.Struct, frozen=True, array_like=True):
    """Log capital of the bets against "calibrated", of both versions (see `calibration`)."""

    champion: tuple[float, ...]
    challenger: tuple[float, ...]

    @classmethod
    def sum(cls, parts: "Sequence[Calibration]") -> "Calibration":
        """Of the rows of all of these."""
        return cls(
            calibration.total(part.champion for part in parts), calibration.total(part.challenger for part in parts)
        )


class BucketSums(Sums, frozen=True, kw_only=True):
    """The rows of one bucket: their sums, and optional parts beside."""

    bucket: int
    segments: dict[str, Sums] = {}
    sources: dict[str, Sums] = {}
    scores: ScoreCounts | None = None
    """Binary tasks, without weights."""
    calibration: Calibration | None = None
    """Binary tasks, without weights."""
    tallies: Tallies | None = None
    """Not of recommendations. They decide nothing."""
    serving: Serving | None = None
    """Given by who knows it; pairs alone do not say how a version served."""
    at_stake_undue: float = 0.0
    """As `at_stake`, of rows that can never have an outcome: given by who knows it, as they make no pairs."""

    @property
    def at_stake_unobserved(self) -> float:
        """What the versions disagree by where nothing is seen, and nothing that is seen stands for it."""
        return self.at_stake_undue + (0.0 if self.is_weighted else self.at_stake_unseen)

    def merge(self, other: "BucketSums") -> "BucketSums":
        """The sums of both shards of one bucket: commutative, and associative up to rounding.

        Raises:
            MismatchedSums: of different buckets, or made under different rules.
        """
        if self.bucket != other.bucket:
            raise MismatchedSums("bucket", self.bucket, other.bucket)
        return total_of((self, other))


def sums_of(pairs: Pairs, rule: Rule, serving: Serving | None = None, *, at_stake_undue: float = 0.0) -> BucketSums:
    """The sums of the rows of one bucket, or of one shard of it that holds its entities whole; at least one row.

    `at_stake_undue`: `bets.at_stake_of` the rows of it that can never have an outcome, which make no pairs.

    Raises:
        UnusedColumn: `pairs` holds a column that this rule would have to ignore.
        MismatchedPairs: no rows, rows of several buckets, or scores without the dimensions of the task.
        ImpossibleValue: an outcome, or a champion's score, that the task does not have.
        TooManyNames: more segments or sources than sums can be kept of.
        MissingPrior: the challenger failed on a row of numbers and the rule has no prior.
    """
    if len(pairs) == 0 or (pairs.bucket != pairs.bucket[0]).any():
        raise MismatchedPairs("bucket", "the rows of one bucket", f"{len(set(pairs.bucket.tolist()))} buckets")

    bets = bets_of(pairs, rule, n_classes_of(pairs, rule))
    scored = bets.scored if not is_weighted(pairs, rule) else None
    return BucketSums(
        bucket=int(pairs.bucket[0]),
        **asdict(sums_of_bets(bets, rule)),
        segments=_by_name("segment", pairs, rule),
        sources=_by_name("source", pairs, rule),
        scores=score_counts(scored) if scored is not None else None,
        calibration=_calibration(scored, rule) if scored is not None else None,
        tallies=tallies_of(pairs, rule),
        serving=serving,
        at_stake_undue=at_stake_undue,
    )


def sums_of_bets(bets: Bets, rule: Rule) -> Sums:
    """The sums of bets of one bucket."""
    grid = rule.grid.bets
    return Sums(
        n_due=bets.n_due,
        n=bets.n,
        n_bets=len(bets.difference),
        n_failed=bets.n_failed,
        class_counts=bets.class_counts,
        sum_d=float(bets.difference.sum()),
        sum_d2=float(bets.difference @ bets.difference),
        sum_champion_loss=float(bets.champion_loss.sum()),
        sum_weight=float(bets.weight.sum()),
        sum_weight2=float(bets.weight @ bets.weight),
        at_stake=bets.at_stake,
        at_stake_unseen=bets.at_stake_unseen,
        gap=float(bets.gap.max(initial=0.0)),
        largest_unpaid=0.0 if bets.pay_premiums else float(bets.gap.max(initial=0.0)) + rule.delta,
        largest_unpaid_reverse=0.0 if bets.pay_premiums else float(bets.gap_reverse.max(initial=0.0)),
        log_growth=log_growth(bets.difference, grid, rule.delta, bets.gap if bets.pay_premiums else None),
        log_growth_reverse=log_growth(-bets.difference, grid, 0.0, bets.gap_reverse if bets.pay_premiums else None),
    )


def _by_name(column: str, pairs: Pairs, rule: Rule) -> dict[str, Sums]:
    """Sums of the rows of each name in this column; nothing where there is no column."""
    names = getattr(pairs, column)
    if names is None:
        return {}
    distinct = np.unique(names)
    if len(distinct) > MOST_NAMES:
        raise TooManyNames(column, MOST_NAMES, len(distinct))
    n_classes = n_classes_of(pairs, rule)
    return {str(name): sums_of_bets(bets_of(pairs.rows(names == name), rule, n_classes), rule) for name in distinct}


def _calibration(scored: Scored, rule: Rule) -> Calibration:
    return Calibration(
        *(
            calibration.log_growth_miscalibrated(scored.outcome, probability, rule.calibration_tolerance)
            for probability in (scored.champion, scored.challenger)
        )
    )


def added(sums: Sequence[Sums]) -> Sums:
    """All of these as one; at least one. Sums are rounded once, so order is free.

    Raises:
        MismatchedSums: made under different rules.
    """
    for name in ("class_counts", "log_growth", "log_growth_reverse"):
        lengths = [len(getattr(each, name)) for each in sums]
        if min(lengths) != max(lengths):
            raise MismatchedSums(f"{name} of length", max(lengths), min(lengths))
    return Sums(
        n_due=sum(each.n_due for each in sums),
        n=sum(each.n for each in sums),
        n_bets=sum(each.n_bets for each in sums),
        n_failed=sum(each.n_failed for each in sums),
        class_counts=tuple(map(sum, zip(*(each.class_counts for each in sums), strict=True))),
        sum_d=math.fsum(each.sum_d for each in sums),
        sum_d2=math.fsum(each.sum_d2 for each in sums),
        sum_champion_loss=math.fsum(each.sum_champion_loss for each in sums),
        sum_weight=math.fsum(each.sum_weight for each in sums),
        sum_weight2=math.fsum(each.sum_weight2 for each in sums),
        at_stake=math.fsum(each.at_stake for each in sums),
        at_stake_unseen=math.fsum(each.at_stake_unseen for each in sums),
        gap=max(each.gap for each in sums),
        largest_unpaid=max(each.largest_unpaid for each in sums),
        largest_unpaid_reverse=max(each.largest_unpaid_reverse for each in sums),
        log_growth=tuple(map(math.fsum, zip(*(each.log_growth for each in sums), strict=True))),
        log_growth_reverse=tuple(map(math.fsum, zip(*(each.log_growth_reverse for each in sums), strict=True))),
    )


def total_of(sums: Sequence[BucketSums]) -> BucketSums:
    """All of these buckets as one, numbered as the latest of them; at least one.

    Raises:
        MismatchedSums: made under different rules.
    """
    if len(sums) == 1:
        return sums[0]
    scores, calibrations = _given(each.scores for each in sums), _given(each.calibration for each in sums)
    servings, tallies = _given(each.serving for each in sums), _given(each.tallies for each in sums)
    return BucketSums(
        bucket=max(each.bucket for each in sums),
        **asdict(added(sums)),
        segments=_named_totals([each.segments for each in sums]),
        sources=_named_totals([each.sources for each in sums]),
        scores=ScoreCounts.sum(scores) if scores else None,
        calibration=Calibration.sum(calibrations) if calibrations else None,
        tallies=reduce(add, tallies) if tallies else None,
        serving=reduce(add, servings) if servings else None,
        at_stake_undue=math.fsum(each.at_stake_undue for each in sums),
    )


def days_of(sums: Iterable[BucketSums], buckets_per_day: int) -> list[BucketSums]:
    """One total for each calendar day that has a bet, in calendar order."""

    def day(each: BucketSums) -> int:
        return each.bucket // buckets_per_day

    totals = (total_of(list(of_one_day)) for _, of_one_day in groupby(sorted(sums, key=day), key=day))
    return [total for total in totals if total.n_bets > 0]


def _named_totals(parts: Sequence[dict[str, Sums]]) -> dict[str, Sums]:
    names = sorted({name for part in parts for name in part})
    return {name: added([part[name] for part in parts if name in part]) for name in names}


def _given(parts: Iterable[T | None]) -> list[T]:
    return [part for part in parts if part is not None]
