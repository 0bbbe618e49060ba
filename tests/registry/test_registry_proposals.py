"""Who must agree: proposals, approvals, bars and the cool-down, over a real file."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Table

from registry import tables
from registry.audit import verify
from registry.errors import (
    ApprovalNeeded,
    ApproverRefused,
    GenerationMoved,
    ModelInUse,
    ProposalClosed,
    ProposalDiffers,
    ProposalRefused,
    RegistryError,
    RuleRests,
    SchemaRefused,
    TransitionRefused,
    UnknownModel,
    UnknownProposal,
    VersionBarred,
)
from registry.store import Registry
from registry.types import InputSchema, Policy, Principal, Signature

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
RULE, LOCAL = Principal.the_rule(), Principal.local_operator()
ANN, BOB, EVE = Principal("ann"), Principal("bob"), Principal("eve")
"""Ann uploads, Bob proposes, Eve has nothing to do with it."""
EVIDENCE, CURSORS, HASHES = {"log_e": 7.5}, {"predictions": {"3": 17}}, {"config": "sha256:c", "data": "sha256:d"}


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def loans(tmp_path: Path, clock: Clock, schema: InputSchema, signature: Signature) -> Iterator[Registry]:
    """Version 1 is champion, 2 and 3 are challengers; all uploaded by Ann."""
    with Registry.open(tmp_path / "store", now=clock) as registry:
        registry.create_model("loans", schema, "binary", by=ANN)
        for number in (1, 2, 3):
            registry.add_version("loans", bytes([number]), signature, by=ANN)
        registry.appoint("loans", 1, reason="first", by=ANN)
        for number in (2, 3):
            registry.enlist("loans", number, reason="try it", by=ANN)
        yield registry


def under(registry: Registry, promotion: str) -> int:
    """Gives the model these terms; returns the generation of now."""
    policy = msgspec.convert({"promotion": promotion}, Policy)
    registry.set_policy("loans", policy, by=ANN)
    return registry.lineup("loans").generation


def refused(
    registry: Registry,
    error: type[RegistryError],
    sentence: str,
    call: Callable[..., object],
    *arguments: Any,
    **named: Any,
) -> None:
    """It is refused with that sentence, and nothing was changed."""

    def everything() -> object:
        return registry.lineups("loans"), registry.proposals("loans"), registry.bars("loans"), registry.audit()

    before = everything()
    with pytest.raises(error, match=sentence):
        call(*arguments, **named)
    assert everything() == before


def test_an_approval_is_one_change_of_everything_with_the_evidence_that_was_proposed(loans: Registry) -> None:
    generation = under(loans, "four_eyes")
    asked = loans.propose(
        "loans",
        2,
        reason="better",
        by=RULE,
        expected_generation=generation,
        evidence=EVIDENCE,
        cursors=CURSORS,
        hashes=HASHES,
    )
    assert (asked.number, asked.kind, asked.version, asked.policy) == (1, "promote", 2, None)
    assert (asked.generation, asked.by, asked.state) == (generation, "rule", "open")
    agreed = loans.approve("loans", 1, asked.digest, reason="agreed in the committee", by=BOB)
    assert (agreed.state, agreed.closed_by, agreed.closed_reason) == ("approved", "bob", "agreed in the committee")
    assert loans.proposals("loans") == [agreed] == [loans.proposal("loans", 1)]
    lineup, decision = loans.lineup("loans"), loans.decisions("loans")[-1]
    assert (lineup.generation, lineup.champion, lineup.previous) == (generation + 1, 2, 1)
    assert (decision.kind, decision.by, decision.reason, decision.proposal) == (
        "promote",
        "bob",
        "agreed in the committee",
        1,
    )
    assert (decision.evidence, decision.cursors, decision.hashes) == (EVIDENCE, CURSORS, HASHES)
    lines = loans.audit()
    assert [line.action for line in lines][-3:] == ["propose", "approve", "promote"]
    assert lines[-2].detail == {"proposal": 1, "digest": asked.digest, "reason": "agreed in the committee"}
    assert set(lines[-1].detail) >= {"evidence_digest", "cursors_digest", "hashes_digest", "proposal"}
    assert verify(lines) is None


def test_under_four_eyes_nobody_promotes_or_changes_the_terms_alone(loans: Registry) -> None:
    under(loans, "four_eyes")
    for by in (RULE, LOCAL, ANN, EVE):
        refused(
            loans,
            ApprovalNeeded,
            r"'loans' is under four eyes: propose version 2 \(understudy propose loans 2",
            loans.promote,
            "loans",
            2,
            reason="now",
            by=by,
        )
        refused(
            loans,
            ApprovalNeeded,
            "'loans' is under four eyes, and so are its terms: propose them",
            loans.set_policy,
            "loans",
            Policy(),
            by=by,
        )
    assert loans.set_policy("loans", Policy(promotion="four_eyes"), by=EVE).policy.promotion == "four_eyes"


def test_under_four_eyes_the_approver_is_neither_proposer_nor_uploader_nor_anybody_at_the_machine(
    loans: Registry,
) -> None:
    under(loans, "four_eyes")
    asked = loans.propose("loans", 2, reason="better", by=BOB)
    for by, sentence in (
        (RULE, "the rule proposes and never approves"),
        (BOB, "'bob' proposed it, so somebody else must approve it"),
        (ANN, "'ann' uploaded version 2, so somebody else must approve it"),
        (LOCAL, "local-operator can be anybody at this machine, and so never the second pair of eyes"),
    ):
        refused(
            loans,
            ApproverRefused,
            sentence,
            loans.approve,
            "loans",
            1,
            asked.digest,
            reason="yes",
            by=by,
        )
    assert loans.approve("loans", 1, asked.digest, reason="yes", by=EVE).state == "approved"
    assert loans.lineup("loans").champion == 2
    assert loans.rollback("loans", reason="an emergency", by=BOB).champion == 1  # always one call


def test_under_one_a_person_promotes_alone_and_the_rule_only_proposes(loans: Registry) -> None:
    under(loans, "one")
    refused(loans, ApprovalNeeded, "wants a person to promote", loans.promote, "loans", 2, reason="now", by=RULE)
    asked = loans.propose("loans", 2, reason="better", by=RULE)
    refused(loans, ApproverRefused, "a person must", loans.approve, "loans", 1, asked.digest, reason="", by=RULE)
    loans.approve("loans", 1, asked.digest, reason="fine", by=LOCAL)
    mine = loans.propose("loans", 3, reason="and this", by=LOCAL)
    assert loans.approve("loans", 2, mine.digest, reason="mine", by=LOCAL).state == "approved"
    loans.rollback("loans", reason="oops", by=RULE)
    assert loans.lineup("loans").champion == 2


def test_the_terms_of_a_model_under_four_eyes_change_by_four_eyes(loans: Registry) -> None:
    generation = under(loans, "four_eyes")
    looser = Policy(promotion="automatic", alpha=0.2)
    asked = loans.propose_policy("loans", looser, reason="too slow", by=BOB)
    assert (asked.kind, asked.version, asked.policy, asked.generation) == ("policy", None, looser, generation)
    refused(loans, ApproverRefused, "'bob' proposed it", loans.approve, "loans", 1, asked.digest, reason="", by=BOB)
    refused(
        loans,
        ApprovalNeeded,
        "judges by the terms",
        loans.propose_policy,
        "loans",
        Policy(alpha=0.01),
        reason="",
        by=RULE,
    )
    refused(
        loans,
        SchemaRefused,
        "default_outcome",
        loans.propose_policy,
        "loans",
        Policy(default_outcome=7),
        reason="",
        by=BOB,
    )
    loans.approve("loans", 1, asked.digest, reason="agreed", by=ANN)  # she uploads, and terms are no upload
    assert loans.model("loans").policy == looser == loans.reign("loans").policy
    assert loans.lineup("loans").generation == generation + 1
    line = loans.audit()[-1]
    assert (line.action, line.principal, line.detail["proposal"]) == ("set_policy", "ann", 1)


def test_terms_of_a_model_without_champion_can_be_proposed(loans: Registry, schema: InputSchema) -> None:
    loans.create_model("new", schema, "binary", Policy(promotion="four_eyes"), by=ANN)
    with pytest.raises(ApprovalNeeded):
        loans.set_policy("new", Policy(), by=ANN)
    asked = loans.propose_policy("new", Policy(), reason="simpler", by=ANN)
    assert asked.generation == 0
    loans.approve("new", 1, asked.digest, reason="yes", by=BOB)
    assert loans.model("new").policy == Policy()
    assert loans.lineups("new") == []


def test_a_proposal_is_stale_once_the_lineup_has_moved_and_can_then_only_be_rejected(loans: Registry) -> None:
    under(loans, "one")
    asked = loans.propose("loans", 2, reason="better", by=RULE)
    loans.retire("loans", 3, reason="enough", by=ANN)
    assert loans.proposal("loans", 1).state == "stale"
    refused(
        loans,
        GenerationMoved,
        "is at generation 5, not 4",
        loans.approve,
        "loans",
        1,
        asked.digest,
        reason="yes",
        by=BOB,
    )
    again = loans.propose("loans", 2, reason="still better", by=RULE)
    refused(
        loans,
        GenerationMoved,
        "is at generation 5, not 3",
        loans.approve,
        "loans",
        2,
        again.digest,
        reason="yes",
        by=BOB,
        expected_generation=3,
    )
    assert loans.reject("loans", 1, reason="old", by=BOB).state == "rejected"
    assert loans.approve("loans", 2, again.digest, reason="yes", by=BOB, expected_generation=5).state == "approved"


def test_what_is_over_is_over_and_what_is_proposed_is_proposed_once(loans: Registry) -> None:
    under(loans, "one")
    asked = loans.propose("loans", 2, reason="better", by=RULE)
    for by in (RULE, BOB):
        refused(
            loans,
            ProposalRefused,
            "proposal 1 of 'loans' says that already",
            loans.propose,
            "loans",
            2,
            reason="again",
            by=by,
        )
    refused(loans, ApprovalNeeded, "rejects nothing", loans.reject, "loans", 1, reason="", by=RULE)
    assert loans.reject("loans", 1, reason="not before Christmas", by=BOB).closed_reason == "not before Christmas"
    over = "proposal 1 of 'loans' was rejected already"
    refused(loans, ProposalClosed, over, loans.approve, "loans", 1, asked.digest, reason="", by=BOB)
    refused(loans, ProposalClosed, over, loans.reject, "loans", 1, reason="", by=BOB)
    refused(
        loans,
        ProposalRefused,
        "was rejected in this reign: the rule does not ask again",
        loans.propose,
        "loans",
        2,
        reason="again",
        by=RULE,
    )
    loans.propose("loans", 3, reason="another", by=RULE)
    loans.propose("loans", 2, reason="please", by=ANN)
    loans.set_policy("loans", Policy(promotion="one", alpha=0.01), by=ANN)  # another reign
    assert loans.propose("loans", 2, reason="by new terms", by=RULE).number == 4
    refused(loans, UnknownProposal, "has no proposal 9", loans.approve, "loans", 9, asked.digest, reason="", by=BOB)
    with pytest.raises(UnknownModel):
        loans.proposals("nothing")


def test_what_could_not_be_promoted_is_not_proposed(loans: Registry) -> None:
    refused(
        loans,
        TransitionRefused,
        "it is champion, and must be challenger",
        loans.propose,
        "loans",
        1,
        reason="",
        by=BOB,
    )
    refused(
        loans,
        GenerationMoved,
        "is at generation 3, not 2",
        loans.propose,
        "loans",
        2,
        reason="",
        by=BOB,
        expected_generation=2,
    )


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("evidence", '{"log_e":75.0}'),
        ("version", 3),
        ("reason", "much better"),
        ("principal", "rule"),
        ("hashes", None),
    ],
)
def test_nobody_approves_anything_but_what_was_proposed_and_seen(loans: Registry, column: str, value: object) -> None:
    asked = loans.propose("loans", 2, reason="better", by=BOB, evidence=EVIDENCE, hashes=HASHES)
    refused(
        loans,
        ProposalDiffers,
        "has the digest sha256:.*, not sha256:what was seen",
        loans.approve,
        "loans",
        1,
        "sha256:what was seen",
        reason="",
        by=EVE,
    )
    _edit(loans, tables.proposals, column, value)
    refused(
        loans,
        ProposalDiffers,
        "read it again and decide again",
        loans.approve,
        "loans",
        1,
        asked.digest,
        reason="",
        by=EVE,
    )


def _edit(registry: Registry, table: Table, column: str, value: object) -> None:
    with registry._database.write() as connection:
        connection.execute(table.update().values({column: value}))


def test_what_a_rollback_deposed_is_barred_until_a_person_lifts_the_bar(loans: Registry) -> None:
    assert loans.barred("loans") == frozenset()
    loans.promote("loans", 2, reason="better", by=ANN)
    loans.rollback("loans", reason="it was not", by=RULE)
    assert loans.barred("loans") == {2}
    for event in (loans.enlist, loans.promote, loans.propose):
        refused(
            loans,
            (VersionBarred if event == loans.enlist else RegistryError),
            "version 2",
            event,
            "loans",
            2,
            reason="again",
            by=ANN,
        )
    refused(
        loans,
        VersionBarred,
        "is barred, as it was rolled back in generation 5: a person can lift the bar",
        loans.enlist,
        "loans",
        2,
        reason="again",
        by=ANN,
    )
    refused(loans, ApprovalNeeded, "a person must", loans.lift_bar, "loans", 2, reason="", by=RULE)
    bar = loans.lift_bar("loans", 2, reason="the units were wrong, not the model", by=BOB)
    assert (bar.generation, bar.lifted_by, bar.lifted_reason) == (5, "bob", "the units were wrong, not the model")
    assert (loans.barred("loans"), loans.bars("loans")) == (frozenset(), [bar])
    assert loans.audit()[-1].action == "lift_bar"
    refused(loans, TransitionRefused, "is not barred", loans.lift_bar, "loans", 2, reason="", by=BOB)
    loans.enlist("loans", 2, reason="again", by=ANN)
    loans.promote("loans", 2, reason="again", by=ANN)
    loans.rollback("loans", reason="again not", by=ANN)
    assert [(bar.generation, bar.lifted_at is None) for bar in loans.bars("loans")] == [(5, False), (8, True)]


def test_after_a_rollback_the_rule_rests_and_people_need_not(loans: Registry, clock: Clock) -> None:
    assert loans.rests_until("loans") is None
    loans.promote("loans", 2, reason="better", by=RULE)
    clock.now += DAY
    loans.rollback("loans", reason="it was not", by=RULE)
    until = START + 2 * DAY
    assert loans.rests_until("loans") == until
    clock.now = until - timedelta(microseconds=1)
    for call in (loans.promote, loans.propose):
        refused(
            loans,
            RuleRests,
            "promotes nothing by itself until 2026-01-03T00:00:00",
            call,
            "loans",
            3,
            reason="next",
            by=RULE,
        )
    clock.now = until
    loans.promote("loans", 3, reason="next", by=RULE)
    loans.rollback("loans", reason="not either", by=RULE)
    loans.lift_bar("loans", 3, reason="for the test", by=BOB)
    loans.enlist("loans", 3, reason="again", by=ANN)
    assert loans.promote("loans", 3, reason="I know", by=BOB).champion == 3


def test_terms_without_a_cool_down_let_the_rule_go_on(loans: Registry) -> None:
    loans.set_policy("loans", Policy(cool_down_s=0.0), by=ANN)
    loans.promote("loans", 2, reason="better", by=RULE)
    loans.rollback("loans", reason="it was not", by=RULE)
    assert loans.promote("loans", 3, reason="at once", by=RULE).champion == 3


def test_a_declaration_is_taken_back_only_while_there_is_no_version(loans: Registry, schema: InputSchema) -> None:
    refused(loans, ModelInUse, "has versions, and what answered is kept for ever",
            loans.delete_model, "loans", reason="", by=ANN)  # fmt: skip
    loans.create_model("typo", schema, "binary", by=ANN)
    loans.save_evidence("typo", {})
    loans.propose_policy("typo", Policy(alpha=0.01), reason="", by=ANN)
    loans.delete_model("typo", reason="a typing error", by=ANN)
    assert [model.name for model in loans.models()] == ["loans"]
    assert loans.audit()[-1].action == "delete_model"
    assert loans.create_model("typo", InputSchema(schema.features[:2]), "regression", by=ANN).task == "regression"
    assert loans.proposals("typo") == []
