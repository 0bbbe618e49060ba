"""Replays asked for over HTTP, from a client and from the command line, and scored by the real workers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from click.testing import CliRunner

from gateway.cli.commands import main
from gateway.client import Client
from gateway.config import ClockSettings, Settings
from gateway.errors import ProblemError
from registry.types import TrainingReport
from tests.actors import logistic
from tests.replays import reported
from tests.seasons import QUICK, TRUTH, WEAK, lives
from tests.serving import serving, until
from tests.stage import Stage, at, staged

LEARNED = TrainingReport(n_rows=9, trained_from=at(-30), trained_until=at(0.3))


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """Commands are run in this process, and set up its logs."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A champion's four days, matured; version 2 has a training report that reaches into the first, version 3 none."""
    with staged(tmp_path / "store") as made:
        made.declare(QUICK)
        made.champion(logistic(WEAK))
        lives(made, range(4), {})
        made.clock(6)
        made.version(logistic(TRUTH), training=LEARNED)
        made.version(logistic((0.5, 0.5)))
        yield made


def client_of(stage: Stage) -> Client:
    return Client.on_store(Settings(store=str(stage.folder), clock=ClockSettings(source="caller")))


def run(*arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output, and standard error as one line."""
    ran = CliRunner().invoke(main, arguments, prog_name="understudy")
    return ran.exit_code, ran.stdout, " ".join(ran.stderr.replace("│", " ").split())


def test_a_replay_is_asked_for_followed_and_read(stage: Stage) -> None:
    with client_of(stage) as client:
        assert client.replays("m") == []
        asked = client.replay("m", 2, "before it plays", since=at(0), until=at(3))
        assert (asked["number"], asked["state"], asked["report"], asked["is_evidence"]) == (1, "asked", None, False)
        assert (asked["since"], asked["until"], asked["as_of"]) == (
            "2024-10-04T00:00:00Z", "2024-10-07T00:00:00Z", "2024-10-10T00:00:00Z",
        )  # fmt: skip
        assert (asked["trained_until"], asked["trained_until_is_stated"]) == ("2024-10-04T07:12:00Z", False)
        assert asked["progress"] == {"n_chunks": 8, "n_chunks_done": 0, "n_rows": {}}
        stage.mirrored()
        running = client.one_replay("m", 1)
        assert running["state"] == "running"
        # rows of the last day are in no bucket of the span: their chunks are passed over
        assert running["progress"] == {"n_chunks": 8, "n_chunks_done": 8, "n_rows": {"scored": 140, "in_training": 40}}
        reported(stage, stage.registry.replays.one("m", 1))
        looked: list[str] = []
        done = client.wait_replayed("m", 1, timeout_s=0, look=lambda found: looked.append(found["state"]))
        assert looked == ["done"]
        assert done["report"]["champions"][0]["n_matured"] == 140
        assert client.replays("m") == [done]
        assert [line["action"] for line in client.audit("m")].count("ask_replay") == 1


def test_what_cannot_be_replayed_is_refused_with_its_status_and_one_sentence(stage: Stage) -> None:
    with client_of(stage) as client:

        def refused(version: int, **span: Any) -> tuple[int, str]:
            with pytest.raises(ProblemError) as told:
                client.replay("m", version, "to see", **span)
            return told.value.status, told.value.sentence

        status, sentence = refused(2, since=at(0), until=at(0.3))
        assert status == 409
        assert sentence.startswith("version 2 of 'm' has learned from rows until 2024-10-04T07:12:00")
        assert refused(3, since=at(0))[0] == 409
        assert refused(2, since=at(0), trained_until=at(1))[0] == 409
        assert refused(9, since=at(0)) == (404, "model 'm' has no version 9")
        for number in (1, 7):
            with pytest.raises(ProblemError, match=f"model 'm' has no replay {number}"):
                client.one_replay("m", number)
        with pytest.raises(ProblemError, match="since: expected a time with its zone") as told:
            client._json("POST", "/admin/models/m/replays", {"version": 2, "since": "2024", "reason": "x"})
        assert told.value.status == 422
        client.replay("m", 3, "it is known", since=at(0), trained_until=at(1))
        assert refused(3, since=at(0), trained_until=at(1)) == (
            409, "replay 1 of version 3 of 'm' is under way: wait for it",
        )  # fmt: skip
        with pytest.raises(TimeoutError, match="replay 1 of 'm' is asked still after 0 s"):
            client.wait_replayed("m", 1, timeout_s=0)


def test_from_the_command_line_on_a_store_it_is_asked_for_and_not_waited_for(stage: Stage, tmp_path: Path) -> None:
    config = tmp_path / "understudy.toml"
    config.write_text(f'store = "{stage.folder}"\n[clock]\nsource = "caller"\n')
    where = ("--config", str(config))
    code, _, told = run("replay", "m", "3", "--since", "2024-10-04T00:00:00Z", *where)
    assert (code, told.partition(":")[0]) == (1, "understudy")
    assert "nobody knows until when version 3 of 'm' has learned" in told
    assert run("replay", "m", "3", "--since", "yesterday", *where)[0] == 2
    stated = ("--trained-until", "2024-10-05T00:00:00Z", "--no-wait")
    code, said, told = run("replay", "m", "3", "--since", "2024-10-04T00:00:00Z", *stated, *where)
    assert (code, told) == (0, "")
    assert said.startswith("replay 1 of m is asked: version 3 on rows from 2024-10-04T00:00:00Z to 2024-10-10T00:00")
    code, _, told = run("replay", "m", "2", "--since", "2024-10-04T00:00:00Z", "--timeout-s", "0.1", *where)
    assert code == 1  # no worker is there
    assert "replay 2 of 'm' is asked still after 0.1 s" in told


def test_on_a_running_server_the_workers_score_and_report_while_the_command_waits(stage: Stage, tmp_path: Path) -> None:
    with serving(
        stage.folder, clock__source="caller", shadow__poll_s=0.02, retrain__poll_s=0.02, server__workers=1
    ) as server:
        server.ready()
        code, said, told = run("replay", "m", "2", "--since", "2024-10-04T00:00:00Z", "--url", server.url)
        assert code == 0, told
        assert "chunks; 200 scored, 40 in training" in told
        lines = said.splitlines()
        assert all(line.startswith("replay, not evidence: ") for line in lines)
        assert "version 2 loses" in lines[1]
        assert "than version 1 on 200 matured outcomes" in lines[1]
        again = ("--until", "2024-10-06T00:00:00Z", "--json", "--url", server.url)
        code, said, told = run("replay", "m", "2", "--since", "2024-10-04T00:00:00Z", *again)
        assert code == 0, told
        assert json.loads(said)["report"]["n_rows"] == 120
        assert server.get("/admin/models/m/lineup")["challengers"] == []  # it was replayed, and plays no more for it

        # a version that is new: kept, replayed, and only then a challenger, with the bet that the replay suggests
        file = tmp_path / "new.onnx"
        file.write_bytes(logistic((0.9, 0.9)))
        code, _, told = run("register", "m", str(file), "--as", "retired", "--url", server.url)
        assert code == 0, told
        assert server.get("/admin/models/m/lineup")["generation"] == 1
        stated = ("--trained-until", "2024-10-01T00:00:00Z", "--json", "--url", server.url)
        code, said, told = run("replay", "m", "4", "--since", "2024-10-04T00:00:00Z", *stated)
        assert code == 0, told
        assert json.loads(said)["report"]["suggested_bet"]["bet"] > 0
        code, said, told = run("enlist", "m", "4", "--reason", "it did well", "--url", server.url)
        assert (code, told) == (0, "")
        assert said == "version 4 is a challenger; champion of m is version 1 (generation 2)\n"

        def informed() -> bool:
            found = server.get("/admin/models/m/evidence")["challengers"]
            return [entry["metric"]["bets"] for entry in found] == ["informed"]

        server.post("/admin/clock", {"now": "2024-10-12T00:00:00Z"})
        until(informed, "the evidence tells of an informed bet")
