"""What scikit-learn trained is admitted with the right signature; what is merely wrong is told in one sentence."""

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from registry.admission import AdmissionLimits, admit
from registry.errors import ArtifactRefused
from registry.onnx_model import OnnxModel
from registry.types import Feature, InputBinding, InputSchema, OutputTensor, ScoreColumn, Signature


def onnx_file(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: Sequence[onnx.TensorProto] = (),
) -> bytes:
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(constants))
    opset = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    made: bytes = helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString()
    return made


def tensor(name: str, shape: Sequence[int | str | None], dtype: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def constant(name: str, value: object, dtype: type[np.generic] = np.float32) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(value, dtype), name)


def regression(nodes: Sequence[onnx.NodeProto], constants: Sequence[onnx.TensorProto] = ()) -> bytes:
    """A file from `X` (n, 4) to `y` (n, 1)."""
    return onnx_file(nodes, [tensor("X", [None, 4])], [tensor("y", [None, 1])], constants)


SUM = helper.make_node("ReduceSum", ["X", "one"], ["y"], keepdims=1)
ONE = constant("one", [1], np.int64)


def refusal(model_bytes: bytes, schema: InputSchema, task: str = "regression", **said: object) -> str:
    """The sentence that refuses the file: one, short, and without a path."""
    with pytest.raises(ArtifactRefused) as refused:
        admit(model_bytes, schema, task, **said)  # type: ignore[arg-type]  # the tests say wrong things, too
    sentence = str(refused.value)
    assert len(sentence) < 500
    assert "\n" not in sentence
    assert not re.search(r"/\w+/\w+", sentence)
    return sentence


def test_a_linear_classifier_is_admitted_with_the_signature_of_a_binary_model(
    trained: Mapping[str, bytes], schema: InputSchema, signature: Signature
) -> None:
    admitted = admit(trained["linear"], schema, "binary")
    assert admitted.signature == signature
    assert admitted.n_nodes == 1
    assert 0 < admitted.seconds < 30


@pytest.mark.parametrize(
    ("name", "task", "classes", "score"),
    [
        ("forest", "binary", (0, 1), ScoreColumn("probabilities", 1)),
        ("multiclass", "multiclass", (0, 1, 2), ScoreColumn("probabilities")),
        ("texts", "multiclass", ("x", "y", "z"), ScoreColumn("probabilities")),
        ("regression", "regression", (), ScoreColumn("variable")),
    ],
)
def test_what_scikit_learn_trains_is_admitted(
    trained: Mapping[str, bytes],
    schema: InputSchema,
    name: str,
    task: str,
    classes: tuple[int, ...],
    score: ScoreColumn,
) -> None:
    signature = admit(trained[name], schema, task).signature  # type: ignore[arg-type]  # parametrised
    assert (signature.classes, signature.score, signature.batchable) == (classes, score, True)


def test_named_columns_of_numbers_and_texts_are_bound_by_name(trained: Mapping[str, bytes]) -> None:
    schema = InputSchema((Feature("city", "string", required=False), Feature("x", "bool"), Feature("age", "float64")))
    assert admit(trained["columns"], schema, "binary").signature.inputs == (
        InputBinding("age", "float32", ("age",)),
        InputBinding("city", "string", ("city",)),
    )


def test_a_model_that_raises_on_a_category_it_never_saw_is_refused(trained: Mapping[str, bytes]) -> None:
    schema = InputSchema((Feature("city", "string"), Feature("age", "float64")))
    assert "Unknown Category" in refusal(trained["strict columns"], schema, "binary")


def test_a_subset_of_the_features_in_the_order_said(trained: Mapping[str, bytes]) -> None:
    schema = InputSchema(tuple(Feature(name, "float32") for name in "zdcba"))
    admitted = admit(trained["linear"], schema, "binary", features=("a", "b", "c", "d"))
    assert admitted.signature.inputs[0].features == ("a", "b", "c", "d")


def test_the_parent_imports_neither_onnx_nor_onnxruntime(
    trained: Mapping[str, bytes], schema: InputSchema, tmp_path: Path
) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(trained["linear"])
    script = (
        "import sys; from pathlib import Path; from registry.admission import admit; from registry.types import *\n"
        "schema = InputSchema(tuple(Feature(name, 'float64') for name in 'abcd'))\n"
        "admit(Path(sys.argv[1]).read_bytes(), schema, 'binary')\n"
        "loaded = {name.partition('.')[0] for name in sys.modules} & {'onnx', 'onnxruntime', 'google'}\n"
        "assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", script, str(file)], check=True, timeout=60)


def test_zipmap_is_refused_with_the_way_to_export(trained: Mapping[str, bytes], schema: InputSchema) -> None:
    assert "export the classifier with zipmap off" in refusal(trained["zipmap"], schema, "binary")


def test_a_version_that_takes_one_row_only_is_admitted_and_run_row_by_row(schema: InputSchema) -> None:
    fixed = onnx_file([SUM], [tensor("X", [1, 4])], [tensor("y", [1, 1])], [ONE])
    signature = admit(fixed, schema, "regression").signature
    assert signature.batchable is False
    rows = {name: np.arange(3.0) for name in "abcd"}
    np.testing.assert_array_equal(OnnxModel(fixed, signature).run(rows)["y"], [0.0, 4.0, 8.0])


