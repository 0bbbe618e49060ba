"""Days of a store, seen by the retrain worker: what it derives, what it says, and that it can derive it again."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from gateway.cli.commands import main
from gateway.columns import Array
from registry.types import Policy
from retrain.cycle import run_retrain
from retrain.drift.reference import Reference, Scores, encode, reference_of, score_counts_of
from retrain.drift.watch import DriftWatch
from tests.actors import SCHEMA, linear, logistic, signature
from tests.journals import until
from tests.seasons import TRUTH, answers, probability
from tests.stage import DAY, ME, Stage, staged

N = 120


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with staged(tmp_path / "store") as made:
        made.declare(Policy(maturity_s=2.0 * DAY))
        made.champion(logistic(TRUTH))
        yield made


def rows_of(day: int, shift: float = 0.0) -> Array:
    rows = np.random.default_rng([23, day]).normal(size=(N, 2))
    rows[:, 0] += shift
    return rows


def trained(n: int = 3_000) -> Reference:
    rows = np.random.default_rng(1).normal(size=(n, 2))
    return reference_of({"a": rows[:, 0], "b": rows[:, 1]}, SCHEMA.features, "training")


def lives(stage: Stage, days: range, drift: DriftWatch, *, shift: float = 0.0, flip: bool = False) -> None:
    """Days with an outcome for every row, told to the drift worker each midnight."""
    cycle = stage.cycle()
    for day in days:
        rows = rows_of(day, shift)
        happened = (np.random.default_rng([29, day]).random(N) < probability(rows, TRUTH)) ^ flip
        for part in (slice(0, 50), slice(50, None)):
            stage.outcomes(stage.predict(day + 0.25, rows[part]), happened[part].astype(int).tolist(), day + 1)
        stage.clock(day + 1)
        stage.beat(day + 1)
        stage.close_all(cycle)
        drift.step()


def shown(stage: Stage) -> dict[str, Any]:
    document = stage.registry.drift.document("m")
    assert document is not None
    return document


def feature(stage: Stage, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in shown(stage)["features"] if each["name"] == name)
    return found


def stored(stage: Stage) -> dict[str, dict[int, bytes]]:
    return {part: stage.registry.drift.days("m", 1, part) for part in ("rows", "outcomes")}


def every_day(stage: Stage) -> dict[tuple[int, str], dict[int, bytes]]:
    versions = [version.number for version in stage.registry.versions("m")]
    shelf = stage.registry.drift
    return {(version, part): shelf.days("m", version, part) for version in versions for part in ("rows", "outcomes")}


def test_what_moved_is_said_with_its_day_and_the_rest_is_quiet(stage: Stage) -> None:
    stage.registry.drift.save_reference("m", 1, encode(trained()))
    drift = stage.drift()
    lives(stage, range(12), drift)
    quiet = shown(stage)
    assert quiet["alarm"]["state"] == "quiet"
    assert [each["verdict"] for each in quiet["features"]] == ["stable", "stable"]
    assert "3,000 rows that version 1 was trained on" in quiet["reference"]["sentence"]

    lives(stage, range(12, 20), drift, shift=1.5)
    a, b = feature(stage, "a"), feature(stage, "b")
    assert (a["verdict"], b["verdict"], b["since"]) == ("act", "stable", None)
    assert a["psi"] > 1
    assert a["wasserstein"] == pytest.approx(1.5, abs=0.15)
    assert a["since"].startswith("2024-10-1")  # the story began on 4 October, and moved on the 16th
    assert "values above" in a["sentence"]
    document = shown(stage)
    assert document["alarm"]["state"] == "alarm"
    assert "can be told from the reference since 1" in document["alarm"]["sentence"]
    assert document["estimate"]["n_rows"] == 2 * N  # the last two days have no outcomes that count yet
    assert document["performance"]["alarm"]["state"] == "quiet"


def test_without_training_the_first_days_are_the_reference_and_it_is_said(stage: Stage) -> None:
    drift = stage.drift()
    lives(stage, range(3), drift)
    assert "no reference yet" in shown(stage)["sentences"][0]
    assert "3 days, 360 rows so far" in shown(stage)["sentences"][0]
    lives(stage, range(3, 12), drift)
    document = shown(stage)
    assert document["reference"]["source"] == "traffic"
    assert "was not trained here: compared with 840 rows" in document["sentences"][0]
    assert (document["n_days"], document["alarm"]["state"]) == (5, "quiet")
    assert min(stored(stage)["rows"]) - max(range(20_000, 20_007)) == 1


def test_a_champion_that_loses_more_than_it_did_alarms_on_its_losses(stage: Stage) -> None:
    stage.registry.drift.save_reference("m", 1, encode(trained()))
    drift = stage.drift()
    lives(stage, range(14), drift)
    assert shown(stage)["performance"]["alarm"]["state"] == "quiet"
    lives(stage, range(14, 30), drift, flip=True)
    performance = shown(stage)["performance"]
    assert performance["alarm"]["state"] == "alarm"
    assert "the champion loses more than it did" in performance["sentence"]
    assert performance["loss"] > 1.3 * performance["reference_loss"]
    assert shown(stage)["estimate"]["off_by"] > 0.1
    assert [each["verdict"] for each in shown(stage)["features"]] == ["stable", "stable"]  # only the outcomes moved


def test_everything_derived_is_derived_again_byte_for_byte(stage: Stage) -> None:
    challenger = stage.challenger(logistic((0.5, 0.0)))
    stage.registry.drift.save_reference("m", 1, encode(trained()))
    drift = stage.drift()
    for day in range(12):
        lives(stage, range(day, day + 1), drift)
        stage.shadow(challenger, answers((0.5, 0.0)))
    lives(stage, range(12, 16), drift)
    before, document = stored(stage), shown(stage)
    assert len(before["outcomes"]) > 5
    assert {each["version"] for each in document["scores"]} <= {1, challenger}

    stage.drift().step()  # a worker that starts anew finds nothing to do
    assert (stored(stage), shown(stage)) == (before, document)
    with stage.registry._database.write() as connection:
        for table in ("drift_day", "drift_document"):
            connection.exec_driver_sql(f"DELETE FROM {table}")
    stage.drift().step()
    assert (stored(stage), shown(stage)) == (before, document)


def test_the_scores_of_a_challenger_are_compared_with_those_of_its_own_training(stage: Stage) -> None:
    """Where it was trained here: from its first day on; without, only once its own first days are over."""
    weights = (0.5, 0.0)
    here, elsewhere = stage.challenger(logistic(weights)), stage.challenger(logistic((0.6, 0.0)))
    usual = probability(np.random.default_rng(1).normal(size=(3_000, 2)), weights)
    scores = Scores((), tuple(score_counts_of("binary", usual, ()).tolist()))
    stage.registry.drift.save_reference("m", 1, encode(trained()))
    stage.registry.drift.save_reference("m", here, encode(replace(trained(), scores=scores)))
    drift = stage.drift()
    for day in range(9):
        lives(stage, range(day, day + 1), drift, shift=3.0 if day > 3 else 0.0)
        stage.shadow(here, answers(weights))
        stage.shadow(elsewhere, answers((0.6, 0.0)))
        told = {each["version"]: each for each in shown(stage)["scores"]}
        if day == 5:
            assert told.keys() == {here}
            assert told[here]["verdict"] == "stable"
            assert told[here]["sentence"].endswith("against its training")
    assert told[here]["verdict"] == "act"


def test_days_of_the_champion_before_are_derived_again_where_a_later_reference_was_kept(stage: Stage) -> None:
    drift = stage.drift()
    lives(stage, range(10), drift)
    following = stage.challenger(logistic((0.5, 0.0)))
    stage.registry.promote("m", following, by=ME, reason="a second champion")
    lives(stage, range(10, 20), drift)
    before, document = every_day(stage), shown(stage)
    assert [len(before[version, "rows"]) for version in (1, following)] == [3, 3]  # each gave seven to its reference

    with stage.registry._database.write() as connection:
        for table in ("drift_day", "drift_document"):
            connection.exec_driver_sql(f"DELETE FROM {table}")
    stage.drift().step()
    assert (every_day(stage), shown(stage)) == (before, document)


def test_a_row_that_comes_after_its_day_was_read_is_late_and_counted(stage: Stage) -> None:
    stage.registry.drift.save_reference("m", 1, encode(trained()))
    drift = stage.drift()
    lives(stage, range(3), drift)
    before = stored(stage)["rows"]
    stage.predict(1.5, rows_of(77), stamped=3.1)
    lives(stage, range(3, 4), drift)
    assert shown(stage)["n_late_rows"] == N
    assert {bucket: stored(stage)["rows"][bucket] for bucket in before} == before


def test_drift_decides_nothing(stage: Stage) -> None:
    stage.registry.drift.save_reference("m", 1, encode(trained()))
    lives(stage, range(4), stage.drift(), shift=5)
    assert [decision.kind for decision in stage.registry.decisions("m")] == ["register"]
    assert stage.registry.lineup("m").generation == 1


def test_the_command_tells_what_is_stored(stage: Stage) -> None:
    asked = ["drift", "m", "--data-dir", str(stage.folder)]
    said = CliRunner().invoke(main, asked)
    assert (said.exit_code, "nothing is derived yet" in said.output) == (0, True)
    stage.registry.drift.save_reference("m", 1, encode(trained()))
    lives(stage, range(4), stage.drift(), shift=2)
    said = CliRunner().invoke(main, asked)
    assert "m: feature `a`: PSI" in said.output
    assert json.loads(CliRunner().invoke(main, [*asked, "--json"]).output) == shown(stage)


def test_the_retrain_worker_derives_while_it_has_nothing_to_decide(stage: Stage) -> None:
    stage.registry.drift.save_reference("m", 1, encode(trained()))
    stage.predict(0.25, rows_of(0))
    stage.clock(1)
    stage.beat(1)
    stop = threading.Event()
    worker = threading.Thread(target=run_retrain, args=(stage.settings, stop))
    worker.start()
    try:
        until(lambda: (stage.registry.drift.document("m") or {}).get("n_days") == 1, "the day is derived")
    finally:
        stop.set()
        worker.join()


def test_losses_that_the_evidence_cannot_judge_hold_nothing_up(tmp_path: Path) -> None:
    with staged(tmp_path / "store") as stage:
        stage.declare(Policy(maturity_s=2.0 * DAY))
        numbers = linear((3.0, 0.0))  # answers numbers where probabilities are asked for
        stage.champion(numbers, said=replace(signature(numbers, "regression"), task="binary", classes=(0, 1)))
        stage.registry.drift.save_reference("m", 1, encode(trained()))
        lives(stage, range(6), stage.drift())
        assert len(stored(stage)["outcomes"]) == 4
        assert shown(stage)["performance"] is None
        assert shown(stage)["n_days"] == 6
