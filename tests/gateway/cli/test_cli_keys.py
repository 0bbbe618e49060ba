"""Keys from the command line and over HTTP: the first one closes the door, and from then on scopes are held to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from click.testing import CliRunner, Result

from gateway.cli.commands import main
from gateway.cli.serve import announce
from gateway.client import Client
from gateway.config import KEY, ServerSettings, Settings
from gateway.errors import ProblemError, SettingsRefused
from gateway.supervisor import listening_socket
from tests.servers import Running, running, told

pytestmark = pytest.mark.usefixtures("logs_as_before", "no_key_of_ours")


@pytest.fixture
def logs_as_before() -> Iterator[None]:
    """Commands are run in this process, and set up its logs."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def no_key_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may have one."""
    monkeypatch.delenv(KEY, raising=False)


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Running]:
    """A gateway that nobody else asks, with a line a request in its log."""
    with running(tmp_path / "served", {"logs.requests": True}, []) as started:
        yield started


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, prog_name="understudy")


def ok(*arguments: str) -> Any:
    """What a command prints with --json."""
    ran = run(*arguments, "--json")
    assert ran.exit_code == 0, ran.output
    return json.loads(ran.stdout)


def failed(code: int, *arguments: str) -> str:
    ran = run(*arguments)
    assert ran.exit_code == code, ran.output
    assert ran.stdout == ""
    assert isinstance(ran.exception, SystemExit)
    return " ".join(ran.stderr.replace("│", " ").split())


def timeless(key: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value for name, value in key.items() if name not in ("key_id", "created_at", "created_by", "revoked_at")
    }


def test_keys_are_issued_listed_and_revoked_on_a_store_and_on_a_server_alike(alone: Running, tmp_path: Path) -> None:
    stories: list[list[Any]] = []
    for target in (["--data-dir", str(tmp_path / "store")], ["--url", alone.url]):
        assert ok("keys", "list", *target) == []
        first = ok("keys", "issue", "ops", "--scope", "admin", *target)
        if "--url" in target:
            target += ["--key", first["token"]]
        limits = ("--scope", "outcome, predict", "--expires", "2100-01-01T00:00:00Z")
        second = ok("keys", "issue", "app", *limits, *target)
        revoked = ok("keys", "revoke", second["key"]["key_id"], "--reason", "tried", *target)
        assert revoked["revoked_at"] is not None
        assert second["key"]["scopes"] == ["predict", "outcome"]
        assert second["key"]["expires_at"] == "2100-01-01T00:00:00Z"
        listed = ok("keys", "list", *target)
        assert listed == [first["key"], revoked]
        stories.append([timeless(key) for key in listed])
        by = "ops" if "--url" in target else "local-operator"
        assert [key["created_by"] for key in listed] == ["local-operator", by]
        for issued in (first, second):
            assert issued["token"].startswith(f"us_{issued['key']['key_id']}_")
            for said in (json.dumps(listed), run("keys", "list", *target).stdout):
                assert issued["key"]["key_id"] in said
                assert issued["token"].rsplit("_")[2] not in said
    assert stories[0] == stories[1]


def test_people_are_told_in_sentences(tmp_path: Path) -> None:
    target = ("--data-dir", str(tmp_path))
    assert run("keys", "list", *target).stdout == "no keys yet: a server is open to its own machine\n"
    line, token, kept = run("keys", "issue", "ops", "--scope", "admin", *target).stdout.splitlines()
    key_id = token.split("_")[1]
    assert line == f"{key_id}  ops: admin for every model; never expires"
    assert kept == "keep it: it is not shown again"
    assert run("keys", "list", *target).stdout == line + "\n"
    revoked = run("keys", "revoke", key_id, "--reason", "lost", *target).stdout
    assert revoked.startswith(f"{key_id}  ops: admin for every model; revoked 20")


def test_what_cannot_be_meant_exits_with_1_or_2_and_issues_nothing(tmp_path: Path) -> None:
    target = ("--data-dir", str(tmp_path))
    for said, arguments in (
        ("got 'root'", ("ops", "--scope", "read,root")),
        ("got ''", ("ops", "--scope", "")),
        ("--scope", ("ops",)),
        ("--expires: expected a time with its zone", ("ops", "--scope", "read", "--expires", "2027-01-01")),
        ("--key beside --url", ("ops", "--scope", "read", "--key", "us_a_b")),
    ):
        assert said in failed(2, "keys", "issue", *arguments, *target)
    for said, arguments in (
        ("is who acts here without a key", ("local-operator", "--scope", "read")),
        ("there is no model 'lones'", ("ops", "--scope", "read", "--model", "lones")),
        ("expected a time after now", ("ops", "--scope", "read", "--expires", "2020-01-01T00:00:00Z")),
    ):
        assert said in failed(1, "keys", "issue", *arguments, *target)
    assert "there is no key 'nothing'" in failed(1, "keys", "revoke", "nothing", "--reason", "x", *target)
    assert "printable ASCII" in failed(2, "keys", "list", "--url", "http://127.0.0.1:9", "--key", "us_ä")
    assert failed(2, "keys", "revoke", "nothing", *target)
    assert ok("keys", "list", *target) == []


@pytest.mark.parametrize("command", [(), ("list",), ("issue",), ("revoke",)])
def test_every_command_explains_itself(command: tuple[str, ...]) -> None:
    said = run("keys", *command, "--help")
    assert said.exit_code == 0
    for option in ("--json", "--url", "--key", "--data-dir", "--config"):
        assert option in said.stdout


