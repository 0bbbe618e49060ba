"""From the terms of a reign to the rule that judges in it: policy and training reports, all frozen before its start."""

from __future__ import annotations

import math

from msgspec.structs import replace

from registry.types import Metric, Model, Reign, TrainingReport
from retrain.evidence import Rule, Task, probation_rule

DAY_S = 86_400


def rule_of(
    model: Model, reign: Reign, bucket_s: int, training: TrainingReport | None = None, *, place: int = 0
) -> Rule:
    """The rule by which a challenger with this training report is judged; its `digest` is the metric version.

    `place`: in which it came in this reign, from 0.

    The policy and the champion's report are as they were at the start of the reign, and a version's report never
    changes. Reports that were measured by another metric say nothing in the units of this one, and are left out.

    Raises:
        InvalidRule: nothing can be judged by these terms.
    """
    policy, metric = reign.policy, reign.policy.metric
    of_champion = reign.training if reign.training and reign.training.measures(metric) else None
    is_cost, is_reward = metric.loss == "cost", metric.loss == "reward"
    task: Task = "recommendation" if is_reward else model.task
    return Rule(
        task=task,
        loss=metric.loss,
        alpha=policy.alpha,
        n_slots=policy.one_of(place),
        margin=metric.margin,
        base_rate=reign.training.base_rate if reign.training and task == "binary" else None,
        prior=_prior(reign.training, task),
        reference_loss=of_champion.reference_loss if of_champion else None,
        clip=metric.clip,
        costs=costs_of(metric) if is_cost else None,
        thresholds=_thresholds(reign.training, training, metric) if is_cost else None,
        quantile=metric.quantile if metric.quantile is not None else 0.5,
        scale=of_champion.scale if of_champion else None,
        informed_bet=_informed_bet(reign, training),
        fast=metric.mode == "fast",
        min_outcomes=policy.min_outcomes,
        min_minority=policy.min_minority,
        min_coverage=policy.min_coverage,
        min_span_days=math.ceil(policy.min_span_days),
        max_corrected=policy.max_late_corrections,
        max_more_errors=policy.max_error_rate_increase,
        max_more_slow=policy.max_latency_increase,
        max_auc_loss=-policy.min_auc_difference,
        buckets_per_day=max(1, DAY_S // bucket_s),
    )


def probation_rule_of(model: Model, reign: Reign, bucket_s: int, previous: TrainingReport | None) -> Rule:
    """The rule under which the new champion is held against the previous one."""
    return replace(probation_rule(rule_of(model, reign, bucket_s, previous)), alpha=reign.policy.probation_alpha)


def _prior(training: TrainingReport | None, task: Task) -> float | None:
    """What a failed answer is replaced by: the best constant forecast; never showing an item."""
    match task:
        case "regression":
            return training.prior if training is not None and training.prior is not None else 0.0
        case "recommendation":
            return 0.0
        case _:
            return None


def costs_of(metric: Metric) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """The matrix of costs as a rule takes it; None where there is none."""
    if metric.cost is None:
        return None
    (c00, c01), (c10, c11) = metric.cost
    return (c00, c01), (c10, c11)


def _thresholds(
    champion: TrainingReport | None, challenger: TrainingReport | None, metric: Metric
) -> tuple[float, float] | None:
    """Each version decides by its own frozen threshold, or, where it names none, by the one that costs imply."""
    implied = metric.implied_threshold
    if implied is None:
        return None
    own = [report.threshold if report else None for report in (champion, challenger)]
    first, second = (implied if threshold is None else threshold for threshold in own)
    return first, second


def _informed_bet(reign: Reign, training: TrainingReport | None) -> float | None:
    """What was the best bet on a backtest against this very champion; a wrong one costs time, never validity."""
    backtest = training.backtest if training and training.measures(reign.policy.metric) else None
    return backtest.bet if backtest and backtest.champion == reign.champion else None
