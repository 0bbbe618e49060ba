"""From scores to losses: what each version lost on each row, and what it could have lost at most.

Both answers are known before the outcome, so the worst difference that a row can make is known too: the gap.
It is what allows large bets where the two versions nearly agree (see `eprocess`).
"""

from typing import assert_never

import msgspec
import numpy as np
from numpy.typing import NDArray

from retrain.evidence.errors import MismatchedPairs, MissingPrior, UnusedColumn
from retrain.evidence.losses import classes, numbers
from retrain.evidence.pairs import Pairs, demand
from retrain.evidence.rule import Rule

Floats = NDArray[np.float64]


class PairedLosses(msgspec.Struct, frozen=True, eq=False):
    """One entry a row with a known outcome, each array of shape (n,), in units of loss.

    `champion`: its loss; `difference` d: champion's loss less challenger's, above 0 where the challenger was better;
    `gap`: the largest -d that any outcome could have made; `gap_reverse`: the largest d; both >= 0;
    `failed`: the challenger gave no answer and was scored as the prior; `label`: index of the class (numbers: 0).
    """

    champion: Floats
    difference: Floats
    gap: Floats
    gap_reverse: Floats
    failed: NDArray[np.bool_]
    label: NDArray[np.int64]


def check(pairs: Pairs, rule: Rule) -> int:
    """See that every row can be judged; returns the number of classes, 0 for numbers.

    Raises:
        UnusedColumn: `pairs` holds a column that this rule would have to ignore.
        MismatchedPairs: the scores do not have the dimensions of the task.
        ImpossibleValue: an outcome, or a champion's score, that the task does not have.
        MissingPrior: the challenger failed on a row of numbers and the rule has no prior.
    """
    n_classes = n_classes_of(pairs, rule)
    for column, is_used in (("amount", rule.measured_by == "cost"), ("scale", rule.task == "regression")):
        if getattr(pairs, column) is not None and not is_used:
            raise UnusedColumn(column, rule.measured_by)
    outcome, known = pairs.outcome, ~np.isnan(pairs.outcome)
    if n_classes:
        demand(
            classes.is_answer(pairs.champion),
            "champion",
            "probabilities (of the positive class, or of all classes)",
            pairs.champion,
        )
        is_class = (outcome >= 0) & (outcome < n_classes) & (outcome == np.floor(outcome))
        demand(is_class | ~known, "outcome", f"a class from 0 to {n_classes - 1}, or NaN", outcome)
        return n_classes
    if rule.task == "recommendation":
        demand(numbers.is_chance(pairs.champion, above=0.0), "champion", "probabilities above 0", pairs.champion)
        demand((outcome >= 0.0) & (outcome <= 1.0) | ~known, "outcome", "a reward from 0 to 1, or NaN", outcome)
        answered = numbers.is_chance(pairs.challenger)
    else:
        demand(numbers.is_number(pairs.champion), "champion", "finite numbers", pairs.champion)
        demand(numbers.is_number(outcome) | ~known, "outcome", "finite numbers, or NaN", outcome)
        answered = numbers.is_number(pairs.challenger)
    n_failed = int((known & ~answered).sum())
    if n_failed and rule.prior is None:
        raise MissingPrior(n_failed)
    return 0


def n_classes_of(pairs: Pairs, rule: Rule) -> int:
    """2 for binary, the width of the scores for multiclass, 0 for numbers.

    Raises:
        MismatchedPairs: the scores do not have the dimensions of the task.
    """
    dimensions, width = pairs.champion.ndim, pairs.champion.shape[-1] if pairs.champion.ndim == 2 else 1
    match rule.task:
        case "multiclass":
            if dimensions != 2 or width < 2:
                raise MismatchedPairs("champion", "shape (n, n_classes) for multiclass", f"{pairs.champion.shape}")
            return width
        case "binary" | "regression" | "recommendation":
            if dimensions != 1:
                raise MismatchedPairs("champion", f"shape (n,) for {rule.task}", f"{pairs.champion.shape}")
            return 2 if rule.task == "binary" else 0
        case _:
            assert_never(rule.task)


