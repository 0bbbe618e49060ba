"""Proposals made, approved and rejected, in the transaction of the caller: whoever approves makes the change.

    propose ▶ may it be made at all? ▶ a row with the digest of all of it ▶ audit row
    approve ▶ open, of this generation, and what the approver has seen? ▶ may they? ▶ the change with its decision

The write lock is held from before the first read: of two who approve at once, one finds it over.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, func, select

from registry import bars, catalogue, decisions, roles
from registry.audit import append, canonical, digest_of_text
from registry.consent import Proposal, check_approver
from registry.decisions import Grounds, check_generation
from registry.errors import ApprovalNeeded, ProposalClosed, ProposalDiffers, ProposalRefused
from registry.lookup import find_lineup, find_model, find_proposal, find_version, generation_of
from registry.tables import proposals, reigns
from registry.types import Policy, Principal


def propose_version(connection: Connection, model: str, version: int, grounds: Grounds) -> Proposal:
    """A proposal to promote a challenger.

    Raises:
        TransitionRefused, VersionBarred, GenerationMoved: it could not be promoted now.
        RuleRests, ProposalRefused: the rule asks too soon after a rollback; or nothing is new since it was asked.
    """
    declared, asked = find_model(connection, model), find_version(connection, model, version)
    lineup = find_lineup(connection, model)
    check_generation(model, lineup.generation, grounds.expected_generation)
    roles.after("promote", version, lineup)
    bars.check(connection, model, version)
    bars.check_rested(connection, declared, grounds.by, grounds.at)
    same = (proposals.c.kind == "promote") & (proposals.c.version == version)
    _check_is_new(connection, model, lineup.generation, same, grounds.by)
    row = {"kind": "promote", "version": version, "policy": None, "generation": lineup.generation}
    return _insert(connection, model, row, asked.digest, grounds)


def propose_policy(connection: Connection, model: str, policy: Policy, grounds: Grounds) -> Proposal:
    """A proposal to change the terms.

    Raises:
        SchemaRefused, GenerationMoved: the model could not have these terms now.
        ApprovalNeeded, ProposalRefused: the rule asks, which may not; or nothing is new since it was asked.
    """
    if grounds.by.is_the_rule:
        raise ApprovalNeeded(f"the rule judges by the terms of '{model}', and does not change them")
    catalogue.check_terms(connection, model, policy)
    generation = generation_of(connection, model)
    check_generation(model, generation, grounds.expected_generation)
    text = canonical(policy)
    same = (proposals.c.kind == "policy") & (proposals.c.policy == text)
    _check_is_new(connection, model, generation, same, grounds.by)
    row = {"kind": "policy", "version": None, "policy": text, "generation": generation}
    return _insert(connection, model, row, None, grounds)


def approve(connection: Connection, model: str, number: int, digest: str, grounds: Grounds) -> Proposal:
    """Agrees to a proposal, and makes the change: lineup, decision with the proposed evidence, and audit rows.

    Raises:
        UnknownProposal, ProposalClosed, ProposalDiffers: there is none, it is over, or it is not what was seen.
        GenerationMoved: it is stale, or not of the generation that the grounds name.
        ApproverRefused: somebody else must agree.
        TransitionRefused, VersionBarred, SchemaRefused: what was proposed cannot be done any more.
    """
    proposal = _open(connection, model, number)
    check_generation(model, generation_of(connection, model), proposal.generation)
    check_generation(model, proposal.generation, grounds.expected_generation)
    uploader = artifact = None
    if proposal.version is not None:
        version = find_version(connection, model, proposal.version)
        uploader, artifact = version.created_by, version.digest
    found = digest_of(_row(connection, model, number), artifact)
    if not found == digest == proposal.digest:
        raise ProposalDiffers(model, number, digest, found)
    check_approver(proposal, uploader, find_model(connection, model).policy, grounds.by)
    detail = {"proposal": number, "digest": found, "reason": grounds.reason}
    append(connection, at=grounds.at, by=grounds.by, action="approve", model=model, detail=detail)
    known = {"evidence": proposal.evidence, "cursors": proposal.cursors, "hashes": proposal.hashes}
    agreed = msgspec.structs.replace(grounds, **known, proposal=number, expected_generation=proposal.generation)
    if proposal.version is not None:
        decisions.change(connection, "promote", model, proposal.version, agreed)
    elif proposal.policy is not None:
        catalogue.check_terms(connection, model, proposal.policy)
        decisions.new_terms(connection, model, proposal.policy, agreed)
    return _close(connection, model, number, "approved", grounds)


def reject(connection: Connection, model: str, number: int, grounds: Grounds) -> Proposal:
    """Refuses a proposal, also a stale one, for good; raises UnknownProposal or ProposalClosed."""
    _open(connection, model, number)
    if grounds.by.is_the_rule:
        raise ApprovalNeeded("the rule proposes, and rejects nothing: a person must")
    detail = {"proposal": number, "reason": grounds.reason}
    append(connection, at=grounds.at, by=grounds.by, action="reject", model=model, detail=detail)
    return _close(connection, model, number, "rejected", grounds)


def digest_of(row: Row[*tuple[Any, ...]], artifact: str | None) -> str:
    """What a row of `proposal` proposes, as one digest; `artifact` is the digest of the version's bytes."""
    names = ("model", "number", "kind", "version", "policy", "generation", "evidence", "cursors", "hashes")
    said = {name: getattr(row, name) for name in names}
    return digest_of_text(canonical(said | {"by": row.principal, "reason": row.reason, "artifact": artifact}))


