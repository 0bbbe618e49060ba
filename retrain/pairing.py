"""From what was logged of a row to a pair: two scores, an outcome, and what its loss is measured by.

Only what stood in the journal when the prediction was made tells how a row is treated: its inputs, its association
id, what was decided and how probable that was. The outcome, and who reported it, is all that came later.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from gateway.chunk import SKIPPED, STATUSES, Chunk, Layout, ShadowChunk, unpack_columns, unpack_outputs
from gateway.columns import Array, score_of
from gateway.journal import ChunkHead
from registry.types import Policy, Signature
from retrain.evidence import PairedCounts, Pairs, Rule, Serving, at_stake_of, level_of
from retrain.names import few, within_cap
from retrain.population import Population, observed

SCORED = STATUSES.index("scored")
SKIPPED_CODES = [STATUSES.index(reason) for reason in sorted(SKIPPED)]
SAMPLED_OUT = STATUSES.index("sampled_out")
_SMALLEST_AMOUNT = 1e-30


class Facts(Struct, frozen=True, eq=False):
    """One chunk with its outcomes, whoever is held against it. Arrays have an entry a row."""

    head: ChunkHead
    chunk: Chunk
    layout: Layout
    champion: Array
    outcome: Array
    """Index of the class, or the number; NaN where none came in time and none is declared."""
    source: Array
    """Who reported it; empty where nobody did."""


class Answered(Struct, frozen=True, eq=False):
    """One version's side of a bucket: pairs with their addresses `(n, 3)`, segments by further features, counts."""

    pairs: Pairs
    addresses: Array
    further_segments: tuple[Array, ...]
    serving: Serving
    population: Population
    at_stake_undue: float


def answered(
    facts: Sequence[Facts],
    shadows: Sequence[ShadowChunk],
    layouts: Sequence[Layout],
    signature: Signature,
    policy: Policy,
    rule: Rule,
    learned_until_us: int | None,
) -> Answered:
    """The pairs of a version with the champion: a shadow chunk, with its layout, beside each chunk of a bucket.

    Of rows that were predicted by `learned_until_us` there are none: the version may know their outcomes by heart.
    """
    parts = [
        _Part(*each, signature, policy, rule, learned_until_us) for each in zip(facts, shadows, layouts, strict=True)
    ]
    chosen = _within_cap(parts, policy.max_source_share)

    def column(name: str) -> Array:
        return np.concatenate([getattr(part, name)[rows] for part, rows in zip(parts, chosen, strict=True)])

    def optional(name: str, missing: object) -> Array | None:
        """A column that only some of the chunks have."""
        if all(getattr(part, name) is None for part in parts):
            return None
        return np.concatenate(
            [
                np.full(len(rows), missing) if getattr(part, name) is None else getattr(part, name)[rows]
                for part, rows in zip(parts, chosen, strict=True)
            ]
        )

    outcome = column("outcome")
    segments = [np.concatenate(of_all) for of_all in zip(*(part.segments(rows) for part, rows in
                zip(parts, chosen, strict=True)), strict=True)]  # fmt: skip
    pairs = Pairs(
        outcome,
        column("champion"),
        column("challenger"),
        np.full(len(outcome), facts[0].head.bucket),
        weight=optional("weight", 1.0),
        amount=optional("amount", 1.0),
        segment=few(segments[0]) if segments else None,
        source=few(column("source")),
        entity=optional("entity", ""),
        scale=optional("scale", rule.scale if rule.scale is not None else 1.0),
    )
    population = sum((part.population for part in parts), Population())
    n_over_cap = sum(len(part.rows) for part in parts) - len(outcome)
    return Answered(
        pairs=pairs,
        addresses=np.concatenate([_addresses(part.head, rows) for part, rows in zip(parts, chosen, strict=True)]),
        further_segments=tuple(map(few, segments[1:])),
        serving=sum((part.serving for part in parts), Serving()),
        population=population + Population(n_over_cap=n_over_cap),
        at_stake_undue=math.fsum(part.at_stake_undue for part in parts),
    )


