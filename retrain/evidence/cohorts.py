"""What is kept of a bucket: sums that add up to the evidence, whatever the order, the shards or the restarts."""

import math
from collections.abc import Iterable, Sequence
from itertools import groupby

import msgspec

from retrain.evidence.eprocess import log_growth
from retrain.evidence.errors import MismatchedPairs, MismatchedSums
from retrain.evidence.losses import n_classes_of, paired_losses
from retrain.evidence.pairs import Pairs
from retrain.evidence.rule import Rule


class BucketSums(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of one bucket, one challenger and one rule, as about 350 bytes of sums.

    d is loss(champion) - loss(challenger), in units of loss; all sums run over the rows whose outcome is known.
    """

    bucket: int
    n_due: int
    """Rows whose outcome was due, whether it arrived or not."""
    n: int
    n_failed: int
    """Rows among `n` that the challenger failed on; they hold the prior's loss."""
    class_counts: tuple[int, ...]
    """Outcomes of each class; empty for regression. Which class is the rarer one is seen over the whole reign."""
    sum_d: float
    sum_d2: float
    sum_champion_loss: float
    gap: float
    """B: the largest loss against the champion that the answers made possible on one row."""
    gap_reverse: float
    log_growth: tuple[float, ...]
    """For each bet λ, Σ ln(1 + λ(d - δ))."""
    log_growth_reverse: tuple[float, ...]
    """For each bet λ, Σ ln(1 - λd): the other direction has no margin, worse is worse."""

    @property
    def n_minority(self) -> int | None:
        """Outcomes of the class that is rarest in these sums; None where there are no classes."""
        return min(self.class_counts) if self.class_counts else None

    def merge(self, other: "BucketSums") -> "BucketSums":
        """The sums of both shards of one bucket: commutative, and associative up to rounding.

        Raises:
            MismatchedSums: of different buckets, or made under different rules.
        """
        if self.bucket != other.bucket:
            raise MismatchedSums("bucket", self.bucket, other.bucket)
        return total_of((self, other))


def sums_of(pairs: Pairs, rule: Rule) -> BucketSums:
    """The sums of the rows of one bucket, or of one shard of it; at least one row.

    Raises:
        UnusedColumn: `pairs` holds a column that this rule would have to ignore.
        MismatchedPairs: no rows, rows of several buckets, or scores without the dimensions of the task.
        ImpossibleValue: an outcome, or a champion's score, that the task does not have.
        MissingPrior: regression, the challenger failed on a row and the rule has no prior.
    """
    if len(pairs) == 0 or (pairs.bucket != pairs.bucket[0]).any():
        raise MismatchedPairs("bucket", "the rows of one bucket", f"{len(set(pairs.bucket.tolist()))} buckets")

    n_classes = n_classes_of(pairs, rule)
    losses = paired_losses(pairs, rule)
    bets = rule.grid(n_classes).bets
    return BucketSums(
        bucket=int(pairs.bucket[0]),
        n_due=len(pairs),
        n=len(losses.difference),
        n_failed=int(losses.failed.sum()),
        class_counts=tuple(int((losses.label == k).sum()) for k in range(n_classes)),
        sum_d=float(losses.difference.sum()),
        sum_d2=float((losses.difference * losses.difference).sum()),
        sum_champion_loss=float(losses.champion.sum()),
        gap=float(losses.gap.max(initial=0.0)),
        gap_reverse=float(losses.gap_reverse.max(initial=0.0)),
        log_growth=log_growth(losses.difference, bets, rule.delta),
        log_growth_reverse=log_growth(-losses.difference, bets, 0.0),
    )


def total_of(sums: Sequence[BucketSums]) -> BucketSums:
    """All of these as one, numbered as the latest of them; at least one. Sums are rounded once, so order is free.

    Raises:
        MismatchedSums: made under different rules.
    """
    for name in ("class_counts", "log_growth", "log_growth_reverse"):
        lengths = [len(getattr(each, name)) for each in sums]
        if min(lengths) != max(lengths):
            raise MismatchedSums(f"{name} of length", max(lengths), min(lengths))
    return BucketSums(
        bucket=max(each.bucket for each in sums),
        n_due=sum(each.n_due for each in sums),
        n=sum(each.n for each in sums),
        n_failed=sum(each.n_failed for each in sums),
        class_counts=tuple(map(sum, zip(*(each.class_counts for each in sums), strict=True))),
        sum_d=math.fsum(each.sum_d for each in sums),
        sum_d2=math.fsum(each.sum_d2 for each in sums),
        sum_champion_loss=math.fsum(each.sum_champion_loss for each in sums),
        gap=max(each.gap for each in sums),
        gap_reverse=max(each.gap_reverse for each in sums),
        log_growth=tuple(map(math.fsum, zip(*(each.log_growth for each in sums), strict=True))),
        log_growth_reverse=tuple(map(math.fsum, zip(*(each.log_growth_reverse for each in sums), strict=True))),
    )


def days_of(sums: Iterable[BucketSums], buckets_per_day: int) -> list[BucketSums]:
    """One total for each calendar day that has a known outcome, in calendar order."""

    def day(each: BucketSums) -> int:
        return each.bucket // buckets_per_day

    totals = (total_of(list(of_one_day)) for _, of_one_day in groupby(sorted(sums, key=day), key=day))
    return [total for total in totals if total.n > 0]
