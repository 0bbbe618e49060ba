"""Any sequence of predictions and outcomes, over real files, against a model that is a few lists."""

from __future__ import annotations

import asyncio
import hashlib
import json
from itertools import count
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, Literal

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from msgspec import Struct

from gateway.clock import JournalClock
from gateway.config import ClockSettings, JournalSettings
from gateway.desk import JournalDesk
from gateway.errors import InvalidInput
from gateway.journal import open_ledger, open_reader
from gateway.journal.join import Association, OutcomeJoin
from gateway.lineup import Lineups
from gateway.records import Address, OutcomeRecord, Receipt, moment, prediction_id
from registry.types import Principal
from tests.journals import SECRET, Journal, draft

ME = Principal.local_operator()
START_US = 1_767_225_600_000_000
POLICIES: tuple[Association, ...] = ("latest", "first", "all")
NAMES = st.sampled_from([None, "a", "b"])
TIMES = st.integers(-5, 15)
"""Seconds from the start: before, between and after the predictions."""


class Row(Struct, frozen=True):
    """A predicted row: where it is, which request it belongs to, its association id and time."""

    address: Address
    request: tuple[int, int, int]
    name: str | None
    at_us: int


class Fact(Struct, frozen=True):
    """An outcome that must be stored."""

    target: Address | str
    row: int
    outcome: int
    source: str
    observed_us: int
    stated: bool


Sent = dict[str, Any]
Fate = Literal["accepted", "duplicate", "corrected", "early", "unknown", "rejected"]