class _Part:
    """One chunk and one version's answers to it."""

    def __init__(
        self, facts: Facts, shadow: ShadowChunk, layout: Layout, signature: Signature, policy: Policy, rule: Rule,
        learned_until_us: int | None,
    ) -> None:  # fmt: skip
        n_rows, status = facts.head.n_rows, np.frombuffer(shadow.status, np.uint8)
        self.head, self.source, self.champion = facts.head, facts.source, facts.champion
        self._metric, self._chunk, self._layout = policy.metric, facts.chunk, facts.layout
        self.challenger = np.full(facts.champion.shape, np.nan)
        if shadow.outputs is not None:
            scored = status == SCORED
            self.challenger[scored] = score_of(unpack_outputs(shadow.outputs, layout.outputs), signature)[scored]
        given = ~np.isin(status, SKIPPED_CODES)
        looked_at = observed(facts.chunk.requests, n_rows, policy)
        self.outcome = np.where(looked_at.seen, facts.outcome, np.nan)
        self.weight = self._weight(looked_at.weight, policy, rule)
        self.entity = _entities(facts.chunk)
        self._inputs = self._known_inputs()
        self.amount = self._amount() if policy.metric.amount_feature else None
        self.scale = self._scale(rule) if policy.metric.scale_feature else None
        fresh = given if learned_until_us is None else given & (facts.chunk.predicted_at_us() > learned_until_us)
        self.rows = np.flatnonzero(fresh & looked_at.due)
        self.serving = self._served(shadow, status, given, policy.latency_limit_ms)  # to fail there is to fail
        self.population = Population(int(fresh.sum()), len(self.rows), n_learned=int((given & ~fresh).sum()))
        self.at_stake_undue = self._at_stake(np.flatnonzero(fresh & ~looked_at.due), rule)

    def _at_stake(self, undue: Array, rule: Rule) -> float:
        """By how much the two versions disagree about rows that can never have an outcome."""
        if len(undue) == 0:
            return 0.0
        return at_stake_of(
            Pairs(
                np.full(len(undue), np.nan),
                self.champion[undue],
                self.challenger[undue],
                np.full(len(undue), self.head.bucket),
                amount=None if self.amount is None else self.amount[undue],
                scale=None if self.scale is None else self.scale[undue],
            ),
            rule,
        )

    def segments(self, rows: Array) -> list[Array]:
        """`feature=value` of some rows, for each feature that the terms name."""
        return [
            np.array([f"{name}={value}" for value in self._input(name)[rows].tolist()], dtype=np.str_)
            if len(rows) else np.empty(0, "U1")
            for name in self._metric.segments
        ]  # fmt: skip

    def _weight(self, weight: Array | None, policy: Policy, rule: Rule) -> Array | None:
        """1 / what was logged; of a shown item without it, the champion's own probability stands for it."""
        if rule.measured_by != "reward":
            return weight
        chance = self._chunk.requests.propensities
        if chance is None:
            return None
        logged = np.array([np.nan if p is None else p for p in chance], np.float64)
        return 1.0 / np.where(np.isnan(logged), np.clip(self.champion, 1e-30, 1.0), logged)

    def _known_inputs(self) -> dict[str, Array]:
        """The inputs that the terms name, as they were logged; empty where they were erased."""
        metric = self._metric
        wanted = {*metric.segments, metric.amount_feature, metric.scale_feature} - {None}
        if not wanted or self._chunk.inputs is None:
            return {}
        columns = unpack_columns(self._chunk, self._layout).by_name(self._layout.groups)
        return {name: values for name, values in columns.items() if name in wanted}

    def _input(self, name: str) -> Array:
        """A feature's values; None a row where it was erased, or was no feature yet."""
        return self._inputs.get(name, np.full(self.head.n_rows, None, object))

    def _amount(self) -> Array:
        """What a row's cost is multiplied by; what is no amount costs nothing."""
        amount = self._input(self._metric.amount_feature or "").astype(np.float64)
        return np.where(amount > _SMALLEST_AMOUNT, amount, _SMALLEST_AMOUNT)

    def _scale(self, rule: Rule) -> Array:
        """What a row's error is divided by: the logged scale, or the one of training where there is none."""
        scale = self._input(self._metric.scale_feature or "").astype(np.float64)
        return np.where(scale > 0.0, scale, rule.scale if rule.scale is not None else 1.0)

    def _served(self, shadow: ShadowChunk, status: Array, given: Array, limit_ms: float | None) -> Serving:
        """Failures over all rows that it was given, and slow answers over those that were timed.

        The champion answered every row that is in the journal, so only the challenger can have failed.
        """
        n, failed = int(given.sum()), int((given & (status != SCORED)).sum())
        slow = PairedCounts()
        timed = {} if shadow.alone_us is None else {level_of(shadow.alone_us): 1}
        if limit_ms is not None and shadow.alone_us is not None and n:
            champion_us = int(np.frombuffer(self._chunk.requests.latency_us, "<u4")[0])
            is_slow, was_slow = shadow.alone_us > 1e3 * limit_ms, champion_us > 1e3 * limit_ms
            slow = PairedCounts(1, int(was_slow and not is_slow), int(is_slow and not was_slow))
        return Serving(PairedCounts(n, 0, failed), slow, self.head.n_rows, n, timed)


def _entities(chunk: Chunk) -> Array | None:
    """Rows of one association id are one proof; rows without any are their own."""
    names = chunk.requests.associations
    return None if names is None else np.array(["" if name is None else name for name in names], dtype=np.str_)


def _addresses(head: ChunkHead, rows: Array) -> Array:
    """`(n, 3)`: writer, seq and row."""
    return np.stack([np.full(len(rows), head.writer), np.full(len(rows), head.seq), rows], axis=1).astype("<i8")


def _within_cap(parts: Sequence[_Part], share: float | None) -> list[Array]:
    """The due rows of each part, without those that are too many of one source."""
    if share is None or share >= 1.0:
        return [part.rows for part in parts]
    is_known = np.concatenate([~np.isnan(part.outcome[part.rows]) for part in parts])
    source = np.concatenate([part.source[part.rows] for part in parts])
    addresses = np.concatenate([_addresses(part.head, part.rows) for part in parts])
    keep = within_cap(np.where(is_known, source, ""), addresses, int(is_known.sum()), share)
    masks = np.split(keep, np.cumsum([len(part.rows) for part in parts])[:-1])
    return [part.rows[mask] for part, mask in zip(parts, masks, strict=True)]
