"""`understudy erase`: the command, below a server that goes on, and what the audit says of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from click.testing import CliRunner, Result

from gateway.cli.commands import main
from tests.models import Made
from tests.servers import running

WHO = "customer-4711-of-the-bank"


def erase(store: Path, *more: str, stdin: str | None = None) -> Result:
    command = ["erase", "loan", "--association-id", WHO, "--reason", "ticket 12", "--data-dir", str(store), *more]
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


def test_what_there_is_not_is_told(tmp_path: Path) -> None:
    for store in (tmp_path / "nowhere", tmp_path):
        ran = erase(store, "--yes")
        assert (ran.exit_code, ran.stdout) == (1, "")
        assert ran.stderr.startswith("understudy: ")
