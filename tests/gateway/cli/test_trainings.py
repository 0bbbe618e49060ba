"""`recipe`, `train` and `trainings`: on a store that nobody serves, and by HTTP on a server."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import structlog
from click.testing import CliRunner, Result
from msgspec.structs import replace

from gateway.cli.commands import main
from registry.types import Policy
from tests.actors import logistic
from tests.models import Made
from tests.seasons import WEAK, lives
from tests.servers import Running, publish
from tests.stage import DAY, Stage, staged

WEEKLY = "[triggers]\nevery_days = 7\nmin_outcomes = 300\n"


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """Commands are run in this process, and set up its logs."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A store with nine days of the server's time long past."""
    with staged(tmp_path / "store", source="server") as made:
        made.declare(Policy(maturity_s=float(DAY)))
        made.champion(logistic(WEAK))
        lives(made, range(9), {})
        yield made


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, prog_name="understudy")


def ok(*arguments: str) -> Any:
    ran = run(*arguments, "--json")
    assert ran.exit_code == 0, ran.output
    return json.loads(ran.stdout)


def test_a_store_that_nobody_serves_is_trained_by_the_command_itself(stage: Stage, tmp_path: Path) -> None:
    store, file = ("--data-dir", str(stage.folder)), tmp_path / "recipe.toml"
    file.write_text(WEEKLY)
    assert run("recipe", "m", *store).stdout == "m has no recipe: only people bring versions\n"
    assert ok("recipe", "m", str(file), *store)["recipe"]["triggers"]["every_days"] == 7
    shown = run("recipe", "m", *store).stdout
    assert "triggers.every_days = 7.0" in shown
    file.write_text(shown)
    assert run("recipe", "m", str(file), *store).stdout == shown
    training = ok("train", "m", "--reason", "it is time", "--trigger", "ticket-7", *store)
    assert (training["state"], training["version"], training["by"]) == ("registered", 2, "local-operator")
    assert ok("train", "m", "--reason", "again", "--trigger", "ticket-7", *store) == training  # asked once
    told = run("trainings", "m", *store).stdout.splitlines()
    assert told[0] == "training 1 of m (person: it is time): version 2"
    assert ok("recipe", "m", "--remove", "by hand again", *store) == {"recipe": None}
    assert stage.registry.verified().faults == []


def test_who_waits_no_longer_is_told_what_comes_of_it(stage: Stage, tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text(WEEKLY)
    ok("recipe", "m", str(file), "--data-dir", str(stage.folder))
    ran = run("train", "m", "--reason", "it is time", "--timeout-s", "0", "--data-dir", str(stage.folder))
    assert ran.stderr.splitlines()[-1] == (
        "understudy: training 1 is not over after 0 s; it goes on when a retrain worker runs, or with this command"
    )
    assert stage.registry.trainings.one("m", 1).state == "asked"  # and nothing of it runs


def test_what_cannot_be_trained_fails_in_one_sentence(stage: Stage, tmp_path: Path) -> None:
    store, file = ("--data-dir", str(stage.folder)), tmp_path / "recipe.toml"
    file.write_text("[triggers]\nmin_outcomes = 5000\n")
    ok("recipe", "m", str(file), *store)
    ran = run("train", "m", "--reason", "it is time", *store)
    assert ran.exit_code == 1
    last = ran.stderr.splitlines()[-1]
    assert last.startswith("understudy: training 1 of m failed: too few rows with an outcome: expected at least 5000")
    assert stage.registry.lineup("m").generation == 1


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("every_days = 7", "unknown field `every_days`"),
        ('estimator = "oracle"', "Invalid enum value 'oracle' - at `$.estimator`"),
        ("[triggers]\nevery_days = -1", "Expected `float` > 0.0 - at `$.triggers.every_days`"),
        ('function = "../other.py:fit"', "matching regex"),
        ("[triggers", "Expected ']'"),
    ],
)
def test_a_recipe_that_cannot_be_meant_names_the_place(tmp_path: Path, text: str, place: str) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text(text)
    ran = run("recipe", "m", str(file), "--data-dir", str(tmp_path / "none"))
    assert ran.exit_code == 2
    assert place in " ".join(ran.stderr.replace("│", " ").split())
    assert not (tmp_path / "none").exists()


def test_over_http_a_training_is_asked_for_once_and_its_fate_is_read(
    server: Running, models: Mapping[str, Made]
) -> None:
    made = replace(models["fraud"], name="trained")
    publish(server.http, made)
    path = f"/admin/models/{made.name}"
    assert server.http.get(f"{path}/trainings").json() == {"recipe": None, "outlook": None, "trainings": []}
    recipe = {"triggers": {"min_outcomes": 100}}
    answer = server.http.put(f"{path}/recipe", json=recipe)
    assert answer.status_code == 200, answer.text
    assert server.http.get(f"{path}/recipe").json()["recipe"]["triggers"]["min_outcomes"] == 100
    asked = server.http.post(f"{path}/train", json={"reason": "it is time", "trigger": "one"})
    assert asked.status_code == 202, asked.text
    again = server.http.post(f"{path}/train", json={"reason": "it is time", "trigger": "one"}).json()
    assert again["number"] == asked.json()["number"] == 1
    assert server.http.get(f"{path}/trainings/1").json()["trigger"] == "person:one"
    assert server.http.get(f"{path}/trainings/2").status_code == 404
    for body, status in (({}, 422), ({"reason": ""}, 422), ({"reason": "x", "by": "eve"}, 422)):
        assert server.http.post(f"{path}/train", json=body).status_code == status
    both = server.http.put(f"{path}/recipe", json={"estimator": "function"})
    assert (both.status_code, both.json()["error"][:28]) == (422, "recipe: expected `function` ")
    removed = server.http.request("DELETE", f"{path}/recipe", json={"reason": "by hand"})
    assert removed.json() == {"recipe": None}
