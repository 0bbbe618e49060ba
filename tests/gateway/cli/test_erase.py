"""`understudy erase`: the command, below a server that goes on, and what the audit says of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner, Result

from gateway.cli.commands import main
from registry.types import Policy
from tests.actors import logistic
from tests.journals import record
from tests.models import Made
from tests.seasons import answers
from tests.servers import running
from tests.stage import DAY, at_us, staged

WHO = "customer-4711-of-the-bank"


def erase(store: Path, *more: str, model: str = "loan", stdin: str | None = None) -> Result:
    command = ["erase", model, "--association-id", WHO, "--reason", "ticket 12", "--data-dir", str(store), *more]
    return CliRunner().invoke(main, command, input=stdin)


def test_below_a_server_it_is_gone_at_once_and_outcomes_still_find_their_row(
    models: Mapping[str, Made], tmp_path: Path
) -> None:
    store, made = tmp_path / "store", models["loan"]
    with running(store, {}, [made]) as served:
        rows = made.rows[:2]
        sent = served.predict("loan", rows, association_id=[WHO, "another"])
        outcome = [{"association_id": WHO, "outcome": made.classes[0]}]
        assert served.http.post("/models/loan/outcomes", json=outcome).json()["accepted"] == 1
        path = f"/models/loan/predictions/{sent['prediction_id']}"
        before = [served.http.get(path, params={"row": row}).json() for row in (0, 1)]
        assert before[0]["inputs"] is not None

        assert (erase(store, stdin="n\n").exit_code, served.http.get(path).json()) == (1, before[0])
        ran = erase(store, "--yes", "--json")
        assert ran.exit_code == 0, ran.output
        told = json.loads(ran.stdout)
        assert told == {"n_rows": 1, "n_chunks": 1, "n_neighbours": 1, "n_outcomes": 1, "held": []}

        now = [served.http.get(path, params={"row": row}).json() for row in (0, 1)]
        assert now[0]["association_id"].startswith("erased-")
        assert now[1]["association_id"] == "another"
        for was, is_now in zip(before, now, strict=True):
            assert (is_now["inputs"], is_now["trace"], is_now["outputs"]) == (None, None, was["outputs"])
            assert is_now["outcome"] == was["outcome"]
        assert served.http.get("/models/loan/predictions", params={"association_id": WHO}).json()["predictions"] == []
        assert served.predict("loan", rows)["prediction_id"]
        assert not [p.name for p in store.rglob("*") if p.is_file() and WHO.encode() in p.read_bytes()]
    again = erase(store, "--yes")
    assert again.stdout == "nothing carries that id (any more)\n"
    listed = json.loads(CliRunner().invoke(main, ["audit", "list", "--json", "--data-dir", str(store)]).stdout)
    lines = [line for line in listed if line["action"] == "erase"]
    assert [line["model"] for line in lines] == ["loan", "loan"]
    assert lines[0]["detail"] == {"n_rows": 1, "n_neighbours": 1, "n_outcomes": 1, "reason": "ticket 12"}
    assert CliRunner().invoke(main, ["audit", "verify", "--data-dir", str(store)]).exit_code == 0


def test_evidence_comes_to_what_it_came_to(tmp_path: Path) -> None:
    """An id on rows of several days is one proof, by its new name as by its old one."""
    store = tmp_path / "lived"
    with staged(store) as stage:
        stage.declare(Policy(maturity_s=float(DAY)))
        stage.champion(logistic((1.0, 0.0)))
        challenger = stage.challenger(logistic((0.0, 1.0)))
        for day in range(4):
            rows = np.random.default_rng(day).normal(size=(40, 2))
            names = [WHO if n % 7 == day else f"{day} {n}" for n in range(40)]
            stage.predict(day + 0.25, rows, associations=names)
            happened = zip(names, (rows[:, 1] > 0).astype(int).tolist(), strict=True)
            records = [record(value, at_us(day + 0.5), to=name, model="m") for name, value in happened]
            stage.ledger.append_outcomes(stage.writer.writer, day + 1, records)
        stage.shadow(challenger, answers((0.0, 1.0)))
        stage.clock(6)
    erased = shutil.copytree(store, tmp_path / "erased")
    assert erase(erased, "--yes", "--json", model="m").exit_code == 0
    entries: list[dict[str, Any]] = []
    for folder in (store, erased):
        with staged(folder) as stage:
            stage.close_all()
            entries.append(stage.entry(challenger))
    assert entries[0]["n_matured"] > 50
    assert entries[0] == entries[1]


def test_what_there_is_not_is_told(tmp_path: Path) -> None:
    for store in (tmp_path / "nowhere", tmp_path):
        ran = erase(store, "--yes")
        assert (ran.exit_code, ran.stdout) == (1, "")
        assert ran.stderr.startswith("understudy: ")
