"""Files that are no models, or not to be loaded: refused by one sentence over HTTP, and nothing is changed."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.models import Made, fraud
from tests.servers import Running, told

ONNX = {"content-type": "application/octet-stream"}
FRAUD = "/admin/models/fraud/versions"


def model(*nodes: onnx.NodeProto, constants: tuple[onnx.TensorProto, ...] = (), width: int = 30) -> bytes:
    takes = [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, width])]
    gives = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])]
    one = numpy_helper.from_array(np.array([1], np.int64), "one")
    summed = helper.make_node("ReduceMean", ["X"], ["y"], axes=[1], keepdims=1)
    graph = helper.make_graph([*nodes, summed], "g", takes, gives, [one, *constants])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    serialized: bytes = made.SerializeToString()
    return serialized


def outside() -> bytes:
    """Reads another file, if it were let."""
    stolen = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    stolen.external_data.add(key="location", value="registry.db")
    return model(constants=(stolen,))


def endless() -> bytes:
    truth = helper.make_tensor_value_info("t", TensorProto.BOOL, [])
    body = helper.make_graph([helper.make_node("Identity", ["t"], ["u"])], "b", [
        helper.make_tensor_value_info("i", TensorProto.INT64, []), truth,
    ], [helper.make_tensor_value_info("u", TensorProto.BOOL, [])])  # fmt: skip
    yes = numpy_helper.from_array(np.array(True), "yes")
    return model(helper.make_node("Loop", ["", "yes"], [], body=body), constants=(yes,))


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda good: b"", "the file is empty"),
        (lambda good: b"\x00" * 1_000, "the file is not an ONNX model"),
        (lambda good: np.random.default_rng(1).bytes(5_000), "the file is not an ONNX model"),
        (lambda good: pickle.dumps({"model": [1, 2, 3]}), "the file is not an ONNX model"),
        (lambda good: b"PK\x03\x04" + good, "the file is not an ONNX model"),
        (lambda good: b'{"inputs": 1}', "the file is not an ONNX model"),
        (lambda good: good[: len(good) // 2], "the file"),
        (lambda good: outside(), "keeps its data in another file"),
        (lambda good: endless(), "the file contains Loop"),
        (lambda good: model(width=4), "takes 4 columns, and 30 features are given"),
    ],
)  # fmt: skip
def test_a_file_that_should_not_be_loaded_is_refused_by_one_sentence(
    server: Running, models: Mapping[str, Made], build: Callable[[bytes], bytes], expected: str
) -> None:
    before = server.journalled(), server.registered()
    for role in ("champion", "challenger"):
        sent = server.http.post(FRAUD, params={"as": role}, content=build(models["fraud"].onnx), headers=ONNX)
        told(sent, 422, expected)
    assert (server.journalled(), server.registered()) == before
    refused = server.http.get("/admin/audit", params={"limit": 100_000}).json()[-1]
    assert (refused["action"], refused["model"]) == ("refuse_version", "fraud")


@pytest.fixture(scope="module")
def another() -> bytes:
    """A file that would be taken."""
    return fraud(seed=9, n_trees=3).onnx


@pytest.mark.parametrize(
    ("query", "status", "expected"),
    [
        ({"as": "king"}, 422, "as: expected champion or challenger or retired, got 'king'"),
        ({"score": "nothing:1"}, 422, "the score 'nothing:1' is none of the outputs"),
        ({"score": "probabilities:99999999999999999999"}, 422, "does not exist"),
        ({"classes": "--5,1"}, 422, "must have the same score and classes"),
        ({"classes": "²,1"}, 422, "must have the same score and classes"),
        ({"classes": "9" * 5_000}, 422, "the model has 2 classes"),
        ({"classes": "99999999999999999999,1"}, 422, "must have the same score and classes"),
        ({"classes": ""}, 422, "the model has 2 classes"),
        ({"features": "v1,v1"}, 422, ""),
        ({"features": "nope"}, 422, "'nope' is no feature of the model"),
        ({"features": ""}, 422, "'' is no feature of the model"),
        ({"as": "champion"}, 409, "has a champion already"),
    ],
)
def test_what_is_said_of_a_file_must_be_true_of_it(
    server: Running, another: bytes, query: dict[str, str], status: int, expected: str
) -> None:
    before = server.registered()
    told(server.http.post(FRAUD, params=query, content=another, headers=ONNX), status, expected)
    assert server.registered() == before


def test_a_compressed_file_is_refused_before_it_is_read(server: Running) -> None:
    told(
        server.http.post(FRAUD, content=b"\x1f\x8b", headers=ONNX | {"content-encoding": "gzip"}),
        415,
        "content-encoding: expected none, got gzip",
    )


def test_no_pickle_is_ever_opened(server: Running, tmp_path: Path) -> None:
    class Touch:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
            return Path.touch, (tmp_path / "touched",)

    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        told(server.http.post(FRAUD, content=pickle.dumps(Touch(), protocol), headers=ONNX), 422, "not an ONNX model")
    assert not (tmp_path / "touched").exists()