def test_the_first_key_closes_the_door_and_revoking_it_does_not_open_it_again(alone: Running) -> None:
    assert alone.http.get("/admin/models").status_code == 200
    issued = ok("keys", "issue", "ops", "--scope", "admin", "--url", alone.url)
    missing = alone.http.get("/admin/models")
    told(missing, 401, "expected a key as Authorization: Bearer")
    assert missing.headers["www-authenticate"] == "Bearer"
    for headers in ({"authorization": f"Bearer {issued['token']}"}, {"x-api-key": issued["token"]}):
        assert alone.http.get("/admin/models", headers=headers).status_code == 200
    told(alone.http.get("/admin/models", headers={"x-api-key": issued["token"] + "a"}), 401, "is not accepted")
    assert alone.http.get("/readyz").status_code == 200
    ok("keys", "revoke", issued["key"]["key_id"], "--reason", "tried", "--url", alone.url, "--key", issued["token"])
    told(alone.http.get("/admin/models", headers={"x-api-key": issued["token"]}), 401, "is not accepted")
    told(alone.http.get("/admin/models"), 401, "expected a key")
    assert issued["token"].rsplit("_")[2] not in alone.log.read_text()
    assert '"principal":"ops"' in alone.log.read_text().replace(": ", ":")
    assert ok("keys", "list", "--data-dir", str(alone.store))[0]["key_id"] == issued["key"]["key_id"]


def test_a_key_without_the_scope_admin_manages_no_keys(alone: Running) -> None:
    ok("keys", "issue", "ops", "--scope", "admin", "--url", alone.url)
    target = ("--data-dir", str(alone.store))
    every = ok("keys", "issue", "app", "--scope", "predict,outcome,read,operate,approve", *target)
    with Client(alone.url, every["token"]) as client:
        for call in (
            client.keys,
            lambda: client.issue_key("app", ["admin"]),
            lambda: client.revoke_key(every["key"]["key_id"], "mine"),
        ):
            with pytest.raises(ProblemError, match="this needs the scope admin") as said:
                call()
            assert said.value.status == 403
    assert len(ok("keys", "list", *target)) == 2


def test_what_is_refused_over_http_is_told_in_one_sentence_and_a_token_is_not_to_be_cached(alone: Running) -> None:
    wanted = {"principal": "ops", "scopes": ["admin"]}
    for body, sentence in (
        ({**wanted, "scopes": []}, "scopes: expected at least one of predict"),
        ({**wanted, "scopes": ["root"]}, "scopes"),
        ({**wanted, "principal": "rule"}, "principal: 'rule' is who acts here"),
        ({**wanted, "models": ["none"]}, "models: there is no model 'none'"),
        ({**wanted, "expires_at": "tomorrow"}, "expires_at: expected a time with its zone"),
        ({**wanted, "secret": "mine"}, "secret: expected no such field"),
    ):
        told(alone.http.post("/admin/keys", json=body), 422, sentence)
    told(alone.http.post("/admin/keys/none/revoke", json={"reason": "x"}), 404, "there is no key 'none'")
    issued = alone.http.post("/admin/keys", json=wanted)
    assert issued.status_code == 201
    assert issued.headers["cache-control"] == "no-store"


def test_a_key_of_the_environment_is_shown_to_a_server_and_the_command_lines_wins(
    alone: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = ok("keys", "issue", "ops", "--scope", "admin", "--url", alone.url)["token"]
    assert "expected a key" in failed(1, "status", "--url", alone.url)
    assert ok("status", "--url", alone.url, "--key", token) == []
    monkeypatch.setenv(KEY, token)
    assert ok("status", "--url", alone.url) == []
    assert ok("doctor", "--url", alone.url)[0]["ok"]
    assert "is not accepted" in failed(1, "status", "--url", alone.url, "--key", "us_a_b")
    assert ok("status", "--data-dir", str(alone.store)) == []


def test_a_network_is_served_once_the_store_has_keys(tmp_path: Path) -> None:
    store = tmp_path / "store"
    everywhere = ServerSettings(host="0.0.0.0", port=0)  # noqa: S104  # that is the point
    with pytest.raises(SettingsRefused) as refused:
        listening_socket(Settings(store=str(store), server=everywhere), has_keys=False)
    command = str(refused.value).partition("with: understudy ")[2].split()
    assert run(*command).exit_code == 0  # the command that it teaches is one that works
    with running(store, {"server.host": everywhere.host}, []) as served:
        told(served.http.get("/admin/models"), 401, "expected a key")


def test_a_start_says_that_it_is_open_only_where_there_are_no_keys(capsys: pytest.CaptureFixture[str]) -> None:
    for has_keys in (False, True):
        announce(Settings(), "127.0.0.1", 8080, has_keys=has_keys, as_json=False)
        assert ("open: there are no keys" in capsys.readouterr().out) is not has_keys


def test_a_key_expires_by_itself(alone: Running) -> None:
    admin = ok("keys", "issue", "ops", "--scope", "admin", "--url", alone.url)["token"]
    with Client(alone.url, admin) as client:
        soon = datetime.now(UTC) + timedelta(seconds=2)
        brief = client.issue_key("app", ["admin"], expires_at=soon)["token"]
    headers = {"x-api-key": brief}
    seen: set[int] = set()
    while datetime.now(UTC) <= soon + timedelta(milliseconds=50):
        asked = datetime.now(UTC)
        status = alone.http.get("/admin/models", headers=headers).status_code
        if asked >= soon:
            assert status == 401
        seen.add(status)
    assert seen == {200, 401}
