"""The control plane over HTTP: what it changes, what it refuses, and what its documents hold."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from gateway.app import create_app
from gateway.config import Settings
from registry.store import Registry
from registry.types import TrainingReport
from tests.models import Made, fraud
from tests.servers import Running, publish, upload

REASON = {"reason": "a test"}


@pytest.fixture
def played(server: Running, models: Mapping[str, Made], request: pytest.FixtureRequest) -> Made:
    """A model of this test alone, with version 1 as champion and version 2 as challenger."""
    name = request.node.name.replace("_", "-")[:60].strip("-")
    made = msgspec.structs.replace(models["fraud"], name=name)
    publish(server.http, made)
    answered = upload(server.http, msgspec.structs.replace(fraud(seed=2, n_trees=5), name=name), "challenger")
    assert answered.status_code == 201, answered.text
    return made


def change(server: Running, model: str, what: str, body: Any, if_match: str | None = None) -> tuple[int, Any]:
    headers = {} if if_match is None else {"if-match": if_match}
    response = server.http.post(f"/admin/models/{model}/{what}", json=body, headers=headers)
    return response.status_code, response.json()


def get(server: Running, path: str, **params: Any) -> Any:
    response = server.http.get(path, params=params)
    assert response.status_code == 200, response.text
    return response.json()


def test_a_model_and_its_versions_are_as_they_were_declared(
    server: Running, models: Mapping[str, Made], played: Made
) -> None:
    document = get(server, f"/admin/models/{played.name}")
    told = "name task schema policy versions lineup reign served_generation mirror unreadable"
    assert list(document) == told.split()
    assert document["served_generation"] == document["lineup"]["generation"]
    assert (document["name"], document["task"]) == (played.name, "binary")
    assert document["schema"] == {"features": played.declaration["features"], "version": 1}
    assert played.name in [listed["name"] for listed in get(server, "/admin/models")]
    assert get(server, f"/admin/models/{played.name}/schema") == document["schema"]
    assert get(server, f"/admin/models/{played.name}/policy") == document["policy"]
    versions = get(server, f"/admin/models/{played.name}/versions")
    assert versions == document["versions"]
    assert [v["number"] for v in versions] == [1, 2]
    assert versions[0]["digest"].startswith("sha256:")
    assert versions[0]["n_bytes"] == len(played.onnx)
    signature = versions[0]["signature"]
    assert (signature["score"], signature["classes"]) == ({"output": "probabilities", "column": 1}, [0, 1])
    lineup = document["lineup"]
    assert (lineup["generation"], lineup["champion"], lineup["challengers"], lineup["previous"]) == (2, 1, [2], None)
    assert document["reign"]["number"] == 1
    (mirrored,) = document["mirror"]
    assert (mirrored["version"], mirrored["role"]) == (2, "challenger")
    assert mirrored["mirror"] == {"eligible": 0, "scored": 0, "failed": 0, "skipped": 0, "reasons": {}}
    assert get(server, f"/admin/models/{models['loan'].name}")["mirror"] == []


def test_an_upload_brings_its_training_report_to_the_reign(server: Running, models: Mapping[str, Made]) -> None:
    made = msgspec.structs.replace(models["fraud"], name="fraud-trained")
    assert server.http.post("/admin/models", json=made.declaration).status_code == 201
    report = TrainingReport(n_rows=500, base_rate=0.2, reference_loss=0.4, parity={"max": 1e-7}, recipe="trees")
    params = {"as": "champion", **made.options, "training": msgspec.json.encode(report).decode()}
    path = f"/admin/models/{made.name}/versions"
    answered = server.http.post(path, content=made.onnx, params=params)
    assert answered.status_code == 201, answered.text
    assert msgspec.convert(answered.json()["training"], TrainingReport) == report
    with closing(Registry.open(server.store, now=lambda: datetime.now(UTC))) as registry:
        assert registry.reign(made.name).training == report


@pytest.mark.parametrize(
    ("training", "expected"),
    [
        ("{", "training: the body is not JSON"),
        ('{"n_rows": 10, "base_rate": 1.0}', "training: base_rate: "),
        ('{"n_rows": 10, "reference_loss": -1}', "training: reference_loss: "),
        ('{"n_rows": 10, "baserate": 0.5}', "training: baserate: expected no such field"),
        ("{}", "training: n_rows: expected a value, got none"),
    ],
)
def test_a_training_report_that_nothing_could_be_measured_by_is_refused(
    server: Running, models: Mapping[str, Made], training: str, expected: str
) -> None:
    before = server.registered()
    params = {"as": "challenger", "training": training}
    refused = server.http.post("/admin/models/fraud/versions", content=models["fraud"].onnx, params=params)
    assert refused.status_code in (400, 422)
    assert refused.json()["error"].startswith(expected), refused.json()["error"]
    assert server.registered() == before


def test_the_same_declaration_and_the_same_file_again_change_nothing(
    server: Running, models: Mapping[str, Made]
) -> None:
    before = server.registered()
    made = models["price"]
    assert server.http.post("/admin/models", json=made.declaration).status_code == 201
    assert upload(server.http, made, "champion").json()["number"] == 1
    assert server.registered() == before
    other = server.http.post("/admin/models", json=made.declaration | {"task": "binary"})
    assert other.status_code == 409
    assert other.json()["error"] == "model 'price' exists already with another task"


def test_a_champion_changes_at_once_for_the_next_request_and_back(server: Running, played: Made) -> None:
    name, row = played.name, played.rows[0]
    assert server.predict(name, row)["version"] == 1
    status, lineup = change(server, name, "promote", {"version": 2, **REASON}, '"2"')
    assert status == 200
    assert (lineup["generation"], lineup["champion"], lineup["challengers"], lineup["previous"]) == (3, 2, [], 1)
    assert server.predict(name, row)["version"] == 2
    assert server.http.get(f"/v2/models/{name}").json()["versions"] == ["2"]
    status, lineup = change(server, name, "rollback", REASON, "3")
    assert (status, lineup["champion"], lineup["previous"]) == (200, 1, None)
    assert server.predict(name, row)["version"] == 1
    status, problem = change(server, name, "challengers", {"version": 2, **REASON}, '"4"')
    assert (status, problem["type"]) == (409, "urn:understudy:version-barred")
    assert change(server, name, "bars/lift", {"version": 2, **REASON})[0] == 200
    status, lineup = change(server, name, "challengers", {"version": 2, **REASON}, '"4"')
    assert (status, lineup["generation"], lineup["challengers"]) == (200, 5, [2])
    status, lineup = change(server, name, "retire", {"version": 2, **REASON})
    assert (status, lineup["generation"], lineup["challengers"]) == (200, 6, [])

    decisions = get(server, f"/admin/models/{name}/decisions")
    assert [d["kind"] for d in decisions] == ["register", "enlist", "promote", "rollback", "enlist", "retire"]
    assert [d["to_generation"] for d in decisions] == [1, 2, 3, 4, 5, 6]
    assert {d["by"] for d in decisions} == {"local-operator"}
    assert decisions[2]["reason"] == "a test"
    audit = [line for line in get(server, "/admin/audit", limit=10_000) if line["model"] == name]
    assert [line["action"] for line in audit] == [
        "create_model", "add_version", "register", "add_version", "enlist", "promote", "rollback", "lift_bar", "enlist",
        "retire",
    ]  # fmt: skip


def test_a_decision_upon_a_generation_that_has_passed_changes_nothing(server: Running, played: Made) -> None:
    before = server.registered()
    for what, body in (
        ("promote", {"version": 2, **REASON}),
        ("retire", {"version": 2, **REASON}),
        ("challengers", {"version": 2, **REASON}),
        ("rollback", REASON),
    ):
        for stale in ("1", '"1"', '"3"', '"999999999999999999"'):
            status, problem = change(server, played.name, what, body, stale)
            assert (status, problem["type"]) == (412, "urn:understudy:generation-moved")
    policy = get(server, f"/admin/models/{played.name}/policy") | {"promotion": "one"}
    stale_policy = server.http.put(f"/admin/models/{played.name}/policy", json=policy, headers={"if-match": '"1"'})
    assert stale_policy.status_code == 412
    assert server.registered() == before


@pytest.mark.parametrize(
    "header", ["", '"', "x", "-2", "+2", "2.0", "1_0", "*", 'W/"2"', '"2', '2"', '"2", "3"', "9" * 19]
)
def test_an_if_match_that_is_no_generation_is_refused_and_never_ignored(server: Running, header: str) -> None:
    status, problem = change(server, "loan", "promote", {"version": 1, **REASON}, header)
    assert status == 422
    assert problem["error"].startswith("if-match: expected the lineup's generation")


def test_what_the_roles_do_not_allow_is_a_conflict(server: Running, played: Made) -> None:
    for what, body in (
        ("promote", {"version": 1, **REASON}),
        ("retire", {"version": 1, **REASON}),
        ("challengers", {"version": 2, **REASON}),
        ("rollback", REASON),
    ):
        status, problem = change(server, played.name, what, body)
        assert (status, problem["type"]) == (409, "urn:understudy:transition-refused")
    status, problem = change(server, played.name, "promote", {"version": 3, **REASON})
    assert (status, problem["error"]) == (404, f"model '{played.name}' has no version 3")


def test_another_policy_begins_another_reign_and_the_same_one_does_not(server: Running, played: Made) -> None:
    path = f"/admin/models/{played.name}/policy"
    policy = get(server, path)
    manual = policy | {"promotion": "one", "maturity_s": 60.0, "default_outcome": 0}
    for _ in range(2):
        put = server.http.put(path, json=manual)
        assert (put.status_code, put.json()) == (200, manual)
        document = get(server, f"/admin/models/{played.name}")
        assert (document["policy"], document["reign"]["number"], document["lineup"]["generation"]) == (manual, 2, 3)


def test_evidence_without_a_closed_cohort_names_the_lineup_of_now(server: Running, played: Made) -> None:
    evidence = get(server, f"/admin/models/{played.name}/evidence")
    assert evidence == {
        "model": played.name,
        "generation": 2,
        "reign": 1,
        "champion": 1,
        "previous": None,
        "as_of": None,
        "closed_through": None,
        "probation": None,
        "challengers": [],
    }


def test_evidence_is_told_of_those_who_still_play_with_lineup_and_mirror_as_they_are_now(
    server: Running, played: Made
) -> None:
    entry = {
        "version": 2, "verdict": "collecting", "sentence": "…", "log_e": 0.5, "log_e_threshold": 3.7, "n_matured": 10,
        "n_waiting": 2, "mean_difference": 0.01, "low": -0.1, "high": 0.2, "conditions": [],
    }  # fmt: skip
    times = {"as_of": "2026-01-02T00:00:00+00:00", "closed_through": "2026-01-01T00:00:00+00:00"}
    stale = {"model": played.name, "generation": 1, "reign": 1, "champion": 1, "previous": None, **times}
    with Registry.open(server.store, now=lambda: datetime(2026, 1, 2, tzinfo=UTC)) as registry:
        registry.save_evidence(played.name, stale | {"challengers": [entry, entry | {"version": 9}]})
    evidence = get(server, f"/admin/models/{played.name}/evidence")
    (told,) = evidence.pop("challengers")
    assert evidence == stale | {"generation": 2, "probation": None}
    assert told.pop("lag_s") >= 0
    assert told.pop("mirror") == {"eligible": 0, "scored": 0, "failed": 0, "skipped": 0, "reasons": {}}
    assert told == entry
    server.http.post(f"/admin/models/{played.name}/promote", json={"version": 2, **REASON})
    afterwards = get(server, f"/admin/models/{played.name}/evidence")
    assert (afterwards["reign"], afterwards["champion"], afterwards["previous"]) == (2, 2, 1)
    assert (afterwards["as_of"], afterwards["challengers"]) == (None, [])


def test_the_audit_is_read_page_by_page(server: Running) -> None:
    whole = get(server, "/admin/audit", limit=10_000)
    assert [line["seq"] for line in whole] == list(range(1, len(whole) + 1))
    assert set(whole[0]) == {"seq", "at", "principal", "action", "model", "detail", "previous_hash", "hash"}
    assert get(server, "/admin/audit", after=2, limit=3) == whole[2:5]
    assert get(server, "/admin/audit", limit=0) == []
    for line, following in pairwise(whole):
        assert following["previous_hash"] == line["hash"]
        assert datetime.fromisoformat(line["at"]) <= datetime.fromisoformat(following["at"])


def test_a_model_without_a_champion_exists_and_does_not_answer(server: Running) -> None:
    declared = {"name": "empty", "task": "regression", "features": [{"name": "a", "dtype": "float64"}]}
    assert server.http.post("/admin/models", json=declared).status_code == 201
    document = get(server, "/admin/models/empty")
    assert (document["lineup"], document["reign"], document["versions"]) == (None, None, [])
    for method, path, body in (
        ("POST", "/models/empty/predict", {"inputs": {"a": 1.0}}),
        ("POST", "/models/empty/outcomes", {"association_id": "x", "outcome": 1}),
        ("GET", "/v2/models/empty", None),
        ("GET", "/admin/models/empty/evidence", None),
        ("POST", "/admin/models/empty/promote", {"version": 1, **REASON}),
    ):
        response = server.http.request(method, path, json=body)
        assert response.status_code in (404, 409)
        assert "no champion yet" in response.text or "has no version 1" in response.text


def test_the_description_of_the_api_is_served_without_anything_from_elsewhere(server: Running) -> None:
    described = get(server, "/schema")
    assert described["openapi"].startswith("3.")
    assert {"/models/{model}/predict", "/models/{model}/outcomes", "/v2/models/{model}/infer"} <= set(
        described["paths"]
    )
    assert "/admin/models/{model}/promote" in described["paths"]
    response = server.http.get("/schema")
    assert "http://" not in response.text
    assert "https://" not in response.text


def test_the_description_tells_the_body_of_every_request_that_has_one_as_the_routes_take_it(server: Running) -> None:
    described = get(server, "/schema/openapi.json")
    for path, operations in described["paths"].items():
        for method in operations.keys() & {"post", "put", "delete"}:
            assert operations[method]["requestBody"]["required"], f"{method} {path}"
    promote = described["paths"]["/admin/models/{model}/promote"]["post"]["requestBody"]["content"]
    schema = promote["application/json"]["schema"]
    change = described["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    assert change["required"] == ["version", "reason"]
    assert change["properties"]["reason"] == {"type": "string", "minLength": 1, "maxLength": 2_000}
    policy = described["components"]["schemas"]["sent.Policy"]["properties"]["promotion"]
    assert policy["enum"] == ["automatic", "four_eyes", "one"]
    upload = described["paths"]["/admin/models/{model}/versions"]["post"]["requestBody"]["content"]
    assert list(upload) == ["application/octet-stream"]
    named = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(described)))
    assert named <= set(described["components"]["schemas"])  # whatever is referred to is there


def test_what_a_route_says_that_it_takes_is_what_it_decodes() -> None:
    for route in create_app(Settings()).routes:
        for handler in getattr(route, "route_handlers", ()):
            source = inspect.getsource(handler.fn)
            for kind in re.findall(r"body_of\(request, (\w+)\)", source):
                assert handler.opt["takes"].__name__ == kind, route.path
