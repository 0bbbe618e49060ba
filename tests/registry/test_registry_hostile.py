"""Files made to harm: each is refused by one sentence; controls show that without its guard it would get through."""

import os
import pickle
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from registry.admission import AdmissionLimits, admit
from registry.errors import ArtifactRefused, ChildOutOfMemory, ChildTimedOut
from registry.limited_child import LimitedChild
from registry.limits import ChildLimits
from registry.onnx_model import OnnxModel
from registry.types import Feature, InputBinding, InputSchema, OutputTensor, ScoreColumn, Signature

HASTY = AdmissionLimits(wall_s=15.0, cpu_s=5)
SECRET = np.arange(400, dtype=np.float32) + 41
SCHEMA = InputSchema(tuple(Feature(name, "float64") for name in "abcd"))
SIGNATURE = Signature(
    "regression", (InputBinding("X", "float32", tuple("abcd")),), (OutputTensor("y", "float32"),), ScoreColumn("y")
)
ROWS = {name: np.zeros(1) for name in "abcd"}
ONE = numpy_helper.from_array(np.array([1], np.int64), "one")
SUM = helper.make_node("ReduceSum", ["X", "one"], ["y"], keepdims=1)


def refusal(model_bytes: bytes, limits: AdmissionLimits = HASTY) -> str:
    """The sentence that refuses the file, within the time that the limits allow."""
    began = time.monotonic()
    with pytest.raises(ArtifactRefused) as refused:
        admit(model_bytes, SCHEMA, "regression", limits=limits)
    assert time.monotonic() - began < limits.wall_s + 2
    sentence = str(refused.value)
    assert len(sentence) < 500
    assert not re.search(r"/\w+/\w+", sentence)
    return sentence


def graph(
    nodes: Sequence[onnx.NodeProto], constants: Sequence[onnx.TensorProto] = (ONE,), name: str = "g"
) -> onnx.GraphProto:
    takes = [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, 4])]
    gives = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])]
    return helper.make_graph(nodes, name, takes, gives, list(constants))


def model(nodes: Sequence[onnx.NodeProto], constants: Sequence[onnx.TensorProto] = (ONE,)) -> onnx.ModelProto:
    opsets = [helper.make_opsetid("", 18)]
    return helper.make_model(graph(nodes, constants), opset_imports=opsets, ir_version=9)


def outside(location: str = "secret.bin", name: str = "w") -> onnx.TensorProto:
    """Floats that are to be read from another file."""
    stolen = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[400], data_location=TensorProto.EXTERNAL)
    stolen.external_data.add(key="location", value=location)
    return stolen


def thief(location: str = "secret.bin") -> onnx.ModelProto:
    """Answers what a file in the working folder holds."""
    nodes = [
        helper.make_node("Cast", ["X"], ["places"], to=TensorProto.INT64),
        helper.make_node("Gather", ["w", "places"], ["stolen"]),
        helper.make_node("ReduceSum", ["stolen", "one"], ["y"], keepdims=1),
    ]
    return model(nodes, [ONE, outside(location)])


def test_the_control_a_runtime_reads_the_file_that_a_model_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "victim.db").write_bytes(SECRET.tobytes())
    os.link(tmp_path / "victim.db", tmp_path / "secret.bin")
    monkeypatch.chdir(tmp_path)
    stolen = OnnxModel(thief().SerializeToString(), SIGNATURE).run(ROWS)
    assert stolen["y"] == 4 * SECRET[0]


def test_a_model_that_names_a_file_is_refused_and_would_not_reach_it_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "victim.db").write_bytes(SECRET.tobytes())
    os.link(tmp_path / "victim.db", tmp_path / "secret.bin")
    monkeypatch.chdir(tmp_path)
    for location in ("secret.bin", "victim.db", str(tmp_path / "victim.db"), "../secret.bin", "/etc/hostname"):
        hostile = thief(location).SerializeToString()
        assert "keeps its data in another file" in refusal(hostile)
        with LimitedChild() as child, pytest.raises(ArtifactRefused):
            child.load(hostile, SIGNATURE)


def in_attribute() -> onnx.ModelProto:
    return model([helper.make_node("Constant", [], ["c"], value=outside()), SUM])


def in_attribute_list() -> onnx.ModelProto:
    node = helper.make_node("Constant", [], ["c"], value_float=1.0)
    node.attribute[0].tensors.append(outside())
    return model([node, SUM])


def in_sparse_initializer() -> onnx.ModelProto:
    made = model([SUM])
    made.graph.sparse_initializer.add(dims=[400], values=outside("secret.bin", "s"))
    return made


def in_sparse_indices() -> onnx.ModelProto:
    made = model([SUM])
    sparse = made.graph.sparse_initializer.add(dims=[400], values=numpy_helper.from_array(SECRET, "s"))
    sparse.indices.CopyFrom(outside())
    return made


