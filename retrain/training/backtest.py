"""A version against the champion of its day, before it plays: on rows that neither of the two has learned from.

Those are the held-out rows that are later than everything the champion learned from; where it is not known until when
that was, there are none. The version that is registered learns from all rows, so what is measured here is its recipe
on the rows before them of which the outcomes were known by then, as it is for the reference loss. What comes of it is a
bet: a wrong one costs time, never validity.
"""

from __future__ import annotations

from datetime import UTC
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from gateway.columns import score_of
from registry.errors import NoChampion, RegistryError
from registry.limited_child import LimitedChild
from registry.store import Registry
from registry.types import Backtest, Version
from retrain.evidence import EvidenceError, Pairs, Rule
from retrain.evidence.eprocess import informed_bet
from retrain.evidence.losses import paired_losses
from retrain.terms import DAY_S, rule_of
from retrain.training.rows import MIN_ROWS, Rows

ROWS_AT_ONCE = 10_000


class Opponent(Struct, frozen=True):
    """The champion of now, and the rule by which challengers of its reign are judged."""

    version: Version
    artifact: bytes
    rule: Rule


def opponent_of(registry: Registry, model: str) -> Opponent | None:
    """The champion that a new version would challenge; None where there is none, or nothing to judge by."""
    try:
        champion = registry.version(model, registry.lineup(model).champion)
        rule = rule_of(registry.model(model), registry.reign(model), DAY_S)
    except (NoChampion, EvidenceError):
        return None
    return Opponent(champion, registry.artifact(champion), rule)


def backtest(
    opponent: Opponent, held_out: Rows, at: NDArray[np.datetime64], scores: NDArray[Any], measured: dict[str, Any]
) -> Backtest | None:
    """How the scores on held-out rows do against the champion's; None where that cannot be said honestly.

    `at`: when each of these rows was. `measured`: the columns that losses are measured by (`Rows.measured`).
    """
    champion, training = opponent.version, opponent.version.training
    until = training.trained_until if training is not None else None
    if until is None or champion.signature.classes != held_out.classes:
        return None
    unseen = np.flatnonzero(at > np.datetime64(until.astimezone(UTC).replace(tzinfo=None)))
    if len(unseen) < MIN_ROWS:
        return None
    try:
        theirs = _answers(opponent, held_out, unseen)
        pairs = Pairs(held_out.outcome, scores, scores, np.zeros(len(held_out), np.int64), **measured).rows(unseen)
        ours = pairs.challenger
        losses = paired_losses(Pairs(pairs.outcome, theirs, ours, pairs.bucket, amount=pairs.amount, scale=pairs.scale),
                               opponent.rule)  # fmt: skip
    except (RegistryError, EvidenceError):  # a champion that does not answer here, or not as its kind should
        return None
    weight = np.ones(len(unseen)) if held_out.weight is None else held_out.weight[unseen]
    mean = np.average(losses.difference, weights=weight)
    # an outcome that was seen by chance is bet on by its weight, and one that was not is a bet of nothing
    return Backtest(
        champion=champion.number,
        n_rows=len(unseen),
        mean_difference=float(mean),
        variance=float(np.average((losses.difference - mean) ** 2, weights=weight)),
        largest_gap=float(np.quantile(losses.gap * weight, 0.9999)),
        bet=informed_bet(losses.difference * weight, losses.gap * weight),
    )


def _answers(opponent: Opponent, rows: Rows, which: NDArray[np.intp]) -> NDArray[np.float64]:
    """The champion's scores, from a limited child as any model that somebody brought."""
    signature = opponent.version.signature
    names = [name for binding in signature.inputs for name in binding.features]
    parts = []
    with LimitedChild() as child:
        child.load(opponent.artifact, signature)
        for start in range(0, len(which), ROWS_AT_ONCE):
            some = which[start : start + ROWS_AT_ONCE]
            parts.append(score_of(child.run({name: rows.columns[name][some] for name in names}), signature))
    return np.concatenate(parts)
