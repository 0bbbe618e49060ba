"""The journal read once more, for what sums do not tell: other code's buckets, what is known by now, two challengers.

Each of these walks over all heads of chunks, so it is done where there is a reason: seldom.
"""

from __future__ import annotations

import numpy as np
from msgspec.structs import replace

from gateway.chunk import unpack_outputs
from gateway.clock import MICROSECONDS
from gateway.columns import Array, score_of
from gateway.journal import ChunkHead, Ledger, PredictionReader
from registry.types import ClosedBucket
from retrain.bucket import AsOf, BucketReader
from retrain.cohorts import Contender, cursor_of, heads_of, matured_us
from retrain.corrections import Corrections
from retrain.evidence import Rule, judge, probation_rule, sums_of
from retrain.judgement import Judged
from retrain.kept import Kept, decoded
from retrain.pairing import SCORED, Answered, Facts, answered
from retrain.reign import ReignState


class Rereader:
    """Reads closed buckets of one reign again."""

    def __init__(self, state: ReignState, reader: PredictionReader, ledger: Ledger) -> None:
        self._state, self._reader, self._ledger = state, reader, ledger
        self._known: dict[tuple[int, int], tuple[int, Kept | None]] = {}
        """(key, bucket) → by how many late outcomes it was read, and what it said then."""

    def derived_again(self) -> list[str]:
        """Put what the present code makes of them in the place of sums that it cannot read; returns what failed."""
        unreadable, state = self._state.unreadable(), self._state
        if not unreadable:
            return []
        problems: list[str] = []
        heads, again = self._heads(unreadable), {}
        for bucket in unreadable:
            rows = self._rows(bucket)
            contenders = [contender for contender in state.contenders if contender.key in bucket.sums]
            again[bucket.bucket] = replace(bucket, sums=rows.sums(heads[bucket.bucket], contenders))
            problems.extend(rows.problems)
        state.closed = [again.get(bucket.bucket, bucket) for bucket in state.closed]
        return problems

    def known_now(self, judged: Judged, corrections: Corrections) -> list[Kept]:
        """What is kept for a challenger, with every outcome that came after its time; in the order of buckets."""
        key = judged.contender.key
        closed = {each.sums.bucket for each in judged.kept}
        counts = corrections.buckets(frozenset(closed))
        changed = [
            bucket for bucket in self._state.closed
            if bucket.bucket in counts and self._known.get((key, bucket.bucket), (0, None))[0] != counts[bucket.bucket]
        ]  # fmt: skip
        heads = self._heads(changed) if changed else {}
        for bucket in changed:
            sums = self._rows(bucket, now=True).sums(heads[bucket.bucket], [judged.contender])
            self._known[key, bucket.bucket] = counts[bucket.bucket], decoded(sums.get(key, b""))
        by_now = ((self._known[key, each.sums.bucket][1] if each.sums.bucket in counts else each)
                  for each in judged.kept)  # fmt: skip
        return [kept for kept in by_now if kept is not None]

    def log_e_between(self, first: Judged, second: Judged) -> float:
        """Ln E for "the first challenger is better than the second", from the rows that both were given."""
        both = {each.sums.bucket for each in first.kept} & {each.sums.bucket for each in second.kept}
        rule = _between(first.contender.rule, second.contender.rule)
        buckets = [bucket for bucket in self._state.closed if bucket.bucket in both]
        heads, sums = self._heads(buckets), []
        for bucket in buckets:
            rows = self._rows(bucket)
            pairs = self._pairs_between(rows, heads[bucket.bucket], first.contender, second.contender, rule)
            if pairs is not None and len(pairs.pairs):
                sums.append(sums_of(pairs.pairs, rule))
        return judge(sums, rule).log_e

    def _pairs_between(
        self, rows: BucketReader, heads: list[ChunkHead], first: Contender, second: Contender, rule: Rule
    ) -> Answered | None:
        """The first one's answers beside the second one's, in the champion's place; what failed there is the prior."""
        facts, shadows = [], []
        for head in heads:
            mine, other = (self._ledger.shadow_chunk(head.writer, head.seq, c.version) for c in (first, second))
            if mine is None or other is None or head.generation not in first.generations & second.generations:
                continue
            fact = rows.facts(head)
            answer = np.array(np.broadcast_to(_prior(fact, rule), fact.champion.shape))
            scored = np.frombuffer(other.status, np.uint8) == SCORED
            if other.outputs is not None:
                outputs = unpack_outputs(other.outputs, self._ledger.layout(other.layout).outputs)
                answer[scored] = score_of(outputs, second.signature)[scored]
            facts.append(replace(fact, champion=answer))
            shadows.append(mine)
        if not facts:
            return None
        layouts = [self._ledger.layout(shadow.layout) for shadow in shadows]
        learned_us = max(-1 if c.learned_until_us is None else c.learned_until_us for c in (first, second))
        return answered(facts, shadows, layouts, first.signature, self._state.reign.policy, rule, learned_us)

    def _heads(self, buckets: list[ClosedBucket]) -> dict[int, list[ChunkHead]]:
        return heads_of(self._reader, self._state.model.name, self._state.reign.first_generation, buckets)

    def _rows(self, bucket: ClosedBucket, *, now: bool = False) -> BucketReader:
        """As of the cursors at which it was closed; or with all that is known now of the same predictions."""
        state, policy = self._state, self._state.reign.policy
        matured = matured_us(bucket.bucket, state.bucket_s * MICROSECONDS, policy)
        predictions, outcomes = cursor_of(bucket.prediction_cursor), cursor_of(bucket.outcome_cursor)
        as_of = AsOf(predictions, self._ledger.outcome_cursor(), None) if now else AsOf(predictions, outcomes, matured)
        return BucketReader(self._reader, self._ledger, state.champion_signature, policy, as_of)


def _between(first: Rule, second: Rule) -> Rule:
    """The rule of one challenger against another: no margin, no slots, each with its own threshold."""
    rule = probation_rule(first)
    if first.thresholds is None or second.thresholds is None:
        return rule
    return replace(rule, thresholds=(second.thresholds[1], first.thresholds[1]))


def _prior(fact: Facts, rule: Rule) -> Array:
    """What stands for an answer that failed."""
    match rule.task:
        case "binary":
            return np.array(rule.class_rates(2)[1])
        case "multiclass":
            return np.array(rule.class_rates(fact.champion.shape[1]))
        case "regression":
            return np.array(rule.prior or 0.0)
        case "recommendation":
            return np.array(1e-30)
