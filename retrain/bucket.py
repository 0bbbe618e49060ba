"""One bucket, read as of two cursors and reduced to sums: the same whenever, wherever and however often it is done."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from gateway.chunk import Chunk, Layout, ShadowChunk, unpack_outputs
from gateway.columns import Array, score_of
from gateway.errors import JournalDamaged, NotFound
from gateway.journal import ChunkHead, Ledger, PredictionReader
from gateway.journal.join import OutcomeJoin
from gateway.records import Cursor
from registry.types import Policy, Signature
from retrain.cohorts import Contender
from retrain.evidence import EvidenceError, Rule, sums_of
from retrain.kept import FORMAT, VOID, Kept, digest_of_pairs, encoded
from retrain.pairing import SAMPLED_OUT, SKIPPED_CODES, Answered, Facts, answered

MAX_SKIPPED = 0.05
"""A bucket with a larger share of rows that a challenger never got to see says nothing fair about it."""


class AsOf(Struct, frozen=True):
    """Up to where the journal counts; what was received after `received_us` came too late (None: nothing did)."""

    predictions: Cursor
    outcomes: Cursor
    received_us: int | None


class BucketReader:
    """Reads the rows of a bucket: scores of the champion and of who is held against it, and the outcomes."""

    def __init__(
        self, reader: PredictionReader, ledger: Ledger, champion: Signature, policy: Policy, as_of: AsOf
    ) -> None:
        self._reader, self._ledger = reader, ledger
        self._join = OutcomeJoin(reader, ledger, as_of.predictions)
        self._champion, self._policy, self._as_of = champion, policy, as_of
        self._layouts: dict[bytes, Layout] = {}
        self.problems: list[str] = []
        """Why buckets that were read could not be judged, which makes them void."""

    def sums(self, heads: Sequence[ChunkHead], contenders: Sequence[Contender]) -> dict[int, bytes]:
        """Key of a contender → what is kept of it; without a row here it has none, a void bucket has `b""`."""
        heads = sorted(heads, key=lambda head: (head.writer, head.seq))
        mirrored = {contender: self._mirrored(contender, heads) for contender in contenders}
        # what is void is decided before any outcome is read
        fair = {contender: _is_fair(shadows) for contender, shadows in mirrored.items() if shadows}
        try:
            facts = {head: self.facts(head) for head in heads} if any(fair.values()) else {}
        except (JournalDamaged, NotFound) as error:
            self.problems.append(str(error))
            fair = dict.fromkeys(fair, False)
        return {
            contender.key: self._kept(contender, facts, mirrored[contender]) if is_fair else VOID
            for contender, is_fair in fair.items()
        }

    def pairs(self, heads: Sequence[ChunkHead], contender: Contender) -> Answered:
        """The pairs of a bucket that counts for a contender, as its sums were made of them.

        Raises:
            JournalDamaged, NotFound, EvidenceError: they cannot be read any more.
        """
        heads = sorted(heads, key=lambda head: (head.writer, head.seq))
        mirrored = self._mirrored(contender, heads)
        return self._answered(contender, {head: self.facts(head) for head in mirrored}, mirrored)

    def facts(self, head: ChunkHead) -> Facts:
        """One chunk with its outcomes."""
        chunk = self._reader.chunk(head.writer, head.seq)
        layout = self._reader.layout(head.writer, chunk.layout)
        outcome, source = self._outcomes(head, chunk)
        champion = score_of(unpack_outputs(chunk.outputs, layout.outputs), self._champion)
        return Facts(head, chunk, layout, champion, outcome, source)

    def as_number(self, outcome: int | float | str) -> float:
        """The class's index, or the number."""
        classes = self._champion.classes
        return float(classes.index(outcome)) if classes else float(outcome)

    def _kept(
        self, contender: Contender, facts: dict[ChunkHead, Facts], mirrored: dict[ChunkHead, ShadowChunk | None]
    ) -> bytes:
        """The rows of one contender as they are kept; void where there are none, or where they cannot be judged."""
        try:
            said = self._answered(contender, facts, mirrored)
            return VOID if len(said.pairs) == 0 else encoded(kept_from(said, contender.rule))
        except (EvidenceError, NotFound) as error:
            self.problems.append(f"version {contender.version}: {error}")
            return VOID

    def _answered(
        self, contender: Contender, facts: dict[ChunkHead, Facts], mirrored: dict[ChunkHead, ShadowChunk | None]
    ) -> Answered:
        shadows = [(facts[head], shadow) for head, shadow in mirrored.items() if shadow is not None]
        return answered(
            [fact for fact, _ in shadows],
            [shadow for _, shadow in shadows],
            [self._layout(shadow.layout) for _, shadow in shadows],
            contender.signature,
            self._policy,
            contender.rule,
            contender.learned_until_us,
        )

    def _layout(self, digest: bytes) -> Layout:
        if digest not in self._layouts:
            self._layouts[digest] = self._ledger.layout(digest)
        return self._layouts[digest]

    def _mirrored(self, contender: Contender, heads: Sequence[ChunkHead]) -> dict[ChunkHead, ShadowChunk | None]:
        """What the contender answered to each chunk of its generations; None where it has not (yet)."""
        return {
            head: self._ledger.shadow_chunk(head.writer, head.seq, contender.version)
            for head in heads
            if head.generation in contender.generations
        }

    def _outcomes(self, head: ChunkHead, chunk: Chunk) -> tuple[Array, Array]:
        """The effective outcome of each row, NaN where none came in time and none is declared; and who reported it."""
        known = self._join.effective(
            head.writer, head.seq, chunk, self._policy.association, self._as_of.outcomes, self._as_of.received_us
        )
        default = self._policy.default_outcome
        values = np.full(chunk.n_rows, np.nan if default is None else self.as_number(default))
        sources = [""] * chunk.n_rows
        for row, outcome in known.items():
            values[row], sources[row] = self.as_number(outcome.outcome), outcome.source
        return values, np.array(sources, dtype=np.str_)


def kept_from(said: Answered, rule: Rule) -> Kept:
    """What is kept of pairs; each feature that the terms name divides them into segments of its own."""
    sums = sums_of(said.pairs, rule, said.serving, at_stake_undue=said.at_stake_undue)
    for names in said.further_segments:
        more = sums_of(replace(said.pairs, segment=names), rule).segments
        sums = replace(sums, segments=sums.segments | more)
    return Kept(FORMAT, rule.digest, digest_of_pairs(said.addresses, said.pairs), sums, said.population)


def _is_fair(shadows: dict[ChunkHead, ShadowChunk | None]) -> bool:
    """Whether a contender's rows of a bucket may be evidence: all of them were dealt with, and few were skipped."""
    status = [np.frombuffer(shadow.status, np.uint8) for shadow in shadows.values() if shadow is not None]
    return len(status) == len(shadows) and not is_void(np.concatenate(status))


def is_void(status: Array) -> bool:
    """Whether so many rows were skipped, other than by declared sampling, that the rest may be a biased sample."""
    skipped = np.isin(status, [code for code in SKIPPED_CODES if code != SAMPLED_OUT]).sum()
    return bool(skipped > MAX_SKIPPED * len(status))
