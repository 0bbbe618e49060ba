"""What a file declares becomes a signature, or one sentence that says what to export or to say instead."""

import pytest

from registry.errors import ArtifactRefused
from registry.signature import ModelFacts, TensorFact, signature_of
from registry.types import Dtype, Feature, InputBinding, InputSchema, OutputTensor, ScoreColumn, Signature, Task

SCHEMA = InputSchema((Feature("a", "float64"), Feature("n", "int64"), Feature("yes", "bool"), Feature("s", "string")))
NUMBERS = ("a", "n", "yes")
X = TensorFact("X", "tensor(float)", (None, 3))
LABEL = TensorFact("label", "tensor(int64)", (None,))
TWO = TensorFact("probabilities", "tensor(float)", (None, 2))
THREE = TensorFact("probabilities", "tensor(float)", (None, 3))
ONE = TensorFact("score", "tensor(float)", (None, 1))


def signed(
    inputs: tuple[TensorFact, ...] = (X,),
    outputs: tuple[TensorFact, ...] = (LABEL, TWO),
    task: Task = "binary",
    *,
    score: str | None = None,
    classes: tuple[int | str, ...] | None = None,
    features: tuple[str, ...] | None = NUMBERS,
    labels: tuple[tuple[int | str, ...], ...] = (),
) -> Signature:
    facts = ModelFacts(inputs, outputs, 1, labels)
    return signature_of(facts, SCHEMA, task, score=score, classes=classes, features=features)


def test_one_tensor_takes_the_features_in_order() -> None:
    assert signed().inputs == (InputBinding("X", "float32", NUMBERS),)
    free = TensorFact("X", "tensor(double)", (None, None))
    assert signed((free,), features=("yes", "a")).inputs == (InputBinding("X", "float64", ("yes", "a")),)


def test_tensors_of_one_value_take_the_features_they_are_named_for() -> None:
    named = (
        TensorFact("s", "tensor(string)", (None, 1)),
        TensorFact("n", "tensor(int64)", (None,)),
        TensorFact("a", "tensor(float)", (None, 1)),
    )
    assert signed(named, features=None).inputs == (
        InputBinding("s", "string", ("s",)),
        InputBinding("n", "int64", ("n",), flat=True),
        InputBinding("a", "float32", ("a",)),
    )
    assert signed(named[2:], features=None).inputs == (InputBinding("a", "float32", ("a",)),)


def test_one_value_of_another_name_takes_the_only_feature() -> None:
    other = TensorFact("input", "tensor(float)", (None, 1))
    assert signed((other,), features=("n",)).inputs == (InputBinding("input", "float32", ("n",)),)


def test_a_first_dimension_of_one_is_a_version_that_takes_one_row() -> None:
    assert signed().batchable
    assert not signed((TensorFact("X", "tensor(float)", (1, 3)),)).batchable


@pytest.mark.parametrize(
    ("shape", "kind", "sentence"),
    [
        ((8, 3), "tensor(float)", "takes exactly 8 rows"),
        ((None, 4), "tensor(float)", "takes 4 columns, and 3 features are given"),
        ((None, 1, 3), "tensor(float)", "has 3 dimensions"),
        ((), "tensor(float)", "has 0 dimensions"),
        ((None, 3), "tensor(int32)", "is int32: export it as"),
        ((None, 3), "tensor(int64)", "feature 'a' is float64, and input 'X' takes int64"),
        ((None, 3), "tensor(string)", "feature 'a' is float64, and input 'X' takes string"),
        ((None, 3), "tensor(bool)", "feature 'a' is float64, and input 'X' takes bool"),
        ((None, 3), "seq(tensor(float))", "not a tensor"),
        ((None, 3), "optional(tensor(float))", "not a tensor"),
    ],
)
def test_inputs_that_nobody_can_give(shape: tuple[int | None, ...], kind: str, sentence: str) -> None:
    with pytest.raises(ArtifactRefused) as refused:
        signed((TensorFact("X", kind, shape),))
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ((), "has no inputs"),
        ((X, TensorFact("a", "tensor(float)", (None, 1))), "'X' is no feature of the model"),
        (
            (TensorFact("a", "tensor(float)", (None, 2)), TensorFact("n", "tensor(int64)", (None,))),
            "each must take one",
        ),
        ((TensorFact("s", "tensor(float)", (None, 1)),), "feature 's' is string, and input 's' takes float32"),
    ],
)
def test_several_inputs_that_do_not_fit(inputs: tuple[TensorFact, ...], sentence: str) -> None:
    with pytest.raises(ArtifactRefused, match=sentence):
        signed(inputs, features=None)


@pytest.mark.parametrize(
    ("given", "takes", "fits"),
    [
        ("float64", "tensor(float)", True),
        ("float32", "tensor(double)", True),
        ("float32", "tensor(int64)", False),
        ("int64", "tensor(double)", True),
        ("int64", "tensor(bool)", False),
        ("int64", "tensor(string)", False),
        ("bool", "tensor(int64)", True),
        ("string", "tensor(string)", True),
        ("string", "tensor(float)", False),
    ],
)
def test_which_dtypes_may_become_which(given: Dtype, takes: str, fits: bool) -> None:
    facts = ModelFacts((TensorFact("X", takes, (None, 1)),), (LABEL, TWO))
    schema = InputSchema((Feature("x", given),))
    if fits:
        assert signature_of(facts, schema, "binary").inputs[0].features == ("x",)
    else:
        with pytest.raises(ArtifactRefused, match="feature 'x' is"):
            signature_of(facts, schema, "binary")


