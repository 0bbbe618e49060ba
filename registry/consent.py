"""Who must agree to a change: proposals, bars, and the table of who may do what under which terms.

    promotion    the rule    a person
    ----------   ---------   -------------------------------------------------------------------
    automatic    promotes    promotes; changes the terms
    one          proposes    promotes; changes the terms; approves any proposal, its own too
    four_eyes    proposes    proposes, also terms; approves what another one proposed, and did not upload

A rollback is always one call, whoever makes it: it is the way out of an emergency, and it is in the audit. Names are
those of keys: whoever may issue keys can make itself a second name, so `admin` is not for those who are watched.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from msgspec import Struct

from registry.errors import ApprovalNeeded, ApproverRefused
from registry.types import LOCAL_OPERATOR, Policy, Principal


class Proposal(Struct, frozen=True):
    """What somebody asks others to agree to, upon one generation: to promote a version, or to change the terms.

    `digest` covers all of it and the artifact of the version: who approves names it, and so agrees to nothing else.
    An open one is `stale` once the lineup has moved on from `generation` (0: before the first champion).
    """

    model: str
    number: int
    kind: Literal["promote", "policy"]
    version: int | None
    policy: Policy | None
    generation: int
    by: str
    reason: str
    at: datetime
    digest: str
    evidence: dict[str, Any] | None = None
    cursors: dict[str, Any] | None = None
    hashes: dict[str, str] | None = None
    state: Literal["open", "stale", "approved", "rejected"] = "open"
    closed_by: str | None = None
    closed_reason: str | None = None
    closed_at: datetime | None = None


class Bar(Struct, frozen=True):
    """A version that the rollback to `generation` deposed plays no more, unless a person lifts the bar."""

    model: str
    version: int
    generation: int
    at: datetime
    lifted_by: str | None = None
    lifted_reason: str | None = None
    lifted_at: datetime | None = None


def check_promoter(model: str, version: int, policy: Policy, by: Principal) -> None:
    """Whether it may promote without anybody else.

    Raises:
        ApprovalNeeded: the terms want a person, or two of them; says what to do.
    """
    propose = f"understudy propose {model} {version} --reason …"
    match policy.promotion:
        case "four_eyes":
            raise ApprovalNeeded(
                f"'{model}' is under four eyes: propose version {version} ({propose}), and have another person approve"
            )
        case "one" if by.is_the_rule:
            raise ApprovalNeeded(f"'{model}' wants a person to promote: the rule only proposes ({propose})")
        case _:
            return


def check_terms_changer(model: str, policy: Policy, by: Principal) -> None:
    """Whether it may change the terms without anybody else; `policy` is what stands.

    Raises:
        ApprovalNeeded: the terms are under four eyes themselves; says what to do.
    """
    if policy.promotion == "four_eyes":
        raise ApprovalNeeded(
            f"'{model}' is under four eyes, and so are its terms: propose them "
            f"(POST /admin/models/{model}/proposals with a policy), and have somebody else approve them"
        )
    if by.is_the_rule:
        raise ApprovalNeeded(f"the rule judges by the terms of '{model}', and does not change them")


def check_approver(proposal: Proposal, uploader: str | None, policy: Policy, by: Principal) -> None:
    """Whether it may agree to this proposal; `uploader` is who brought the version, None where it is about terms.

    Raises:
        ApproverRefused: says who may instead.
    """
    if by.is_the_rule:
        raise ApproverRefused("the rule proposes and never approves: a person must")
    if policy.promotion != "four_eyes":
        return
    asked = f"proposal {proposal.number} of '{proposal.model}' is under four eyes"
    if by.name == LOCAL_OPERATOR:
        raise ApproverRefused(
            f"{asked}: {LOCAL_OPERATOR} can be anybody at this machine, and so never the second pair of eyes: "
            "approve with a key of your own"
        )
    if by.name == proposal.by:
        raise ApproverRefused(f"{asked}: '{by.name}' proposed it, so somebody else must approve it")
    if by.name == uploader:
        raise ApproverRefused(
            f"{asked}: '{by.name}' uploaded version {proposal.version}, so somebody else must approve it"
        )
