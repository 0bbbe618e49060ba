"""The desk: what is handed in as an outcome, what becomes of it, and what is refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from gateway.chunk import Chunk
from gateway.clock import JournalClock
from gateway.config import ClockSettings, JournalSettings
from gateway.desk import JournalDesk, canonical
from gateway.errors import InvalidInput, JournalUnavailable, NotJson
from gateway.journal import open_ledger, open_reader
from gateway.lineup import Lineups
from gateway.records import Address, OutcomeRecord, Receipt, prediction_id
from registry.errors import NoChampion, UnknownModel
from registry.types import OutputTensor, Principal, ScoreColumn, Signature
from tests.journals import SECRET, Journal, draft, journal_in

ME = Principal.local_operator()
NOW_US = 1_767_225_600_000_000


class Office:
    """A desk over a journal, with two chunks of predictions: (1, 1) of requests with 2 and 1 rows, (1, 2) named `a`."""

    def __init__(self, journal: Journal, lineups: Lineups, clock: JournalClock) -> None:
        self.journal, self.ledger = journal, journal.ledger()
        self.writer = journal.writer()
        self.writer.append([draft(3, model="fraud", starts=(0, 2), at_us=NOW_US - 100)])
        self.writer.append([draft(model="fraud", associations=["a"], at_us=NOW_US - 50)])
        settings = JournalSettings(outcomes_busy_s=0.005)
        self.desk = JournalDesk(
            lambda: open_ledger(journal.store, settings),
            lambda: open_reader(journal.store),
            self.writer.writer,
            lineups,
            clock,
        )

    def take(self, sent: Any, *, lines: bool = False, model: str = "fraud", by: Principal = ME) -> Receipt:
        body = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
        return asyncio.run(self.desk.take(model, body, by=by, lines=lines))

    def id(self, seq: int = 1, row: int = 0, secret: bytes = SECRET) -> str:
        return prediction_id(self.writer.writer, seq, row, secret)

    def chunk(self, seq: int) -> Chunk:
        return self.journal.reader().chunk(self.writer.writer, seq)

    def stored(self) -> list[OutcomeRecord]:
        return self.ledger.outcomes_since(self.writer.writer, 0, 1_000)


@pytest.fixture
def office(tmp_path: Path, lineups: Lineups) -> Iterator[Office]:
    """The desk of a worker under the server's clock, which stands still."""
    with journal_in(tmp_path / "store") as journal:
        opened = Office(journal, lineups, JournalClock(ClockSettings(), 86_400, now_us=lambda: NOW_US))
        yield opened
        opened.desk.close()


def counts(receipt: Receipt) -> tuple[int, int, int, int, int, int]:
    """Accepted, duplicate, corrected, early, unknown, rejected."""
    r = receipt
    return r.accepted, r.duplicate, r.corrected, r.early, r.unknown, len(r.rejected)


def test_an_outcome_by_prediction_id_is_stored_for_its_row(office: Office) -> None:
    assert counts(office.take({"prediction_id": office.id(), "outcome": 1})) == (1, 0, 0, 0, 0, 0)
    assert counts(office.take({"prediction_id": office.id(), "row": 1, "outcome": 0})) == (1, 0, 0, 0, 0, 0)
    assert counts(office.take({"prediction_id": office.id(row=2), "outcome": 1})) == (1, 0, 0, 0, 0, 0)
    number = office.writer.writer
    assert [(one.address, one.outcome, one.receipt) for one in office.stored()] == [
        (Address(number, 1, 0), 1, (number, 1)),
        (Address(number, 1, 1), 0, (number, 2)),
        (Address(number, 1, 2), 1, (number, 3)),
    ]
    assert {(one.source, one.stated, one.observed_at_us, one.received_at_us) for one in office.stored()} == {
        ("default", False, NOW_US, NOW_US)
    }


def test_a_stated_time_and_source_are_kept(office: Office) -> None:
    sent = {"association_id": "a", "outcome": 1, "observed_at": "2026-01-01T01:00:00.000001+01:00", "source": "branch"}
    assert office.take(sent).accepted == 1
    (one,) = office.stored()
    assert (one.association_id, one.address, one.row) == ("a", None, 0)
    assert (one.observed_at_us, one.stated, one.received_at_us, one.source) == (NOW_US + 1, True, NOW_US, "branch")


def test_each_outcome_of_a_request_lands_in_one_count(office: Office) -> None:
    sent = [
        {"prediction_id": office.id(), "outcome": 1},
        {"prediction_id": office.id(), "outcome": 1},
        {"prediction_id": office.id(), "outcome": 0},
        {"association_id": "a", "outcome": 1},
        {"association_id": "not yet", "outcome": 1},
        {"association_id": "not yet", "outcome": 1},
        {"prediction_id": office.id(secret=bytes(16)), "outcome": 1},
        {"prediction_id": "rubbish", "outcome": 1},
        {"prediction_id": office.id(seq=99), "outcome": 1},
        {"prediction_id": office.id(), "outcome": 7},
        {"prediction_id": office.id(), "row": 2, "outcome": 1},
        {"outcome": 1},
        {"association_id": "a", "outcome": 1, "colour": "red"},
    ]
    receipt = office.take(sent)
    assert counts(receipt) == (2, 2, 1, 1, 3, 4)
    assert [item["index"] for item in receipt.rejected] == [9, 10, 11, 12]
    assert [str(item["reason"]).partition(":")[0] for item in receipt.rejected] == [
        "outcome", "row", "expected either prediction_id or association_id", "colour",
    ]  # fmt: skip
    assert len(office.stored()) == 4
    lines = b"\n".join(json.dumps(one).encode() for one in sent) + b"\n\n"
    assert counts(office.take(lines, lines=True)) == (0, 6, 0, 0, 3, 4)
    assert len(office.stored()) == 4


