"""Whatever is sent: never a 5xx, never a record of what was refused; and what is valid comes back as it went."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.models import LOAN, NUMPY, Made
from tests.servers import BOTH_WAYS, LEAKS, Running

MANY = settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
NAMES = st.sampled_from([
    "inputs", "income", "visits", "weekday", "age", "member", "association_id", "decision", "predicted_at", "outcome",
    "prediction_id", "row", "name", "shape", "datatype", "data", "outputs", "id", "parameters", "observed_at",
])  # fmt: skip
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.integers(),
    st.sampled_from([2**31, 2**53 + 1, 2**63, -(2**63) - 1, 2**64, 10**400]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.sampled_from(["2026-01-31T12:00:00Z", "FP64", "BYTES", "age", "a" * 40, "\x00", "é"]),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=8
)
ROW = {"visits": 1, "weekday": "mon", "age": 40.0}
GOOD: dict[str, Any] = {
    "/models/loan/predict": {"inputs": [ROW, ROW], "association_id": ["a", None], "decision": 1, "propensity": 0.5},
    "/models/loan/outcomes": [{"association_id": "a", "outcome": 1, "row": 0, "observed_at": "2026-01-31T12:00:00Z"}],
    "/v2/models/loan/infer": {
        "id": "1",
        "inputs": [
            {"name": "age", "shape": [1], "datatype": "FP64", "data": [40.0]},
            {"name": "visits", "shape": [1, 1], "datatype": "INT64", "data": [[1]]},
            {"name": "weekday", "shape": [1], "datatype": "BYTES", "data": ["mon"]},
        ],
        "outputs": [{"name": "label"}],
    },
}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value in a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, inner in items for found in places(inner, (*path, key)))]


@st.composite
def nearly_good(draw: st.DrawFn, good: Any) -> Any:
    """A good document with one or two of its values replaced, or a name beside them."""
    document = json.loads(json.dumps(good))
    for _ in range(draw(st.integers(1, 2))):
        *path, last = draw(st.sampled_from(places(document)[1:]))
        holder = document
        for key in path:
            holder = holder[key]
        if isinstance(holder, dict) and draw(st.integers(0, 3)) == 0:
            holder[draw(NAMES)] = draw(VALUES)
        else:
            holder[last] = draw(VALUES)
    return document


def as_bytes(good: Any) -> st.SearchStrategy[bytes]:
    """Bodies: nearly good, any JSON, JSON with a byte changed, anything."""
    whole = json.dumps(good).encode()
    changed = st.builds(
        lambda place, byte: whole[:place] + bytes([byte]) + whole[place + 1 :],
        st.integers(0, len(whole) - 1),
        st.integers(0, 255),
    )
    documents = nearly_good(good) | VALUES
    return documents.map(lambda document: json.dumps(document).encode()) | changed | st.binary(max_size=50)


def check(server: Running, path: str, body: bytes) -> None:
    before = server.journalled()
    response = server.http.post(path, content=body)
    after = server.journalled()
    assert response.status_code < 500, response.text
    assert not LEAKS.search(response.text)
    grown = [sum(now.values()) - sum(then.values()) for then, now in zip(before, after, strict=True)]
    if response.status_code != 200:
        assert grown == [0, 0]
        assert response.json()["error"]
    elif path.endswith("outcomes"):
        assert grown[0] == 0
    else:
        assert grown == [1, 0]


@BOTH_WAYS
@MANY
@given(body=as_bytes(GOOD["/models/loan/predict"]))
def test_any_body_to_predict_is_answered_or_refused_and_only_answers_are_journalled(
    server: Running, body: bytes
) -> None:
    check(server, "/models/loan/predict", body)


@BOTH_WAYS
@MANY
@given(body=as_bytes(GOOD["/v2/models/loan/infer"]))
def test_any_body_to_infer_is_answered_or_refused_and_only_answers_are_journalled(server: Running, body: bytes) -> None:
    check(server, "/v2/models/loan/infer", body)


@BOTH_WAYS
@MANY
@given(body=as_bytes(GOOD["/models/loan/outcomes"]))
def test_any_body_to_outcomes_is_taken_or_refused_and_no_prediction_is_made_of_it(server: Running, body: bytes) -> None:
    check(server, "/models/loan/outcomes", body)


FINITE32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
SENT: dict[str, st.SearchStrategy[Any]] = {
    "float32": FINITE32,
    "float64": st.floats(allow_nan=False, allow_infinity=False, min_value=-1e30, max_value=1e30) | st.integers(-5, 5),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "bool": st.booleans(),
    "string": st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    | st.sampled_from(["mon", "a:b", '"', "\\:"]),
}
ROWS = st.lists(
    st.fixed_dictionaries(
        {f.name: SENT[f.dtype] for f in LOAN if f.required},
        optional={f.name: SENT[f.dtype] | st.none() for f in LOAN if not f.required},
    ),
    min_size=1,
    max_size=5,
)


@BOTH_WAYS
@MANY
@given(rows=ROWS)
def test_any_valid_rows_are_answered_as_the_model_answers_and_read_back_as_sent(
    server: Running, models: Mapping[str, Made], rows: list[dict[str, Any]]
) -> None:
    answer = server.predict("loan", rows)
    for i, (said, expected) in enumerate(zip(answer["outputs"], models["loan"].answers(rows), strict=True)):
        assert said["label"] == expected["label"]
        np.testing.assert_allclose(said["probabilities"], expected["probabilities"], atol=1e-6)
        kept = server.http.get(f"/models/loan/predictions/{answer['prediction_id']}", params={"row": i}).json()
        assert kept["outputs"] == said
        for feature in LOAN:
            sent = rows[i].get(feature.name)
            assert kept["inputs"][feature.name] == (
                None if sent is None else np.array([sent], NUMPY[feature.dtype]).tolist()[0]
            )
