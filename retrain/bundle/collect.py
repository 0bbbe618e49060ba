"""From registry and journal to what a bundle holds: read at the cursors at which was decided, and judged once more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import datetime
from importlib.metadata import version as release_of
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from gateway.clock import MICROSECONDS
from gateway.config import Settings
from gateway.journal import Ledger, PredictionReader, open_ledger, open_reader
from gateway.records import moment
from registry.store import Registry
from registry.types import AuditRow, ClosedBucket, Decision, Lineup, Model, Reign, Version
from retrain.acting import hashes_of
from retrain.bucket import AsOf, BucketReader, kept_from
from retrain.bundle.document import BucketFacts, Document, Judged, Known, Moment
from retrain.bundle.pairs_file import PairsWriter
from retrain.cohorts import Contender, cursor_of, heads_of, matured_us
from retrain.corrections import Corrections, Late
from retrain.document import metrics_document
from retrain.errors import BundleRefused
from retrain.evidence import BucketSums, Rule, judge
from retrain.evidence.cohorts import days_of
from retrain.judgement import late_of
from retrain.kept import PREVIOUS, Kept, decoded, is_readable
from retrain.pairing import Answered
from retrain.reign import contenders_of, n_promoted

MOST_MOMENTS = 120
"""Points of the course that a page can show."""


class Wanted(Struct, frozen=True):
    """Of which decision: the one that began a `generation`; or (None) the evidence of now, of one `version`.

    `whole_audit`: also the lines of other models, without which the chain cannot be followed to its head.
    """

    model: str
    generation: int | None = None
    version: int | None = None
    whole_audit: bool = True


class Basis(Struct, frozen=True):
    """What was decided upon: who was judged, in which reign, and through which bucket."""

    decision: Decision | None
    lineups: list[Lineup]
    """Every generation up to the one that was decided upon."""
    reign: Reign
    key: int
    through: int


def collected(settings: Settings, registry: Registry, wanted: Wanted, pairs_path: Path, made_at: datetime) -> Document:
    """The document of a bundle; its pairs are written to `pairs_path`, unless nothing was judged.

    Raises:
        UnknownModel, NoChampion: there is no such model, or it never had a champion.
        BundleRefused: there is no such decision, no evidence yet, or several versions and none named.
        JournalDamaged, NotFound, EvidenceError: what was judged cannot be read any more.
    """
    model = registry.model(wanted.model)
    versions = {version.number: version for version in registry.versions(model.name)}
    decision = None if wanted.generation is None else _decision(registry, wanted)
    basis = _basis(registry, wanted, decision)
    judged: Judged | None = None
    mirror: dict[str, Any] | None = None
    metrics: dict[str, dict[str, float]] = {}
    course: tuple[Moment, ...] = ()
    if basis is not None:
        with (
            closing(open_reader(settings.folder)) as reader,
            closing(open_ledger(settings.folder, settings.journal)) as ledger,
        ):
            found = _Reading(registry, reader, ledger, model, versions, basis, settings.cohorts.bucket_s)
            judged, kept = found.judged(pairs_path)
            mirror = found.mirror()
            sums = [each.sums for each in kept]
            metrics, course = metrics_document(sums, judged.rule), tuple(found.course(sums))
    lineups = registry.lineups(model.name)
    before, after = _lineups(lineups, decision)
    audit = _audit(registry, wanted, decision)
    proposal = None if decision is None or decision.proposal is None else registry.proposal(
        model.name, decision.proposal
    )  # fmt: skip
    playing = {decision.version if decision else 0, judged.version if judged else 0} | {
        lineup.champion for lineup in (before, after) if lineup is not None
    }
    return Document(
        model=model.name, task=model.task, made_at=made_at, bucket_s=settings.cohorts.bucket_s,
        release=release_of("understudy"), decision=decision, proposal=proposal, judged=judged,
        reign=basis.reign if basis else None, lineup_before=before, lineup_after=after,
        versions=tuple(version for number, version in versions.items() if number in playing),
        mirror=mirror, metrics=metrics, course=course, audit=audit, audit_head=audit[-1]["hash"] if audit else None,
    )  # fmt: skip


def _decision(registry: Registry, wanted: Wanted) -> Decision:
    decisions = registry.decisions(wanted.model)
    found = next((each for each in decisions if each.to_generation == wanted.generation), None)
    if found is None:
        there = ", ".join(f"{each.to_generation} ({each.kind})" for each in decisions)
        raise BundleRefused(
            f"no decision began generation {wanted.generation} of '{wanted.model}'; these were: {there or 'none'}"
        )
    return found


def _basis(registry: Registry, wanted: Wanted, decision: Decision | None) -> Basis | None:
    """None where a person decided without evidence."""
    if decision is None:
        return _basis_of_now(registry, wanted)
    if decision.evidence is None or decision.cursors is None:
        return None
    lineups = [line for line in registry.lineups(wanted.model) if line.generation <= decision.from_generation]
    reign = [each for each in registry.reigns(wanted.model) if each.first_generation <= decision.from_generation][-1]
    key = PREVIOUS if decision.kind == "rollback" else decision.version
    return Basis(decision, lineups, reign, key, decision.cursors["bucket"])


def _basis_of_now(registry: Registry, wanted: Wanted) -> Basis:
    lineup, reign = registry.lineup(wanted.model), registry.reign(wanted.model)
    closed = registry.closed_buckets(wanted.model, reign.number)
    version = wanted.version
    if version is None:
        if len(lineup.challengers) != 1:
            names = ", ".join(map(str, lineup.challengers)) or "none"
            raise BundleRefused(f"expected a version, as '{wanted.model}' has other than one challenger: {names}")
        (version,) = lineup.challengers
    if lineup.role(version) not in ("challenger", "previous"):
        raise BundleRefused(f"version {version} of '{wanted.model}' is {lineup.role(version)}: nothing is held of it")
    key = PREVIOUS if version == lineup.previous else version
    counted = [bucket.bucket for bucket in closed if bucket.sums.get(key)]
    if not counted:
        raise BundleRefused(f"version {version} of '{wanted.model}' has no closed cohort in this reign yet")
    return Basis(None, registry.lineups(wanted.model), reign, key, closed[-1].bucket)


class _Reading:
    """The journal read again for one basis."""

    def __init__(
        self, registry: Registry, reader: PredictionReader, ledger: Ledger, model: Model,
        versions: dict[int, Version], basis: Basis, bucket_s: int,
    ) -> None:  # fmt: skip
        self._registry, self._reader, self._ledger = registry, reader, ledger
        self._model, self._basis, self._bucket_us = model, basis, bucket_s * MICROSECONDS
        self._champion = versions[basis.reign.champion].signature
        contenders = contenders_of(
            basis.lineups, model, basis.reign, versions, bucket_s, registry.replays.of(model.name)
        )  # fmt: skip
        contender = next(each for each in contenders if each.key == basis.key)
        frozen = (basis.decision.evidence or {}).get("rule") if basis.decision else None
        rule = contender.rule if frozen is None else msgspec.convert(frozen, Rule)
        self._contender: Contender = replace(contender, rule=rule)
        closed = registry.closed_buckets(model.name, basis.reign.number)
        self._closed = [bucket for bucket in closed if bucket.bucket <= basis.through]

    def judged(self, pairs_path: Path) -> tuple[Judged, list[Kept]]:
        """What was judged, with what is kept of each bucket; the pairs go to the file."""
        rule, reign = self._contender.rule, self._basis.reign
        n_classes = len(self._champion.classes) if self._model.task == "multiclass" else 1
        facts, kept = [], []
        with PairsWriter(pairs_path, n_classes, reign.policy, rule) as writer:
            for bucket, said in self._pairs():
                writer.write(said)
                stored = bucket.sums[self._basis.key]
                # the pairs of now beside what was kept when it was judged: where they differ, it is told
                one = decoded(stored) if is_readable(stored, rule.digest) else kept_from(said, rule)
                if one is None:
                    continue
                kept.append(one)
                facts.append(
                    BucketFacts(
                        bucket=bucket.bucket, n_pairs=len(said.pairs), pairs=one.pairs,
                        serving=one.sums.serving or said.serving,
                        population=one.population,
                        at_stake_undue=one.sums.at_stake_undue,
                    )
                )  # fmt: skip
        decision = self._basis.decision
        judged = Judged(
            version=self._contender.version, is_previous=self._contender.is_previous, rule=rule,
            n_promoted=n_promoted(self._registry, self._model.name, reign), corrections=self._late(),
            known=Known({}, {}, {}), buckets=tuple(facts),
        )  # fmt: skip
        if decision is None:
            last = self._closed[-1]
            cursors = {
                "bucket": last.bucket, "predictions": last.prediction_cursor, "outcomes": last.outcome_cursor,
            }  # fmt: skip
            known = Known(judged.again(reign, kept), cursors, hashes_of(rule, reign.policy, kept))
        else:
            known = Known(decision.evidence or {}, decision.cursors or {}, decision.hashes or {})
        return replace(judged, known=known), kept

    def mirror(self) -> dict[str, Any]:
        """The account of the contender over the reign, up to the generation that was decided upon."""
        generations = range(self._basis.reign.first_generation, self._basis.lineups[-1].generation + 1)
        count = self._ledger.mirror_count(self._model.name, self._contender.version, generations)
        account: dict[str, Any] = msgspec.to_builtins(count)
        return account

    def course(self, sums: Sequence[BucketSums]) -> Iterator[Moment]:
        """How the evidence went, at some days up to the last one."""
        rule = self._contender.rule
        days = days_of(sums, rule.buckets_per_day)
        every = max(1, -(-len(days) // MOST_MOMENTS))
        for n in sorted({*range(len(days), 0, -every)}):
            said = judge(days[:n], rule)
            yield Moment(moment((days[n - 1].bucket + 1) * self._bucket_us), said.log_e, said.mean, said.low, said.high)

    def _pairs(self) -> Iterator[tuple[ClosedBucket, Answered]]:
        counted = [bucket for bucket in self._closed if bucket.sums.get(self._basis.key)]
        reign = self._basis.reign
        heads = heads_of(self._reader, self._model.name, reign.first_generation, counted)
        for bucket in counted:
            as_of = AsOf(
                cursor_of(bucket.prediction_cursor),
                cursor_of(bucket.outcome_cursor),
                matured_us(bucket.bucket, self._bucket_us, reign.policy),
            )
            rows = BucketReader(self._reader, self._ledger, self._champion, reign.policy, as_of)
            yield bucket, rows.pairs(heads[bucket.bucket], self._contender)

    def _late(self) -> Late:
        """As it was frozen; of now, as it is known."""
        decision = self._basis.decision
        if decision is not None:
            return msgspec.convert((decision.evidence or {}).get("corrections", {}), Late)
        reign = self._basis.reign
        corrections = Corrections(
            self._reader, self._ledger, model=self._model.name, first_generation=reign.first_generation,
            policy=reign.policy, bucket_us=self._bucket_us,
        )  # fmt: skip
        corrections.read(self._closed[0].bucket)
        return late_of(self._closed, self._contender, corrections)


def _lineups(lineups: Sequence[Lineup], decision: Decision | None) -> tuple[Lineup | None, Lineup | None]:
    """Before and after a decision; of now, the present one is the one before whatever comes."""
    by_generation = {lineup.generation: lineup for lineup in lineups}
    if decision is None:
        return (lineups[-1] if lineups else None), None
    return by_generation.get(decision.from_generation), by_generation[decision.to_generation]


def _audit(registry: Registry, wanted: Wanted, decision: Decision | None) -> tuple[dict[str, Any], ...]:
    """The lines from the decision to the head; without a decision, the head alone."""
    lines = registry.audit()
    start = len(lines) - 1
    if decision is not None:
        start = next(
            place for place, line in enumerate(lines)
            if (line.model, line.action) == (wanted.model, decision.kind)
            and line.detail.get("to_generation") == decision.to_generation
        )  # fmt: skip
    return tuple(_line(line, wanted) for line in lines[max(0, start) :])


def _line(line: AuditRow, wanted: Wanted) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(line)
    if wanted.whole_audit or line.model == wanted.model:
        return told
    return {name: told[name] for name in ("seq", "previous_hash", "hash")}