def test_what_is_unknown_is_never_stored(office: Office) -> None:
    other = draft(model="cars", at_us=NOW_US)
    office.writer.append([other])
    for sent in (office.id(secret=bytes(16)), office.id(seq=9), office.id(row=1), office.id(seq=3), "a", "x" * 40, ""):
        assert counts(office.take({"prediction_id": sent, "outcome": 1})) == (0, 0, 0, 0, 1, 0)
    assert office.stored() == []


def test_when_no_outcome_of_a_request_can_be_one_the_first_reason_is_raised(office: Office) -> None:
    with pytest.raises(InvalidInput, match=r"^outcome: expected one of 0, 1; got 'yes'"):
        office.take({"association_id": "a", "outcome": "yes"})
    with pytest.raises(InvalidInput, match=r"^\[0\]: outcome: expected one of 0, 1; got 2"):
        office.take([{"association_id": "a", "outcome": 2}, {}])
    with pytest.raises(InvalidInput, match=r"^row: expected 0 to 1, as the request had 2 rows; got 2"):
        office.take({"prediction_id": office.id(), "row": 2, "outcome": 1})
    with pytest.raises(NotJson):
        office.take(b"[{")
    assert office.stored() == []
    assert counts(office.take([])) == (0, 0, 0, 0, 0, 0)


def test_a_model_that_never_answered_takes_no_outcomes(office: Office) -> None:
    with pytest.raises(UnknownModel):
        office.take({"association_id": "a", "outcome": 1}, model="nothing")
    with pytest.raises(NoChampion):
        office.take({"association_id": "a", "outcome": 1}, model="idle")


def test_an_early_outcome_is_accepted_for_the_prediction_that_comes(office: Office) -> None:
    sent = {"association_id": "b", "outcome": 1}
    assert counts(office.take(sent)) == (0, 0, 0, 1, 0, 0)
    office.writer.append([draft(model="fraud", associations=["b"], at_us=NOW_US + 5)])
    assert counts(office.take(sent)) == (0, 1, 0, 0, 0, 0)

    def effective(files: Any) -> dict[int, OutcomeRecord]:
        found: dict[int, OutcomeRecord] = files.join.effective(office.writer.writer, 3, office.chunk(3), "latest")
        return found

    assert [one.outcome for one in asyncio.run(office.desk.read(effective)).values()] == [1]


def test_a_locked_journal_refuses_the_whole_request_and_a_retry_stores_it_once(office: Office) -> None:
    sent = [{"prediction_id": office.id(), "outcome": 1}, {"association_id": "a", "outcome": 1}]
    db = apsw.Connection(str(office.ledger.path))
    db.execute("BEGIN IMMEDIATE")
    with pytest.raises(JournalUnavailable):
        office.take(sent)
    db.close(True)
    assert office.stored() == []
    assert counts(office.take(sent)) == (2, 0, 0, 0, 0, 0)
    assert {one.receipt for one in office.stored()} == {(office.writer.writer, 1)}


def test_under_a_callers_clock_that_was_never_set_an_outcome_must_state_its_time(
    tmp_path: Path, lineups: Lineups
) -> None:
    with journal_in(tmp_path / "store") as journal:
        office = Office(journal, lineups, JournalClock(ClockSettings("caller"), 86_400))
        with pytest.raises(InvalidInput, match="observed_at: expected a time"):
            office.take({"association_id": "a", "outcome": 1})
        assert office.take({"association_id": "a", "outcome": 1, "observed_at": "2026-01-01T00:00:00Z"}).accepted == 1
        (one,) = office.stored()
        assert one.received_at_us == one.observed_at_us == NOW_US
        office.desk.close()


def signature(task: Any, *classes: int | str) -> Signature:
    return Signature(task, (), (OutputTensor("y", "float32"),), ScoreColumn("y"), classes)


@pytest.mark.parametrize(
    ("made", "sent", "expected"),
    [
        (signature("binary", 0, 1), True, 1),
        (signature("binary", 0, 1), False, 0),
        (signature("binary", 0, 1), 1.0, 1),
        (signature("binary", -1, 1), -1, -1),
        (signature("multiclass", "a", "b", "1"), "1", "1"),
        (signature("multiclass", 2, 5, 7), 5, 5),
        (signature("regression"), 3, 3.0),
        (signature("regression"), -0.5, -0.5),
    ],
)
def test_an_outcome_takes_the_one_form_that_its_model_has(
    made: Signature, sent: Any, expected: int | float | str
) -> None:
    said = canonical(sent, made)
    assert (said, type(said)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("made", "sent"),
    [
        (signature("binary", 0, 1), 2),
        (signature("binary", 0, 1), 0.5),
        (signature("binary", 0, 1), "1"),
        (signature("binary", 0, 1), float("nan")),
        (signature("binary", -1, 1), False),
        (signature("multiclass", "a", "b", "1"), 1),
        (signature("multiclass", "a", "b"), "A"),
        (signature("regression"), "3"),
        (signature("regression"), True),
        (signature("regression"), float("nan")),
        (signature("regression"), float("-inf")),
    ],
)
def test_an_outcome_that_a_model_cannot_have_is_refused(made: Signature, sent: Any) -> None:
    with pytest.raises(InvalidInput, match=r"^outcome: expected"):
        canonical(sent, made)