class Expected:
    """What the journal must hold, the plain way."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.facts: list[Fact] = []

    def take(self, fact: Fact) -> Fate:
        known = [f for f in self.facts if (f.target, f.row) == (fact.target, fact.row)]
        same = [f for f in known if (f.outcome, f.source) == (fact.outcome, fact.source)]
        if same and (not fact.stated or any(f.observed_us == fact.observed_us for f in same)):
            return "duplicate"
        self.facts.append(fact)
        if any(f.outcome != fact.outcome for f in known):
            return "corrected"
        if isinstance(fact.target, str) and not any(row.name == fact.target for row in self.rows):
            return "early"
        return "accepted"

    def rows_of(self, fact: Fact, policy: Association) -> list[Address]:
        """The plain loop: requests with the id by time, those before the outcome or else the next; row k of them."""
        if isinstance(fact.target, Address):
            return [fact.target]
        carrying = sorted((r for r in self.rows if r.name == fact.target), key=lambda r: (r.at_us, r.address))
        requests = list(dict.fromkeys(row.request for row in carrying))
        before = [r for r in requests if any(row.request == r and row.at_us <= fact.observed_us for row in carrying)]
        chosen = {"latest": before[-1:], "first": before[:1], "all": before}[policy] if before else requests[:1]
        named = [sorted(row.address for row in carrying if row.request == request) for request in chosen]
        return [addresses[fact.row] for addresses in named if fact.row < len(addresses)]

    def effective(self, policy: Association, facts: list[Fact]) -> dict[Address, int]:
        best: dict[Address, tuple[tuple[int, str, bytes], int]] = {}
        for fact in facts:
            digest = hashlib.blake2b(msgspec.json.encode(fact.outcome), digest_size=16).digest()
            rank = (fact.observed_us, fact.source, digest)
            for address in self.rows_of(fact, policy):
                best[address] = max(best.get(address, (rank, fact.outcome)), (rank, fact.outcome))
        return {address: outcome for address, (_, outcome) in best.items()}


class OutcomesMachine(RuleBasedStateMachine):
    def __init__(self, lineups: Lineups) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.journal = Journal(Path(self.folder.name))
        self.now_us = START_US
        self.clock = JournalClock(ClockSettings(), 86_400, now_us=lambda: self.now_us)
        self.writers = [self.journal.writer(), self.journal.writer()]
        self.reader, self.ledger = self.journal.reader(), self.journal.ledger()
        self.desk = JournalDesk(
            lambda: open_ledger(self.journal.store, JournalSettings()),
            lambda: open_reader(self.journal.store),
            self.writers[0].writer,
            lineups,
            self.clock,
        )
        self.loop = asyncio.new_event_loop()
        self.expected, self.others = Expected(), count()
        self.requests: list[tuple[str, list[Address]]] = []

    def teardown(self) -> None:
        try:
            for policy in POLICIES:
                self.every_row_has_its_effective_outcome(policy)
        finally:
            self.desk.close()
            self.loop.close()
            self.journal.close()
            self.folder.cleanup()

    @rule(
        which=st.integers(0, 1),
        requests=st.lists(st.tuples(st.lists(NAMES, min_size=1, max_size=3), TIMES), min_size=1, max_size=3),
        own_times=st.booleans(),
    )
    def predict(self, which: int, requests: list[tuple[list[str | None], int]], own_times: bool) -> None:
        """A chunk of some requests; each row has an association id or none."""
        writer = self.writers[which]
        names = [name for named, _ in requests for name in named]
        at_us = self.clock.stamp(None)
        times = [START_US + at_s * 1_000_000 if own_times else at_us for named, at_s in requests for _ in named]
        starts = [sum(len(named) for named, _ in requests[:i]) for i in range(len(requests))]
        made = draft(
            len(names),
            model="fraud",
            at_us=at_us,
            starts=starts,
            associations=names if any(names) else None,
            predicted_at_us=times if own_times else None,
        )
        (seq,) = writer.append([made])
        for start, (named, _) in zip(starts, requests, strict=True):
            addresses = [Address(writer.writer, seq, start + i) for i in range(len(named))]
            self.requests.append((prediction_id(writer.writer, seq, start, SECRET), addresses))
            for address in addresses:
                key = writer.writer, seq, start
                self.expected.rows.append(Row(address, key, names[address.row], times[address.row]))

    @rule(seconds=st.integers(0, 4))
    def wait(self, seconds: int) -> None:
        self.now_us += seconds * 1_000_000

    @rule(data=st.data(), n=st.integers(1, 4), n_deliveries=st.integers(1, 3), lines=st.booleans())
    def send(self, data: st.DataObject, n: int, n_deliveries: int, lines: bool) -> None:
        """Some outcomes in one request, which is delivered up to three times."""
        drawn = [self.outcome(data) for _ in range(n)]
        fates: list[str] = [self.expected.take(what) if isinstance(what, Fact) else what for _, what in drawn]
        again: list[str] = ["duplicate" if isinstance(what, Fact) else what for _, what in drawn]
        sent = [one for one, _ in drawn]
        body = b"\n".join(json.dumps(one).encode() for one in sent) if lines else json.dumps(sent).encode()
        for delivery in range(n_deliveries):
            told = again if delivery else fates
            try:
                receipt = self.loop.run_until_complete(self.desk.take("fraud", body, by=ME, lines=lines))
            except InvalidInput:
                assert set(told) == {"rejected"}
                continue
            assert self.counted(receipt) == {fate: told.count(fate) for fate in self.counted(receipt)}
            assert sum(self.counted(receipt).values()) == n
            assert [item["index"] for item in receipt.rejected] == [i for i in range(n) if told[i] == "rejected"]

    @staticmethod
    def counted(receipt: Receipt) -> dict[str, int]:
        numbers = {name: getattr(receipt, name) for name in ("accepted", "duplicate", "corrected", "early", "unknown")}
        return numbers | {"rejected": len(receipt.rejected)}

    def outcome(self, data: st.DataObject) -> tuple[Sent, Fact | Fate]:
        """One outcome as sent, and the fact that it states or why it states none."""
        outcome = data.draw(st.sampled_from([0, 1, 1, 2]))
        source = data.draw(st.sampled_from([None, None, "branch", "zoo"]))
        observed_s = data.draw(st.none() | TIMES)
        row = data.draw(st.sampled_from([0, 0, 1, 2]))
        sent: Sent = {"outcome": outcome, "row": row}
        if source is not None:
            sent["source"] = source
        observed_us = self.now_us if observed_s is None else START_US + observed_s * 1_000_000
        if observed_s is not None:
            sent["observed_at"] = moment(observed_us).isoformat()
        kinds = ["association", "stranger", "id", "id"] if self.requests else ["association", "stranger"]
        target: Address | str
        match data.draw(st.sampled_from(kinds)):
            case "association":
                target = data.draw(st.sampled_from(["a", "b", "never"]))
                sent["association_id"] = target
            case "stranger":
                sent["prediction_id"] = self.stranger(data)
                return sent, "rejected" if outcome == 2 else "unknown"
            case _:
                request_id, addresses = data.draw(st.sampled_from(self.requests))
                sent["prediction_id"] = request_id
                if row >= len(addresses):
                    return sent, "rejected"
                target = addresses[row]
                row = target.row
        if outcome == 2:
            return sent, "rejected"
        return sent, Fact(target, row, outcome, source or "default", observed_us, observed_s is not None)

    def stranger(self, data: st.DataObject) -> str:
        """A prediction id that is none of ours: malformed, of no chunk, or with another tag."""
        here = self.writers[0].writer
        strangers = ["", "x" * 40, prediction_id(99, 1, 0, SECRET), prediction_id(here, 10**6, 0, SECRET)]
        strangers += [text[:-1] + ("b" if text[-1] == "a" else "a") for text, _ in self.requests[-1:]]
        drawn: str = data.draw(st.sampled_from(strangers))
        return drawn

    def found(self, policy: Association, journal: Journal | None = None) -> dict[Address, int]:
        """Address → effective outcome, of every row of the journal."""
        ledger = self.ledger if journal is None else journal.ledger()
        join = OutcomeJoin(self.reader, ledger)
        effective: dict[Address, int] = {}
        for state in self.reader.writers():
            for head in self.reader.heads(state.writer, 0, 10_000):
                chunk = self.reader.chunk(head.writer, head.seq)
                for row, outcome in join.effective(head.writer, head.seq, chunk, policy).items():
                    assert isinstance(outcome.outcome, int)
                    effective[Address(head.writer, head.seq, row)] = outcome.outcome
        return effective

    @rule(policy=st.sampled_from(POLICIES))
    def every_row_has_its_effective_outcome(self, policy: Association) -> None:
        assert self.found(policy) == self.expected.effective(policy, self.expected.facts)

    @invariant()
    def each_fact_is_stored_once_and_nothing_else(self) -> None:
        stored = self.ledger.outcomes_since(self.writers[0].writer, 0, 10_000)
        assert [(one.address or one.association_id, one.row, one.outcome, one.observed_at_us) for one in stored] == [
            (fact.target, fact.row, fact.outcome, fact.observed_us) for fact in self.expected.facts
        ]

    @precondition(lambda self: any(fact.stated for fact in self.expected.facts))
    @rule(seed=st.integers(0, 2**32), policy=st.sampled_from(POLICIES))
    def the_order_of_arrival_does_not_matter(self, seed: int, policy: Association) -> None:
        """What was stated with its time, delivered three times in any order to an empty journal, is joined alike."""
        facts = [fact for fact in self.expected.facts if fact.stated]
        deliveries = facts * 3
        Random(seed).shuffle(deliveries)
        other = Journal(Path(self.folder.name) / f"other {next(self.others)}")
        ledger = other.ledger()
        told = [ledger.append_outcomes(1, n, [self.record(fact)])[0] for n, fact in enumerate(deliveries, 1)]
        assert told.count("duplicate") == len(deliveries) - len(set(facts))
        assert self.found(policy, other) == self.expected.effective(policy, facts)
        other.close()

    def record(self, fact: Fact) -> OutcomeRecord:
        address, name = (fact.target, None) if isinstance(fact.target, Address) else (None, fact.target)
        return OutcomeRecord(
            "fraud", address, name, fact.row, fact.outcome, fact.source, fact.observed_us, fact.stated, self.now_us
        )


def test_outcomes_are_joined_as_the_plain_model_says_whatever_comes_in_whatever_order(lineups: Lineups) -> None:
    class Machine(OutcomesMachine):
        def __init__(self) -> None:
            super().__init__(lineups)

    run_state_machine_as_test(Machine, settings=settings(max_examples=40, stateful_step_count=15, deadline=None))
