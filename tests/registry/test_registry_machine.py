"""Any sequence of changes, against a model of the registry that is a few dictionaries, with the file opened again."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from registry.audit import verify
from registry.errors import (
    ApprovalNeeded,
    ApproverRefused,
    GenerationMoved,
    NoChampion,
    ProposalClosed,
    ProposalDiffers,
    ProposalRefused,
    RegistryError,
    TransitionRefused,
    VersionBarred,
)
from registry.store import Registry
from registry.types import (
    Feature,
    InputBinding,
    InputSchema,
    Lineup,
    OutputTensor,
    Policy,
    Principal,
    ScoreColumn,
    Signature,
)

ME = Principal("tester")
SCHEMA = InputSchema((Feature("x", "float64"),))
SIGNATURE = Signature(
    "regression", (InputBinding("x", "float32", ("x",)),), (OutputTensor("y", "float32"),), ScoreColumn("y")
)
NAMES = st.sampled_from(["loans", "flights"])
NUMBERS = st.integers(1, 5)
PEOPLE = st.sampled_from([ME, Principal("ann"), Principal("bob")])
TERMS = st.builds(Policy, promotion=st.sampled_from(["automatic", "one", "four_eyes"]), n_slots=st.integers(1, 2))


class Expected:
    """What a model must be: written the plain way, from the words of the table of roles."""

    def __init__(self) -> None:
        self.versions: dict[bytes, int] = {}
        self.role: dict[int, str] = {}
        self.history: list[tuple[int, tuple[int, ...], int | None]] = []
        self.reigns: list[tuple[int, int]] = []
        self.kinds: list[str] = []
        self.policy = Policy()
        self.closed: dict[tuple[int, int], bytes] = {}
        self.barred: set[int] = set()
        self.proposals: list[dict[str, Any]] = []

    def keep(self, kind: str | None) -> None:
        """Writes the roles of now as a generation, and a reign where it must begin one."""
        (champion,) = (number for number, role in self.role.items() if role == "champion")
        previous = next((number for number, role in self.role.items() if role == "previous"), None)
        before = self.history[-1][0] if self.history else None
        listed = self.history[-1][1] if self.history else ()
        kept = tuple(number for number in listed if self.role[number] == "challenger")
        new = tuple(number for number in self.role if self.role[number] == "challenger" and number not in kept)
        self.history.append((champion, kept + new, previous))
        if champion != before or kind is None:
            self.reigns.append((champion, len(self.history)))
        if kind is not None:
            self.kinds.append(kind)

    def promoted(self, number: int) -> None:
        """A challenger takes over."""
        falls = {"champion": "previous", "previous": "retired"}
        self.role.update({other: falls.get(has, has) for other, has in self.role.items()})
        self.role[number] = "champion"
        self.keep("promote")


class RegistryMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.seconds = count()
        self.models: dict[str, Expected] = {}
        self.evidence: dict[str, dict[str, Any]] = {}
        self.clock: datetime | None = None
        self.registry = self.opened()

    def opened(self) -> Registry:
        start = datetime(2026, 1, 1, tzinfo=UTC)
        return Registry.open(Path(self.folder.name), now=lambda: start + timedelta(seconds=next(self.seconds)))

    def teardown(self) -> None:
        self.registry.close()
        self.folder.cleanup()

    @initialize()
    def one_model(self) -> None:
        self.create("loans")

    @rule(name=NAMES)
    def create(self, name: str) -> None:
        self.registry.create_model(name, SCHEMA, "regression", by=ME)
        self.models.setdefault(name, Expected())

    @rule(name=NAMES, content=st.binary(min_size=1, max_size=1))
    def add(self, name: str, content: bytes) -> None:
        if name not in self.models:
            return
        expected = self.models[name]
        number = expected.versions.setdefault(content, len(expected.versions) + 1)
        expected.role.setdefault(number, "retired")
        assert self.registry.add_version(name, content, SIGNATURE, by=ME).number == number

    def change(
        self,
        name: str,
        allowed: bool,
        generation: int | None,
        call: Callable[[int | None], Lineup],
        otherwise: type[RegistryError] = TransitionRefused,
    ) -> bool:
        """Makes the call and says whether it had to succeed, having seen it refused with the right error where not."""
        expected = self.models[name]
        now = len(expected.history)
        before = self.registry.audit()
        fits = generation in (None, now)
        if allowed and fits and now:
            assert call(generation).generation == now + 1
            return True
        wanted = NoChampion if not now else otherwise if fits else GenerationMoved
        with pytest.raises(wanted):
            call(generation)
        assert self.registry.audit() == before
        return False

    def known(self, name: str, number: int) -> bool:
        return name in self.models and number in self.models[name].role

    @rule(name=NAMES, number=NUMBERS)
    def appoint(self, name: str, number: int) -> None:
        if not self.known(name, number):
            return
        expected = self.models[name]
        if not expected.history:
            self.registry.appoint(name, number, reason="", by=ME)
            expected.role[number] = "champion"
            expected.keep("register")
        elif expected.role[number] == "champion":
            assert self.registry.appoint(name, number, reason="", by=ME).generation == len(expected.history)
        else:
            with pytest.raises(TransitionRefused):
                self.registry.appoint(name, number, reason="", by=ME)

    @rule(name=NAMES, number=NUMBERS, generation=st.none() | st.integers(1, 8))
    def enlist(self, name: str, number: int, generation: int | None) -> None:
        if not self.known(name, number):
            return
        role = self.models[name].role
        if self.change(
            name,
            role[number] == "retired" and number not in self.models[name].barred,
            generation,
            lambda at: self.registry.enlist(name, number, reason="", by=ME, expected_generation=at),
            VersionBarred if number in self.models[name].barred else TransitionRefused,
        ):
            role[number] = "challenger"
            self.models[name].keep("enlist")

    @rule(name=NAMES, number=NUMBERS, generation=st.none() | st.integers(1, 8))
    def promote(self, name: str, number: int, generation: int | None) -> None:
        if not self.known(name, number):
            return
        role = self.models[name].role
        if self.change(
            name,
            role[number] == "challenger" and self.models[name].policy.promotion != "four_eyes",
            generation,
            lambda at: self.registry.promote(
                name, number, reason="r", by=ME, expected_generation=at, evidence={"version": number}
            ),
            self.alone(name, number),
        ):
            self.models[name].promoted(number)

    def alone(self, name: str, number: int) -> type[RegistryError]:
        """Why nobody promotes it alone."""
        expected = self.models[name]
        if expected.policy.promotion == "four_eyes":
            return ApprovalNeeded
        return VersionBarred if number in expected.barred else TransitionRefused

    @rule(name=NAMES, number=NUMBERS, by=PEOPLE)
    def propose(self, name: str, number: int, by: Principal) -> None:
        if not self.known(name, number) or not self.models[name].history:
            return
        expected = self.models[name]
        now = len(expected.history)
        asked = {"version": number, "generation": now, "by": by.name, "state": "open", "policy": None}
        open_now = [each for each in expected.proposals if each["state"] == "open" and each["generation"] == now]
        before = self.registry.audit()
        if expected.role[number] != "challenger":
            with pytest.raises(TransitionRefused):
                self.registry.propose(name, number, reason="", by=by)
        elif any(each["version"] == number for each in open_now):
            with pytest.raises(ProposalRefused):
                self.registry.propose(name, number, reason="", by=by)
        else:
            assert self.registry.propose(name, number, reason="", by=by).number == len(expected.proposals) + 1
            expected.proposals.append(asked)
            return
        assert self.registry.audit() == before

    @rule(name=NAMES, terms=TERMS, by=PEOPLE)
    def propose_terms(self, name: str, terms: Policy, by: Principal) -> None:
        if name not in self.models:
            return
        expected = self.models[name]
        now = len(expected.history)
        for each in expected.proposals:
            if each["state"] == "open" and each["generation"] == now and each["policy"] == terms:
                with pytest.raises(ProposalRefused):
                    self.registry.propose_policy(name, terms, reason="", by=by)
                return
        self.registry.propose_policy(name, terms, reason="", by=by)
        expected.proposals.append({"version": None, "generation": now, "by": by.name, "state": "open", "policy": terms})

    @rule(name=NAMES, place=st.integers(0, 5), by=PEOPLE, seen=st.booleans())
    def approve(self, name: str, place: int, by: Principal, seen: bool) -> None:
        if name not in self.models or place >= len(self.models[name].proposals):
            return
        expected = self.models[name]
        each, now = expected.proposals[place], len(expected.history)
        digest = self.registry.proposal(name, place + 1).digest if seen else "sha256:another"

        def call() -> None:
            self.registry.approve(name, place + 1, digest, reason="", by=by)

        wanted: type[RegistryError] | None = None
        uploader = None if each["version"] is None else ME.name
        if each["state"] != "open":
            wanted = ProposalClosed
        elif each["generation"] != now:
            wanted = GenerationMoved
        elif not seen:
            wanted = ProposalDiffers
        elif expected.policy.promotion == "four_eyes" and by.name in (each["by"], uploader):
            wanted = ApproverRefused
        if wanted is not None:
            before = self.registry.audit()
            with pytest.raises(wanted):
                call()
            assert self.registry.audit() == before
            return
        call()
        each["state"] = "approved"
        if each["version"] is not None:
            expected.promoted(each["version"])
        else:
            self.have(name, each["policy"])

    @rule(name=NAMES, place=st.integers(0, 5), by=PEOPLE)
    def reject(self, name: str, place: int, by: Principal) -> None:
        if name not in self.models or place >= len(self.models[name].proposals):
            return
        each = self.models[name].proposals[place]
        if each["state"] != "open":
            with pytest.raises(ProposalClosed):
                self.registry.reject(name, place + 1, reason="", by=by)
            return
        self.registry.reject(name, place + 1, reason="", by=by)
        each["state"] = "rejected"

    @rule(name=NAMES, number=NUMBERS, by=PEOPLE)
    def lift_bar(self, name: str, number: int, by: Principal) -> None:
        if not self.known(name, number):
            return
        expected = self.models[name]
        if number in expected.barred:
            self.registry.lift_bar(name, number, reason="", by=by)
            expected.barred.remove(number)
        else:
            with pytest.raises(TransitionRefused):
                self.registry.lift_bar(name, number, reason="", by=by)

    @rule(name=NAMES, generation=st.none() | st.integers(1, 8))
    def rollback(self, name: str, generation: int | None) -> None:
        if name not in self.models:
            return
        role = self.models[name].role
        previous = next((number for number in role if role[number] == "previous"), None)
        if self.change(
            name,
            previous is not None,
            generation,
            lambda at: self.registry.rollback(name, reason="", by=ME, expected_generation=at),
        ):
            self.models[name].barred |= {number for number in role if role[number] == "champion"}
            role.update({number: "retired" for number in role if role[number] == "champion"})
            role.update({number: "champion" for number in role if number == previous})
            self.models[name].keep("rollback")

    @rule(name=NAMES, number=NUMBERS, generation=st.none() | st.integers(1, 8))
    def retire(self, name: str, number: int, generation: int | None) -> None:
        if not self.known(name, number):
            return
        role = self.models[name].role
        if self.change(
            name,
            role[number] in ("challenger", "previous"),
            generation,
            lambda at: self.registry.retire(name, number, reason="", by=ME, expected_generation=at),
        ):
            role[number] = "retired"
            self.models[name].keep("retire")

    @rule(name=NAMES, terms=TERMS)
    def set_policy(self, name: str, terms: Policy) -> None:
        if name not in self.models:
            return
        expected = self.models[name]
        if expected.policy.promotion == "four_eyes" and terms != expected.policy:
            with pytest.raises(ApprovalNeeded):
                self.registry.set_policy(name, terms, by=ME)
            return
        self.registry.set_policy(name, terms, by=ME)
        self.have(name, terms)

    def have(self, name: str, terms: Policy) -> None:
        """Other terms begin another generation and reign, where there is a champion."""
        expected = self.models[name]
        if expected.history and expected.policy != terms:
            expected.keep(None)
        expected.policy = terms

    @rule(name=NAMES, bucket=st.integers(0, 3), sums=st.binary(max_size=2))
    def close_bucket(self, name: str, bucket: int, sums: bytes) -> None:
        if name not in self.models or not self.models[name].history:
            return
        expected = self.models[name]
        reign = len(expected.reigns)
        new = self.registry.close_bucket(
            name,
            reign,
            bucket,
            closed_at=datetime(2026, 1, 1, tzinfo=UTC),
            prediction_cursor={},
            outcome_cursor={},
            sums={1: sums},
        )
        assert new == ((reign, bucket) not in expected.closed)
        expected.closed.setdefault((reign, bucket), sums)

    @rule(days=st.integers(0, 5))
    def set_clock(self, days: int) -> None:
        to = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=days)
        if self.clock is None or to >= self.clock:
            self.registry.set_clock(to, by=ME)
            self.clock = to
        else:
            with pytest.raises(RegistryError):
                self.registry.set_clock(to, by=ME)

    @precondition(lambda self: any(expected.history for expected in self.models.values()))
    @rule()
    def open_again(self) -> None:
        self.registry.close()
        self.registry = self.opened()

    @invariant()
    def everything_is_as_expected(self) -> None:
        assert {model.name for model in self.registry.models()} == set(self.models)
        assert self.registry.clock() == self.clock
        for name, expected in self.models.items():
            lineups = self.registry.lineups(name)
            assert [(each.champion, each.challengers, each.previous) for each in lineups] == expected.history
            assert [each.generation for each in lineups] == list(range(1, len(lineups) + 1))
            reigns = self.registry.reigns(name)
            assert [(each.champion, each.first_generation) for each in reigns] == expected.reigns
            assert [each.number for each in reigns] == list(range(1, len(reigns) + 1))
            assert self.registry.barred(name) == expected.barred
            assert self.registry.model(name).policy == expected.policy
            stale = len(lineups)
            assert [(each.version, each.by, each.state) for each in self.registry.proposals(name)] == [
                (
                    each["version"],
                    each["by"],
                    "stale" if each["state"] == "open" and each["generation"] != stale else each["state"],
                )
                for each in expected.proposals
            ]
            decisions = self.registry.decisions(name)
            assert [each.kind for each in decisions] == expected.kinds
            assert len(self.registry.versions(name)) == len(expected.versions)
            for number in range(1, len(reigns) + 1):
                closed = {(number, each.bucket): each.sums[1] for each in self.registry.closed_buckets(name, number)}
                assert closed == {key: sums for key, sums in expected.closed.items() if key[0] == number}

    @invariant()
    def the_audit_has_one_line_a_decision_and_verifies(self) -> None:
        lines = self.registry.audit()
        assert verify(lines) is None
        assert self.registry.verified().faults == []
        for name in self.models:
            decided = [
                (line.action, line.detail["to_generation"])
                for line in lines
                if line.model == name and line.action in ("register", "enlist", "promote", "rollback", "retire")
            ]
            assert decided == [(each.kind, each.to_generation) for each in self.registry.decisions(name)]
            since = [each.since for each in self.registry.lineups(name) if each.since is not None]
            assert all(earlier <= later for earlier, later in pairwise(since))


RegistryMachine.TestCase.settings = settings(max_examples=12, stateful_step_count=30, deadline=None)
TestRegistry = RegistryMachine.TestCase
