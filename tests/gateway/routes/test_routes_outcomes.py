"""Outcomes over HTTP: each counted once, each refused one by its index, and visible as soon as it is acknowledged."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest

from tests.servers import Running

SHORT = {"visits": 1, "weekday": "mon", "age": 40.0}
HOUSE = {"area": 50.0, "rooms": 2}
NOTHING: dict[str, Any] = {
    "accepted": 0, "duplicate": 0, "corrected": 0, "early": 0, "unknown": 0, "rejected": [],
}  # fmt: skip


def post(server: Running, body: Any, model: str = "loan", kind: str = "application/json") -> Any:
    content = body if isinstance(body, str) else json.dumps(body)
    response = server.http.post(f"/models/{model}/outcomes", content=content, headers={"content-type": kind})
    assert response.status_code == 200, response.text
    return response.json()


def known(server: Running, request_id: str, row: int = 0, model: str = "loan") -> Any:
    return server.http.get(f"/models/{model}/predictions/{request_id}", params={"row": row}).json()


def test_an_outcome_is_visible_as_soon_as_it_is_acknowledged(server: Running) -> None:
    asked = server.predict("loan", SHORT)["prediction_id"]
    assert post(server, {"prediction_id": asked, "outcome": 1}) == NOTHING | {"accepted": 1}
    document = known(server, asked)
    assert document["outcome"] == 1
    assert [(o["outcome"], o["source"]) for o in document["outcomes"]] == [(1, "default")]


def test_a_list_says_for_each_what_became_of_it(server: Running) -> None:
    asked = server.predict("loan", [SHORT] * 4)["prediction_id"]
    key = str(uuid4())
    at = "2026-01-31T12:00:00Z"
    receipt = post(
        server,
        [
            {"prediction_id": asked, "row": 0, "outcome": 1},
            {"prediction_id": asked, "row": 1, "outcome": True},
            {"prediction_id": asked, "row": 1, "outcome": 1},
            {"prediction_id": asked, "row": 0, "outcome": 0, "observed_at": "2099-01-31T12:00:00Z"},
            {"association_id": key, "outcome": 0.0, "observed_at": at, "source": "branch"},
            {"prediction_id": "nonsense", "outcome": 1},
            {"prediction_id": asked, "row": 2, "outcome": "1"},
            {"prediction_id": asked, "row": 4, "outcome": 1},
            {"prediction_id": asked, "outcome": 1, "sure": True},
            {"outcome": 1},
            7,
        ],
    )
    rejected = receipt.pop("rejected")
    assert receipt == {"accepted": 2, "duplicate": 1, "corrected": 1, "early": 1, "unknown": 1}
    assert [r["index"] for r in rejected] == [6, 7, 8, 9, 10]
    expected = (
        "outcome: expected one of 0, 1; got '1'",
        "row: expected 0 to 3",
        "sure: expected no such field",
        "expected either prediction_id or association_id",
        "the body: expected object, got int",
    )
    for reason, start in zip((r["reason"] for r in rejected), expected, strict=True):
        assert reason.startswith(start)
    assert [known(server, asked, row)["outcome"] for row in range(4)] == [0, 1, None, None]

    late = server.predict("loan", SHORT, association_id=key)["prediction_id"]
    early = known(server, late)
    assert early["outcome"] == 0
    assert (early["outcomes"][0]["source"], early["outcomes"][0]["observed_at"]) == ("branch", at)


def test_lines_are_taken_as_a_list_is_and_a_broken_line_spoils_no_other(server: Running) -> None:
    asked = server.predict("loan", [SHORT] * 3)["prediction_id"]
    lines = [
        json.dumps({"prediction_id": asked, "row": 0, "outcome": 1}),
        '{"prediction_id": "',
        "",
        json.dumps({"prediction_id": asked, "row": 2, "outcome": 0}) + "\r",
        "[" * 5_000,
    ]
    for kind in ("application/x-ndjson", "application/jsonl; charset=utf-8"):
        receipt = post(server, "\n".join(lines), kind=kind)
        assert [r["index"] for r in receipt["rejected"]] == [1, 3]
    assert receipt["duplicate"] == 2
    assert [known(server, asked, row)["outcome"] for row in range(3)] == [1, None, 0]
    assert post(server, "\n\n", kind="application/x-ndjson") == NOTHING


def test_the_same_again_is_a_duplicate_and_another_value_a_correction(server: Running) -> None:
    asked = server.predict("price", HOUSE)["prediction_id"]

    def fate(**outcome: Any) -> str:
        receipt: dict[str, int] = post(server, {"prediction_id": asked, **outcome}, model="price")
        return next(name for name, n in receipt.items() if n)

    assert fate(outcome=120) == "accepted"
    assert fate(outcome=120.0) == "duplicate"
    assert fate(outcome=130.5) == "corrected"
    assert fate(outcome=120) == "duplicate"
    later = {"outcome": 120, "observed_at": "2099-01-01T00:00:00+02:00"}
    assert fate(**later) == "corrected"
    assert fate(**later) == "duplicate"
    document = known(server, asked, model="price")
    assert document["outcome"] == 120.0
    assert [o["outcome"] for o in document["outcomes"]] == [120.0, 130.5, 120.0]
    assert document["outcomes"][2]["observed_at"] == "2098-12-31T22:00:00Z"


def test_outcomes_of_each_task_have_one_form(server: Running) -> None:
    flower = {"sepal_length": 0.0, "sepal_width": 0.0, "petal_length": 0.0, "width": 0.0}
    asked = server.predict("species", flower)["prediction_id"]
    assert post(server, {"prediction_id": asked, "outcome": "setosa"}, model="species")["accepted"] == 1
    assert known(server, asked, model="species")["outcome"] == "setosa"
    for model, outcome, expected in (
        ("species", "rose", "one of 'setosa', 'versicolor', 'virginica'; got 'rose'"),
        ("species", 0, "one of 'setosa'"),
        ("loan", 2, "one of 0, 1; got 2"),
        ("loan", "yes", "one of 0, 1; got 'yes'"),
        ("loan", 0.5, "one of 0, 1; got 0.5"),
        ("price", "12", "a number, got '12'"),
        ("price", True, "a number, got True"),
    ):
        response = server.http.post(f"/models/{model}/outcomes", json={"association_id": "x", "outcome": outcome})
        assert response.status_code == 422
        assert response.json()["error"].startswith(f"outcome: expected {expected}")


def test_an_outcome_names_the_latest_prediction_of_an_association_id(server: Running) -> None:
    key = str(uuid4())
    older, newer = (server.predict("loan", SHORT, association_id=key)["prediction_id"] for _ in range(2))
    assert post(server, {"association_id": key, "outcome": 1})["accepted"] == 1
    assert (known(server, older)["outcome"], known(server, newer)["outcome"]) == (None, 1)


@pytest.mark.parametrize("model", ["loan", "price"])
def test_an_outcome_of_another_models_prediction_is_unknown_and_not_stored(server: Running, model: str) -> None:
    inputs = {"loan": HOUSE, "price": SHORT}[model]
    other = {"loan": "price", "price": "loan"}[model]
    asked = server.predict(other, inputs)["prediction_id"]
    before = server.journalled()
    assert post(server, {"prediction_id": asked, "outcome": 1}, model=model) == NOTHING | {"unknown": 1}
    assert known(server, asked, model=other)["outcomes"] == []
    assert server.journalled() == before
