"""Predictions over HTTP: answered as the model itself answers, recorded, and read back as they were."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from gateway.records import prediction_id
from tests.models import NUMPY, Made, Row
from tests.servers import BOTH_WAYS, Running

ALL = ("fraud", "loan", "price", "species")
SHORT = {"visits": 1, "weekday": "mon", "age": 40.0}


def close(answered: Any, expected: Any) -> bool:
    """Equal, but for the last bits of floats, which depend on the batch."""
    if isinstance(expected, list):
        return len(answered) == len(expected) and all(map(close, answered, expected))
    if isinstance(expected, dict):
        return answered.keys() == expected.keys() and all(close(answered[k], expected[k]) for k in expected)
    if isinstance(expected, float):
        return bool(abs(answered - expected) <= 1e-6 * max(1.0, abs(expected)))
    return type(answered) is type(expected) and bool(answered == expected)


def as_kept(made: Made, row: Row) -> Row:
    """What the journal keeps of a row: its values in the dtypes of the schema, None where none was sent."""
    kept: Row = {}
    for feature in made.features:
        value = row.get(feature.name)
        kept[feature.name] = None if value is None else np.array([value], NUMPY[feature.dtype]).tolist()[0]
    return kept


def read(server: Running, model: str, request_id: str, row: int = 0) -> dict[str, Any]:
    response = server.http.get(f"/models/{model}/predictions/{request_id}", params={"row": row})
    assert response.status_code == 200, response.text
    document: dict[str, Any] = response.json()
    return document


@BOTH_WAYS
@pytest.mark.parametrize("name", ALL)
def test_one_row_is_answered_as_the_model_itself_answers(
    server: Running, models: Mapping[str, Made], name: str
) -> None:
    made = models[name]
    for row in made.rows[:5]:
        answer = server.predict(name, row)
        assert list(answer) == ["prediction_id", "model", "version", "outputs"]
        assert (answer["model"], answer["version"]) == (name, 1)
        assert close(answer["outputs"], made.answers([row])[0])


@BOTH_WAYS
@pytest.mark.parametrize("name", ALL)
def test_a_list_is_answered_by_a_list_in_the_same_order_under_one_id(
    server: Running, models: Mapping[str, Made], name: str
) -> None:
    made = models[name]
    rows = made.rows[::-1]
    answer = server.predict(name, rows)
    assert isinstance(answer["prediction_id"], str)
    assert close(answer["outputs"], made.answers(rows))


@BOTH_WAYS
def test_what_is_missing_or_null_or_not_sent_is_the_default_or_what_the_model_learned_as_missing(
    server: Running, models: Mapping[str, Made]
) -> None:
    made = models["loan"]
    rows = [SHORT, SHORT | {"income": None, "ratio": None, "branch": None, "member": None}]
    plain = made.answers([SHORT | {"ratio": 0.5, "member": False, "branch": ""}])[0]
    answer = server.predict("loan", rows)
    assert close(answer["outputs"], [plain, plain])
    for row in (0, 1):
        document = read(server, "loan", answer["prediction_id"], row)
        assert document["inputs"] == as_kept(made, SHORT)


@BOTH_WAYS
def test_the_order_of_names_does_not_matter(server: Running, models: Mapping[str, Made]) -> None:
    row = models["loan"].rows[0]
    backwards = dict(reversed(row.items()))
    assert server.predict("loan", row)["outputs"] == server.predict("loan", backwards)["outputs"]


@BOTH_WAYS
@pytest.mark.parametrize("name", ALL)
def test_every_row_is_read_back_as_it_was_asked_and_answered(
    server: Running, models: Mapping[str, Made], name: str
) -> None:
    made = models[name]
    rows = made.rows[:6]
    answer = server.predict(name, rows)
    for i, row in enumerate(rows):
        document = read(server, name, answer["prediction_id"], i)
        assert document["prediction_id"] == answer["prediction_id"]
        assert (document["row"], document["model"], document["version"], document["generation"]) == (i, name, 1, 1)
        assert document["inputs"] == as_kept(made, row)
        assert document["outputs"] == answer["outputs"][i]
        assert (document["shadow"], document["outcome"], document["outcomes"]) == ([], None, [])
        assert document["at"] == document["predicted_at"]
        assert abs(datetime.fromisoformat(document["at"]) - datetime.now(UTC)) < timedelta(minutes=5)


@BOTH_WAYS
def test_facts_beside_the_inputs_are_kept_one_a_row(server: Running) -> None:
    facts: dict[str, Any] = {
        "association_id": ["order:1", None, "order:3"],
        "decision": ["reject", 2, 0.5],
        "propensity": [0.25, None, 1],
    }
    answer = server.predict("loan", [SHORT] * 3, **facts)
    for row in range(3):
        document = read(server, "loan", answer["prediction_id"], row)
        assert {name: document[name] for name in facts} == {name: said[row] for name, said in facts.items()}
    alone = server.predict("loan", [SHORT] * 2, association_id="both", decision="accept", propensity=0.5)
    for row in range(2):
        document = read(server, "loan", alone["prediction_id"], row)
        assert (document["association_id"], document["decision"], document["propensity"]) == ("both", "accept", 0.5)


@BOTH_WAYS
def test_the_predictions_of_an_association_id_are_found_oldest_first(server: Running) -> None:
    first = server.predict("loan", SHORT, association_id="application 7")
    second = server.predict("loan", [SHORT, SHORT], association_id=[None, "application 7"])
    server.predict("price", {"area": 50.0, "rooms": 2}, association_id="application 7")
    found = server.http.get("/models/loan/predictions", params={"association_id": "application 7"}).json()
    assert found["association_id"] == "application 7"
    assert [(p["prediction_id"], p["row"]) for p in found["predictions"]] == [
        (first["prediction_id"], 0),
        (second["prediction_id"], 1),
    ]
    assert found["predictions"][0]["outputs"] == first["outputs"]
    none = server.http.get("/models/loan/predictions", params={"association_id": "never heard of"}).json()
    assert none["predictions"] == []


@BOTH_WAYS
def test_an_unknown_a_foreign_and_a_forged_id_get_the_same_answer(server: Running) -> None:
    foreign = server.predict("price", {"area": 50.0, "rooms": 2})["prediction_id"]
    mine = server.predict("loan", SHORT)["prediction_id"]
    forged = mine[:-1] + ("a" if mine[-1] != "a" else "b")
    unknown = prediction_id(99, 1, 0, bytes(16))
    bodies = set()
    for asked in (foreign, forged, unknown, "nonsense", "=" * 40, mine[:-8] + "=" * 8, "é" * 40):
        response = server.http.get(f"/models/loan/predictions/{asked}")
        assert response.status_code == 404
        problem = response.json()
        assert problem.pop("request_id") == response.headers["x-request-id"]
        bodies.add(str(problem).replace(asked, "ID"))
    assert len(bodies) == 1


@BOTH_WAYS
def test_a_row_that_the_request_did_not_have_is_named(server: Running) -> None:
    answer = server.predict("loan", [SHORT, SHORT])
    for row, expected in (("2", "row: expected 0 to 1"), ("-1", "row: expected"), ("x", "row: expected")):
        response = server.http.get(f"/models/loan/predictions/{answer['prediction_id']}", params={"row": row})
        assert response.status_code in (400, 422)
        assert response.json()["error"].startswith(expected)


@BOTH_WAYS
def test_test_traffic_is_answered_the_same_and_journalled_apart(server: Running) -> None:
    url = "/models/loan/predict"
    live = server.http.post(url, json={"inputs": SHORT}, headers={"x-understudy-test": "0"}).json()
    test = server.http.post(url, json={"inputs": SHORT}, headers={"x-understudy-test": "1"}).json()
    assert live["outputs"] == test["outputs"]
    assert read(server, "loan", live["prediction_id"])["purpose"] == "live"
    assert read(server, "loan", test["prediction_id"])["purpose"] == "test"


@BOTH_WAYS
def test_a_request_id_is_echoed_where_it_can_go_into_a_log_and_made_where_not(server: Running) -> None:
    def echoed(given: bytes | None) -> str:
        headers = {} if given is None else {b"x-request-id": given}
        response = server.http.post("/models/loan/predict", json={"inputs": SHORT}, headers=headers)
        assert response.status_code == 200
        return str(response.headers["x-request-id"])

    assert echoed(b"My.id_4-2") == "My.id_4-2"
    for strange in (None, b"", b"two words", b"x" * 129, b"\xff\xfe", b'"quoted"'):
        assert len(echoed(strange)) == 16
    assert echoed(None) != echoed(None)


@BOTH_WAYS
def test_the_trace_of_a_caller_is_kept(server: Running) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    for header, kept in ((f"00-{trace}-00f067aa0ba902b7-01", trace), ("nonsense", None), ("", None)):
        answer = server.http.post("/models/loan/predict", json={"inputs": SHORT}, headers={"traceparent": header})
        assert answer.status_code == 200
        assert read(server, "loan", answer.json()["prediction_id"])["trace"] == kept


@BOTH_WAYS
def test_under_the_servers_clock_a_time_of_the_callers_is_refused(server: Running) -> None:
    body = {"inputs": SHORT, "predicted_at": "2026-01-31T12:00:00Z"}
    response = server.http.post("/models/loan/predict", json=body)
    assert response.status_code == 422
    assert response.json()["error"].startswith("predicted_at: expected none")
    refused = server.http.post("/admin/clock", json={"now": "2026-01-31T12:00:00Z"})
    assert refused.status_code == 409
    shown = server.http.get("/admin/clock").json()
    assert shown["source"] == "server"
    assert abs(datetime.fromisoformat(shown["now"]) - datetime.now(UTC)) < timedelta(minutes=5)


def test_the_callers_clock_dates_predictions_moves_forward_and_never_back(caller_server: Running) -> None:
    server, row = caller_server, {"area": 50.0, "rooms": 2}
    assert server.http.get("/admin/clock").json() == {"source": "caller", "now": None}
    unset = server.http.post("/models/price/predict", json={"inputs": row})
    assert unset.status_code == 422
    assert "predicted_at" in unset.json()["error"]

    assert server.http.post("/admin/clock", json={"now": "2013-06-01T00:00:00Z"}).status_code == 200
    dated = server.predict("price", [row, row], predicted_at=["2013-06-01T10:00:00Z", "2013-06-01T11:00:00+02:00"])
    times = [read(server, "price", dated["prediction_id"], i)["predicted_at"] for i in (0, 1)]
    assert times == ["2013-06-01T10:00:00Z", "2013-06-01T09:00:00Z"]
    undated = server.predict("price", row)
    assert read(server, "price", undated["prediction_id"])["predicted_at"] == "2013-06-01T10:00:00Z"

    moved = server.http.post("/admin/clock", json={"now": "2013-06-02T00:00:00+02:00"})
    assert moved.status_code == 200
    again = server.http.post("/admin/clock", json={"now": "2013-06-01T22:00:00Z"})
    assert again.status_code == 200
    back = server.http.post("/admin/clock", json={"now": "2013-06-01T21:59:59Z"})
    assert back.status_code == 409
    assert server.http.get("/admin/clock").json()["now"] == "2013-06-01T22:00:00Z"

    for predicted_at, expected in (
        ("2013-06-01T10:00:00", "a time with its zone"),
        ("yesterday", "a time with its zone"),
        ("9999-12-31T23:59:59-14:00", "the years 2 to 9998"),
        ("0001-01-01T00:00:00+14:00", "the years 2 to 9998"),
        (["2013-06-01T10:00:00Z", "2013-06-03T10:00:00Z"], "one bucket"),
        (["2013-06-01T10:00:00Z"], "a list of 2"),
    ):
        body = {"inputs": [row, row], "predicted_at": predicted_at}
        refused = server.http.post("/models/price/predict", json=body)
        assert refused.status_code == 422
        assert refused.json()["error"].startswith("predicted_at: ")
        assert expected in refused.json()["error"]