@pytest.mark.parametrize(
    ("task", "outputs", "score"),
    [
        ("binary", (LABEL, TWO), ScoreColumn("probabilities", 1)),
        ("binary", (ONE, LABEL), ScoreColumn("score")),
        ("regression", (LABEL, ONE), ScoreColumn("score")),
        ("regression", (THREE, ONE), ScoreColumn("score")),
        ("multiclass", (LABEL, THREE), ScoreColumn("probabilities")),
    ],
)
def test_the_score_where_it_is_not_said(task: Task, outputs: tuple[TensorFact, ...], score: ScoreColumn) -> None:
    assert signed(outputs=outputs, task=task).score == score


@pytest.mark.parametrize(
    ("task", "outputs"),
    [
        ("binary", (LABEL,)),
        ("binary", (TWO, ONE)),
        ("binary", (THREE,)),
        ("regression", (ONE, TensorFact("more", "tensor(double)", (None,)))),
        ("multiclass", (ONE,)),
        ("multiclass", (THREE, TensorFact("raw", "tensor(float)", (None, 3)))),
    ],
)
def test_a_score_that_is_not_clear_must_be_said(task: Task, outputs: tuple[TensorFact, ...]) -> None:
    with pytest.raises(ArtifactRefused, match=r"say which with OUTPUT\[:COLUMN\]"):
        signed(outputs=outputs, task=task)


def test_a_score_that_is_said() -> None:
    both = (TWO, ONE, LABEL)
    assert signed(outputs=both, score="probabilities:0").score == ScoreColumn("probabilities", 0)
    assert signed(outputs=both, score="score").score == ScoreColumn("score")
    assert signed(outputs=both, score="score:0").score == ScoreColumn("score")
    colon = (TensorFact("dense:0", "tensor(float)", (None, 2)),)
    assert signed(outputs=colon, score="dense:0:1").score == ScoreColumn("dense:0", 1)
    raw = (THREE, TensorFact("raw", "tensor(float)", (None, 3)))
    assert signed(outputs=raw, task="multiclass", score="raw").score == ScoreColumn("raw")
    for wrong, task, sentence in (
        ("label", "binary", "a score is a float"),
        ("other", "binary", "is none of the outputs"),
        ("probabilities:x", "binary", "is none of the outputs"),
        ("probabilities:²", "binary", "is none of the outputs"),
        ("probabilities", "binary", "say which, as probabilities:COLUMN"),
        ("probabilities:2", "binary", "has 2 columns, from 0"),
        ("probabilities:1", "multiclass", "one float a class"),
        ("score", "multiclass", "one float a class"),
    ):
        with pytest.raises(ArtifactRefused, match=sentence):
            signed(outputs=both, task=task, score=wrong)  # type: ignore[arg-type]  # the tasks above


def test_classes_are_those_said_or_those_of_the_file_or_numbers() -> None:
    assert signed().classes == (0, 1)
    assert signed(classes=("no", "yes")).classes == ("no", "yes")
    assert signed(labels=((1, 2), (0, 1, 2), ("a", "b"))).classes == (1, 2)
    texts = TensorFact("label", "tensor(string)", (None,))
    assert signed(outputs=(texts, TWO), labels=((0, 1), ("a", "b"))).classes == ("a", "b")
    assert signed(outputs=(LABEL, THREE), task="multiclass").classes == (0, 1, 2)
    assert signed(outputs=(ONE,), task="regression").classes == ()
    for outputs, labels in (((texts, TWO), ()), ((LABEL, TWO), ((0, 1), (1, 0)))):
        with pytest.raises(ArtifactRefused, match="does not say the order of its classes"):
            signed(outputs=outputs, labels=labels)
    for task, classes in (("binary", (1,)), ("binary", (1, 1)), ("regression", (0, 1))):
        with pytest.raises(ArtifactRefused, match="classes"):
            signed(outputs=(ONE,), task=task, classes=classes)  # type: ignore[arg-type]  # the tasks above


def test_outputs_are_one_value_or_a_vector_a_row() -> None:
    wide = TensorFact("wide", "tensor(double)", (None, 7))
    assert signed(outputs=(LABEL, TWO, wide), score="probabilities:1").outputs == (
        OutputTensor("label", "int64"),
        OutputTensor("probabilities", "float32", 2),
        OutputTensor("wide", "float64", 7),
    )
    for kind, shape, sentence in (
        ("seq(map(int64,tensor(float)))", (), "zipmap off"),
        ("tensor(float16)", (None, 2), "is float16: export it as"),
        ("tensor(float)", (None, None), "has the shape"),
        ("tensor(float)", (None, 2, 2), "has the shape"),
        ("tensor(float)", (), "has the shape"),
    ):
        with pytest.raises(ArtifactRefused, match=sentence):
            signed(outputs=(LABEL, TensorFact("probabilities", kind, shape)))