def _insert(
    connection: Connection, model: str, row: dict[str, Any], artifact: str | None, grounds: Grounds
) -> Proposal:
    latest = connection.scalar(select(func.max(proposals.c.number)).where(proposals.c.model == model)) or 0
    number = latest + 1
    connection.execute(
        proposals.insert().values(
            model=model, number=number, principal=grounds.by.name, reason=grounds.reason, at=grounds.at, digest="",
            state="open", **row, **grounds.documents,
        )
    )  # fmt: skip
    digest = digest_of(_row(connection, model, number), artifact)
    key = (proposals.c.model == model) & (proposals.c.number == number)
    connection.execute(proposals.update().where(key).values(digest=digest))
    detail = row | {"policy": None if row["policy"] is None else digest_of_text(row["policy"])}
    detail |= {"proposal": number, "reason": grounds.reason, "digest": digest}
    append(connection, at=grounds.at, by=grounds.by, action="propose", model=model, detail=detail)
    return find_proposal(connection, model, number)


def _check_is_new(connection: Connection, model: str, generation: int, same: Any, by: Principal) -> None:
    """Refuses what is proposed already; and the rule also what a person has rejected in this reign."""
    asked = (proposals.c.model == model) & same
    standing = asked & (proposals.c.state == "open") & (proposals.c.generation == generation)
    number = connection.scalar(select(proposals.c.number).where(standing).limit(1))
    if number is not None:
        raise ProposalRefused(f"proposal {number} of '{model}' says that already, and is open: approve or reject it")
    if not by.is_the_rule:
        return
    begun = select(func.max(reigns.c.first_generation)).where(reigns.c.model == model).scalar_subquery()
    rejected = asked & (proposals.c.state == "rejected") & (proposals.c.generation >= begun)
    number = connection.scalar(select(proposals.c.number).where(rejected).limit(1))
    if number is not None:
        raise ProposalRefused(f"proposal {number} of '{model}' was rejected in this reign: the rule does not ask again")


def _row(connection: Connection, model: str, number: int) -> Row[*tuple[Any, ...]]:
    key = (proposals.c.model == model) & (proposals.c.number == number)
    return connection.execute(select(proposals).where(key)).one()


def _open(connection: Connection, model: str, number: int) -> Proposal:
    proposal = find_proposal(connection, model, number)
    if proposal.state in ("approved", "rejected"):
        raise ProposalClosed(model, number, proposal.state)
    return proposal


def _close(connection: Connection, model: str, number: int, state: str, grounds: Grounds) -> Proposal:
    at: datetime = grounds.at
    key = (proposals.c.model == model) & (proposals.c.number == number)
    closed = {"closed_by": grounds.by.name, "closed_reason": grounds.reason, "closed_at": at}
    connection.execute(proposals.update().where(key).values(state=state, **closed))
    return find_proposal(connection, model, number)
