"""Rows to structs: the one place where a stored document is decoded again."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Row

from registry.consent import Bar, Proposal
from registry.policy import policy_of
from registry.types import (
    ApiKey,
    AuditRow,
    ClosedBucket,
    Decision,
    Feature,
    InputSchema,
    Lineup,
    Model,
    Reign,
    Scope,
    Signature,
    TrainingReport,
    Version,
)

AnyRow = Row[*tuple[Any, ...]]


def to_schema(row: AnyRow) -> InputSchema:
    """From `model_schema`."""
    return InputSchema(msgspec.json.decode(row.features, type=tuple[Feature, ...]), row.version)


def to_model(row: AnyRow) -> Model:
    """From `model` joined with its current `model_schema`."""
    return Model(row.name, row.task, to_schema(row), policy_of(row.policy), row.created_at)


def to_version(row: AnyRow) -> Version:
    """From `version`."""
    signature = msgspec.json.decode(row.signature, type=Signature)
    return Version(
        row.model, row.number, row.digest, row.n_bytes, signature, row.created_at, row.created_by,
        to_training(row.training),
    )  # fmt: skip


def to_training(document: str | None) -> TrainingReport | None:
    """From a `training` column."""
    return None if document is None else msgspec.json.decode(document, type=TrainingReport)


def to_lineup(row: AnyRow) -> Lineup:
    """From `lineup`."""
    challengers = msgspec.json.decode(row.challengers, type=tuple[int, ...])
    return Lineup(row.model, row.generation, row.champion, challengers, row.previous, row.since)


def to_reign(row: AnyRow) -> Reign:
    """From `reign`."""
    return Reign(
        row.model, row.number, row.champion, row.first_generation, row.since, policy_of(row.policy),
        to_training(row.training),
    )  # fmt: skip


def to_decision(row: AnyRow) -> Decision:
    """From `decision`."""
    return Decision(
        row.model, row.kind, row.version, row.from_generation, row.to_generation, row.principal, row.reason, row.at,
        to_document(row.evidence), to_document(row.cursors), to_document(row.hashes), row.proposal,
    )  # fmt: skip


def to_proposal(row: AnyRow, generation: int) -> Proposal:
    """From `proposal`, as it stands at the generation of now."""
    return Proposal(
        row.model, row.number, row.kind, row.version, None if row.policy is None else policy_of(row.policy),
        row.generation, row.principal, row.reason, row.at, row.digest, to_document(row.evidence),
        to_document(row.cursors), to_document(row.hashes),
        "stale" if row.state == "open" and row.generation != generation else row.state,
        row.closed_by, row.closed_reason, row.closed_at,
    )  # fmt: skip


def to_bar(row: AnyRow) -> Bar:
    """From `bar`."""
    return Bar(row.model, row.version, row.generation, row.at, row.lifted_by, row.lifted_reason, row.lifted_at)


def to_document(document: str | None) -> dict[str, Any] | None:
    """From an optional column of canonical JSON."""
    return None if document is None else msgspec.json.decode(document, type=dict[str, Any])


def to_audit_row(row: AnyRow) -> AuditRow:
    """From `audit`."""
    detail = msgspec.json.decode(row.detail, type=dict[str, Any])
    return AuditRow(row.seq, row.at, row.principal, row.action, row.model, detail, row.previous_hash, row.hash)


def to_key(row: AnyRow) -> ApiKey:
    """From `api_key`, without the digest."""
    return ApiKey(
        row.key_id, row.principal, msgspec.json.decode(row.scopes, type=tuple[Scope, ...]),
        None if row.models is None else msgspec.json.decode(row.models, type=tuple[str, ...]),
        row.created_at, row.created_by, row.expires_at, row.revoked_at,
    )  # fmt: skip


def to_closed_bucket(row: AnyRow) -> ClosedBucket:
    """From `closed_bucket`, without its sums, which have a check of their own."""
    cursor = msgspec.json.Decoder(dict[str, int])
    return ClosedBucket(
        row.model, row.reign, row.bucket, row.closed_at, cursor.decode(row.prediction_cursor),
        cursor.decode(row.outcome_cursor), {},
    )  # fmt: skip
