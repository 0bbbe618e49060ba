"""What belongs to a bucket, who is judged by it, and when it says nothing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from gateway.chunk import STATUSES
from gateway.columns import score_of
from registry.types import (
    ClosedBucket,
    Lineup,
    Model,
    OutputTensor,
    Policy,
    Reign,
    ScoreColumn,
    Signature,
    Version,
)
from retrain.bucket import is_void
from retrain.cohorts import OpenCohorts
from retrain.kept import PREVIOUS, VOID, n_void, stored_sums
from retrain.reign import contenders_of
from tests.actors import SCHEMA, logistic
from tests.seasons import QUICK, TRUTH, WEAK, rows_of
from tests.stage import DAY, FIRST, ME, Stage, staged

BINARY = Signature(
    "binary", (), (OutputTensor("p", "float32", 2),), ScoreColumn("p", 1), (0, 1)
)  # fmt: skip


MODEL = Model("m", "binary", SCHEMA, Policy(), datetime(2024, 1, 1, tzinfo=UTC))


def versions(n: int) -> dict[int, Version]:
    at = datetime(2024, 1, 1, tzinfo=UTC)
    return {number: Version("m", number, "", 0, BINARY, at, "me") for number in range(n)}


def reign(first_generation: int, n_slots: int = 2) -> Reign:
    return Reign("m", 1, 1, first_generation, datetime(2024, 1, 1, tzinfo=UTC), Policy(n_slots=n_slots))


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with staged(tmp_path / "store") as made:
        made.declare(QUICK)
        made.champion(logistic(WEAK))
        yield made


def test_the_first_comers_have_the_slots_and_keep_them_when_they_leave() -> None:
    lineups = [
        Lineup("m", 1, 1, (9,)),  # an earlier reign
        Lineup("m", 2, 1, (5,)),
        Lineup("m", 3, 1, (5, 3)),
        Lineup("m", 4, 1, (3,)),
        Lineup("m", 5, 1, (3, 4)),
        Lineup("m", 6, 1, (3, 4, 5)),
    ]
    found = contenders_of(lineups, MODEL, reign(2), versions(10), DAY, [])
    assert [(c.version, c.has_slot) for c in found] == [(5, True), (3, True), (4, False)]
    assert [set(c.generations) for c in found] == [{2, 3, 6}, {3, 4, 5, 6}, {5, 6}]


def test_without_a_number_of_slots_each_that_comes_has_a_smaller_share_and_together_they_have_one() -> None:
    lineups = [Lineup("m", place + 2, 1, (place + 2,)) for place in range(120)]
    found = contenders_of(lineups, MODEL, reign(2, n_slots=0), versions(130), DAY, [])
    shares = [1 / each.rule.n_slots for each in found if each.has_slot]
    assert shares[:3] == [1 / 2, 1 / 6, 1 / 12]
    assert len(shares) == 99
    assert sum(shares) < 1
    assert found[0].rule.log_e_threshold == pytest.approx(np.log(2 / 0.05))


def test_the_previous_champion_is_held_against_the_new_one_by_a_rule_of_its_own() -> None:
    """Enlisted again after it was retired, it is a challenger like any other, and its sums stand elsewhere."""
    lineups = [Lineup("m", 1, 1, (2,)), Lineup("m", 2, 2, (), 1), Lineup("m", 3, 2), Lineup("m", 4, 2, (1,))]
    challenger, previous = contenders_of(lineups, MODEL, reign(2), versions(3), DAY, [])
    assert (challenger.version, challenger.key, set(challenger.generations)) == (1, 1, {4})
    assert (previous.version, previous.key, set(previous.generations)) == (1, PREVIOUS, {2})
    assert previous.rule.log_e_threshold < challenger.rule.log_e_threshold


@pytest.mark.parametrize(
    ("statuses", "void"),
    [
        (["scored"] * 100, False),
        (["scored"] * 95 + ["paused"] * 5, False),
        (["scored"] * 94 + ["paused"] * 3 + ["expired"] * 3, True),
        (["sampled_out"] * 99 + ["scored"], False),
        (["crashed"] * 99 + ["lag"], False),
    ],
)
def test_only_what_was_skipped_without_being_declared_voids(statuses: list[str], void: bool) -> None:
    assert is_void(np.array([STATUSES.index(status) for status in statuses], np.uint8)) is void


def test_void_buckets_count_for_nothing_and_are_counted() -> None:
    at = datetime(2024, 1, 1, tzinfo=UTC)
    buckets = [ClosedBucket("m", 1, day, at, {}, {}, sums) for day, sums in enumerate([{2: VOID}, {}, {2: VOID}])]
    assert stored_sums(buckets, 2) == []
    assert n_void(buckets, 2) == 2
    assert n_void(buckets, 3) == 0


def test_the_score_of_a_binary_version_is_the_probability_of_its_second_class() -> None:
    p = np.array([[0.25, 0.75], [1.0, 0.0]], np.float32)
    second = score_of({"p": p}, BINARY)
    first = score_of({"p": p}, Signature("binary", (), BINARY.outputs, ScoreColumn("p", 0), (0, 1)))
    single = Signature("binary", (), (OutputTensor("p", "float32"),), ScoreColumn("p"), (0, 1))
    assert second.tolist() == first.tolist() == score_of({"p": p[:, 1]}, single).tolist() == [0.75, 0.0]
    assert second.dtype == np.float64


def test_heads_are_taken_once_by_bucket_and_what_comes_after_the_closing_is_late(stage: Stage) -> None:
    rows, _ = rows_of(0, 10)
    cohorts = OpenCohorts("m", 1, [], None)
    assert cohorts.next_bucket(FIRST + 9) is None
    stage.predict(1.5, rows)
    stage.predict(0.5, rows)
    stage.predict(1.6, rows, purpose="test")
    for _ in range(2):
        cohorts.read(stage.reader, stage.reader.writers())
    assert {bucket: len(heads) for bucket, heads in cohorts.buckets.items()} == {FIRST + 1: 1, FIRST: 1}
    assert cohorts.next_bucket(FIRST + 9) == FIRST
    cohorts.close(FIRST)
    stage.predict(0.7, rows)
    cohorts.read(stage.reader, stage.reader.writers())
    assert cohorts.n_late_rows == 10
    assert cohorts.next_bucket(FIRST + 9) == FIRST + 1


def test_rows_of_an_earlier_reign_are_not_of_this_one(stage: Stage) -> None:
    rows, _ = rows_of(0, 10)
    stage.predict(0.5, rows)
    number = stage.challenger(logistic(TRUTH))
    stage.registry.promote("m", number, reason="by hand", by=ME)
    stage.predict(0.6, rows)
    contender, *_ = contenders_of(stage.registry.lineups("m"), MODEL, reign(1), versions(number + 1), DAY, [])
    cohorts = OpenCohorts("m", stage.registry.reign("m").first_generation, [], None)
    cohorts.read(stage.reader, stage.reader.writers())
    assert sum(head.n_rows for head in cohorts.buckets[FIRST]) == 10
    assert cohorts.n_waiting(contender) == 0  # it was challenger of the reign before
