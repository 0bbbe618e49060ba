"""Whatever is done to the audit is found: edits, deletions, swaps, insertions; a cut end by a hash kept elsewhere."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry import tables
from registry.audit import GENESIS, canonical, changed_documents, digest_of_text, verify
from registry.store import Registry
from registry.types import AuditRow, Decision, InputSchema, Policy, Principal

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def lines(registry: Registry, schema: InputSchema, me: Principal) -> list[AuditRow]:
    registry.create_model("loans", schema, "binary", by=me)
    for n_slots in range(3, 9):
        registry.set_policy("loans", Policy(n_slots=n_slots), by=me)
    registry.record("create_key", by=me, detail={"key": "k1", "scopes": ("read", "predict:*"), "quota": 1.5})
    return registry.audit()


def test_an_untouched_audit_verifies_and_each_line_names_the_one_before(lines: list[AuditRow]) -> None:
    assert verify(lines) is None
    assert lines[0].previous_hash == GENESIS
    assert all(later.previous_hash == earlier.hash for earlier, later in pairwise(lines))
    assert [line.seq for line in lines] == list(range(1, 9))
    assert verify([]) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda line: msgspec.structs.replace(line, principal="mallory"),
        lambda line: msgspec.structs.replace(line, action="keep"),
        lambda line: msgspec.structs.replace(line, model="other"),
        lambda line: msgspec.structs.replace(line, at=line.at + timedelta(microseconds=1)),
        lambda line: msgspec.structs.replace(line, detail=line.detail | {"x": 1}),
        lambda line: msgspec.structs.replace(line, hash="0" * 64),
    ],
)
def test_an_edit_of_any_field_of_any_line_is_found_there(
    lines: list[AuditRow], change: Callable[[AuditRow], AuditRow]
) -> None:
    for index in range(len(lines)):
        edited = [*lines[:index], change(lines[index]), *lines[index + 1 :]]
        fault = verify(edited)
        assert fault is not None
        assert fault.seq == index + 1


def test_deletions_swaps_and_insertions_are_found(lines: list[AuditRow]) -> None:
    for index in range(len(lines) - 1):
        swapped = [*lines[:index], lines[index + 1], lines[index], *lines[index + 2 :]]
        for changed in ([*lines[:index], *lines[index + 1 :]], swapped, [*lines[: index + 1], *lines[index:]]):
            assert verify(changed) is not None


def test_a_cut_end_is_found_only_by_a_hash_that_is_kept_elsewhere(lines: list[AuditRow]) -> None:
    head = lines[-1].hash
    assert verify(lines, head) is None
    assert verify(lines[:-1]) is None
    fault = verify(lines[:-1], head)
    assert fault is not None
    assert "the end is missing" in fault.sentence
    assert verify(lines, lines[2].hash) is None


def test_an_edit_in_the_file_is_found(registry: Registry, lines: list[AuditRow]) -> None:
    with registry._database.write() as connection:
        connection.execute(tables.audit.update().where(tables.audit.c.seq == 3).values(principal="mallory"))
    fault = verify(registry.audit())
    assert fault is not None
    assert fault.seq == 3
    assert "was changed after it was written" in fault.sentence


def test_lines_are_listed_by_model_and_by_page(registry: Registry, lines: list[AuditRow], tmp_path: Path) -> None:
    assert [line.action for line in registry.audit("loans")] == ["create_model"] + ["set_policy"] * 6
    assert registry.audit(after=3, limit=2) == lines[3:5]
    assert lines[-1].detail == {"key": "k1", "scopes": ["read", "predict:*"], "quota": 1.5}


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.floats(allow_nan=False), max_size=5), st.randoms())
@settings(deadline=None)
def test_a_document_has_one_text_whatever_the_order_of_its_keys(document: dict[str, object], random: object) -> None:
    keys = list(document)
    random.shuffle(keys)  # type: ignore[attr-defined]  # a random.Random, which Hypothesis records
    assert canonical({key: document[key] for key in keys}) == canonical(document)
    assert canonical(msgspec.json.decode(canonical(document))) == canonical(document)


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@given(st.dictionaries(st.text(), NUMBERS | st.lists(NUMBERS) | st.none(), min_size=1), NUMBERS)
@settings(deadline=None)
def test_a_decision_still_has_the_documents_that_its_line_froze_or_it_is_told_which_not(
    evidence: dict[str, object], other: float
) -> None:
    frozen = {"evidence_digest": digest_of_text(canonical(evidence)), "hashes_digest": digest_of_text('{"code":"a"}')}
    line = AuditRow(1, START, "rule", "promote", "loans", frozen, GENESIS, GENESIS)
    decision = Decision("loans", "promote", 2, 1, 2, "rule", "", START, evidence, None, {"code": "a"})
    stored = msgspec.json.decode(msgspec.json.encode(decision), type=Decision)
    assert changed_documents(stored, line) == []
    change = msgspec.structs.replace
    assert changed_documents(change(stored, evidence=evidence | {"log_e": other, "x": 1}), line) == ["evidence"]
    assert changed_documents(change(stored, cursors={}, hashes=None), line) == ["cursors", "hashes"]