def test_a_version_that_cannot_take_several_rows_although_it_says_so(schema: InputSchema) -> None:
    to_one_row = helper.make_node("Reshape", ["X", "shape"], ["row"])
    sums = helper.make_node("ReduceSum", ["row", "one"], ["y"], keepdims=1)
    only_one = regression([to_one_row, sums], [ONE, constant("shape", [1, 4], np.int64)])
    assert admit(only_one, schema, "regression").signature.batchable is False


def test_a_model_that_mixes_rows_is_refused_although_it_answers_every_batch(schema: InputSchema) -> None:
    mean = helper.make_node("ReduceMean", ["X", "zero"], ["mean"], keepdims=1)
    centred = helper.make_node("Sub", ["X", "mean"], ["centred"])
    sums = helper.make_node("ReduceSum", ["centred", "one"], ["y"], keepdims=1)
    mixing = regression([mean, centred, sums], [ONE, constant("zero", [0], np.int64)])
    assert refusal(mixing, schema) == "its answer for a row depends on the other rows of the batch"
    # the control: nothing else would have noticed, the file loads and answers finite numbers of the right shape
    signature = Signature(
        "regression", (InputBinding("X", "float32", tuple("abcd")),), (OutputTensor("y", "float32"),), ScoreColumn("y")
    )
    model = OnnxModel(mixing, signature)
    two = {name: np.array([1.0, 5.0]) for name in "abcd"}
    alone = {name: np.array([1.0]) for name in "abcd"}
    assert model.run(two)["y"][0] != model.run(alone)["y"][0]


def test_a_model_that_answers_at_random_is_refused(schema: InputSchema) -> None:
    noise = helper.make_node("RandomNormalLike", ["sum"], ["y"])
    sums = helper.make_node("ReduceSum", ["X", "one"], ["sum"], keepdims=1)
    assert "must not be random" in refusal(regression([sums, noise], [ONE]), schema)


def test_answers_that_are_not_finite_are_refused_with_the_rows_that_gave_them(schema: InputSchema) -> None:
    log = [helper.make_node("ReduceSum", ["X", "one"], ["sum"], keepdims=1), helper.make_node("Log", ["sum"], ["y"])]
    assert "given one row of zeros, output 'y' must be finite" in refusal(regression(log, [ONE]), schema)
    optional = InputSchema((*schema.features[:3], Feature("d", "float64", required=False)))
    sentence = refusal(regression([SUM], [ONE]), optional)
    assert "given a row in which every optional feature is missing, output 'y' must be finite" in sentence


def test_what_a_feature_means_when_missing_is_tried_with_its_default(schema: InputSchema) -> None:
    with_default = InputSchema((*schema.features[:3], Feature("d", "float64", required=False, default=7)))
    assert admit(regression([SUM], [ONE]), with_default, "regression").signature.batchable


def test_a_score_that_is_no_probability_is_refused(schema: InputSchema, trained: Mapping[str, bytes]) -> None:
    assert "export predict_proba" in refusal(regression([SUM], [ONE]), schema, "binary")
    softless = onnx_file(
        [helper.make_node("Abs", ["X"], ["abs"]), helper.make_node("Clip", ["abs", "low", "high"], ["y"])],
        [tensor("X", [None, 4])],
        [tensor("y", [None, 4])],
        [constant("low", 0), constant("high", 1)],
    )
    assert "add up to" in refusal(softless, schema, "multiclass")
    admit(trained["linear"], schema, "regression", score="probabilities:0")


def test_an_answer_of_another_shape_than_declared_is_refused(schema: InputSchema) -> None:
    whole = helper.make_node("ReduceSum", ["X"], ["y"], keepdims=1)
    assert "must be of shape (4,) or (4, 1), and is of shape (1, 1)" in refusal(regression([whole]), schema)


def test_a_label_outside_of_the_classes_said_is_refused(trained: Mapping[str, bytes], schema: InputSchema) -> None:
    assert "none of the classes [1, 2]" in refusal(trained["linear"], schema, "binary", classes=(1, 2))


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"score": "nothing:1"}, "none of the outputs 'label', 'probabilities'"),
        ({"score": "probabilities:2"}, "'probabilities' has 2 columns, from 0"),
        ({"score": "label"}, "a score is a float"),
        ({"features": ("a", "b")}, "takes 4 columns, and 2 features are given: 'a', 'b'"),
        ({"features": ("a", "b", "c", "e")}, "'e' is no feature of the model"),
        ({"classes": (0, 1, 2)}, "has 2 classes"),
    ],
)
def test_what_is_said_wrongly_is_told(
    trained: Mapping[str, bytes], schema: InputSchema, said: dict[str, object], sentence: str
) -> None:
    assert sentence in refusal(trained["linear"], schema, "binary", **said)


def test_too_many_bytes_are_refused_before_a_process_is_started(schema: InputSchema) -> None:
    assert refusal(bytes(2_000), schema, limits=AdmissionLimits(max_bytes=1_999)) == (
        "the file has 2000 bytes, and 1999 are allowed"
    )
    assert refusal(b"", schema) == "the file is empty"
