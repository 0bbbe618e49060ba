"""The half of the registry that decides who plays, under which terms, with whose consent: each call a transaction."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypedDict, Unpack

from registry import bars, catalogue, decisions, proposals
from registry.artifacts import ArtifactStore
from registry.consent import Bar, Proposal, check_terms_changer
from registry.database import Database
from registry.decisions import Grounds
from registry.lookup import find_model
from registry.reader import RegistryReader
from registry.types import Lineup, Model, Policy, Principal


class Known(TypedDict, total=False):
    """What a decision may rest on beside its reason: all of it is frozen with the decision.

    `expected_generation`: the lineup that was decided upon; nothing happens where it has moved on. `evidence`: the
    document of the rule. `cursors`: up to where the journal was read for it. `hashes`: of the `config`, `code` and
    `data` that it was computed by and from.
    """

    expected_generation: int | None
    evidence: dict[str, Any] | None
    cursors: dict[str, Any] | None
    hashes: dict[str, str] | None


class Decider(RegistryReader):
    """Changes of lineups and terms. Every one raises GenerationMoved where it was decided upon a lineup of before."""

    def __init__(self, database: Database, artifacts: ArtifactStore, now: Callable[[], datetime]) -> None:
        super().__init__(database, artifacts)
        self._now = now

    def appoint(self, model: str, version: int, *, reason: str, by: Principal) -> Lineup:
        """Makes a version the first champion of its model: generation 1, reign 1.

        Raises:
            TransitionRefused: the model has another champion: enlist a challenger and promote it.
        """
        with self._database.change() as connection:
            return decisions.appoint(connection, model, version, self._grounds(by, reason))

    def enlist(self, model: str, version: int, *, reason: str, by: Principal, **known: Unpack[Known]) -> Lineup:
        """Makes a retired version a challenger.

        Raises:
            TransitionRefused, VersionBarred: it is not retired, or was rolled back.
        """
        with self._database.change() as connection:
            return decisions.change(connection, "enlist", model, version, self._grounds(by, reason, **known))

    def promote(self, model: str, version: int, *, reason: str, by: Principal, **known: Unpack[Known]) -> Lineup:
        """Makes a challenger champion: generation, reign, decision with its evidence, audit row, all or none.

        Raises:
            TransitionRefused, VersionBarred: the version is not a challenger, or was rolled back.
            ApprovalNeeded: the model's terms want a proposal, and somebody else's approval.
            RuleRests: the rule asks too soon after a rollback.
        """
        with self._database.change() as connection:
            return decisions.promote(connection, model, version, self._grounds(by, reason, **known))

    def rollback(self, model: str, *, reason: str, by: Principal, **known: Unpack[Known]) -> Lineup:
        """Gives the deposed champion its place back; what had taken it is retired and barred. Never needs consent.

        Raises:
            TransitionRefused: there is no previous champion.
        """
        with self._database.change() as connection:
            return decisions.rollback(connection, model, self._grounds(by, reason, **known))

    def retire(self, model: str, version: int, *, reason: str, by: Principal, **known: Unpack[Known]) -> Lineup:
        """Takes a challenger or the previous champion out of play.

        Raises:
            TransitionRefused: the version is champion, or retired already.
        """
        with self._database.change() as connection:
            return decisions.change(connection, "retire", model, version, self._grounds(by, reason, **known))

    def set_policy(self, name: str, policy: Policy, *, by: Principal, expected_generation: int | None = None) -> Model:
        """Gives a model other terms. Where it has a champion, a new generation and with it a new reign begin.

        Raises:
            SchemaRefused: the model cannot have these terms.
            ApprovalNeeded: the terms of now are under four eyes, and so is changing them.
        """
        with self._database.change() as connection:
            there = find_model(connection, name)
            catalogue.check_terms(connection, name, policy)
            if policy != there.policy:
                check_terms_changer(name, there.policy, by)
            grounds = self._grounds(by, "", expected_generation=expected_generation)
            decisions.new_terms(connection, name, policy, grounds)
            return find_model(connection, name)

    def propose(self, model: str, version: int, *, reason: str, by: Principal, **known: Unpack[Known]) -> Proposal:
        """Asks others to promote a challenger.

        Raises:
            TransitionRefused, VersionBarred: it could not be promoted.
            ProposalRefused: that is proposed already; or, asked by the rule, was rejected in this reign.
            RuleRests: the rule asks too soon after a rollback.
        """
        with self._database.change() as connection:
            return proposals.propose_version(connection, model, version, self._grounds(by, reason, **known))

    def propose_policy(
        self, model: str, policy: Policy, *, reason: str, by: Principal, **known: Unpack[Known]
    ) -> Proposal:
        """Asks others to change the terms.

        Raises:
            SchemaRefused: the model could not have them.
            ProposalRefused: that is proposed already.
            ApprovalNeeded: the rule asks.
        """
        with self._database.change() as connection:
            return proposals.propose_policy(connection, model, policy, self._grounds(by, reason, **known))

    def approve(
        self,
        model: str,
        number: int,
        digest: str,
        *,
        reason: str,
        by: Principal,
        expected_generation: int | None = None,
    ) -> Proposal:
        """Agrees to a proposal and makes the change with it, all or none.

        Args:
            model: whose proposal it is.
            number: which one.
            digest: of what was seen of it: it must still be that.
            reason: why it is agreed to.
            by: who agrees.
            expected_generation: the lineup that it was agreed upon; that of the proposal in any case.

        Raises:
            UnknownProposal, ProposalClosed, ProposalDiffers: there is none, it is over, or it is not what was seen.
            ApproverRefused: the terms want somebody else to agree.
            TransitionRefused, VersionBarred, SchemaRefused: what was proposed cannot be done any more.
        """
        grounds = self._grounds(by, reason, expected_generation=expected_generation)
        with self._database.change() as connection:
            return proposals.approve(connection, model, number, digest, grounds)

    def reject(self, model: str, number: int, *, reason: str, by: Principal) -> Proposal:
        """Refuses a proposal, for good.

        Raises:
            UnknownProposal, ProposalClosed: there is none, or it is over.
            ApprovalNeeded: the rule asks.
        """
        with self._database.change() as connection:
            return proposals.reject(connection, model, number, self._grounds(by, reason))

    def lift_bar(self, model: str, version: int, *, reason: str, by: Principal) -> Bar:
        """Lets a version that was rolled back play again; it stays retired until it is enlisted.

        Raises:
            TransitionRefused: there is no bar to lift.
            ApprovalNeeded: the rule asks, and only people may.
        """
        with self._database.change() as connection:
            return bars.lift(connection, model, version, by, reason, self._now())

    def _grounds(self, by: Principal, reason: str, **known: Unpack[Known]) -> Grounds:
        return Grounds(by, reason, self._now(), **known)
