"""Four eyes over HTTP and from the command line, with real keys; and every route held to every scope."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from click.testing import CliRunner

from gateway.app import create_app
from gateway.cli.commands import main
from gateway.client import Client
from gateway.config import Settings
from gateway.errors import ProblemError
from registry.types import SCOPES
from tests.models import fraud
from tests.servers import Running, publish, running, told, upload

FIRST, SECOND = fraud(n_trees=2), fraud(seed=2, n_trees=3)
FOUR_EYES = {"promotion": "four_eyes"}
PEOPLE = {"ann": ["admin"], "bob": ["read", "approve"], "eve": ["read", "approve"], "app": ["predict", "operate"]}


class People(msgspec.Struct, frozen=True):
    """A server under keys."""

    server: Running
    tokens: dict[str, str]

    def client(self, name: str) -> Client:
        return Client(self.server.url, self.tokens[name])

    def command(self, name: str, *arguments: str) -> tuple[int, str]:
        """Exit code and output of a command that somebody gives."""
        return run(*arguments, "--url", self.server.url, "--key", self.tokens[name])


def run(*arguments: str) -> tuple[int, str]:
    ran = CliRunner().invoke(main, arguments, prog_name="understudy")
    return ran.exit_code, ran.output


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[People]:
    with running(tmp_path_factory.mktemp("people") / "store", {}, []) as server:
        with Client(server.url) as client:
            tokens = {"ann": client.issue_key("ann", PEOPLE["ann"])["token"]}
        with Client(server.url, tokens["ann"]) as client:
            tokens |= {name: client.issue_key(name, PEOPLE[name])["token"] for name in ("bob", "eve", "app")}
        server.http.headers["authorization"] = f"Bearer {tokens['ann']}"
        yield People(server, tokens)


@pytest.fixture
def m(people: People, request: pytest.FixtureRequest) -> str:
    """A model of this test alone: version 1 is champion and version 2 challenger, both uploaded by Ann."""
    name = request.node.name.replace("_", "-")[:60].strip("-")
    publish(people.server.http, msgspec.structs.replace(FIRST, name=name))
    answered = upload(people.server.http, msgspec.structs.replace(SECOND, name=name), "challenger")
    assert answered.status_code == 201, answered.text
    return str(name)


def test_four_eyes_from_the_command_line(people: People, m: str, tmp_path: Path) -> None:
    (tmp_path / "policy.json").write_text(json.dumps(FOUR_EYES))
    with people.client("ann") as ann:
        assert ann._json("PUT", f"/admin/models/{m}/policy", FOUR_EYES)["promotion"] == "four_eyes"
    because = ("--reason", "better on every branch")
    code, said = people.command("ann", "promote", m, "2", *because)
    assert code == 1
    assert f"'{m}' is under four eyes: propose version 2 (understudy propose {m} 2 --reason …), and have anot" in said
    code, said = people.command("bob", "propose", m, "2", *because)
    assert code == 0
    assert said.startswith(
        f"proposal 1 of {m} (open): promote version 2, asked by bob as 'better on every branch' upon gen"
    )
    assert "somebody else must approve it" in people.command("bob", "approve", m, "1", *because)[1]
    assert "'ann' uploaded version 2" in people.command("ann", "approve", m, "1", *because)[1]
    assert people.command("app", "approve", m, "1", *because)[0] == 1
    code, said = run("approve", m, "1", *because, "--data-dir", str(people.server.store))
    assert (code, "local-operator can be anybody at this machine" in said) == (1, True)
    assert "has the digest" in people.command("eve", "approve", m, "1", *because, "--digest", "sha256:0")[1]
    code, said = people.command("eve", "approve", m, "1", *because, "--json")
    assert (code, json.loads(said)["state"]) == (0, "approved")
    with people.client("ann") as ann:
        assert ann.predict(m, FIRST.rows[0])["version"] == 2
        decision = ann.decisions(m)[-1]
        assert (decision["by"], decision["proposal"]) == ("eve", 1)
    assert people.command("bob", "rollback", m, *because)[0] == 0
    code, said = people.command("bob", "propose", m, "--policy", str(tmp_path / "policy.json"), *because)
    assert f"proposal 2 of {m} (open): other terms" in said
    assert f"proposal 2 of {m} (rejected)" in people.command("eve", "reject", m, "2", *because)[1]
    assert len(people.command("eve", "proposals", m)[1].splitlines()) == 2
    assert people.command("eve", "propose", m, *because)[0] == 2

    assert "is barred" in people.server.http.post(
        f"/admin/models/{m}/challengers", json={"version": 2, "reason": "again"}
    ).text  # fmt: skip
    assert people.server.http.get(f"/admin/models/{m}/bars").json()["bars"][0]["version"] == 2
    assert "may be enlisted again" in people.command("eve", "lift-bar", m, "2", *because)[1]
    with people.client("ann") as ann:
        assert ann.enlist(m, 2, "again")["challengers"] == [2]


def test_an_agreement_over_http_names_what_was_seen_and_upon_which_generation(people: People, m: str) -> None:
    path, http = f"/admin/models/{m}/proposals", people.server.http
    why = {"reason": "a test"}
    for body, sentence in (
        (why, "expected either version or policy"),
        ({**why, "version": 2, "policy": FOUR_EYES}, "expected either version or policy"),
        ({**why, "policy": {"promotion": "manual"}}, "promotion"),
        ({"version": 2}, "reason"),
        ({**why, "version": "2"}, "version"),
    ):
        told(http.post(path, json=body), 422, sentence)
    told(http.post(path, json={**why, "version": 9}), 404, "has no version 9")
    told(http.post(path, json={**why, "version": 2}, headers={"if-match": "1"}), 412, "is at generation 2, not 1")
    asked = http.post(path, json={**why, "version": 2}, headers={"if-match": '"2"'})
    assert asked.status_code == 201
    digest = asked.json()["digest"]
    told(http.post(path, json={**why, "version": 2}), 409, "says that already")
    told(http.post(f"{path}/1/approve", json=why), 422, "digest")
    told(http.post(f"{path}/1/approve", json={**why, "digest": "sha256:"}), 412, "read it again and decide again")
    told(http.post(f"{path}/7/approve", json={**why, "digest": digest}), 404, "has no proposal 7")
    told(http.post(f"{path}/1/approve", json={**why, "digest": digest}, headers={"if-match": "9"}), 412, "not 9")
    told(http.get(f"{path}/7"), 404, "has no proposal 7")
    agreed = http.post(f"{path}/1/approve", json={**why, "digest": digest}, headers={"if-match": "2"})
    assert (agreed.status_code, agreed.json()["state"]) == (200, "approved")
    assert http.get(f"{path}/1").json() == agreed.json() == http.get(path).json()[0]
    told(http.post(f"{path}/1/reject", json=why), 409, "was approved already")


def test_who_was_champion_is_told_to_the_microsecond(people: People, m: str) -> None:
    with people.client("bob") as bob:
        lineup = bob.promote(m, 2, "better")
        since = datetime.fromisoformat(lineup["since"])
        before = since - timedelta(microseconds=1)
        assert bob.lineup(m) == bob.lineup(m, at=since) == bob.lineup(m, generation=3) == lineup
        assert bob.lineup(m, at=before) == bob.lineup(m, generation=2)
        with pytest.raises(ProblemError, match="had no champion yet at 1999"):
            bob.lineup(m, at=datetime.fromisoformat("1999-12-31T00:00:00Z"))
        with pytest.raises(ProblemError, match="expected either at or generation, got both"):
            bob.lineup(m, at=since, generation=1)
        with pytest.raises(ProblemError, match="has no generation 9"):
            bob.lineup(m, generation=9)
    told(
        people.server.http.get(f"/admin/models/{m}/lineup", params={"at": "noon"}),
        422,
        "at: expected a time with its zone",
    )
    code, said = people.command("bob", "status", m, "--at", before.isoformat())
    assert (code, said.startswith(f"champion of {m} is version 1 (generation 2) at ")) == (0, True)
    assert people.command("bob", "status", "--at", before.isoformat())[0] == 2


def test_the_audit_is_listed_and_held_against_the_registry(people: People, m: str) -> None:
    code, said = people.command("bob", "audit", "verify", "--json")
    found = json.loads(said)
    assert (code, found["faults"]) == (0, [])
    head = found["head"]
    code, said = people.command("bob", "audit", "list", "--model", m)
    assert [line.split()[3] for line in said.splitlines()] == [
        "create_model", "add_version", "register", "add_version", "enlist",
    ]  # fmt: skip
    assert people.command("bob", "audit", "verify", "--head", head)[1].startswith(f"{found['n_lines']} lines, and ever")
    code, said = people.command("bob", "audit", "verify", "--head", "0" * 63 + "1")
    assert code == 1
    assert "the end is missing: no line has the hash" in said
    assert "1 fault in" in said


def test_what_training_knew_of_a_version_comes_with_it(people: People, m: str, tmp_path: Path) -> None:
    (tmp_path / "third.onnx").write_bytes(fraud(seed=3, n_trees=3).onnx)
    (tmp_path / "known.json").write_text(json.dumps({"n_rows": 4_000, "base_rate": 0.02, "threshold": 0.1}))
    (tmp_path / "wrong.json").write_text(json.dumps({"n_rows": 4_000, "treshold": 0.1}))
    register = ("register", m, str(tmp_path / "third.onnx"), "--as", "challenger", "--training")
    assert "treshold: expected no such field" in people.command("ann", *register, str(tmp_path / "wrong.json"))[1]
    assert people.command("ann", *register, str(tmp_path / "known.json"))[0] == 0
    with people.client("bob") as bob:
        training = bob.model(m)["versions"][2]["training"]
    assert (training["n_rows"], training["base_rate"], training["threshold"]) == (4_000, 0.02, 0.1)


def names(client: Client) -> list[str]:
    return [model["name"] for model in client.models()]


def test_a_name_that_was_made_for_a_file_that_is_refused_is_free_again(people: People, m: str, tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    declared = (
        "register",
        "typo",
        str(tmp_path / "bad.onnx"),
        "--as",
        "champion",
        "--task",
        "binary",
        "--features",
        "a",
    )
    code, said = people.command("ann", *declared)
    assert code == 1
    assert "is not an ONNX model" in said
    with people.client("ann") as ann:
        assert "typo" not in names(ann)
        ann.create_model("typo", "binary", [{"name": "a", "dtype": "float32"}])  # on purpose this time
        assert people.command("ann", *declared)[0] == 1
        assert "typo" in names(ann)
    told(
        people.server.http.request("DELETE", f"/admin/models/{m}", json={"reason": "no"}),
        409,
        "has versions, and what",
    )


NEEDED: dict[str, set[str]] = {
    "GET /admin/models/{model}/drift": {"read"},
    "GET /admin/models/{model}/recipe": {"read"},
    "PUT /admin/models/{model}/recipe": {"operate"},
    "DELETE /admin/models/{model}/recipe": {"operate"},
    "POST /admin/models/{model}/train": {"operate"},
    "GET /admin/models/{model}/trainings": {"read"},
    "GET /admin/models/{model}/trainings/{number}": {"read"},
    "GET /admin/models/{model}/export": {"read"},
    "GET /admin/models/{model}/export/days": {"read"},
    "GET /admin/models/{model}/bundle": {"read"},
    "POST /models/{model}/predict": {"predict"},
    "GET /models/{model}/predictions": {"read", "predict"},
    "GET /models/{model}/predictions/{prediction_id}": {"read", "predict"},
    "POST /models/{model}/outcomes": {"outcome"},
    "POST /v2/models/{model}/infer": {"predict"},
    "POST /v2/models/{model}/versions/{version}/infer": {"predict"},
    "GET /v2": {"read", "predict"},
    "GET /v2/models": {"read", "predict"},
    "GET /v2/models/{model}": {"read", "predict"},
    "GET /v2/models/{model}/versions/{version}": {"read", "predict"},
    "GET /v2/models/{model}/ready": {"read", "predict"},
    "GET /v2/models/{model}/versions/{version}/ready": {"read", "predict"},
    "GET /metrics": {"read"},
    "GET /admin/models": {"read"},
    "POST /admin/models": {"operate"},
    "GET /admin/models/{model}": {"read"},
    "DELETE /admin/models/{model}": {"operate"},
    "GET /admin/models/{model}/versions": {"read"},
    "POST /admin/models/{model}/versions": {"operate"},
    "GET /admin/models/{model}/evidence": {"read"},
    "GET /admin/models/{model}/decisions": {"read"},
    "GET /admin/models/{model}/lineup": {"read"},
    "GET /admin/models/{model}/schema": {"read"},
    "GET /admin/models/{model}/policy": {"read"},
    "PUT /admin/models/{model}/policy": {"approve"},
    "POST /admin/models/{model}/challengers": {"operate"},
    "POST /admin/models/{model}/promote": {"approve"},
    "POST /admin/models/{model}/rollback": {"approve"},
    "POST /admin/models/{model}/retire": {"operate"},
    "GET /admin/models/{model}/proposals": {"read"},
    "POST /admin/models/{model}/proposals": {"operate", "approve"},
    "GET /admin/models/{model}/proposals/{number}": {"read"},
    "POST /admin/models/{model}/proposals/{number}/approve": {"approve"},
    "POST /admin/models/{model}/proposals/{number}/reject": {"approve"},
    "GET /admin/models/{model}/bars": {"read"},
    "POST /admin/models/{model}/bars/lift": {"approve"},
    "GET /admin/models/{model}/replays": {"read"},
    "GET /admin/models/{model}/replays/{number}": {"read"},
    "POST /admin/models/{model}/replays": {"operate"},
    "GET /admin/audit": {"read"},
    "GET /admin/audit/verify": {"read"},
    "GET /admin/clock": {"read"},
    "POST /admin/clock": {"operate"},
    "GET /admin/keys": set(),
    "POST /admin/keys": set(),
    "POST /admin/keys/{key_id}/revoke": set(),
}
"""What each route needs, written by hand: any one of these scopes, or `admin`, which is every scope."""


def routes() -> Mapping[str, Any]:
    """`METHOD /path` → handler, of every route there is."""
    app = create_app(Settings())
    return {
        f"{method} {route.path_format}": handler
        for route in app.routes
        for handler in route.route_handlers  # type: ignore[union-attr]  # all of ours are HTTP
        for method in handler.http_methods
        if method not in ("HEAD", "OPTIONS")
    }


def test_every_route_is_held_to_its_scopes_and_no_other_key_passes(people: People) -> None:
    found = routes()
    assert {route for route, handler in found.items() if handler.opt.get("scope") != "open"} == set(NEEDED)
    with people.client("ann") as ann:
        for name in ("other", "another"):
            ann.create_model(name, "binary", [{"name": "a", "dtype": "float32"}])
        keys = {scope: ann.issue_key(f"only-{scope}", [scope])["token"] for scope in SCOPES}
        elsewhere = ann.issue_key("elsewhere", ["admin"], models=["another"])["token"]
    path_of = {"prediction_id": "x", "version": "1", "number": "1", "key_id": "none"}
    http = httpx.Client(base_url=people.server.url, timeout=60, trust_env=False)
    for route, scopes in NEEDED.items():
        method, path = route.split()
        said = path.format(model="other", **path_of)
        # a body that is none: whoever is let in is told so, and changes nothing
        told(http.request(method, said, content=b"{"), 401, "expected a key")
        for scope, token in keys.items():
            answer = http.request(method, said, content=b"{", headers={"x-api-key": token})
            if scope in scopes or scope == "admin":
                assert answer.status_code not in (401, 403), f"{route} with {scope}: {answer.text}"
            else:
                told(answer, 403, "this needs the scope")
        told(http.request(method, said, content=b"{", headers={"x-api-key": elsewhere}), 403, "")
    http.close()
