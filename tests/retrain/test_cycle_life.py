"""The life of a decision: promoted, watched, brought back, barred; proposed; retired; and what it is computed from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace

from gateway.columns import Array
from registry.errors import VersionBarred
from retrain.acting import code_digest
from retrain.evidence import Rule
from retrain.kept import kept_of, pairs_digest
from tests.actors import logistic
from tests.seasons import QUICK, TRUTH, WEAK, WRONG, Weights, answers, ends, lives, rows_of
from tests.stage import DAY, ME, Stage, staged

SEASON = 36
REST = 5.0


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A weak champion, nobody else yet."""
    with staged(tmp_path / "store") as made:
        made.declare(replace(QUICK, cool_down_s=REST * DAY))
        made.champion(logistic(WEAK))
        yield made


def promoted(stage: Stage) -> int:
    """A better challenger, promoted at the end of a season."""
    better = stage.challenger(logistic(TRUTH))
    lives(stage, range(SEASON), {better: TRUTH})
    ends(stage, SEASON)
    stage.close_all()
    assert stage.registry.lineup("m").champion == better
    return better


def turned(stage: Stage, days: range, mirrored: dict[int, Weights]) -> None:
    """Days in which what happens is the opposite of what it was: the new champion has become the worse one."""
    for day in days:
        rows, happened = rows_of(day)
        addresses = stage.predict(day + 0.5, rows)
        stage.outcomes(addresses, [1 - y for y in happened], day + 1)
        for version, weights in mirrored.items():
            stage.shadow(version, answers(weights))
        stage.clock(day + 1)
        stage.beat(day + 1)
        stage.close_all()


def probation(stage: Stage) -> dict[str, object]:
    document = stage.registry.evidence("m")
    assert document is not None
    found: dict[str, object] = document["probation"]
    return found


def test_a_champion_that_turns_bad_is_rolled_back_barred_and_the_rule_rests(stage: Stage) -> None:
    new = promoted(stage)
    turned(stage, range(SEASON + 2, SEASON + 8), {1: WEAK})
    assert probation(stage)["course"] == "in_probation"
    assert "is in probation" in str(probation(stage)["sentence"])
    turned(stage, range(SEASON + 8, SEASON + 32), {1: WEAK})

    (back,) = [d for d in stage.registry.decisions("m") if d.kind == "rollback"]
    assert (back.by, back.version) == ("rule", 1)
    assert back.evidence is not None
    assert back.hashes is not None
    assert back.evidence["probation"]["course"] == "roll_back"
    assert back.evidence["probation"]["sentence"] == back.reason
    lineup = stage.registry.lineup("m")
    assert (lineup.champion, lineup.previous) == (1, None)
    assert stage.registry.barred("m") == {new}
    with pytest.raises(VersionBarred):
        stage.registry.enlist("m", new, reason="again", by=ME)
    until = stage.registry.rests_until("m")
    assert until is not None
    assert (until - back.at).total_seconds() == REST * DAY


def test_the_rule_promotes_nobody_while_it_rests_and_does_so_at_the_next_closing_after(tmp_path: Path) -> None:
    with staged(tmp_path / "store") as stage:
        stage.declare(replace(QUICK, cool_down_s=60.0 * DAY))
        stage.champion(logistic(WEAK))
        first = stage.challenger(logistic((9.0, -9.0)))
        stage.registry.promote("m", first, reason="a mistake", by=ME)
        stage.clock(0)
        stage.registry.rollback("m", reason="seen at once", by=ME)
        better = stage.challenger(logistic(TRUTH))
        lives(stage, range(SEASON), {better: TRUTH})
        ends(stage, SEASON)
        stage.close_all(cycle := stage.cycle())
        assert stage.promotions() == []
        assert stage.entry(better)["verdict"] == "better"
        stage.clock(61)
        stage.beat(61)
        stage.close_all(cycle)
        assert [version for version, _ in stage.promotions()] == [better]


def test_after_probation_the_detector_watches_and_brings_the_previous_one_back(tmp_path: Path) -> None:
    with staged(tmp_path / "store") as stage:
        stage.declare(replace(QUICK, probation_days=3.0, detector_buckets=20))
        stage.champion(logistic(WEAK))
        new = stage.challenger(logistic(TRUTH))
        stage.registry.promote("m", new, reason="a person knows", by=ME)
        lives(stage, range(12), {1: WEAK}, each_day=lambda _: stage.close_all())
        assert probation(stage)["course"] == "passed"
        assert probation(stage)["detector"] is not None
        turned(stage, range(12, 34), {1: WEAK})
        detector = probation(stage)["detector"]
        assert isinstance(detector, dict)
        assert detector["alarm"]  # said, and not acted upon before four weeks confirm it
        assert not [d for d in stage.registry.decisions("m") if d.kind == "rollback"]
        turned(stage, range(34, 56), {1: WEAK})
        (back,) = [d for d in stage.registry.decisions("m") if d.kind == "rollback"]
        assert "the detector alarms" in back.reason
        assert stage.registry.barred("m") == {new}


def test_a_previous_champion_whose_bytes_are_gone_is_an_incident_and_no_rollback(stage: Stage) -> None:
    promoted(stage)
    for path in (stage.folder / "artifacts").rglob("*"):
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() in stage.registry.version("m", 1).digest:
            path.unlink()
    turned(stage, range(SEASON + 2, SEASON + 30), {1: WEAK})
    assert [d.kind for d in stage.registry.decisions("m") if d.kind == "rollback"] == []
    assert probation(stage)["incident"] is not None


