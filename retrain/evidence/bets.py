"""From rows to bets: what is weighted by its logged probability, and which rows are one proof together.

**Weights.** Where only some outcomes are seen and the probability π of seeing each was logged, every row that was due
is a bet: d/π where the outcome was seen, 0 where it was not. Its expectation is that of d over all rows (Horvitz &
Thompson 1952), and as the answers are known before, gap/π bounds its loss, whether it will be seen or not.

**Entities.** Rows of one entity in one bucket (one application scored twenty times) are one bet: the mean of their d,
with the mean of their gaps. It stays an e-process for "the mean difference of an entity is not above δ": take entities
in any order; given what went before, the mean of an entity's d has as expectation the mean of its rows' conditional
expectations, whatever the rows share, and it is at least minus the mean gap, so 1 + λ(d - δ) stays above 0 for the
same bets. An entity that comes back in another bucket gives another bet: a new answer with a new outcome is a new
proof. (Where one outcome is joined to several predictions, entities that come back make days alike, which is what
windows of days are for.)
"""

import msgspec
import numpy as np
from numpy.typing import NDArray

from retrain.evidence.losses import PairedLosses, paired_losses, probabilities_of
from retrain.evidence.pairs import NO_NAME, Pairs
from retrain.evidence.rule import Rule

Floats = NDArray[np.float64]


class Scored(msgspec.Struct, frozen=True, eq=False):
    """Probabilities of a binary task with what happened, one entry a matured row or entity (then means)."""

    outcome: Floats
    champion: Floats
    challenger: Floats


class Bets(msgspec.Struct, frozen=True, eq=False):
    """One entry a bet, of one bucket: a matured row, or all rows of one entity; with weights any row that was due.

    `difference`, `gap`, `gap_reverse`, `champion_loss`: in units of loss, weighted.
    `pay_premiums`: a row whose gap could ruin a bet pays for it (see `eprocess`). Not where the gap itself is drawn:
    a weight may be logged only where the outcome was seen, and of a recommendation it depends on the item shown.
    `n_due`: rows or entities that were due; `n`: those of which an outcome is known; `n_failed`: of these, the ones
    that the challenger failed on; `class_counts`: of these, how many had an outcome of each class.
    `weight`: of each known row or entity, what it stands for; importance weights for recommendations.
    `at_stake`, `at_stake_unseen`: Σ(gap + gap_reverse) of rows with and without an outcome, unweighted.
    `scored`: None where the task is not binary.
    """

    difference: Floats
    gap: Floats
    gap_reverse: Floats
    pay_premiums: bool
    champion_loss: Floats
    n_due: int
    n: int
    n_failed: int
    class_counts: tuple[int, ...]
    weight: Floats
    at_stake: float
    at_stake_unseen: float
    scored: Scored | None


def is_weighted(pairs: Pairs, rule: Rule) -> bool:
    """Whether rows without an outcome are bets too, because the chance of seeing it was logged."""
    return pairs.weight is not None and rule.measured_by != "reward"


