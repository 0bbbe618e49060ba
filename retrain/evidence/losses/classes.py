"""Losses of class probabilities, for every class that could have happened: tables of shape (n_classes, n)."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Costs = tuple[tuple[float, float], tuple[float, float]]

ROUNDING = 1e-6  # a float32 softmax may answer 1.0000001
ROUNDING_OF_SUMS = 1e-3  # of a row of class probabilities in half precision


def table_of(scores: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Class × row probabilities, and which rows are an answer: within [0, 1], adding to 1."""
    table = np.stack([1.0 - scores, scores]) if scores.ndim == 1 else scores.T.copy()
    in_range = ((table >= -ROUNDING) & (table <= 1.0 + ROUNDING)).all(axis=0)
    table[:, ~in_range] = 0.0
    return table, in_range & (np.abs(table.sum(axis=0) - 1.0) <= ROUNDING_OF_SUMS)


def is_answer(scores: Floats) -> NDArray[np.bool_]:
    """Which rows hold probabilities."""
    return table_of(scores)[1]


def log_loss(table: Floats, epsilon: float) -> Floats:
    """-ln of the probability that the class was given, cut to [ε, 1 - ε]."""
    return -np.log(np.clip(table, epsilon, 1.0 - epsilon))


def brier(table: Floats) -> Floats:
    """Half the squared distance to what happened, from 0 to 1; for two classes (p - y)².

    Equals, for each class k: sum((p - (i == k)) ** 2 for i, p in enumerate(row)) / 2
    """
    table = np.clip(table, 0.0, 1.0)
    distance: Floats = ((table * table).sum(axis=0) + 1.0 - 2.0 * table) / 2.0
    return np.clip(distance, 0.0, 1.0)


def cost(positive: Floats, threshold: float, costs: Costs) -> Floats:
    """What the decision costs, `costs[decision][outcome]`; it is 1 from the threshold on."""
    decision = (positive >= threshold).astype(np.int64)
    return np.array(costs, dtype=np.float64).T.take(decision, axis=1)


def unit_costs(costs: Costs) -> Costs:
    """The same costs in units of the largest difference that a decision can make."""
    (keep_right, keep_wrong), (act_wrong, act_right) = costs
    largest = max(act_wrong - keep_right, keep_wrong - act_right)
    return ((keep_right / largest, keep_wrong / largest), (act_wrong / largest, act_right / largest))
