"""A loaded version answers what the plain loop answers, checks what it answers, and says nothing on stdout."""

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime
import pytest

from registry.errors import AnswerRefused, ArtifactRefused, InputsRefused, ModelRaised
from registry.frames import Array
from registry.onnx_model import OnnxModel, brief
from registry.types import InputBinding, OutputTensor, Signature


@pytest.fixture
def rows() -> dict[str, Array]:
    generator = np.random.default_rng(5)
    return {name: generator.normal(size=50) for name in "abcd"}


def test_it_equals_the_plain_loop(trained: Mapping[str, bytes], signature: Signature, rows: dict[str, Array]) -> None:
    model = OnnxModel(trained["forest"], signature)
    session = onnxruntime.InferenceSession(trained["forest"], providers=["CPUExecutionProvider"])
    tensor = [[float(rows[name][row]) for name in "abcd"] for row in range(50)]
    label, probabilities = session.run(["label", "probabilities"], {"X": np.array(tensor, np.float32)})
    answers = model.run(rows)
    np.testing.assert_array_equal(answers["label"], label)
    np.testing.assert_array_equal(answers["probabilities"], probabilities)
    assert model.block_features == ("a", "b", "c", "d")
    block = model.run_block(np.array(tensor, np.float32))
    np.testing.assert_array_equal(block["probabilities"], probabilities)


def test_features_are_stacked_in_the_order_of_the_signature(trained: Mapping[str, bytes], signature: Signature) -> None:
    turned = msgspec.structs.replace(signature, inputs=(InputBinding("X", "float32", ("d", "c", "b", "a")),))
    rows: dict[str, Array] = {name: np.array([value]) for name, value in zip("abcd", (1.0, 2, 3, 4), strict=True)}
    back: dict[str, Array] = {name: np.array([value]) for name, value in zip("dcba", (1.0, 2, 3, 4), strict=True)}
    straight = OnnxModel(trained["linear"], signature).run(rows)
    np.testing.assert_array_equal(
        OnnxModel(trained["linear"], turned).run(back)["probabilities"], straight["probabilities"]
    )


def test_numbers_of_other_dtypes_are_cast(trained: Mapping[str, bytes], signature: Signature) -> None:
    model = OnnxModel(trained["linear"], signature)
    mixed: dict[str, Array] = {
        "a": np.array([1, 0]),
        "b": np.array([True, False]),
        "c": np.array([1e300, 0.5]),
        "d": np.array([0.5, 0.5], np.float32),
    }
    mixed["c"][0] = 3.0
    plain: dict[str, Array] = {name: column.astype(np.float32) for name, column in mixed.items()}
    np.testing.assert_array_equal(model.run(mixed)["probabilities"], model.run(plain)["probabilities"])


def test_one_value_a_row_comes_back_as_a_column_of_n(trained: Mapping[str, bytes], rows: dict[str, Array]) -> None:
    takes = (InputBinding("X", "float32", ("a", "b", "c", "d")),)
    gives = (OutputTensor("variable", "float32"),)
    signature = msgspec.convert(
        {"task": "regression", "inputs": takes, "outputs": gives, "score": {"output": "variable"}}, Signature
    )
    assert OnnxModel(trained["regression"], signature).run(rows)["variable"].shape == (50,)


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        (OutputTensor("probabilities", "float32", 3), "must be of shape (50, 3), and is of shape (50, 2)"),
        (OutputTensor("probabilities", "float32"), "must be of shape (50,) or (50, 1), and is of shape (50, 2)"),
        (OutputTensor("probabilities", "float64", 2), "must be float64, and is float32"),
    ],
)
def test_an_answer_that_is_not_as_declared_is_refused(
    trained: Mapping[str, bytes], signature: Signature, rows: dict[str, Array], output: OutputTensor, sentence: str
) -> None:
    other = msgspec.structs.replace(signature, outputs=(signature.outputs[0], output))
    with pytest.raises(AnswerRefused) as refused:
        OnnxModel(trained["linear"], other).run(rows)
    assert sentence in str(refused.value)


def test_not_finite_answers_are_refused_with_the_row(
    trained: Mapping[str, bytes], signature: Signature, rows: dict[str, Array]
) -> None:
    rows["a"] = np.where(np.arange(50) == 31, np.inf, rows["a"])
    rows["b"] = np.where(np.arange(50) == 31, -np.inf, rows["b"])
    with pytest.raises(AnswerRefused, match="must be finite, and is not finite in row 31"):
        OnnxModel(trained["linear"], signature).run(rows)


def test_a_float64_beyond_float32_is_infinite_without_a_warning(
    trained: Mapping[str, bytes], signature: Signature, rows: dict[str, Array]
) -> None:
    rows["a"] = np.full(50, 1e300)
    assert set(OnnxModel(trained["forest"], signature).run(rows)["label"].tolist()) <= {0, 1}


def test_columns_that_do_not_fit_are_refused(
    trained: Mapping[str, bytes], signature: Signature, rows: dict[str, Array]
) -> None:
    model = OnnxModel(trained["linear"], signature)
    with pytest.raises(InputsRefused, match="feature 'd' is missing"):
        model.run({name: rows[name] for name in "abc"})
    with pytest.raises(InputsRefused, match="'c' has 1 rows, and 'a' has 50"):
        model.run(rows | {"c": np.zeros(1)})
    with pytest.raises(InputsRefused, match="cannot be stacked"):
        model.run(rows | {"c": np.array(["x"] * 50, object)})
    assert model.run(rows | {"more": np.zeros(3)})["label"].shape == (50,)


def test_what_the_runtime_raises_is_brief_and_without_paths(
    trained: Mapping[str, bytes], signature: Signature, rows: dict[str, Array]
) -> None:
    with pytest.raises(ModelRaised) as raised:
        OnnxModel(trained["linear"], signature).run_block(np.zeros((2, 3), np.float32))
    assert len(str(raised.value)) <= 300
    assert not re.search(r"/\w+/\w+", str(raised.value))
    with pytest.raises(ArtifactRefused, match="onnxruntime cannot load the file"):
        OnnxModel(b"hello")
    assert brief(ValueError("in /usr/lib/x.py\nand C:\\a\\b.c " + "y" * 400)).startswith("in … and … yyy")
    assert len(brief(ValueError("y" * 400))) == 300


@pytest.mark.parametrize(
    ("load", "prints"),
    [
        ("from registry.onnx_model import OnnxModel as load", False),
        # the control: as it comes, the runtime tells stdout of a name that is no text, and tries again
        ("import functools, onnxruntime\nload = functools.partial(onnxruntime.InferenceSession, providers=[])", True),
    ],
)
def test_a_failing_load_prints_nothing_and_is_not_tried_again(
    trained: Mapping[str, bytes], tmp_path: Path, load: str, prints: bool
) -> None:
    (tmp_path / "m.onnx").write_bytes(trained["linear"].replace(b"LinearClassifier", b"Linear\xf3lassifier"))
    script = f"{load}\nbroken = open('m.onnx', 'rb').read()\ntry:\n    load(broken)\nexcept Exception as e:\n    pass"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, cwd=tmp_path, timeout=60)
    assert bool(done.stdout) == prints
