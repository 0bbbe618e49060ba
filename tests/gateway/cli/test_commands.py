"""The command line on a store and on a running server: the same words, the same JSON, and exit codes 0, 1 and 2."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import structlog
from click.testing import CliRunner, Result

from gateway.cli.commands import main
from gateway.config import JournalSettings
from gateway.journal import open_ledger
from tests.models import Made
from tests.servers import Running, understudy

pytestmark = pytest.mark.usefixtures("logs_as_before")

COMMANDS = (
    "demo", "stream", "serve", "gateway", "shadow", "retrain", "register", "status", "evidence", "drift", "promote",
    "rollback", "retire", "predict", "outcome", "wait", "export", "doctor", "keys", "propose", "proposals", "approve",
    "reject", "lift-bar", "audit", "compare", "recipe", "train", "trainings", "replay", "enlist", "compact", "erase",
)  # fmt: skip
HOUSE = json.dumps({"area": 50.0, "rooms": 2})


@pytest.fixture
def logs_as_before() -> Iterator[None]:
    """Commands are run in this process, where a start takes no seconds, and set up its logs."""
    yield
    structlog.reset_defaults()


def run(*arguments: str, stdin: str | None = None) -> Result:
    """One command."""
    return CliRunner().invoke(main, arguments, input=stdin, prog_name="understudy")


def ok(*arguments: str, stdin: str | None = None) -> Any:
    """What a command prints with --json."""
    ran = run(*arguments, "--json", stdin=stdin)
    assert ran.exit_code == 0, ran.output
    return json.loads(ran.stdout)


def failed(code: int, *arguments: str) -> str:
    """What a command says that does not succeed; nothing is on standard output, and no traceback anywhere."""
    ran = run(*arguments)
    assert ran.exit_code == code, ran.output
    assert isinstance(ran.exception, SystemExit)
    assert ran.stdout == ""
    return " ".join(ran.stderr.replace("│", " ").split())


def timeless(document: Any) -> Any:
    """A document without the times and ids that no two runs share."""
    if isinstance(document, list):
        return [timeless(item) for item in document]
    if isinstance(document, dict):
        passing = {"since", "created_at", "prediction_id", "as_of", "lag_s"}
        return {name: timeless(value) for name, value in document.items() if name not in passing}
    return document


def test_every_command_has_help_and_json() -> None:
    listed = run("--help")
    assert listed.exit_code == 0
    for command in COMMANDS:
        assert f" {command} " in listed.stdout
    for command in COMMANDS:
        ran = run(command, "--help")
        assert ran.exit_code == 0, ran.output
        assert "--json" in ran.stdout
        assert ("--data-dir" in ran.stdout) == (command != "compare")  # which is about a file


def test_a_first_day_is_the_same_on_a_store_and_on_a_server(
    server: Running, models: Mapping[str, Made], tmp_path: Path
) -> None:
    made = models["price"]
    (tmp_path / "model.onnx").write_bytes(made.onnx)
    (tmp_path / "schema.json").write_text(json.dumps({"features": made.declaration["features"]}))
    told: list[list[Any]] = []
    for target in (("--data-dir", str(tmp_path / "store")), ("--url", server.url)):
        declared = ("--as", "champion", "--task", "regression", "--schema", str(tmp_path / "schema.json"))
        version = ok("register", "cli-price", str(tmp_path / "model.onnx"), *declared, *target)
        alone = ok("predict", "cli-price", HOUSE, "--association-id", "house 1", *target)
        several = ok("predict", "cli-price", "-", *target, stdin=f"[{HOUSE}, {HOUSE}]")
        receipt = ok(
            "outcome", "cli-price", "150.5", "--prediction-id", several["prediction_id"], "--row", "1", *target
        )
        again = ok("outcome", "cli-price", "99", "--association-id", "house 1", "--source", "notary", *target)
        status = ok("status", "cli-price", *target)
        told.append([version, alone, several, receipt, again, status, ok("evidence", "cli-price", *target)])
        assert (version["number"], receipt["accepted"], again["accepted"]) == (1, 1, 1)
        assert alone["outputs"] == pytest.approx(made.answers([json.loads(HOUSE)])[0], rel=1e-6)
        assert several["outputs"] == [alone["outputs"]] * 2
        assert (status["lineup"]["champion"], status["reign"]["number"]) == (1, 1)
        assert ok("wait", "cli-price", "--caught-up", *target) == []
    assert timeless(told[0]) == timeless(told[1])


def test_a_change_of_champion_is_the_same_on_a_store_and_on_a_server(
    server: Running, models: Mapping[str, Made], tmp_path: Path
) -> None:
    made = models["fraud"]
    for number, seed in ((1, b""), (2, b"\x18\x07")):  # a field of the file that no runtime looks at: another digest
        (tmp_path / f"{number}.onnx").write_bytes(made.onnx + seed)
    features = ",".join(feature.name for feature in made.features)
    told: list[list[Any]] = []
    for target in (("--data-dir", str(tmp_path / "store")), ("--url", server.url)):
        declared = ("--as", "champion", "--task", "binary", "--features", features, *target)
        ok("register", "cli-fraud", str(tmp_path / "1.onnx"), *declared)
        ok("register", "cli-fraud", str(tmp_path / "2.onnx"), "--as", "challenger", *target)
        reason = ("--reason", "as tried", *target)
        steps = [
            ok("promote", "cli-fraud", "2", "--if-generation", "2", *reason),
            ok("rollback", "cli-fraud", "--if-generation", "3", *reason),
        ]
        assert [(step["generation"], step["champion"], step["previous"]) for step in steps] == [(3, 2, 1), (4, 1, None)]
        stale = failed(1, "promote", "cli-fraud", "2", "--if-generation", "2", *reason)
        assert "is at generation 4, not 2" in stale
        assert "must be" in failed(1, "retire", "cli-fraud", "2", *reason)
        told.append(steps)
        told[-1].append(ok("status", "cli-fraud", *target))
    assert timeless(told[0]) == timeless(told[1])


def test_people_are_told_in_sentences(server: Running) -> None:
    said = run("predict", "price", HOUSE, "--url", server.url).stdout
    assert said.startswith("version 1, prediction ")
    assert "prediction: " in said
    request_id = said.split()[3]
    told = run("outcome", "price", "120", "--prediction-id", request_id, "--url", server.url)
    assert (told.exit_code, told.stdout) == (0, "accepted\n")
    status = run("status", "--url", server.url).stdout
    assert "price: champion is version 1 since " in status
    assert run("doctor", "--url", server.url).stdout.startswith("[ok] server: answers for ")


def test_what_is_understood_and_cannot_be_done_exits_with_1_and_one_sentence(server: Running, tmp_path: Path) -> None:
    at, nobody = ("--url", server.url), ("--url", "http://127.0.0.1:9")
    (tmp_path / "file").write_bytes(b"not a model, nor a folder")
    file = str(tmp_path / "file")
    assert "unknown model: 'nope'" in failed(1, "predict", "nope", "{}", *at)
    assert "there is nothing at this path" in failed(1, "status", "../admin/models", *at)
    assert "unknown model: 'a b?c=d#e%2f'" in failed(1, "evidence", "a b?c=d#e%2f", *at)
    assert "inputs.rooms: expected int, got str" in failed(1, "predict", "price", '{"area": 1.0, "rooms": "x"}', *at)
    assert "outcome: expected a number" in failed(1, "outcome", "price", "dear", "--association-id", "x", *at)
    assert "is not an ONNX model" in failed(1, "register", "price", file, "--as", "challenger", *at)
    assert "nobody answers at http://127.0.0.1:9" in failed(1, "status", *nobody)
    assert "unsupported protocol" in failed(1, "status", "--url", "localhost:9")
    assert "File exists" in failed(1, "status", "--data-dir", file)
    down = run("doctor", "--json", *nobody)
    assert (down.exit_code, json.loads(down.stdout)[0]["ok"]) == (1, False)


def test_what_is_not_understood_exits_with_2(server: Running, tmp_path: Path) -> None:
    at = ("--url", server.url)
    (tmp_path / "bad.json").write_text('{"features": [{"name": "a", "dtype": "f4"}]}')
    (tmp_path / "bad.toml").write_text("server = 5")
    bad, toml = str(tmp_path / "bad.json"), str(tmp_path / "bad.toml")
    for arguments in (
        ("nope",),
        ("predict", "price", "{not json", *at),
        ("predict", "price", *at),
        ("promote", "price", "one", "--reason", "x", *at),
        ("promote", "price", "1", *at),
        ("wait", "price", *at),
        ("register", "price", str(tmp_path / "none.onnx"), "--as", "champion"),
        ("register", "price", bad, "--as", "king"),
        ("register", "price", bad, "--as", "champion", "--schema", bad, "--task", "binary"),
        ("register", "price", bad, "--as", "champion", "--features", "a", "--data-dir", str(tmp_path / "s")),
        ("register", "price", bad, "--as", "champion", "--features", "a", "--schema", bad),
        ("status", *at, "--data-dir", "x"),
        ("doctor", *at, "--data-dir", "x"),
        ("status", "--data-dir", "postgresql://x"),
        ("status", "--config", str(tmp_path / "none.toml")),
        ("status", "--config", toml),
        ("serve", "--workers", "0", "--data-dir", str(tmp_path / "s")),
        ("gateway", "--port", "70000", "--data-dir", str(tmp_path / "s")),
    ):
        assert failed(2, *arguments)


def test_a_doctor_finds_a_damaged_store(models: Mapping[str, Made], tmp_path: Path) -> None:
    store = tmp_path / "store"
    made = models["price"]
    (tmp_path / "model.onnx").write_bytes(made.onnx)
    (tmp_path / "schema.json").write_text(json.dumps({"features": made.declaration["features"]}))
    declared = ("--as", "champion", "--task", "regression", "--schema", str(tmp_path / "schema.json"))
    ok("register", "price", str(tmp_path / "model.onnx"), *declared, "--data-dir", str(store))
    ok("predict", "price", HOUSE, "--data-dir", str(store))
    findings = ok("doctor", "--data-dir", str(store))
    names = ["python", "sqlite", "disk", "registry", "artifacts", "audit", "journal"]
    assert [finding["name"] for finding in findings] == names
    assert "1 predictions in 1 chunks" in findings[-1]["detail"]
    (artifact,) = [path for path in (store / "artifacts").rglob("*") if path.is_file()]
    artifact.write_bytes(artifact.read_bytes()[:-1])
    ran = run("doctor", "--json", "--data-dir", str(store))
    assert ran.exit_code == 1
    assert [finding["name"] for finding in json.loads(ran.stdout) if not finding["ok"]] == ["artifacts"]


def test_a_process_ends_with_these_codes_and_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for code, arguments in (
        (0, ("status", "--json", "--data-dir", str(tmp_path / "store"))),
        (1, ("serve", "--port", "0", "--data-dir", str(tmp_path / "file"))),
        (2, ("status", "--url")),
    ):
        ran = understudy(*arguments)
        assert ran.returncode == code
        assert ran.stdout == ("[]\n" if code == 0 else "")
        assert "Traceback" not in ran.stderr


def test_a_store_that_cannot_be_used_is_told_in_one_sentence_before_any_worker_starts(tmp_path: Path) -> None:
    (tmp_path / "registry.db").write_bytes(b"no database" * 500)
    for command in (("serve", "--port", "0"), ("status",)):
        said = understudy(*command, "--data-dir", str(tmp_path))
        assert said.returncode == 1
        assert said.stderr == "understudy: the registry cannot be used: file is not a database\n"


def test_a_store_is_not_served_with_buckets_of_another_length(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    with closing(open_ledger(tmp_path / "store", JournalSettings())) as ledger:
        ledger.settle("cohorts.bucket_s", 3_600)
    said = understudy("serve", "--port", "0", "--data-dir", store)
    assert (said.returncode, said.stdout) == (1, "")
    assert said.stderr.startswith("understudy: cohorts.bucket_s: expected 3600, ")
    assert said.stderr.count("\n") == 1
