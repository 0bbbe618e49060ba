"""Sums of what is shown beside the evidence: errors of both versions that add up over buckets. They decide nothing."""

from typing import assert_never

import msgspec
import numpy as np
from numpy.typing import NDArray

from retrain.evidence.losses import classes, n_classes_of, paired_losses, probabilities_of
from retrain.evidence.pairs import Pairs
from retrain.evidence.rule import Rule

Floats = NDArray[np.float64]


class Tally(msgspec.Struct, frozen=True, array_like=True):
    """Sums of one version over the rows whose outcome is known, each times its weight where it has one.

    Of classes the first five, of which `probability` (of the second class) of two alone, and `cost` where decisions
    have one, in the units of the matrix; of numbers the last three, of forecast minus outcome.
    """

    log_loss: float = 0.0
    brier: float = 0.0
    right: float = 0.0
    probability: float = 0.0
    cost: float = 0.0
    absolute: float = 0.0
    squared: float = 0.0
    miss: float = 0.0

    def __add__(self, other: "Tally") -> "Tally":
        mine, its = msgspec.structs.astuple(self), msgspec.structs.astuple(other)
        return Tally(*(a + b for a, b in zip(mine, its, strict=True)))


class Tallies(msgspec.Struct, frozen=True, array_like=True):
    """Of both versions, with the weight that stands for the rows, in all and of each class."""

    champion: Tally
    challenger: Tally
    weight: float
    of_class: tuple[float, ...]

    def __add__(self, other: "Tallies") -> "Tallies":
        return Tallies(
            self.champion + other.champion,
            self.challenger + other.challenger,
            self.weight + other.weight,
            tuple(a + b for a, b in zip(self.of_class, other.of_class, strict=True)),
        )


def tallies_of(pairs: Pairs, rule: Rule) -> Tallies | None:
    """The sums of some rows; None for recommendations, of which a loss is all that can be said.

    Raises:
        EvidenceError: what `losses.check` refuses.
    """
    matured = pairs.rows(~np.isnan(pairs.outcome))
    weight = np.ones(len(matured)) if matured.weight is None else matured.weight
    n_classes = n_classes_of(pairs, rule)
    match rule.task:
        case "recommendation":
            return None
        case "regression":
            failed = paired_losses(matured, rule).failed
            challenger = np.where(failed, rule.prior or 0.0, matured.challenger)
            both = [_of_numbers(answer - matured.outcome, weight) for answer in (matured.champion, challenger)]
            return Tallies(both[0], both[1], float(weight.sum()), ())
        case "binary" | "multiclass":
            label = matured.outcome.astype(np.int64)
            tables = probabilities_of(matured, rule, n_classes)[:2]
            both = [
                _of_classes(table, label, weight, cut, matured.amount, rule)
                for table, cut in zip(tables, rule.cut if n_classes == 2 else (0.5, 0.5), strict=True)
            ]
            of_class = np.bincount(label, weights=weight, minlength=n_classes)
            return Tallies(both[0], both[1], float(weight.sum()), tuple(of_class.tolist()))
        case _:
            assert_never(rule.task)


def _of_classes(
    table: Floats, label: NDArray[np.int64], weight: Floats, cut: float, amount: Floats | None, rule: Rule
) -> Tally:
    row = np.arange(len(label))
    right = (table[1] >= cut) == label if len(table) == 2 else table.argmax(axis=0) == label
    cost = np.zeros(len(label))
    if rule.measured_by == "cost":
        cost = classes.cost(table[1], cut, rule.cost_matrix)[label, row] * (1.0 if amount is None else amount)
    return Tally(
        log_loss=float(classes.log_loss(table, 1e-15)[label, row] @ weight),
        brier=float(classes.brier(table)[label, row] @ weight),
        right=float(right @ weight),
        probability=float(table[1] @ weight) if len(table) == 2 else 0.0,
        cost=float(cost @ weight),
    )


def _of_numbers(miss: Floats, weight: Floats) -> Tally:
    return Tally(absolute=float(np.abs(miss) @ weight), squared=float(miss**2 @ weight), miss=float(miss @ weight))
