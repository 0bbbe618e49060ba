"""Metrics for people: they are shown beside the evidence and never decide anything.

Most cannot be added up over rows, so they have no exact test; a threshold on one of them is a matter of luck.
"""

import math
from typing import assert_never

import msgspec
import numpy as np
from numpy.typing import NDArray

from retrain.evidence.losses import check, classes, paired_losses, probabilities_of
from retrain.evidence.pairs import Pairs
from retrain.evidence.rule import Rule

Floats = NDArray[np.float64]


class Metrics(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Of one version on the rows whose outcome is known. `loss` is the one that decides.

    None where the task has no such metric, or where it needs both classes. A failed answer counts as the prior's.
    """

    loss: float | None = None
    auc: float | None = None
    average_precision: float | None = None
    ks: float | None = None
    log_loss: float | None = None
    brier: float | None = None
    accuracy: float | None = None
    mean_probability: float | None = None
    """To be held against the share of positives, `base_rate`: calibration in the large."""
    base_rate: float | None = None
    mean_absolute_error: float | None = None
    root_mean_squared_error: float | None = None
    bias: float | None = None
    """Mean of forecast minus outcome."""


def metrics_of(pairs: Pairs, rule: Rule) -> tuple[Metrics, Metrics]:
    """Of the champion and of the challenger.

    Raises:
        EvidenceError: what `losses.check` refuses.
    """
    n_classes = check(pairs, rule)
    matured = pairs.rows(~np.isnan(pairs.outcome))
    if len(matured) == 0:
        return Metrics(), Metrics()
    losses = paired_losses(matured, rule)
    lost = (losses.champion, losses.champion - losses.difference)
    match rule.task:
        case "binary" | "multiclass":
            tables = probabilities_of(matured, rule, n_classes)[:2]
            cuts = rule.cut if n_classes == 2 else (0.5, 0.5)
            of_both = [_of_classes(table, losses.label, cut) for table, cut in zip(tables, cuts, strict=True)]
        case "regression":
            challenger = np.where(losses.failed, rule.prior or 0.0, matured.challenger)
            of_both = [_of_numbers(forecast, matured.outcome) for forecast in (matured.champion, challenger)]
        case "recommendation":
            of_both = [Metrics(), Metrics()]
        case _:
            assert_never(rule.task)
    champion, challenger_metrics = (
        msgspec.structs.replace(metrics, loss=float(values.mean()))
        for metrics, values in zip(of_both, lost, strict=True)
    )
    return champion, challenger_metrics


def _of_classes(table: Floats, label: NDArray[np.int64], cut: float) -> Metrics:
    row = np.arange(len(label))
    shared = {
        "log_loss": float(classes.log_loss(table, 1e-15)[label, row].mean()),
        "brier": float(classes.brier(table)[label, row].mean()),
    }
    if len(table) != 2:
        return Metrics(**shared, accuracy=float((table.argmax(axis=0) == label).mean()))
    score = table[1]
    has_both = 0 < label.sum() < len(label)
    return Metrics(
        **shared,
        auc=auc(label, score) if has_both else None,
        average_precision=average_precision(label, score) if has_both else None,
        ks=ks_statistic(score[label == 0], score[label == 1]) if has_both else None,
        accuracy=float(((score >= cut) == label).mean()),
        mean_probability=float(score.mean()),
        base_rate=float(label.mean()),
    )


def _of_numbers(forecast: Floats, outcome: Floats) -> Metrics:
    miss = forecast - outcome
    return Metrics(
        mean_absolute_error=float(np.abs(miss).mean()),
        root_mean_squared_error=math.sqrt(float((miss * miss).mean())),
        bias=float(miss.mean()),
    )


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
