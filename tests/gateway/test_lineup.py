"""Who answers: a snapshot that is replaced whole, model by model, and never by something that cannot be loaded."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from gateway.client import Client
from gateway.columns import Columns
from gateway.errors import ModelFailed, ProblemError
from gateway.lineup import Lineups
from gateway.records import prediction_id
from registry.errors import NoChampion, UnknownModel
from registry.types import Feature, InputSchema
from tests.actors import SCHEMA, logistic
from tests.seasons import TRUTH, WEAK
from tests.stage import ME, Stage, staged


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with staged(tmp_path / "store") as made:
        made.declare()
        made.champion(logistic(WEAK))
        yield made


def damage(stage: Stage, version: int) -> tuple[Path, bytes]:
    """Flip a byte of an artifact on the disk; returns its file and what it held."""
    digest = stage.registry.version(stage.name, version).digest.removeprefix("sha256:")
    (file,) = stage.folder.glob(f"artifacts/**/{digest}")
    whole = file.read_bytes()
    file.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    return file, whole


def test_it_follows_a_promotion_and_a_rollback(stage: Stage) -> None:
    lineups = stage.lineups
    lineups.refresh()
    assert (lineups["m"].champion.version.number, lineups["m"].lineup.generation) == (1, 1)
    assert not lineups.moved()
    number = stage.challenger(logistic(TRUTH))
    assert lineups.moved()
    assert lineups["m"].lineup.generation == 1  # the snapshot stands until it is refreshed
    kept = lineups["m"].champion
    lineups.refresh()
    assert lineups["m"].lineup.generation == 2
    assert lineups["m"].champion is kept  # nothing is loaded again
    stage.registry.promote("m", number, reason="by hand", by=ME)
    lineups.refresh()
    assert lineups["m"].champion.version.number == number
    stage.registry.rollback("m", reason="by hand", by=ME)
    lineups.refresh()
    assert lineups["m"].champion.version.number == 1


def test_names_that_are_not_there_and_models_without_a_champion_are_told_apart(stage: Stage) -> None:
    stage.registry.create_model("empty", SCHEMA, "binary", by=ME)
    stage.lineups.refresh()
    assert stage.lineups.names == ["m"]
    with pytest.raises(UnknownModel):
        stage.lineups["nobody"]
    with pytest.raises(NoChampion):
        stage.lineups["empty"]


def test_a_longer_schema_is_served_and_decoded_from_the_next_refresh_on(stage: Stage) -> None:
    stage.lineups.refresh()
    longer = InputSchema((*SCHEMA.features, Feature("c", "float64", required=False, default=1.0)))
    stage.registry.extend_schema("m", longer, by=ME)
    stage.lineups.refresh()
    serving = stage.lineups["m"]
    asked = serving.decoder.decode(b'{"inputs": {"a": 1, "b": 2}}')
    assert asked.columns.blocks["float64"].tolist() == [[1.0, 2.0, 1.0]]
    outputs, _ = serving.champion.run(asked.columns)
    assert len(outputs["label"]) == 1


def test_a_new_policy_loads_nothing_again(stage: Stage) -> None:
    stage.lineups.refresh()
    kept = stage.lineups["m"].champion
    stage.registry.set_policy("m", replace(stage.registry.model("m").policy, min_outcomes=7), by=ME)
    stage.lineups.refresh()
    assert stage.lineups["m"].champion is kept
    assert stage.lineups["m"].model.policy.min_outcomes == 7


def test_a_champion_that_cannot_be_loaded_leaves_the_one_before_and_the_other_models_serving(stage: Stage) -> None:
    stage.lineups.refresh()
    stage.name = "other"
    stage.declare()
    stage.champion(logistic(TRUTH))
    stage.name = "m"
    number = stage.challenger(logistic((5.0, 5.0)))
    file, whole = damage(stage, number)
    stage.registry.promote("m", number, reason="by hand", by=ME)
    stage.lineups.refresh()
    assert stage.lineups.names == ["m", "other"]
    assert stage.lineups["m"].champion.version.number == 1
    assert stage.lineups["m"].lineup.champion == 1  # it answers, and is recorded, as what it is
    assert f"version {number} of 'm' could not be loaded" in stage.lineups.problems["m"]
    file.write_bytes(whole)
    stage.registry.rollback("m", reason="undo", by=ME)
    stage.lineups.refresh()
    assert stage.lineups.problems == {}


def test_a_damaged_champion_at_the_start_is_not_served_and_stops_nobody_else(stage: Stage) -> None:
    stage.name = "other"
    stage.declare()
    stage.champion(logistic(TRUTH))
    damage(stage, 1)
    lineups = Lineups(stage.registry, 10)
    lineups.refresh()
    assert lineups.names == ["m"]
    with pytest.raises(ModelFailed, match="could not be loaded: artifact sha256:"):
        lineups["other"]


def test_what_is_on_record_is_read_and_takes_outcomes_although_its_champion_is_gone(stage: Stage) -> None:
    stage.clock(1)
    (address,) = stage.predict(0.1, np.zeros((1, 2)))
    name = prediction_id(address.writer, address.seq, 0, bytes(16))
    damage(stage, 1)
    with Client.on_store(stage.settings) as client:
        assert client.prediction("m", name)["version"] == 1
        assert client.outcome("m", 1, prediction_id=name)["accepted"] == 1
        assert client.prediction("m", name)["outcome"] == 1
        with pytest.raises(ProblemError, match="could not be loaded"):
            client.predict("m", {"a": 1.0, "b": 1.0})


def test_readers_see_one_whole_snapshot_or_the_next_while_it_is_refreshed(stage: Stage) -> None:
    """What a lineup names is what answers, at every moment of a hundred changes."""
    number = stage.challenger(logistic(TRUTH))
    stage.lineups.refresh()
    wrong: list[str] = []
    stop = threading.Event()
    row = Columns(1, {"float64": np.array([[1.0, 1.0]])}, {})
    expected = {1: 1 / (1 + np.exp(-0.4)), number: 1 / (1 + np.exp(-2.0))}

    def read() -> None:
        while not stop.is_set():
            serving = stage.lineups["m"]
            p = float(serving.champion.run(row)[0]["probabilities"][0, 1])
            if abs(p - expected[serving.lineup.champion]) > 1e-5:
                wrong.append(f"{serving.lineup} answered {p}")

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for _ in range(10):
        stage.registry.promote("m", number, reason="there", by=ME)
        stage.lineups.refresh()
        stage.registry.rollback("m", reason="and back", by=ME)
        stage.lineups.refresh()
        stage.registry.lift_bar("m", number, reason="to go on", by=ME)
        stage.registry.enlist("m", number, reason="again", by=ME)
        stage.lineups.refresh()
    stop.set()
    for reader in readers:
        reader.join()
    assert wrong == []