def bets_of(pairs: Pairs, rule: Rule, n_classes: int) -> Bets:
    """The bets that rows of one bucket make; a shard of a bucket must hold its entities whole.

    Raises:
        EvidenceError: what `losses.check` refuses.
    """
    losses = paired_losses(pairs, rule)
    is_known = ~np.isnan(pairs.outcome)
    known, unknown = np.flatnonzero(is_known), np.flatnonzero(~is_known)
    unseen = _gaps_unseen(pairs.rows(unknown), rule)
    due, matured = _Groups(pairs.entity, slice(None), len(pairs)), _Groups(pairs.entity, known, len(known))
    of_losses = (losses.difference, losses.gap, losses.gap_reverse, losses.champion)
    if pairs.weight is not None and is_weighted(pairs, rule):
        # what a row could lose is known before anybody knows whether its outcome will be seen
        weight, nothing = np.nan_to_num(pairs.weight), np.zeros(len(unknown))
        of_unknown = (nothing, *unseen, nothing)
        of_bets = []
        for seen_values, unseen_values in zip(of_losses, of_unknown, strict=True):
            values = np.empty(len(pairs))
            values[known], values[unknown] = seen_values, unseen_values
            of_bets.append(due.means(values * weight))
    else:
        of_bets = [matured.means(values) for values in of_losses]
    difference, gap, gap_reverse, champion_loss = of_bets
    return Bets(
        difference=difference,
        gap=gap,
        gap_reverse=gap_reverse,
        pay_premiums=pairs.weight is None and rule.measured_by != "reward",
        champion_loss=champion_loss,
        n_due=due.n,
        n=matured.n,
        n_failed=matured.n_with(losses.failed),
        class_counts=tuple(matured.n_with(losses.label == k) for k in range(n_classes)),
        weight=matured.means(_weights(pairs, known, losses, rule)),
        at_stake=float((losses.gap + losses.gap_reverse).sum()),
        at_stake_unseen=float(sum(gaps.sum() for gaps in unseen)),
        scored=_scored(pairs.rows(known), losses, matured, rule) if n_classes == 2 else None,
    )


def at_stake_of(pairs: Pairs, rule: Rule) -> float:
    """Σ(gap + gap_reverse) of rows whose outcome nobody sees: by how much the two versions disagree about them.

    0 for recommendations: what was shown stands, by its weight, for what was not.
    """
    if rule.measured_by == "reward":
        return 0.0
    return float(sum(gaps.sum() for gaps in _gaps_unseen(pairs, rule)))


class _Groups:
    """Rows by entity; every row by itself where it has none."""

    def __init__(self, entity: NDArray[np.str_] | None, which: NDArray[np.intp] | slice, n_rows: int) -> None:
        self.n, self._of_row, self._sizes = n_rows, None, None
        if entity is None:
            return
        names = entity[which]
        alone = names == NO_NAME
        distinct, of_named = np.unique(names[~alone], return_inverse=True)
        self.n = len(distinct) + int(alone.sum())
        self._of_row = np.empty(n_rows, dtype=np.intp)
        self._of_row[~alone] = of_named
        self._of_row[alone] = np.arange(len(distinct), self.n)
        self._sizes = np.bincount(self._of_row, minlength=self.n)

    def means(self, values: Floats) -> Floats:
        """The mean of each entity's rows."""
        if self._of_row is None or self._sizes is None:
            return values
        return np.bincount(self._of_row, weights=values, minlength=self.n) / self._sizes

    def n_with(self, holds: NDArray[np.bool_]) -> int:
        """Entities with a row of which this holds."""
        return int(holds.sum()) if self._of_row is None else len(np.unique(self._of_row[holds]))


def _gaps_unseen(unseen: Pairs, rule: Rule) -> tuple[Floats, Floats]:
    """Gap and gap in reverse of rows without an outcome: they are known without one, so any stands in for it."""
    if len(unseen) == 0:
        return np.empty(0), np.empty(0)
    with_any = msgspec.structs.replace(unseen, outcome=np.zeros(len(unseen)), weight=None)
    losses = paired_losses(with_any, rule if rule.prior is not None else msgspec.structs.replace(rule, prior=0.0))
    counts = ~losses.failed  # of numbers that failed there is nothing to say without a prior
    return losses.gap * counts, losses.gap_reverse * counts


def _weights(pairs: Pairs, known: NDArray[np.intp], losses: PairedLosses, rule: Rule) -> Floats:
    if rule.measured_by == "reward":
        return losses.gap_reverse  # w: how much more often the challenger would have shown the item
    return np.ones(len(known)) if pairs.weight is None else pairs.weight[known]


def _scored(matured: Pairs, losses: PairedLosses, groups: _Groups, rule: Rule) -> Scored:
    champion, challenger, _ = probabilities_of(matured, rule, 2)
    return Scored(*(groups.means(values) for values in (losses.label.astype(np.float64), champion[1], challenger[1])))
