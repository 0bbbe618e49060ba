"""The audit told again from its first line: what the other tables must hold, compared with what they hold.

The audit is chained, so that nobody edits it unseen; a lineup, a policy or a key that was edited in its own table, by
a hand or by a failing disk, is seen here, as it is no longer what the audit says was done.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime
from typing import cast

import msgspec
from msgspec.structs import replace

from registry import roles
from registry.artifacts import digest_of
from registry.audit import canonical
from registry.errors import RegistryError
from registry.keys import Keys
from registry.reader import RegistryReader
from registry.types import AuditRow, Decision, Lineup, Policy, Version

DECIDED = frozenset({"register", "enlist", "promote", "rollback", "retire"})


class Told(msgspec.Struct):
    """One model, as the audit tells it."""

    at: datetime | None = None
    """When it was declared."""
    lineups: list[Lineup] = []
    policies: list[Policy] = []
    """As of each generation."""
    policy: Policy | None = None
    """None while the model was not declared: an upload that is refused may name one that never was."""
    schemas: list[str] = []
    versions: dict[int, AuditRow] = {}
    decisions: list[AuditRow] = []


def faults(registry: RegistryReader, keys: Keys) -> Iterator[str]:
    """One sentence for each thing that is not as the audit says; the audit itself must have been verified."""
    rows = registry.audit()
    models: dict[str, Told] = {}
    for row in rows:
        if row.model:
            yield from _take(models.setdefault(row.model, Told()), row)
    known = {model.name for model in registry.models()}
    for name in sorted(known ^ models.keys()):
        if name in known or models[name].policy is not None:
            yield f"model '{name}' is {'not in the audit' if name in known else 'gone'}"
    for name in sorted(known & models.keys()):
        yield from _model(registry, name, models[name])
    yield from _keys(rows, keys)


def _take(told: Told, row: AuditRow) -> Iterator[str]:
    detail = row.detail
    match row.action:
        case "create_model":
            told.at = row.at
            told.policy, told.schemas = msgspec.convert(detail["policy"], Policy), [detail["schema_digest"]]
        case "extend_schema":
            told.schemas.append(detail["schema_digest"])
        case "add_version":
            told.versions[detail["version"]] = row
        case "set_policy":
            told.policy = msgspec.convert(detail["policy"], Policy)
            if detail["to_generation"] is not None and told.lineups:
                _begin(told, replace(told.lineups[-1], generation=detail["to_generation"]), row.at)
        case action if action in DECIDED:
            told.decisions.append(row)
            event = cast(roles.Event, action)
            try:
                after = roles.after(event, detail["version"], told.lineups[-1]) if told.lineups else None
            except RegistryError as error:
                yield f"line {row.seq} of the audit cannot have happened: {error}"
                return
            _begin(told, after or roles.first(row.model, detail["version"]), row.at)


def _begin(told: Told, lineup: Lineup, at: datetime) -> None:
    """`since` never goes back, whatever the clock did."""
    before = told.lineups[-1].since if told.lineups else None
    told.lineups.append(replace(lineup, since=at if before is None else max(at, before)))
    told.policies.append(told.policy or Policy())


def _model(registry: RegistryReader, name: str, told: Told) -> Iterator[str]:
    found = registry.lineups(name)
    for there, expected in zip(found, told.lineups, strict=False):
        if there != expected:
            yield f"generation {expected.generation} of '{name}' is not the lineup that the audit tells of"
    if len(found) != len(told.lineups):
        yield f"'{name}' has {len(found)} generations, and the audit tells of {len(told.lineups)}"
    if (model := registry.model(name)).policy != told.policy:
        yield f"the policy of '{name}' is not the one that the audit tells of"
    if model.created_at != told.at:
        yield f"'{name}' was not declared when the audit says"
    if [schema.digest for schema in registry.schemas(name)] != told.schemas:
        yield f"the input schemas of '{name}' are not those that the audit tells of"
    versions = registry.versions(name)
    if [version.number for version in versions] != sorted(told.versions):
        yield f"the versions of '{name}' are not those that the audit tells of"
    yield from (
        f"version {version.number} of '{name}' is not what the audit tells of"
        for version in versions
        if version.number in told.versions and not _is_told(version, told.versions[version.number])
    )
    yield from _reigns(registry, name, told)
    since = {lineup.generation: lineup.since for lineup in told.lineups}
    yield from _decisions(registry.decisions(name), told.decisions, since)


def _is_told(version: Version, row: AuditRow) -> bool:
    """Whether a version is the one that was added; lines from before signatures were in them say less."""
    said = {
        "version": version.number,
        "digest": version.digest,
        "n_bytes": version.n_bytes,
        "signature_digest": digest_of(canonical(version.signature).encode()),
        "training_digest": None if version.training is None else digest_of(canonical(version.training).encode()),
    }
    told = said | row.detail
    return (version.created_at, version.created_by) == (row.at, row.principal) and told == said


def _reigns(registry: RegistryReader, name: str, told: Told) -> Iterator[str]:
    expected = []
    for i, (lineup, policy) in enumerate(zip(told.lineups, told.policies, strict=True)):
        if i == 0 or lineup.champion != told.lineups[i - 1].champion or policy != told.policies[i - 1]:
            expected.append((lineup.champion, lineup.generation, policy, lineup.since))
    found = [(reign.champion, reign.first_generation, reign.policy, reign.since) for reign in registry.reigns(name)]
    if found != expected:
        yield f"the reigns of '{name}' are not those that the audit tells of"


def _decisions(found: list[Decision], told: list[AuditRow], since: dict[int, datetime | None]) -> Iterator[str]:
    if len(found) != len(told):
        yield f"there are {len(found)} decisions, and the audit tells of {len(told)}"
    for there, row in zip(found, told, strict=False):
        expected = {"version": there.version, "from_generation": there.from_generation,
                    "to_generation": there.to_generation, "reason": there.reason}  # fmt: skip
        for name, document in (("evidence", there.evidence), ("cursors", there.cursors)):
            if document is not None:
                digest = hashlib.sha256(canonical(document).encode()).hexdigest()
                expected[f"{name}_digest"] = f"sha256:{digest}"
        at = since.get(there.to_generation)
        if (there.kind, there.by, expected, there.at) != (row.action, row.principal, row.detail, at):
            yield f"the decision for generation {there.to_generation} of '{row.model}' is not what the audit tells of"


def _keys(rows: list[AuditRow], keys: Keys) -> Iterator[str]:
    issued = {row.detail["key_id"]: row for row in rows if row.action == "issue_key"}
    revoked = {row.detail["key_id"]: row.at for row in rows if row.action == "revoke_key"}
    found = {key.key_id: key for key in keys.all()}
    for key_id in sorted(issued.keys() ^ found.keys()):
        yield f"key '{key_id}' is {'gone' if key_id in issued else 'not in the audit'}"
    for key_id in sorted(issued.keys() & found.keys()):
        key, detail = found[key_id], issued[key_id].detail
        row = issued[key_id]
        there = key.principal, set(key.scopes), key.models, key.expires_at, key.revoked_at
        made = (key.created_at, key.created_by) == (row.at, row.principal)
        told = (
            detail["principal"], set(detail["scopes"]), msgspec.convert(detail["models"], tuple[str, ...] | None),
            msgspec.convert(detail["expires_at"], datetime | None), revoked.get(key_id),
        )  # fmt: skip
        if there != told or not made:
            yield f"key '{key_id}' is not what the audit tells of"
