"""From scores to losses: what each version lost on each row, and what it could have lost at most.

Both answers are known before the outcome, so the worst difference that a row can make is known too: the gap.
It is what allows large bets where the two versions nearly agree (see `eprocess`).
"""

from typing import Any, assert_never

import msgspec
import numpy as np
from numpy.typing import NDArray

from retrain.evidence.errors import ImpossibleValue, MismatchedPairs, MissingPrior, UnusedColumn
from retrain.evidence.pairs import OPTIONAL_COLUMNS, Pairs
from retrain.evidence.rule import Rule

Floats = NDArray[np.float64]

ROUNDING = 1e-6  # a float32 softmax may answer 1.0000001
ROUNDING_OF_SUMS = 1e-3  # of a row of class probabilities in half precision
LARGEST_NUMBER = 1e100  # its square, summed over any run, is still a float64


class PairedLosses(msgspec.Struct, frozen=True, eq=False):
    """One entry a row with a known outcome, each array of shape (n,), in units of loss.

    `champion`: its loss; `difference` d: champion's loss less challenger's, above 0 where the challenger was better;
    `gap`: the largest -d that any outcome could have made; `gap_reverse`: the largest d; both >= 0;
    `failed`: the challenger gave no answer and was scored as the prior; `label`: index of the class (regression: 0).
    """

    champion: Floats
    difference: Floats
    gap: Floats
    gap_reverse: Floats
    failed: NDArray[np.bool_]
    label: NDArray[np.int64]


def check(pairs: Pairs, rule: Rule) -> int:
    """See that every row can be judged; returns the number of classes, 0 for regression.

    Raises:
        UnusedColumn: `pairs` holds a column that this rule would have to ignore.
        MismatchedPairs: the scores do not have the dimensions of the task.
        ImpossibleValue: an outcome, or a champion's score, that the task does not have.
        MissingPrior: regression, the challenger failed on a row and the rule has no prior.
    """
    for column in OPTIONAL_COLUMNS:
        if getattr(pairs, column) is not None:
            raise UnusedColumn(column)
    n_classes = n_classes_of(pairs, rule)
    outcome, known = pairs.outcome, ~np.isnan(pairs.outcome)
    if n_classes == 0:
        _demand(_is_number(pairs.champion), "champion", "finite numbers", pairs.champion)
        _demand(_is_number(outcome) | ~known, "outcome", "finite numbers, or NaN", outcome)
        n_failed = int((known & ~_is_number(pairs.challenger)).sum())
        if n_failed and rule.prior is None:
            raise MissingPrior(n_failed)
        return 0
    _, answered = _class_probabilities(pairs.champion)
    _demand(answered, "champion", "probabilities (of the positive class, or of all classes)", pairs.champion)
    is_class = (outcome >= 0) & (outcome < n_classes) & (outcome == np.floor(outcome))
    _demand(is_class | ~known, "outcome", f"a class from 0 to {n_classes - 1}, or NaN", outcome)
    return n_classes


def n_classes_of(pairs: Pairs, rule: Rule) -> int:
    """2 for binary, the width of the scores for multiclass, 0 for regression.

    Raises:
        MismatchedPairs: the scores do not have the dimensions of the task.
    """
    dimensions, width = pairs.champion.ndim, pairs.champion.shape[-1] if pairs.champion.ndim == 2 else 1
    match rule.task:
        case "multiclass":
            if dimensions != 2 or width < 2:
                raise MismatchedPairs("champion", "shape (n, n_classes) for multiclass", f"{pairs.champion.shape}")
            return width
        case "binary" | "regression":
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
    return _absolute_errors(pairs, rule) if n_classes == 0 else _log_losses(pairs, rule, n_classes)


def _log_losses(pairs: Pairs, rule: Rule, n_classes: int) -> PairedLosses:
    """Clipped log loss of the class that happened.

    Equals, for each row with outcome y:
    d   = ln(clip(challenger[y])) - ln(clip(champion[y]))
    gap = max(0, max(ln(clip(champion[k])) - ln(clip(challenger[k])) for k in classes))
    """
    known = ~np.isnan(pairs.outcome)
    champion, _ = _class_probabilities(pairs.champion[known])
    challenger, answered = _class_probabilities(pairs.challenger[known])
    challenger[:, ~answered] = np.array(rule.class_rates(n_classes))[:, np.newaxis]

    epsilon = rule.epsilon(n_classes)
    log_champion = np.log(np.clip(champion, epsilon, 1.0 - epsilon))
    log_challenger = np.log(np.clip(challenger, epsilon, 1.0 - epsilon))
    label = pairs.outcome[known].astype(np.int64)
    row = np.arange(len(label))
    advantage = log_challenger - log_champion  # (n_classes, n): the difference that each outcome would make
    return PairedLosses(
        champion=-log_champion[label, row],
        difference=advantage[label, row],
        gap=np.maximum(0.0, -advantage.min(axis=0)),
        gap_reverse=np.maximum(0.0, advantage.max(axis=0)),
        failed=~answered,
        label=label,
    )


def _absolute_errors(pairs: Pairs, rule: Rule) -> PairedLosses:
    """Absolute error over `rule.scale`; by the triangle inequality |d| <= |champion - challenger| / scale."""
    known = ~np.isnan(pairs.outcome)
    outcome, champion, challenger = pairs.outcome[known], pairs.champion[known], pairs.challenger[known]
    failed = ~_is_number(challenger)
    if rule.prior is not None:
        challenger = np.where(failed, rule.prior, challenger)
    scale = rule.scale if rule.scale is not None else 1.0
    champion_loss = np.abs(outcome - champion) / scale
    gap = np.abs(champion - challenger) / scale
    return PairedLosses(
        champion=champion_loss,
        difference=champion_loss - np.abs(outcome - challenger) / scale,
        gap=gap,
        gap_reverse=gap,
        failed=failed,
        label=np.zeros(len(outcome), dtype=np.int64),
    )


def _class_probabilities(scores: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Class × row probabilities, and which rows are an answer: within [0, 1], adding to 1."""
    table = np.stack([1.0 - scores, scores]) if scores.ndim == 1 else scores.T.copy()
    in_range = ((table >= -ROUNDING) & (table <= 1.0 + ROUNDING)).all(axis=0)
    table[:, ~in_range] = 0.0
    return table, in_range & (np.abs(table.sum(axis=0) - 1.0) <= ROUNDING_OF_SUMS)


def _is_number(values: Floats) -> NDArray[np.bool_]:
    return np.abs(values) <= LARGEST_NUMBER


def _demand(holds: NDArray[np.bool_], column: str, expected: str, values: NDArray[Any]) -> None:
    if not holds.all():
        row = int(np.argmin(holds))
        raise ImpossibleValue(column, expected, values[row].tolist(), row)