def in_sparse_attribute() -> onnx.ModelProto:
    node = helper.make_node("Constant", [], ["c"])
    attribute = node.attribute.add(name="sparse_value", type=onnx.AttributeProto.SPARSE_TENSOR)
    attribute.sparse_tensor.values.CopyFrom(outside())
    return model([node, SUM])


def in_subgraph() -> onnx.ModelProto:
    inner = graph([SUM], [ONE, outside()], "inner")
    return model([helper.make_node("Identity", ["X"], ["c"], body=inner), SUM])


def in_list_of_subgraphs() -> onnx.ModelProto:
    node = helper.make_node("Identity", ["X"], ["c"])
    node.attribute.add(name="bodies", type=onnx.AttributeProto.GRAPHS).graphs.append(graph([SUM], [outside()], "inner"))
    return model([node, SUM])


def in_training() -> onnx.ModelProto:
    made = model([SUM])
    made.training_info.add().algorithm.initializer.append(outside())
    return made


def said_without_the_flag() -> onnx.ModelProto:
    made = model([SUM])
    tensor = numpy_helper.from_array(SECRET, "w")
    tensor.external_data.add(key="location", value="secret.bin")
    made.graph.initializer.append(tensor)
    return made


@pytest.mark.parametrize(
    "build",
    [
        in_attribute,
        in_attribute_list,
        in_sparse_initializer,
        in_sparse_indices,
        in_sparse_attribute,
        in_subgraph,
        in_list_of_subgraphs,
        in_training,
        said_without_the_flag,
    ],
)
def test_data_in_another_file_is_found_wherever_it_hides(build: Callable[[], onnx.ModelProto]) -> None:
    assert "keeps its data in another file" in refusal(build().SerializeToString())


def test_functions_of_its_own_are_refused_also_with_data_in_them() -> None:
    made = model([SUM])
    node = helper.make_node("Constant", [], ["c"], value=outside())
    made.functions.append(helper.make_function("own", "f", [], ["c"], [node], [helper.make_opsetid("", 18)]))
    assert "defines functions of its own" in refusal(made.SerializeToString())


def function_bomb(n_levels: int) -> bytes:
    """A function that calls twice the one below it, and so on: a thousand bytes, a million nodes."""
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    made = model([helper.make_node(f"f{n_levels}", ["X"], ["Z"], domain="own"), SUM])
    made.opset_import.append(opsets[1])
    made.functions.append(
        helper.make_function("own", "f0", ["a"], ["c"], [helper.make_node("Neg", ["a"], ["c"])], opsets)
    )
    for level in range(1, n_levels + 1):
        twice = [
            helper.make_node(f"f{level - 1}", [given], [got], domain="own") for given, got in (("a", "b"), ("b", "c"))
        ]
        made.functions.append(helper.make_function("own", f"f{level}", ["a"], ["c"], twice, opsets))
    bomb: bytes = made.SerializeToString()
    return bomb


def test_a_bomb_of_functions_is_refused_at_once_and_without_the_rule_only_the_clock_stops_it() -> None:
    bomb = function_bomb(17)
    assert len(bomb) < 2_000
    assert "defines functions of its own" in refusal(bomb)
    with LimitedChild(ChildLimits(memory_bytes=None)) as child, pytest.raises(ChildTimedOut):
        child.load(bomb, timeout_s=1.5)


def endless_loop() -> bytes:
    condition = helper.make_tensor_value_info("again", TensorProto.BOOL, [])
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["again"]), helper.make_node("Neg", ["v"], ["w"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, None),
        ],
        [condition, helper.make_tensor_value_info("w", TensorProto.FLOAT, None)],
    )
    yes = numpy_helper.from_array(np.array(True), "yes")
    looped: bytes = model(
        [
            helper.make_node("ReduceSum", ["X", "one"], ["s"], keepdims=1),
            helper.make_node("Loop", ["", "yes", "s"], ["y"], body=body),
        ],
        [ONE, yes],
    ).SerializeToString()
    return looped


def test_an_endless_loop_is_refused_and_without_the_rule_the_limits_of_time_stop_it() -> None:
    assert "the file contains Loop" in refusal(endless_loop())
    allowed = AdmissionLimits(wall_s=2.0, cpu_s=20, control_flow=True)
    assert refusal(endless_loop(), allowed) == "the file could not be loaded and tried within 2 s"
    allowed = AdmissionLimits(wall_s=20.0, cpu_s=1, control_flow=True)
    assert refusal(endless_loop(), allowed) == "the file could not be loaded and tried within 1 s of processor time"


def memory_bomb(n_floats: int) -> bytes:
    """A hundred bytes that are unfolded to `n_floats` zeros while the file is loaded."""
    size = numpy_helper.from_array(np.array([n_floats], np.int64), "size")
    zero = numpy_helper.from_array(np.array([0], np.int64), "zero")
    nodes = [
        helper.make_node("ConstantOfShape", ["size"], ["huge"]),
        helper.make_node("ReduceSum", ["huge", "zero"], ["nothing"], keepdims=0),
        helper.make_node("ReduceSum", ["X", "one"], ["s"], keepdims=1),
        helper.make_node("Add", ["s", "nothing"], ["y"]),
    ]
    bomb: bytes = model(nodes, [ONE, size, zero]).SerializeToString()
    return bomb


