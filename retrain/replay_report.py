"""What a replay says: a version against each champion that answered the rows it was given, on what happened since.

It is made by the code that makes evidence (pairs, sums, interval, metrics) and is none, in any of its parts:

- Nobody fixed the span beforehand. A version may be trained, and replayed, again and again on the same past, until
  one does well there; the interval holds for one version and one span that were chosen without a look at them.
- The rows are of other generations, and the evidence of a reign begins with it.

So nothing of a report is added to the evidence of a reign. A bet is suggested: capital that had been bet by it on these
rows would have grown fastest. When a reign may use it is told in `informed`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from gateway.chunk import ShadowChunk
from gateway.clock import MICROSECONDS
from gateway.columns import Array
from gateway.journal import ChunkHead, Ledger, PredictionReader
from gateway.records import micros
from registry.errors import NoChampion
from registry.store import Registry
from registry.types import Model, Reign, Replay, Version
from retrain import replay_words
from retrain.bucket import AsOf, BucketReader, kept_from
from retrain.cohorts import HEADS_AT_ONCE, cursor_of, matured_us
from retrain.document import metrics_document
from retrain.evidence import BucketSums, judge
from retrain.evidence.bets import bets_of
from retrain.evidence.eprocess import informed_bet
from retrain.evidence.losses.paired import n_classes_of
from retrain.informed import units_of
from retrain.pairing import SCORED, SKIPPED_CODES, Answered, answered
from retrain.population import Population, words_of
from retrain.terms import rule_of

Beside = tuple[ChunkHead, ShadowChunk]
"""A chunk, and what was said of it in the replay."""


class Rows(Struct):
    """Rows of one champion that the version was given, by what can be said of them."""

    n_rows: int = 0
    n_failed: int = 0
    n_waiting: int = 0
    """Of which the outcomes had not had their time when the replay was asked for."""
    n_not_due: int = 0
    """Which can have no outcome, or are left out by the terms."""
    n_without_outcome: int = 0
    n_matured: int = 0


def report_of(
    registry: Registry, reader: PredictionReader, ledger: Ledger, replay: Replay, bucket_s: int
) -> Generator[None, None, dict[str, Any]]:
    """The report of a replay whose rows are scored: a function of the journal at the cursors of the replay.

    It yields after every bucket, so that a worker can see to what is due. Of that one there are rows in memory, and of
    every matured row two numbers: the bet is found over all of them.

    Raises:
        JournalDamaged, NotFound, EvidenceError, NoChampion: it cannot be made, and never will be.
        JournalUnavailable, RegistryError: it cannot be made now.
    """
    model, span = registry.model(replay.model), replay.asked.span
    versions = {version.number: version for version in registry.versions(model.name)}
    reign = _reign_of(registry, replay)
    champions = {lineup.generation: lineup.champion for lineup in registry.lineups(model.name)}
    found: dict[int, dict[int, list[ChunkHead]]] = {}
    for head in _heads(reader, replay, bucket_s * MICROSECONDS):
        found.setdefault(champions[head.generation], {}).setdefault(head.bucket, []).append(head)
    as_of = AsOf(cursor_of(span.end), cursor_of(span.outcomes), None)
    matches = []
    for champion in sorted(found):
        match = _Match(model, reign, versions[champion], versions[replay.version], bucket_s)
        rows = BucketReader(reader, ledger, versions[champion].signature, reign.policy, as_of)
        for bucket, heads in sorted(found[champion].items()):
            match.take(bucket, _given(ledger, replay, heads), rows, ledger, micros(span.as_of))
            yield
        if match.rows.n_rows:
            matches.append(match.document())
    n_rows = ledger.replayed.n_rows(replay)
    n_outside = n_rows.pop("not_asked", 0)
    suggested = next((match["suggested_bet"] for match in matches if match["champion"] == reign.champion), None)
    of_matches = [match["sentence"] for match in matches]
    return {
        "is_evidence": False,
        "sentences": [replay_words.of_rows(replay, n_rows), *of_matches, replay_words.of_bet(reign, suggested)],
        "n_rows": sum(n_rows.values()),
        "n_scored": n_rows.get("scored", 0),
        "n_in_training": n_rows.get("in_training", 0),
        "n_failed": sum(match["n_failed"] for match in matches),
        "n_outside_of_the_span": n_outside,
        "statuses": n_rows,
        "reign": reign.number,
        "champions": matches,
        "suggested_bet": suggested,
    }


def _reign_of(registry: Registry, replay: Replay) -> Reign:
    """The reign by whose terms is judged. Where it was not kept it is told by time, which may have been set since."""
    reigns = registry.reigns(replay.model)
    if not reigns:
        raise NoChampion(replay.model)
    if replay.asked.reign is not None:
        return next(each for each in reigns if each.number == replay.asked.reign)
    return [reigns[0], *(each for each in reigns if each.since <= replay.asked.at)][-1]


class _Match:
    """A version against one champion, by the rule as it would judge in a reign of that champion under the terms."""

    def __init__(self, model: Model, reign: Reign, champion: Version, version: Version, bucket_s: int) -> None:
        self._champion, self._version = champion, version
        self._policy, self._bucket_us = reign.policy, bucket_s * MICROSECONDS
        as_if = replace(reign, champion=champion.number, training=champion.training)
        self._rule = rule_of(model, as_if, bucket_s, version.training)
        self.rows = Rows()
        self._population = Population()
        self._sums: list[BucketSums] = []
        self._difference: list[Array] = [np.empty(0)]
        self._gap: list[Array] = [np.empty(0)]

    def take(self, bucket: int, beside: Sequence[Beside], rows: BucketReader, ledger: Ledger, as_of_us: int) -> None:
        """The rows of one bucket, as they stood then."""
        n_given = sum(_n_given(said) for _, said in beside)
        self.rows.n_rows += n_given
        self.rows.n_failed += n_given - sum(said.status.count(SCORED) for _, said in beside)
        if matured_us(bucket, self._bucket_us, self._policy) > as_of_us:
            self.rows.n_waiting += n_given
        elif beside:
            self._pair(self._answered(beside, rows, ledger), n_given)

    def _answered(self, beside: Sequence[Beside], rows: BucketReader, ledger: Ledger) -> Answered:
        layouts = {digest: ledger.layout(digest) for digest in {said.layout for _, said in beside}}
        return answered(
            [rows.facts(head) for head, _ in beside],
            [said for _, said in beside],
            [layouts[said.layout] for _, said in beside],
            self._version.signature,
            self._policy,
            self._rule,
            learned_until_us=None,  # what it may have learned from was not given to it
        )

    def _pair(self, said: Answered, n_given: int) -> None:
        n_matured = int((~np.isnan(said.pairs.outcome)).sum())
        self.rows.n_not_due += n_given - len(said.pairs)
        self.rows.n_without_outcome += len(said.pairs) - n_matured
        self.rows.n_matured += n_matured
        self._population += said.population
        if len(said.pairs):
            self._sums.append(kept_from(said, self._rule).sums)
            bets = bets_of(said.pairs, self._rule, n_classes_of(said.pairs, self._rule))
            self._difference.append(bets.difference)
            self._gap.append(bets.gap)

    def document(self) -> dict[str, Any]:
        """What came of it. Of a judgement only the figures: a verdict would be one about evidence."""
        population = words_of(
            self._population, self._policy, weighted=any(each.is_weighted for each in self._sums)
        )  # fmt: skip
        found = judge(self._sums, self._rule)
        metrics = metrics_document(self._sums, self._rule)
        for shown in metrics.values():
            shown.pop("log_e_miscalibrated", None)  # it holds however often one looks, not however often one chooses
        return {
            "champion": self._champion.number,
            "is_evidence": False,
            "sentence": replay_words.of_match(found, self._rule, population, self._champion, self._version),
            **msgspec.structs.asdict(self.rows),
            "n_days": found.n_days,
            "mean_difference": found.mean if found.n else None,
            "low": found.low,
            "high": found.high,
            "alpha": self._rule.alpha,
            "champion_loss": found.champion_loss if found.n else None,
            "metric": {"loss": self._rule.measured_by, "units": units_of(self._rule)},
            "metrics": {"champion": metrics["champion"], "replayed": metrics["challenger"]},
            "suggested_bet": self._suggested(),
        }

    def _suggested(self) -> dict[str, Any] | None:
        """The bet that would have grown fastest, with what it was taken from; None before the first outcome."""
        difference, gap = np.concatenate(self._difference), np.concatenate(self._gap)
        if len(difference) == 0:
            return None
        return {
            "champion": self._champion.number,
            "n_bets": len(difference),
            "mean_difference": float(difference.mean()),
            "variance": float(difference.var()),
            "largest_gap": float(np.quantile(gap, 0.9999)),
            "bet": informed_bet(difference, gap),
        }


def _heads(reader: PredictionReader, replay: Replay, bucket_us: int) -> Iterator[ChunkHead]:
    """The chunks of the model that may hold rows of the span, writer by writer."""
    span = replay.asked.span
    buckets = range(micros(span.since) // bucket_us, (micros(span.until) - 1) // bucket_us + 1)
    for writer, begin in sorted(cursor_of(span.begin).items()):
        after, end = begin, span.end[str(writer)]
        while after < end and (heads := reader.heads(writer, after, min(HEADS_AT_ONCE, end - after))):
            after = heads[-1].seq
            yield from (
                head
                for head in heads
                if head.model == replay.model and head.purpose == "live" and head.bucket in buckets
            )


def _given(ledger: Ledger, replay: Replay, heads: Sequence[ChunkHead]) -> list[Beside]:
    """The chunks of which the version was given any row, with what it said."""
    found = []
    for head in heads:
        said = ledger.replayed.chunk(replay, head.writer, head.seq)
        if said is not None and _n_given(said):
            found.append((head, said))
    return found


def _n_given(said: ShadowChunk) -> int:
    """Rows that the version was given: neither spared nor skipped."""
    return len(said.status) - sum(said.status.count(code) for code in SKIPPED_CODES)
