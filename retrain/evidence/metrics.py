"""Metrics for people: they are shown beside the evidence and never decide anything.

Most cannot be added up over rows, so they have no exact test; a threshold on one of them is a matter of luck.
"""

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from retrain.evidence.bets import is_weighted
from retrain.evidence.calibration import log_e_miscalibrated, log_growth_miscalibrated
from retrain.evidence.cohorts import BucketSums, total_of
from retrain.evidence.losses import check, paired_losses, probabilities_of
from retrain.evidence.pairs import Pairs
from retrain.evidence.rule import Rule
from retrain.evidence.tallies import Tallies, Tally, tallies_of

Floats = NDArray[np.float64]


class Metrics(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Of one version on the rows whose outcome is known. `loss` is the one that decides.

    None where the task has no such metric, or where it needs both classes. A failed answer counts as the prior's.
    """

    loss: float | None = None
    cost: float | None = None
    """A row, in the units of the matrix of costs, by the version's own threshold."""
    auc: float | None = None
    average_precision: float | None = None
    ks: float | None = None
    log_loss: float | None = None
    brier: float | None = None
    accuracy: float | None = None
    commonest_class: float | None = None
    """The accuracy of always saying the commonest class: no accuracy says anything without it."""
    mean_probability: float | None = None
    """To be held against the share of positives, `base_rate`: calibration in the large."""
    base_rate: float | None = None
    observed_to_expected: float | None = None
    """`base_rate` / `mean_probability`: above 1, more happened than was said."""
    log_e_miscalibrated: float | None = None
    """ln E against "calibrated within the tolerance of the rule": above 3 it is off, however often one looks."""
    mean_absolute_error: float | None = None
    root_mean_squared_error: float | None = None
    bias: float | None = None
    """Mean of forecast minus outcome."""


def metrics_of(pairs: Pairs, rule: Rule) -> tuple[Metrics, Metrics]:
    """Of the champion and of the challenger, from every row.

    Raises:
        EvidenceError: what `losses.check` refuses.
    """
    n_classes = check(pairs, rule)
    matured = pairs.rows(~np.isnan(pairs.outcome))
    if len(matured) == 0:
        return Metrics(), Metrics()
    losses = paired_losses(matured, rule)
    lost = (float(losses.champion.mean()), float((losses.champion - losses.difference).mean()))
    champion, challenger = _added_up(tallies_of(matured, rule), lost, rule)
    if n_classes != 2 or is_weighted(pairs, rule):
        return champion, challenger
    scores = [table[1] for table in probabilities_of(matured, rule, 2)[:2]]
    has_both = 0 < losses.label.sum() < len(losses.label)
    first, second = (
        msgspec.structs.replace(
            metrics,
            auc=auc(losses.label, score) if has_both else None,
            average_precision=average_precision(losses.label, score) if has_both else None,
            ks=ks_statistic(score[losses.label == 0], score[losses.label == 1]) if has_both else None,
            log_e_miscalibrated=log_e_miscalibrated(
                log_growth_miscalibrated(losses.label.astype(np.float64), score, rule.calibration_tolerance)
            ),
        )
        for metrics, score in zip((champion, challenger), scores, strict=True)
    )
    return first, second


def metrics_of_sums(sums: Sequence[BucketSums], rule: Rule) -> tuple[Metrics, Metrics]:
    """The same from closed buckets, of which no row is read again.

    `auc`, `average_precision` and `ks` are of scores rounded to quarters of log-odds, as the sums hold them.

    Raises:
        MismatchedSums: the sums were made under another rule.
    """
    if not any(each.n for each in sums):
        return Metrics(), Metrics()
    total = total_of(sums)
    champion_loss = total.sum_champion_loss / total.n_bets
    lost = (champion_loss, champion_loss - total.sum_d / total.n_bets)
    champion, challenger = _added_up(total.tallies, lost, rule)
    if total.scores is None or total.calibration is None:
        return champion, challenger
    negatives, positives = total.scores.tables()
    first, second = (
        msgspec.structs.replace(
            metrics,
            **_ranked(negatives.sum(axis=axis), positives.sum(axis=axis)),
            log_e_miscalibrated=log_e_miscalibrated(growth),
        )
        for metrics, axis, growth in (
            (champion, 1, total.calibration.champion), (challenger, 0, total.calibration.challenger)
        )
    )  # fmt: skip
    return first, second


def _added_up(tallies: Tallies | None, lost: tuple[float, float], rule: Rule) -> tuple[Metrics, Metrics]:
    """What sums over rows tell: all but the order of scores."""
    if tallies is None or tallies.weight == 0.0:
        return Metrics(loss=lost[0]), Metrics(loss=lost[1])
    champion, challenger = (
        _of_one(tally, tallies, loss, rule)
        for tally, loss in zip((tallies.champion, tallies.challenger), lost, strict=True)
    )
    return champion, challenger


def _of_one(tally: Tally, both: Tallies, loss: float, rule: Rule) -> Metrics:
    n = both.weight
    if not both.of_class:
        return Metrics(
            loss=loss,
            mean_absolute_error=tally.absolute / n,
            root_mean_squared_error=math.sqrt(tally.squared / n),
            bias=tally.miss / n,
        )
    found = Metrics(
        loss=loss,
        cost=tally.cost / n if rule.measured_by == "cost" else None,
        log_loss=tally.log_loss / n,
        brier=tally.brier / n,
        accuracy=tally.right / n,
        commonest_class=max(both.of_class) / n,
    )
    if len(both.of_class) != 2:
        return found
    return msgspec.structs.replace(
        found,
        mean_probability=tally.probability / n,
        base_rate=both.of_class[1] / n,
        observed_to_expected=both.of_class[1] / tally.probability if tally.probability > 0.0 else None,
    )


def _ranked(negatives: NDArray[np.int64], positives: NDArray[np.int64]) -> dict[str, float]:
    """Metrics of order from counts by level, lowest first; nothing while a class has no outcome."""
    n_negatives, n_positives = int(negatives.sum()), int(positives.sum())
    if not n_negatives or not n_positives:
        return {}
    below = np.cumsum(negatives) - negatives / 2.0
    hits, said = np.cumsum(positives[::-1]), np.cumsum((negatives + positives)[::-1])
    precision = np.divide(hits, said, out=np.zeros(len(hits)), where=said > 0)
    distance = np.cumsum(negatives) / n_negatives - np.cumsum(positives) / n_positives
    return {
        "auc": float(below @ positives) / (n_negatives * n_positives),
        "average_precision": float(positives[::-1] @ precision) / n_positives,
        "ks": float(np.abs(distance).max()),
    }


def auc(label: NDArray[np.int64], score: Floats) -> float:
    """The chance that a positive is scored above a negative, ties counting half.

    Equals mean(1.0 * (p > n) + 0.5 * (p == n) for p in positives for n in negatives)
    """
    _, level, counts = np.unique(score, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2.0
    n_positives = int(label.sum())
    rank_sum = float(mean_rank[level][label == 1].sum())
    return (rank_sum - n_positives * (n_positives + 1) / 2.0) / (n_positives * (len(label) - n_positives))


def average_precision(label: NDArray[np.int64], score: Floats) -> float:
    """Precision at each distinct score from the highest down, weighted by the positives that it adds.

    Equals sum((recall[k] - recall[k - 1]) * precision[k] for k in thresholds)
    """
    order = np.argsort(-score, kind="stable")
    last = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    n_hits = np.cumsum(label[order])[last]
    return float((np.diff(n_hits, prepend=0) * n_hits / (last + 1)).sum() / label.sum())


def ks_statistic(first: Floats, second: Floats) -> float:
    """The largest distance between two distribution functions (Kolmogorov & Smirnov)."""
    points = np.concatenate([first, second])
    shares = [np.searchsorted(np.sort(values), points, side="right") / len(values) for values in (first, second)]
    return float(np.abs(shares[0] - shares[1]).max())
