"""`understudy compact`: the command, and that nobody who works on the store is told anything else afterwards."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from gateway.archive import is_same
from gateway.cli.commands import main
from gateway.journal import only_one
from gateway.journal.cold import cold_folder
from registry.types import Policy
from tests.actors import logistic
from tests.models import Made
from tests.servers import running
from tests.stage import DAY, staged


def compact(store: Path, *more: str) -> Result:
    config = store.parent / "settings.toml"
    config.write_text(f'store = "{store}"\n[clock]\nsource = "caller"\n')
    return CliRunner().invoke(main, ["compact", "--least-bytes", "0", *more, "--config", str(config)])


def cold_days(store: Path) -> list[str]:
    return sorted(path.parent.name for path in cold_folder(store).rglob("*.parquet"))


@pytest.fixture
def lived(tmp_path: Path) -> Path:
    """A store of four days, a file each, with a challenger that has seen nothing yet; it is noon of the fifth."""
    store = tmp_path / "lived"
    with staged(store) as stage:
        stage.declare(Policy(maturity_s=float(DAY)))
        stage.champion(logistic((1.0, 0.0)))
        stage.challenger(logistic((0.0, 1.0)))
        for day in range(4):
            rows = np.random.default_rng(day).normal(size=(50, 2))
            made = stage.predict(day + 0.25, rows, writer=stage.another_writer())
            stage.outcomes(made, (rows[:, 1] > 0).astype(int).tolist(), day + 0.5)
        stage.clock(4.5)
    return store


def test_what_is_old_by_the_clock_of_the_store_is_moved_once(lived: Path) -> None:
    assert compact(lived).stdout == "nothing to compact\n"
    ran = compact(lived, "--older-than", "2")
    assert ran.exit_code == 0, ran.output
    assert ran.stdout.startswith("150 predictions in 3 chunks of 3 files: ")
    assert [line.split()[0] for line in ran.stderr.splitlines()] == ["compacting"] * 3
    assert cold_days(lived) == ["day=2024-10-04", "day=2024-10-05", "day=2024-10-06"]
    told = json.loads(compact(lived, "--older-than", "0", "--json").stdout)
    assert (told["n_files"], told["n_predictions"], told["faults"]) == (1, 50, [])
    assert compact(lived, "--older-than", "0").stdout == "nothing to compact\n"


def test_days_that_are_not_worth_a_file_stay_where_they_are(lived: Path) -> None:
    assert compact(lived, "--older-than", "0", "--least-bytes", "65536").stdout == "nothing to compact\n"
    assert cold_days(lived) == []


def test_a_store_that_there_is_not_is_told(tmp_path: Path) -> None:
    ran = compact(tmp_path / "nowhere")
    assert (ran.exit_code, ran.stdout) == (1, "")
    assert "there is no store at" in ran.stderr
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "photos").mkdir()
    assert "there is no store at" in compact(tmp_path / "photos").stderr
    assert not list((tmp_path / "photos").iterdir())


def test_whoever_has_to_wait_for_another_one_is_told(lived: Path) -> None:
    command = [sys.executable, "-c", "from gateway.cli.commands import main; main()", "compact"]
    with only_one(lived, "upkeep", threading.Event()):
        waits = subprocess.Popen([*command, "--data-dir", str(lived)], stderr=subprocess.PIPE, text=True)
        assert waits.stderr is not None
        said = waits.stderr.readline()
    waits.communicate()
    assert said == "another command works on the files of this store: waiting until it is done\n"
    assert waits.returncode == 0


def test_what_cannot_be_moved_is_told_and_fails(lived: Path) -> None:
    damaged = max((lived / "predictions").glob("*.db"))
    damaged.write_bytes(damaged.read_bytes()[:5_000])
    ran = compact(lived, "--older-than", "0")
    assert ran.exit_code == 1
    assert f"{damaged.name}: " in ran.stdout
    assert "150 predictions in 3 chunks" in ran.stdout
    assert "not everything could be compacted" in ran.stderr


def test_challengers_evidence_and_exports_are_the_same_from_cold_chunks(lived: Path, tmp_path: Path) -> None:
    """The mirror, the cycle and an export read what was compacted before any of them had come so far."""
    cold = shutil.copytree(lived, tmp_path / "cold" / "lived")
    assert compact(cold, "--older-than", "0").exit_code == 0
    assert len(cold_days(cold)) == 4
    entries: list[dict[str, Any]] = []
    exports: list[Path] = []
    for store in (lived, cold):
        with staged(store) as stage:
            stage.mirrored(lag_limit_s=9e9)
            stage.close_all()
            assert stage.statuses(2) == ["scored"] * 200
            entries.append(stage.entry(2))
        exports.append(tmp_path / f"{len(exports)}.parquet")
        config = str(store.parent / "settings.toml")
        told = ["export", "m", "-o", str(exports[-1]), "--with-shadow-scores", "--with-waiting", "--config", config]
        (store.parent / "settings.toml").write_text(f'store = "{store}"\n[clock]\nsource = "caller"\n')
        assert CliRunner().invoke(main, told).exit_code == 0
    assert entries[0] == entries[1]
    assert is_same(*exports)


def test_a_server_answers_for_cold_predictions_as_before(models: Mapping[str, Made], tmp_path: Path) -> None:
    """Asked while it was hot, while another process compacts below the server, and after a start on cold files."""
    store, made = tmp_path / "store", models["loan"]
    with running(store, {}, [made]) as served:
        address = served.predict("loan", made.rows[:3], association_id=["a", "b", None])["prediction_id"]
        hot = _told(served, address)
    with running(store, {}, []) as served:
        assert _told(served, address) == hot
        done = CliRunner().invoke(
            main, ["compact", "--older-than", "0", "--least-bytes", "0", "--json", "--data-dir", str(store)]
        )
        assert json.loads(done.stdout)["n_predictions"] == 3
        assert served.predict("loan", made.rows[:1])["prediction_id"]
        outcome = [{"association_id": "a", "outcome": made.classes[0]}]
        assert served.http.post("/models/loan/outcomes", json=outcome).json()["accepted"] == 1
    with running(store, {}, []) as served:
        cold = _told(served, address)
        assert (cold["outcome"], hot["outcome"]) == (made.classes[0], None)
        assert {**cold, "outcome": None, "outcomes": []} == hot
    doctor = CliRunner().invoke(main, ["doctor", "--data-dir", str(store)])
    assert "4 predictions in 2 chunks, 1 outcomes, every checksum right" in doctor.stdout


def _told(served: Any, address: str) -> dict[str, Any]:
    answer = served.http.get(f"/models/loan/predictions/{address}")
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told