def paired_losses(pairs: Pairs, rule: Rule) -> PairedLosses:
    """Losses of both versions on the rows whose outcome is known.

    Raises:
        EvidenceError: what `check` refuses.
    """
    n_classes = check(pairs, rule)
    known = ~np.isnan(pairs.outcome)
    matured = pairs if known.all() else pairs.rows(known)
    if n_classes == 0:
        return _of_numbers(matured, rule)
    return _of_classes(matured, rule, n_classes)


def probabilities_of(pairs: Pairs, rule: Rule, n_classes: int) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Class × row probabilities of champion and challenger, a failed row's from the prior; which rows it answered."""
    champion, _ = classes.table_of(pairs.champion)
    challenger, answered = classes.table_of(pairs.challenger)
    challenger[:, ~answered] = np.array(rule.class_rates(n_classes))[:, np.newaxis]
    return champion, challenger, answered


def _of_classes(pairs: Pairs, rule: Rule, n_classes: int) -> PairedLosses:
    """The loss that each class would make is known before: what happened picks one, the gap is the worst.

    Equals, for each row with outcome y:
    d   = loss(champion, y) - loss(challenger, y)
    gap = max(0, max(loss(challenger, k) - loss(champion, k) for k in classes))
    """
    champion, challenger, answered = probabilities_of(pairs, rule, n_classes)
    match rule.measured_by:
        case "log_loss":
            epsilon = rule.epsilon(n_classes)
            lost, would_lose = classes.log_loss(champion, epsilon), classes.log_loss(challenger, epsilon)
        case "brier":
            lost, would_lose = classes.brier(champion), classes.brier(challenger)
        case "cost":
            costs, cut = classes.unit_costs(rule.cost_matrix), rule.cut
            size = (pairs.amount if pairs.amount is not None else 1.0) / (rule.scale if rule.scale is not None else 1.0)
            lost, would_lose = (
                classes.cost(scores[1], threshold, costs) * size
                for scores, threshold in zip((champion, challenger), cut, strict=True)
            )
        case "absolute_error" | "pinball" | "reward":
            raise AssertionError(f"{rule.measured_by} is no loss of classes")
        case _:
            assert_never(rule.measured_by)
    label = pairs.outcome.astype(np.int64)
    row = np.arange(len(label))
    advantage = lost - would_lose  # (n_classes, n): the difference that each outcome would make
    return PairedLosses(
        champion=lost[label, row],
        difference=advantage[label, row],
        gap=np.maximum(0.0, -advantage.min(axis=0)),
        gap_reverse=np.maximum(0.0, advantage.max(axis=0)),
        failed=~answered,
        label=label,
    )


def _of_numbers(pairs: Pairs, rule: Rule) -> PairedLosses:
    is_reward = rule.measured_by == "reward"
    failed = ~(numbers.is_chance(pairs.challenger) if is_reward else numbers.is_number(pairs.challenger))
    challenger = pairs.challenger if rule.prior is None else np.where(failed, rule.prior, pairs.challenger)
    if is_reward:
        propensity = pairs.champion if pairs.weight is None else 1.0 / pairs.weight
        lost, would_lose, gap, gap_reverse = numbers.reward(pairs.outcome, pairs.champion, challenger, propensity)
    else:
        quantile = rule.quantile if rule.measured_by == "pinball" else None
        lost, would_lose, gap, gap_reverse = numbers.deviation(pairs.outcome, pairs.champion, challenger, quantile)
        scale = pairs.scale if pairs.scale is not None else (rule.scale if rule.scale is not None else 1.0)
        lost, would_lose, gap, gap_reverse = (values / scale for values in (lost, would_lose, gap, gap_reverse))
    return PairedLosses(
        champion=lost,
        difference=lost - would_lose,
        gap=gap,
        gap_reverse=gap_reverse,
        failed=failed,
        label=np.zeros(len(lost), dtype=np.int64),
    )