def test_a_bomb_of_memory_is_refused_and_under_a_higher_limit_it_would_have_gone_off() -> None:
    assert refusal(memory_bomb(2**28), AdmissionLimits()) == (
        "the file could not be loaded and tried within 1024 MiB of memory"
    )
    small = memory_bomb(2**26)
    roomy = admit(small, SCHEMA, "regression", limits=AdmissionLimits(memory_bytes=2**31))
    assert roomy.signature.batchable
    assert "within 300 MiB of memory" in refusal(small, AdmissionLimits(memory_bytes=300 * 2**20))


def test_memory_that_a_challenger_asks_for_later_ends_its_process_and_says_so() -> None:
    with LimitedChild(ChildLimits(memory_bytes=300 * 2**20)) as child:
        child.load(memory_bomb(2**28), SIGNATURE)  # what cannot be unfolded yet is left for later
        with pytest.raises(ChildOutOfMemory, match="the 300 MiB that it may use"):
            child.run(ROWS)
        with pytest.raises(ChildOutOfMemory):
            child.run(ROWS)


def test_too_many_nodes_and_too_deep_graphs_are_refused() -> None:
    chain = [helper.make_node("Neg", [f"n{k}"], [f"n{k + 1}"]) for k in range(20)]
    limits = AdmissionLimits(max_nodes=20)
    assert refusal(model([*chain, SUM]).SerializeToString(), limits) == "the file has more than 20 nodes"
    nested = graph([SUM])
    for depth in range(17):
        nested = graph([helper.make_node("Identity", ["X"], ["c"], body=nested), SUM], (ONE,), f"g{depth}")
    deep = helper.make_model(nested, opset_imports=[helper.make_opsetid("", 18)]).SerializeToString()
    assert "nests graphs more than 16 deep" in refusal(deep)


def test_operators_beyond_the_standard_are_refused() -> None:
    made = model([helper.make_node("Gelu", ["X"], ["c"], domain="com.microsoft"), SUM])
    made.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    assert "is of the domain 'com.microsoft'" in refusal(made.SerializeToString())


class _Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.open, (str(self.path), os.O_CREAT | os.O_WRONLY)


def test_a_pickle_named_onnx_is_never_unpickled(tmp_path: Path) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        hostile = pickle.dumps(_Touch(tmp_path / "touched"), protocol)
        assert "is not an ONNX model" in refusal(hostile)
    assert not (tmp_path / "touched").exists()
    os.close(pickle.loads(hostile))  # noqa: S301  # the control: whoever unpickles it runs it
    assert (tmp_path / "touched").exists()


def test_a_file_that_is_two_formats_at_once_is_read_as_the_one_that_was_looked_at() -> None:
    """Bytes 4 to 8 tell onnxruntime's own format, which was never looked into: only ONNX may be guessed."""
    polyglot = b"\x08\x09\x12\x04ORTM" + model([SUM]).SerializeToString()
    assert onnx.load_from_string(polyglot).producer_name == "ORTM"
    assert admit(polyglot, SCHEMA, "regression").n_nodes == 1


@pytest.mark.parametrize(
    "output",
    [
        helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1, 1]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, None]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
    ],
)
def test_outputs_that_are_no_columns_are_refused(output: onnx.ValueInfoProto) -> None:
    shaped_by_its_rows = [
        helper.make_node("Cast", ["X"], ["sizes"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["sizes", "all"], ["shape"]),
        helper.make_node("Reshape", ["X", "shape"], ["y"]),
    ]
    in_a_list = [helper.make_node("SequenceConstruct", ["X"], ["y"])]
    everything = numpy_helper.from_array(np.array([-1], np.int64), "all")
    made = model(in_a_list if output.type.HasField("sequence_type") else shaped_by_its_rows, [everything])
    made.graph.output[0].CopyFrom(output)
    assert "output 'y'" in refusal(made.SerializeToString())


def test_truncated_and_flipped_bytes_are_refused_or_harmless(trained: Mapping[str, bytes]) -> None:
    """Whatever is done to a file, this process lives, and the answer is an admission or one sentence."""
    whole = trained["forest"]
    generator = np.random.default_rng(3)
    broken = [whole[: int(generator.integers(1, len(whole)))] for _ in range(4)]
    for _ in range(10):
        flipped = bytearray(whole)
        for place in generator.integers(0, len(whole), 3):
            flipped[place] ^= 1 << int(generator.integers(0, 8))
        broken.append(bytes(flipped))
    sentences = []
    for file in broken:
        try:
            admit(file, SCHEMA, "binary", limits=HASTY)
        except ArtifactRefused as refused:
            sentences.append(str(refused))
    assert len(sentences) >= 5
    assert not [sentence for sentence in sentences if re.search(r"/\w+/\w+", sentence)]
