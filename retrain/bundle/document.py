"""`decision.json`: what is told of a decision, and how what it rests on is judged again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec
from msgspec import Struct

from registry.consent import Proposal
from registry.types import AuditRow, Decision, Lineup, Reign, Version
from retrain.acting import frozen_evidence, frozen_watch
from retrain.corrections import Late
from retrain.evidence import Evidence, Rule, Serving
from retrain.judgement import Contest, evidence_of, watched_over
from retrain.kept import Kept
from retrain.population import Population


class Known(Struct, frozen=True):
    """What the evidence of a moment says, up to where it was read, and by and from what it was computed."""

    evidence: dict[str, Any]
    cursors: dict[str, Any]
    hashes: dict[str, str]


class BucketFacts(Struct, frozen=True, kw_only=True):
    """One bucket as it was judged: the digest of its pairs, and what pairs do not tell."""

    bucket: int
    n_pairs: int
    pairs: str
    serving: Serving
    population: Population
    at_stake_undue: float


class Moment(Struct, frozen=True):
    """Where the evidence stood after a day."""

    at: datetime
    log_e: float
    mean: float
    low: float | None
    high: float | None


class Judged(Struct, frozen=True, kw_only=True):
    """Everything that is judged again: with the pairs, the evidence is a function of it and of the reign."""

    version: int
    is_previous: bool
    """Whether it is the champion of before, held against the one that deposed it."""
    rule: Rule
    n_promoted: int
    corrections: Late
    known: Known
    buckets: tuple[BucketFacts, ...]

    def again(self, reign: Reign, kept: Sequence[Kept]) -> dict[str, Any]:
        """The evidence of these buckets, in the form in which a decision freezes it."""
        contest = self.contest(reign)
        if self.is_previous:
            return frozen_watch(contest, *watched_over(contest, kept))
        evidence, population = evidence_of(contest, kept, self.corrections)
        return frozen_evidence(self.rule, evidence, population, self.corrections)

    def contest(self, reign: Reign) -> Contest:
        """Who is held against whom."""
        return Contest(
            champion=reign.champion, version=self.version, rule=self.rule, policy=reign.policy,
            n_promoted=self.n_promoted,
        )  # fmt: skip

    def evidence(self, reign: Reign, kept: Sequence[Kept]) -> Evidence:
        """The comparison of both versions, which a probation does not tell of."""
        return evidence_of(self.contest(reign), kept, self.corrections)[0]


class Withheld(Struct, frozen=True, forbid_unknown_fields=True):
    """A line of the audit that is of another model, for a reader who may not see that one: its hashes alone."""

    seq: int
    previous_hash: str
    hash: str


class Document(Struct, frozen=True, kw_only=True):
    """All of `decision.json`. Without `judged` a person decided without evidence, and there are no pairs.

    `decision` None: nothing was decided, this is the evidence of `made_at`. The audit begins with the decision's line.
    """

    format: Literal[1] = 1
    model: str
    task: str
    made_at: datetime
    bucket_s: int
    release: str
    decision: Decision | None
    proposal: Proposal | None
    judged: Judged | None
    reign: Reign | None
    """The one in which was judged; None before the first champion."""
    lineup_before: Lineup | None
    lineup_after: Lineup | None
    versions: tuple[Version, ...]
    mirror: dict[str, Any] | None
    metrics: dict[str, dict[str, float]]
    course: tuple[Moment, ...]
    audit: tuple[dict[str, Any], ...]
    audit_head: str | None

    @property
    def lines(self) -> list[AuditRow | Withheld]:
        """The audit, typed: a line that lacks its detail was withheld."""
        return [
            msgspec.convert(line, AuditRow) if "detail" in line else msgspec.convert(line, Withheld)
            for line in self.audit
        ]


def encoded(document: Document) -> bytes:
    """As it is written: indented, for people and for tools that compare lines."""
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def decoded(stored: bytes) -> Document:
    """What was written; raises msgspec.DecodeError, or InvalidRule."""
    return msgspec.json.decode(stored, type=Document)
