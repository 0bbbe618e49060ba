"""The Open Inference Protocol over HTTP, as its clients speak it: tritonclient's JSON, with no content type at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from tests.models import Made, Row
from tests.servers import BOTH_WAYS, Running

DATATYPE = {"float32": "FP32", "float64": "FP64", "int64": "INT64", "bool": "BOOL", "string": "BYTES"}
FILL = {"income": None, "ratio": None, "branch": None, "member": None}


def tensors(made: Made, rows: list[Row], *, flat: bool = True) -> list[dict[str, Any]]:
    """One tensor a feature."""
    return [
        {
            "name": feature.name,
            "shape": [len(rows)] if flat else [len(rows), 1],
            "datatype": DATATYPE[feature.dtype],
            "data": [row.get(feature.name) if flat else [row.get(feature.name)] for row in rows],
        }
        for feature in made.features
    ]


def infer(server: Running, model: str, body: Any, path: str = "") -> httpx.Response:
    """As tritonclient posts it: JSON without a content type."""
    response = server.http.post(f"/v2/models/{model}{path}/infer", content=json.dumps(body).encode())
    assert "content-type" not in response.request.headers
    return response


def outputs_of(response: httpx.Response) -> dict[str, list[Any]]:
    """Output name → a value a row."""
    assert response.status_code == 200, response.text
    found = {}
    for tensor in response.json()["outputs"]:
        n = tensor["shape"][0]
        width = tensor["shape"][1] if len(tensor["shape"]) > 1 else None
        data = tensor["data"]
        found[tensor["name"]] = data if width is None else [data[i * width : (i + 1) * width] for i in range(n)]
    return found


def by_row(outputs: dict[str, list[Any]]) -> list[Row]:
    return [dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)]


@BOTH_WAYS
def test_health_and_metadata_of_the_server(server: Running) -> None:
    get = server.http.get
    assert get("/v2/health/live").json() == {"live": True}
    assert get("/v2/health/ready").json() == {"ready": True, "live": True}
    for path in ("/v2", "/v2/", "/v2?test_1=1"):
        said = get(path).json()
        assert (said["name"], said["extensions"]) == ("understudy", [])
        assert said["version"]
    assert {"fraud", "loan", "price", "species"} <= set(get("/v2/models").json()["models"])
    for path in ("", "/versions/1"):
        assert get(f"/v2/models/loan{path}/ready").json() == {"name": "loan", "ready": True}
    assert get("/livez").json() == {"status": "ok"}
    assert get("/readyz").json()["status"] == "ready"


@BOTH_WAYS
def test_a_model_of_one_number_type_is_described_as_one_tensor_and_others_as_one_a_feature(server: Running) -> None:
    fraud = server.http.get("/v2/models/fraud").json()
    assert {name: fraud[name] for name in ("name", "versions", "platform", "inputs")} == {
        "name": "fraud",
        "versions": ["1"],
        "platform": "onnx_onnxv1",
        "inputs": [{"name": "inputs", "datatype": "FP32", "shape": [-1, 30]}],
    }
    assert {t["name"]: (t["datatype"], t["shape"]) for t in fraud["outputs"]} == {
        "label": ("INT64", [-1]),
        "probabilities": ("FP32", [-1, 2]),
    }
    loan = server.http.get("/v2/models/loan/versions/1").json()
    described = [(t["name"], t["datatype"], t["shape"]) for t in loan["inputs"]]
    assert described[:4] == [
        ("income", "FP64", [-1, 1]),
        ("ratio", "FP32", [-1, 1]),
        ("branch", "BYTES", [-1, 1]),
        ("visits", "INT64", [-1, 1]),
    ]


@BOTH_WAYS
@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("name", ["fraud", "loan", "price", "species"])
def test_a_tensor_a_feature_is_answered_as_our_own_protocol_answers(
    server: Running, models: Mapping[str, Made], name: str, flat: bool
) -> None:
    made = models[name]
    rows = made.rows[:7]
    response = infer(server, name, {"inputs": tensors(made, rows, flat=flat)})
    assert by_row(outputs_of(response)) == server.predict(name, rows)["outputs"]
    said = response.json()
    assert (said["model_name"], said["model_version"]) == (name, "1")
    assert said["id"] == said["parameters"]["prediction_id"]
    kept = server.http.get(f"/models/{name}/predictions/{said['id']}", params={"row": 6}).json()
    assert kept["outputs"] == server.predict(name, rows)["outputs"][6]


@BOTH_WAYS
@pytest.mark.parametrize("name", ["fraud", "species"])
def test_one_tensor_of_all_features_may_be_nested_or_flat(
    server: Running, models: Mapping[str, Made], name: str
) -> None:
    made = models[name]
    rows = made.rows[:5]
    nested = [[row[feature.name] for feature in made.features] for row in rows]
    shape = [5, len(made.features)]
    expected = server.predict(name, rows)["outputs"]
    for data in (nested, [value for row in nested for value in row]):
        tensor = {"name": "any name", "shape": shape, "datatype": "FP64", "data": data}
        assert by_row(outputs_of(infer(server, name, {"inputs": [tensor]}))) == expected


@BOTH_WAYS
def test_missing_values_are_null_or_a_tensor_that_is_not_sent(server: Running, models: Mapping[str, Made]) -> None:
    made = models["loan"]
    row = {"visits": 1, "weekday": "mon", "age": 40.0}
    expected = server.predict("loan", [row])["outputs"]
    sent = [tensor for tensor in tensors(made, [row]) if tensor["name"] not in FILL]
    for inputs in (tensors(made, [row | FILL]), sent):
        assert by_row(outputs_of(infer(server, "loan", {"inputs": inputs}))) == expected


@BOTH_WAYS
def test_what_clients_add_is_ignored_and_what_they_ask_for_is_answered_in_their_order(
    server: Running, models: Mapping[str, Made]
) -> None:
    made = models["loan"]
    inputs = [t | {"parameters": {"content_type": "np:a"}} for t in tensors(made, made.rows[:1])]
    body = {"id": "42: mine", "model_name": "loan", "parameters": {"sequence_id": 0}, "inputs": inputs}
    asked = [{"name": name, "parameters": {"binary_data": False}} for name in ("probabilities", "label")]
    response = infer(server, "loan", body | {"outputs": asked})
    assert list(outputs_of(response)) == ["probabilities", "label"]
    assert response.json()["id"] == "42: mine"
    only = infer(server, "loan", body | {"outputs": [{"name": "label"}]}, "/versions/1")
    assert list(outputs_of(only)) == ["label"]
    assert list(outputs_of(infer(server, "loan", body | {"outputs": []}))) == ["label", "probabilities"]
    assert infer(server, "loan", body | {"id": ""}).json()["id"] == ""
    traced = server.http.post("/v2/models/loan/infer?test_1=1", content=json.dumps(body).encode())
    assert traced.status_code == 200


@BOTH_WAYS
def test_a_prediction_asked_of_a_named_version_is_journalled_as_such(
    server: Running, models: Mapping[str, Made]
) -> None:
    response = infer(server, "loan", {"inputs": tensors(models["loan"], models["loan"].rows[:1])}, "/versions/1")
    kept = server.http.get(f"/models/loan/predictions/{response.json()['id']}").json()
    assert kept["purpose"] == "pinned"


@BOTH_WAYS
def test_unknown_models_and_versions_are_told_in_the_words_that_clients_look_for(server: Running) -> None:
    for path in ("/v2/models/nope", "/v2/models/nope/ready", "/v2/models/nope/versions/1"):
        response = server.http.get(path)
        assert response.status_code == 404
        assert response.json()["error"] == "Request for unknown model: 'nope' is not found"
    for version in ("2", "01", "x", "-1", "1.0"):
        for path in ("", "/ready"):
            response = server.http.get(f"/v2/models/loan/versions/{version}{path}")
            assert response.status_code == 404
            assert response.json()["error"].startswith(f"Model loan with version {version} is not found")
        assert infer(server, "loan", {"inputs": []}, f"/versions/{version}").status_code == 404