@pytest.mark.parametrize("promotion", ["one", "four_eyes"])
def test_where_people_decide_the_rule_proposes_once_with_its_evidence_frozen(tmp_path: Path, promotion: str) -> None:
    with staged(tmp_path / "store") as stage:
        stage.declare(replace(QUICK, promotion=promotion))
        stage.champion(logistic(WEAK))
        better = stage.challenger(logistic(TRUTH))
        lives(stage, range(SEASON), {better: TRUTH}, each_day=lambda _: stage.close_all())
        ends(stage, SEASON)
        stage.close_all()
        (proposal,) = stage.registry.proposals("m")
        assert (proposal.by, proposal.version, proposal.state) == ("rule", better, "open")
        assert proposal.evidence is not None
        assert proposal.evidence["verdict"] == "better"
        assert proposal.hashes is not None
        assert stage.registry.lineup("m").champion == 1

        stage.registry.reject("m", proposal.number, reason="not before summer", by=ME)
        lives(stage, range(SEASON + 2, SEASON + 4), {better: TRUTH})
        ends(stage, SEASON + 4)
        stage.close_all()
        assert len(stage.registry.proposals("m")) == 1  # it does not ask again in this reign


@pytest.mark.parametrize("futility", ["keep", "retire"])
def test_a_hopeless_challenger_is_retired_where_the_terms_want_that(tmp_path: Path, futility: str) -> None:
    with staged(tmp_path / "store") as stage:
        stage.declare(replace(QUICK, futility=futility))
        stage.champion(logistic(TRUTH))
        worse, other = stage.challenger(logistic(WRONG)), stage.challenger(logistic((1.0, 0.98)))
        lives(stage, range(SEASON), {worse: WRONG, other: (1.0, 0.98)})
        ends(stage, SEASON)
        stage.close_all()
        retired = [(d.version, d.by) for d in stage.registry.decisions("m") if d.kind == "retire"]
        if futility == "keep":
            assert retired == []
            assert stage.entry(worse)["verdict"] == "worse"
        else:
            assert (worse, "rule") in retired
            assert worse not in stage.registry.lineup("m").challengers


def test_of_two_that_cannot_be_told_apart_the_older_is_promoted(stage: Stage) -> None:
    """By pairs of the two: the younger one's bound is a little higher, and nothing shows that it is better."""
    older, younger = stage.challenger(logistic((1.0, 0.97))), stage.challenger(logistic(TRUTH))
    lives(stage, range(SEASON), {older: (1.0, 0.97), younger: TRUTH})
    ends(stage, SEASON)
    stage.close_all()
    assert [version for version, _ in stage.promotions()] == [older]


def test_of_two_that_cannot_be_told_apart_the_faster_is_promoted(stage: Stage) -> None:
    older, younger = stage.challenger(logistic((1.0, 0.97))), stage.challenger(logistic(TRUTH))
    for day in range(SEASON):
        rows, happened = rows_of(day)
        stage.outcomes(stage.predict(day + 0.5, rows), happened, day + 0.9)
    stage.shadow(older, answers((1.0, 0.97)), alone_us=900)
    stage.shadow(younger, answers(TRUTH), alone_us=300)
    ends(stage, SEASON)
    stage.close_all()
    assert [version for version, _ in stage.promotions()] == [younger]


# --- what a decision is computed by and from


def test_a_decision_names_config_code_and_data_and_each_of_them_alone_changes_with_its_cause(tmp_path: Path) -> None:
    hashes = {}
    for name, policy, days in (
        ("plain", QUICK, SEASON), ("terms", replace(QUICK, min_outcomes=201), SEASON), ("again", QUICK, SEASON)
    ):  # fmt: skip
        with staged(tmp_path / name) as stage:
            stage.declare(policy)
            stage.champion(logistic(WEAK))
            better = stage.challenger(logistic(TRUTH))
            lives(stage, range(days), {better: TRUTH})
            ends(stage, days)
            stage.close_all()
            (decision,) = [d for d in stage.registry.decisions("m") if d.kind == "promote"]
            assert decision.hashes is not None
            assert decision.evidence is not None
            hashes[name] = decision.hashes
            kept = kept_of(stage.registry.closed_buckets("m", 1), better)
            assert decision.hashes["data"] == pairs_digest(kept)
            assert {each.rule for each in kept} == {msgspec.convert(decision.evidence["rule"], Rule).digest}
    assert hashes["plain"] == hashes["again"]
    assert hashes["plain"]["config"] != hashes["terms"]["config"]
    assert hashes["plain"]["data"] == hashes["terms"]["data"]
    assert hashes["plain"]["code"] == code_digest()


def test_the_digest_of_pairs_is_of_address_scores_and_outcome_and_of_nothing_else(tmp_path: Path) -> None:
    digests = {}
    for name in ("plain", "another score", "another outcome", "another input"):
        with staged(tmp_path / name) as stage:
            stage.declare(QUICK)
            stage.champion(logistic((1.0, 0.0)))
            other = stage.challenger(logistic(TRUTH))
            rows, happened = rows_of(0)
            if name == "another input":
                rows = rows.copy()
                rows[:, 1] += 1.0  # the champion does not look at it
            if name == "another outcome":
                happened = [1 - happened[0], *happened[1:]]
            said: Array = np.full(60, 0.25)
            if name == "another score":
                said[3] = 0.26
            stage.outcomes(stage.predict(0.5, rows), happened, 0.9)
            stage.shadow(other, lambda _, said=said: said)  # type: ignore[misc]
            ends(stage, 0)
            stage.close_all()
            digests[name] = kept_of(stage.registry.closed_buckets("m", 1), other)[0].pairs
    assert digests["plain"] == digests["another input"]
    assert len({digests[name] for name in ("plain", "another score", "another outcome")}) == 3
