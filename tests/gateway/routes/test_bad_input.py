"""What cannot be meant is told so: a clear 4xx that names the place, nothing journalled, and the server goes on."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Struct

from tests.servers import BOTH_WAYS, Running, told

LOAN = {"visits": 1, "weekday": "mon", "age": 40.0}
PREDICT, OUTCOMES = "/models/loan/predict", "/models/loan/outcomes"
INFER, SPECIES = "/v2/models/loan/infer", "/v2/models/species/infer"
MODELS, PROMOTE, POLICY = "/admin/models", "/admin/models/loan/promote", "/admin/models/loan/policy"
DEEP = b"[" * 50_000
NESTED = b"[" * 50_000 + b"]" * 50_000
CHANGE = {"version": 1, "reason": "a test"}


class Case(Struct, frozen=True):
    """A request, and what must be said of it."""

    name: str
    path: str
    body: Any
    status: int
    expected: str
    headers: dict[str, str] = {}
    method: str = "POST"


def loan(**other: Any) -> dict[str, Any]:
    return {"inputs": LOAN | other}


def without(name: str) -> dict[str, Any]:
    return {"inputs": {k: v for k, v in LOAN.items() if k != name}}


def raw(value: str, name: str = "age") -> bytes:
    """A prediction with this very text as the value of a feature."""
    return json.dumps(loan(**{name: "@"})).replace('"@"', value).encode()


def tensor(**other: Any) -> dict[str, Any]:
    return {"name": "age", "shape": [1], "datatype": "FP64", "data": [40.0]} | other


def infer(*tensors: Any, **more: Any) -> dict[str, Any]:
    """An infer request whose `age` is replaced by these tensors."""
    others = [
        {"name": "visits", "shape": [1], "datatype": "INT64", "data": [1]},
        {"name": "weekday", "shape": [1], "datatype": "BYTES", "data": ["mon"]},
    ]
    return {"inputs": [*others, *tensors], **more}


OUTCOME = {"association_id": "a", "outcome": 1}
OPTIONAL = {"name": "a", "dtype": "float32", "required": False}
NEW: dict[str, Any] = {"name": "another", "task": "binary", "features": [{"name": "a", "dtype": "float32"}]}

ROWS = [
    Case("another name", PREDICT, loan(agee=1.0), 422, "inputs.agee: expected no such field"),
    Case("another name in a list", PREDICT, {"inputs": [LOAN, LOAN | {"x": 1}]}, 422, "inputs[1].x: expected no such"),
    Case("a very long name", PREDICT, loan(**{"x" * 50_000: 1.0}), 422, ": expected no such field"),
    Case("a name is missing", PREDICT, without("age"), 422, "inputs.age: expected a value, got none"),
    Case("no inputs", PREDICT, {}, 422, "inputs: expected a value, got none"),
    Case("inputs are null", PREDICT, {"inputs": None}, 422, "inputs: expected object | array, got null"),
    Case("inputs are text", PREDICT, {"inputs": "x"}, 422, "inputs: expected object | array, got str"),
    Case("a row is null", PREDICT, {"inputs": [LOAN, None]}, 422, "inputs[1]: expected object, got null"),
    Case("text for a float", PREDICT, loan(age="40"), 422, "inputs.age: expected float, got str"),
    Case("a boolean for a float", PREDICT, loan(age=True), 422, "inputs.age: expected float, got bool"),
    Case("a list for a float", PREDICT, loan(age=[40]), 422, "inputs.age: expected float, got array"),
    Case("a float for an integer", PREDICT, loan(visits=1.5), 422, "inputs.visits: expected int, got float"),
    Case("a whole float for an integer", PREDICT, loan(visits=1.0), 422, "inputs.visits: expected int, got float"),
    Case("a boolean for an integer", PREDICT, loan(visits=True), 422, "inputs.visits: expected int, got bool"),
    Case("an integer too large", PREDICT, loan(visits=2**63), 422, "inputs.visits: expected int <= 922337203685477580"),
    Case("an integer too small", PREDICT, loan(visits=-(2**63) - 1), 422, "inputs.visits: expected int >= -92233720"),
    Case("an integer far too large", PREDICT, raw("9" * 5_000, "visits"), 422, "inputs.visits: expected a number in r"),
    Case("a number for text", PREDICT, loan(weekday=1), 422, "inputs.weekday: expected str, got int"),
    Case("a number for a boolean", PREDICT, loan(member=1), 422, "inputs.member: expected bool | null, got int"),
    Case("null where a value is required", PREDICT, loan(age=None), 422, "inputs.age: expected float, got null"),
    Case("a float beyond float64", PREDICT, raw("1e999"), 422, "inputs.age: expected a number in range"),
    Case("a float beyond float32", PREDICT, raw("1e300", "ratio"), 422, "inputs.ratio: expected float32, got 1e+300"),
    Case("one in a list", PREDICT, {"inputs": [LOAN, LOAN | {"ratio": -1e300}]}, 422, "inputs[1].ratio: expected floa"),
    Case("NaN", PREDICT, raw("NaN"), 400, "the body is not JSON: invalid character"),
    Case("infinity", PREDICT, raw("-Infinity"), 400, "the body is not JSON"),
    Case("no rows", PREDICT, {"inputs": []}, 422, "inputs: expected at least one row, got an empty list"),
    Case("too many rows", PREDICT, {"inputs": [LOAN] * 101}, 413, "at most 100 rows (server.max_rows), got 101"),
    Case("facts of another length", PREDICT, loan() | {"association_id": ["a", "b"]}, 422, "association_id: expected "),
    Case("an empty key", PREDICT, loan() | {"association_id": ""}, 422, "association_id: expected str of length >= 1"),
    Case("a long key", PREDICT, loan() | {"association_id": "x" * 501}, 422, "association_id: expected str of length "),
    Case("a huge decision", PREDICT, loan() | {"decision": 2**70}, 422, "decision: expected int <= 922337203685477580"),
    Case("a long decision", PREDICT, loan() | {"decision": "x" * 501}, 422, "decision: expected str of length <= 500"),
    Case("an improbable decision", PREDICT, loan() | {"propensity": 0}, 422, "propensity: expected a probability"),
    Case("a field of the operator's", PREDICT, loan() | {"version": 2}, 422, "version: expected no such field"),
]  # fmt: skip

JSON = [
    Case("empty", PREDICT, b"", 400, "the body is not JSON"),
    Case("truncated", PREDICT, b'{"inputs": {"visits": 1', 400, "the body is not JSON"),
    Case("not JSON", PREDICT, b"inputs=1", 400, "the body is not JSON: invalid character (byte 0)"),
    Case("something behind it", PREDICT, json.dumps(loan()).encode() + b" {}", 400, "trailing characters"),
    Case("a byte order mark", PREDICT, b"\xef\xbb\xbf" + json.dumps(loan()).encode(), 400, "invalid character (byte 0"),
    Case("UTF-16", PREDICT, json.dumps(loan()).encode("utf-16"), 400, "the body is not JSON"),
    Case("not UTF-8", PREDICT, raw('"\xff"', "weekday").decode().encode("latin-1"), 400, "the body is not JSON"),
    Case("an overlong NUL", PREDICT, raw('"@"', "weekday").replace(b"@", b"\xc0\x80"), 400, "the body is not JSON"),
    Case("half a surrogate pair", PREDICT, raw('"\\ud83d"', "weekday"), 400, "the body is not JSON"),
    Case("the other half", PREDICT, raw('"\\ude00 and more text"', "weekday"), 400, "the body is not JSON"),
    Case("a surrogate as UTF-8", PREDICT, raw('"@"', "weekday").replace(b"@", b"\xed\xa0\x80"), 400, "not JSON"),
    Case("a control character", PREDICT, raw('"a\x00b"', "weekday"), 400, "the body is not JSON"),
    Case("a list of lists", PREDICT, DEEP, 422, "the body: expected object, got array"),
    Case("deep in a feature", PREDICT, b'{"inputs": {"age": ' + NESTED + b"}}", 422, "inputs.age: expected float, got"),
    Case("deep in an unknown field", PREDICT, b'{"zz": ' + NESTED, 422, "zz: expected no such field"),
    Case("a key twice", PREDICT, b'{"inputs": {}, "inputs": {"visits": 1, "weekday": "m", "age": 1}}', 422, "inputs."),
    Case("a key twice, both good", PREDICT, raw('1, "visits": 2', "visits"), 400, "the key 'visits' is given twice"),
    Case("spelled otherwise", PREDICT, raw('1, "\\u0076isits": 2', "visits"), 400, "the key 'visits' is given twice"),
    Case("hidden by a colon", PREDICT, raw('1, "weekday": "a\\u003ab"', "visits"), 400, "the key 'weekday' is given"),
    Case("twice in the second row", PREDICT, b'{"inputs": [%s, {"age": 1, "age": 2, "visits": 1, "weekday": ""}]}'
         % json.dumps(LOAN).encode(), 400, "the key 'age' is given twice"),
    Case("text", PREDICT, loan(), 415, "content-type: expected application/json, got text/plain",
         {"content-type": "text/plain"}),
    Case("a form", PREDICT, loan(), 415, "got application/x-www-form-urlencoded",
         {"content-type": "application/x-www-form-urlencoded"}),
    Case("several parts", PREDICT, loan(), 415, "got multipart/form-data",
         {"content-type": "multipart/form-data; boundary=x"}),
    Case("compressed", PREDICT, b"\x1f\x8b", 415, "content-encoding: expected none, got gzip",
         {"content-encoding": "gzip"}),
    Case("a bad test header", PREDICT, loan(), 422, "x-understudy-test: expected 0 or 1, got 'true'",
         {"x-understudy-test": "true"}),
    Case("too large", PREDICT, b" " * 262_145, 413, "server.max_body_bytes"),
    Case("far too large", PREDICT, b" " * 3_000_000, 413, "server.max_body_bytes"),
]  # fmt: skip

TENSORS = [
    Case("no tensors", INFER, {"inputs": []}, 422, "inputs: expected at least one tensor, got none"),
    Case("no inputs", INFER, {"id": "1"}, 422, "inputs: expected a value, got none"),
    Case("no data", INFER, {"inputs": [{"name": "age", "shape": [1], "datatype": "FP64"}]}, 422, "inputs[0].data: exp"),
    Case("an unknown name", INFER, infer(tensor(name="agee")), 422, "inputs.agee: expected tensors named income, rati"),
    Case("a missing tensor", INFER, infer(), 422, "inputs.age: expected a tensor, got none"),
    Case("a tensor twice", INFER, infer(tensor(), tensor()), 422, "inputs.age: given twice"),
    Case("another datatype", INFER, infer(tensor(datatype="BYTES")), 422, "age: expected datatype FP64 or FP32, got '"),
    Case("an unknown datatype", INFER, infer(tensor(datatype="x" * 9_000)), 422, "inputs.age: expected datatype FP64"),
    Case("text as a number", INFER, infer(tensor(data=["40"])), 422, "inputs.age: expected float64 in row 0, got '40'"),
    Case("a boolean as a number", INFER, infer(tensor(data=[True])), 422, "inputs.age: expected float64 in row 0, got"),
    Case("an object as a number", INFER, infer(tensor(data=[{}])), 422, "inputs.age: expected float64 in row 0, got {"),
    Case("a huge integer", INFER, infer(tensor(data=[10**400])), 422, "inputs.age: expected float64 in row 0, got 100"),
    Case("null", INFER, infer(tensor(data=[None])), 422, "inputs.age: expected float64 in row 0, got null"),
    Case("an infinite float", INFER, json.dumps(infer(tensor(data=["@"]))).replace('"@"', "1e999").encode(), 422,
         "inputs[2].data[0]: expected a number in range"),
    Case("beyond float32", INFER, infer(tensor(), {"name": "ratio", "shape": [1], "datatype": "FP64", "data": [1e300]}),
         422, "inputs.ratio: expected float32, got 1e+300"),
    Case("too few values", INFER, infer(tensor(shape=[2])), 422, "inputs.age: expected as many values as shape [2] ha"),
    Case("too many values", INFER, infer(tensor(data=[1, 2])), 422, "inputs.age: expected as many values as shape [1]"),
    Case("a row more", INFER, infer(tensor(shape=[2], data=[1, 2])), 422, "inputs.age: expected 1 rows as in the othe"),
    Case("no dimension", INFER, infer(tensor(shape=[])), 422, "inputs.age: expected shape [n] or [n, 1], got []"),
    Case("three dimensions", INFER, infer(tensor(shape=[1, 1, 1])), 422, "inputs.age: expected shape [n] or [n, 1]"),
    Case("a wide tensor", INFER, infer(tensor(shape=[1, 2], data=[1, 2])), 422, "inputs.age: expected shape [n] or [n"),
    Case("a negative size", INFER, infer(tensor(shape=[-1])), 422, "inputs[2].shape[0]: expected int >= 0"),
    Case("a huge size", INFER, infer(tensor(shape=[2**70])), 422, "inputs[2].shape[0]: expected int <= 2147483647"),
    Case("many sizes", INFER, infer(tensor(shape=[2**31 - 1] * 9_000)), 422, "inputs.age: expected shape [n] or [n, 1"),
    Case("no rows", INFER, {"inputs": [tensor(shape=[0], data=[]) | {"name": n, "datatype": d} for n, d in
         (("age", "FP64"), ("visits", "INT64"), ("weekday", "BYTES"))]}, 422, "expected at least one row"),
    Case("too many rows", INFER, {"inputs": [tensor(shape=[101], data=v * 101) | {"name": n, "datatype": d} for n, d, v
         in (("age", "FP64", [1]), ("visits", "INT64", [1]), ("weekday", "BYTES", [""]))]}, 413, "at most 100 rows"),
    Case("one tensor for several dtypes", INFER, {"inputs": [tensor(name="x", shape=[1, 7])]}, 422, "one tensor a fea"),
    Case("ragged", SPECIES, {"inputs": [tensor(name="x", shape=[2, 4], data=[[1, 2, 3, 4], [1, 2, 3]])]},
         422, "inputs.x: expected as many values as shape [2, 4] has, got 7"),
    Case("lists beside values", SPECIES, {"inputs": [tensor(name="x", shape=[1, 4], data=[[1, 2], 3, 4])]},
         422, "inputs.x: expected data of one depth"),
    Case("another width", SPECIES, {"inputs": [tensor(name="x", shape=[1, 3], data=[1, 2, 3])]}, 422,
         "inputs.x: expected shape [n, 4], got [1, 3]"),
    Case("an unknown output", INFER, infer(tensor(), outputs=[{"name": "x" * 900}]), 422, "outputs: expected some of "),
    Case("an id that is no text", INFER, infer(tensor(), id=5), 422, "id: expected str | null, got int"),
    Case("deep in an ignored field", INFER, b'{"zz": ' + NESTED + b', "inputs": []}', 400, "nested too deeply"),
    Case("less deep, but twice", INFER, json.dumps(infer(tensor())).encode()[:-1] + b', "zz": {"a": 1, "a": 2}}', 400,
         "the key 'a' is given twice"),
    Case("a deep list, and a key twice", INFER, json.dumps(infer(tensor())).encode()[:-1] + b', "zz": ' + b"[" * 1_500
         + b"]" * 1_500 + b"}", 400, "nested too deeply"),
    Case("a key twice", INFER, json.dumps(infer(tensor())).encode()[:-1] + b', "inputs": []}', 400, "'inputs' is give"),
    Case("its key twice", INFER, json.dumps(infer(tensor())).replace('"shape"', '"shape": [2], "shape"').encode(),
         400, "the key 'shape' is given twice"),
    Case("not UTF-8 in an ignored field", INFER, json.dumps(infer(tensor())).encode()[:-1] + b', "zz": "\xff"}', 400,
         "the body is not JSON"),
    Case("a huge number in an ignored field", INFER, json.dumps(infer(tensor())).encode()[:-1] + b', "z": "\\n", "zz": '
         + b"9" * 5_000 + b"}", 400, "more than 4,300 digits"),
    Case("empty", INFER, b"", 400, "the body is not JSON"),
    Case("binary tensors", INFER, b'{"inputs": []}\x00\x01', 400, "trailing characters"),
    Case("not JSON", INFER, {}, 415, "content-type: expected application/json", {"content-type": "application/grpc"}),
]  # fmt: skip

OUTCOMES_AND_ADMIN = [
    Case("no outcome", OUTCOMES, {"association_id": "a"}, 422, "outcome: expected a value, got none"),
    Case("a null outcome", OUTCOMES, OUTCOME | {"outcome": None}, 422, "outcome: expected bool | int | float | str, g"),
    Case("of nothing", OUTCOMES, {"outcome": 1}, 422, "expected either prediction_id or association_id"),
    Case("of both", OUTCOMES, OUTCOME | {"prediction_id": "x"}, 422, "expected either prediction_id or association_id"),
    Case("an unknown label", OUTCOMES, OUTCOME | {"outcome": "yes"}, 422, "outcome: expected one of 0, 1; got 'yes'"),
    Case("a huge label", OUTCOMES, OUTCOME | {"outcome": 10**400}, 422, "outcome: expected int <= 9223372036854775807"),
    Case("a huge number", "/models/price/outcomes", OUTCOME | {"outcome": 10**400}, 422, "outcome: expected int <="),
    Case("an infinite one", "/models/price/outcomes", b'{"association_id": "a", "outcome": 1e999}', 422, "in range"),
    Case("a negative row", OUTCOMES, OUTCOME | {"row": -1}, 422, "row: expected int >= 0"),
    Case("a huge row", OUTCOMES, OUTCOME | {"row": 2**70}, 422, "row: expected int <= 4294967295"),
    Case("an empty key", OUTCOMES, OUTCOME | {"association_id": ""}, 422, "association_id: expected str of length >= "),
    Case("a time without a zone", OUTCOMES, OUTCOME | {"observed_at": "2026-01-31T12:00:00"}, 422, "observed_at: expe"),
    Case("the last hour", OUTCOMES, OUTCOME | {"observed_at": "9999-12-31T23:59:59-14:00"}, 422, "observed_at: expect"),
    Case("the first hour", OUTCOMES, OUTCOME | {"observed_at": "0001-01-01T00:00:00+14:00"}, 422, "observed_at: expec"),
    Case("an unknown field", OUTCOMES, OUTCOME | {"label": 1}, 422, "label: expected no such field"),
    Case("a key twice", OUTCOMES, b'{"association_id": "a", "outcome": 1, "outcome": 0}', 422, "'outcome' is given tw"),
    Case("a list of nothing good", OUTCOMES, [OUTCOME | {"outcome": 7}, 1], 422, "[0]: outcome: expected one of 0, 1"),
    Case("neither object nor list", OUTCOMES, b'"x"', 422, "the body: expected object, got str"),
    Case("truncated", OUTCOMES, b'[{"association_id": "a"', 400, "the body is not JSON"),
    Case("an object, truncated", OUTCOMES, b'{"association_id": "a"', 400, "the body is not JSON"),
    Case("empty", OUTCOMES, b"", 400, "the body is not JSON"),
    Case("deep", OUTCOMES, DEEP, 400, "nested too deeply"),
    Case("deep inside", OUTCOMES, b'{"association_id": "a", "outcome": ' + NESTED + b"}", 400, "nested too deeply"),
    Case("lines as text", OUTCOMES, OUTCOME, 415, "or application/x-ndjson", {"content-type": "text/plain"}),
    Case("compressed", OUTCOMES, b"\x1f\x8b", 415, "content-encoding: expected none", {"content-encoding": "GZIP"}),
    Case("a name that is none", MODELS, NEW | {"name": "../x"}, 422, "cannot name a model"),
    Case("a very long name", MODELS, NEW | {"name": "x" * 9_000}, 422, "cannot name a model"),
    Case("an unknown task", MODELS, NEW | {"task": "ranking"}, 422, "task: invalid enum value 'ranking'"),
    Case("no features", MODELS, NEW | {"features": []}, 422, "needs at least one feature"),
    Case("an unknown dtype", MODELS, NEW | {"features": [{"name": "a", "dtype": "f4"}]}, 422, "features[0].dtype: inv"),
    Case("an unreadable name", MODELS, NEW | {"features": [{"name": 'a"b', "dtype": "bool"}]}, 422, "has no quote"),
    Case("a huge default", MODELS, NEW | {"features": [OPTIONAL | {"default": 10**400}]}, 422, "cannot be its default"),
    Case("one beyond float32", MODELS, NEW | {"features": [OPTIONAL | {"default": -1e39}]}, 422, "-1e+39 cannot be"),
    Case("a feature twice", MODELS, NEW | {"features": NEW["features"] * 2}, 422, "feature 'a' is declared twice"),
    Case("a key twice", MODELS, json.dumps(NEW).encode()[:-1] + b', "task": "binary"}', 400, "'task' is given twice"),
    Case("deep", MODELS, b'{"name": ' + NESTED + b"}", 422, "name: expected str, got array"),
    Case("deep in an unknown field", MODELS, b'{"zz": ' + NESTED + b"}", 422, "zz: expected no such field"),
    Case("not UTF-8", MODELS, b'{"name": "\xff"}', 400, "the body is not JSON"),
    Case("a version as text", PROMOTE, CHANGE | {"version": "1"}, 422, "version: expected int, got str"),
    Case("a huge version", PROMOTE, CHANGE | {"version": 2**70}, 422, "version: expected int <= 9223372036854775807"),
    Case("no such version", PROMOTE, CHANGE | {"version": -1}, 404, "model 'loan' has no version -1"),
    Case("no reason", PROMOTE, {"version": 1}, 422, "reason: expected a value, got none"),
    Case("an empty reason", PROMOTE, CHANGE | {"reason": ""}, 422, "reason: expected str of length >= 1"),
    Case("two versions", PROMOTE, b'{"version": 1, "version": 2, "reason": "x"}', 400, "'version' is given twice"),
    Case("a form", PROMOTE, CHANGE, 415, "content-type: expected application/json", {"content-type": "text/plain"}),
    Case("an unknown policy", POLICY, {"alpha": 2}, 422, "alpha: expected float <= 0.5", method="PUT"),
    Case("a foreign field", POLICY, {"beta": 2}, 422, "beta: expected no such field", method="PUT"),
    Case("the server's clock", "/admin/clock", {"now": "2030-01-01T00:00:00Z"}, 409, "the clock is the server's"),
    Case("no time", "/admin/clock", {"now": "soon"}, 422, "now: expected a time with its zone"),
    Case("the end of time", "/admin/clock", {"now": "9999-12-31T23:59:59Z"}, 422, "now: expected a time in the years"),
    Case("no page", "/admin/audit?after=x", b"", 400, "after: expected int, got str", method="GET"),
    Case("a negative page", "/admin/audit?limit=-1", b"", 400, "limit: expected int >= 0", method="GET"),
    Case("a huge page", f"/admin/audit?after={2**70}", b"", 400, "after: ", method="GET"),
    Case("no key", "/models/loan/predictions", b"", 400, "'association_id'", method="GET"),
]  # fmt: skip

PLACES = [
    Case("an unknown model", "/models/nope/predict", loan(), 404, "Request for unknown model: 'nope' is not found"),
    Case("its outcomes", "/models/nope/outcomes", OUTCOME, 404, "unknown model: 'nope'"),
    Case("its tensors", "/v2/models/nope/infer", {}, 404, "unknown model: 'nope'"),
    Case("its versions", "/admin/models/nope/versions", b"x", 404, "unknown model: 'nope'"),
    Case("its predictions", "/models/nope/predictions/x", b"", 404, "unknown model: 'nope'", method="GET"),
    Case("its evidence", "/admin/models/nope/evidence", b"", 404, "unknown model: 'nope'", method="GET"),
    Case("a very long name", f"/models/{'x' * 9_000}/predict", loan(), 404, "unknown model: 'xxx"),
    Case("a name beyond all", f"/models/{'x' * 20_000}/predict", loan(), 431, "the head is larger than 16,384 bytes"),
    Case("an unknown path", "/models/loan/predikt", loan(), 404, "there is nothing at this path"),
    Case("an unknown version", "/v2/models/loan/versions/7/infer", {}, 404, "version 1 answers"),
]  # fmt: skip


CASES = [*ROWS, *JSON, *TENSORS, *OUTCOMES_AND_ADMIN, *PLACES]


@BOTH_WAYS
@pytest.mark.parametrize("case", [pytest.param(case, id=f"{case.path[:24]} {case.name}") for case in CASES])
def test_a_request_that_cannot_be_meant_is_told_why_and_leaves_nothing(server: Running, case: Case) -> None:
    before = server.journalled()
    content = case.body if isinstance(case.body, bytes) else json.dumps(case.body).encode()
    response = server.http.request(case.method, case.path, content=content, headers=case.headers)
    told(response, case.status, case.expected)
    assert server.journalled() == before
    assert server.predict("loan", LOAN)["version"] == 1
