"""From what an ONNX file says of itself to what a version takes and answers. Pure: the file was read elsewhere.

Inputs, the first that applies:
    one tensor whose name is a feature, one value a row     that feature
    one tensor (N, F)                                       the features in order, F of them
    several tensors, one value a row each                   each is named as a feature

The score, where it is not said:
    binary          the only float output: its column 1 where it has two, itself where it is one value
    regression      the only float output of one value
    multiclass      the only float output of one value a class, whole
"""

from __future__ import annotations

from msgspec import Struct

from registry.errors import ArtifactRefused
from registry.types import Dtype, Feature, InputBinding, InputSchema, OutputTensor, ScoreColumn, Signature, Task

# onnxruntime's names of the dtypes that callers, journal and codec know
KINDS: dict[str, Dtype] = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
    "tensor(string)": "string",
    "tensor(bool)": "bool",
}

# what a feature may become on its way into a tensor: numbers widen or round, and no number becomes text
CASTS: dict[Dtype, tuple[Dtype, ...]] = {
    "float32": ("float32", "float64"),
    "float64": ("float32", "float64"),
    "int64": ("int64", "float32", "float64"),
    "bool": ("bool", "int64", "float32", "float64"),
    "string": ("string",),
}


class TensorFact(Struct, frozen=True):
    """An input or output as the file declares it; None in `shape` where a size is free, `()` where nothing is said."""

    name: str
    kind: str
    shape: tuple[int | None, ...]


class ModelFacts(Struct, frozen=True):
    """What a limited child found in a file: `class_labels` are the lists of classes that its nodes name."""

    inputs: tuple[TensorFact, ...]
    outputs: tuple[TensorFact, ...]
    n_nodes: int = 0
    class_labels: tuple[tuple[int | str, ...], ...] = ()


def signature_of(
    facts: ModelFacts,
    schema: InputSchema,
    task: Task,
    *,
    score: str | None = None,
    classes: tuple[int | str, ...] | None = None,
    features: tuple[str, ...] | None = None,
) -> Signature:
    """The signature of a file under a model's schema.

    Args:
        facts: what the file declares.
        schema: the model's.
        task: the model's.
        score: `OUTPUT` or `OUTPUT:COLUMN`; None takes the default above.
        classes: the classes in the order of the score's columns; None takes those that the file names.
        features: those that the version takes, in its order; None means all of the schema.

    Raises:
        ArtifactRefused: one sentence that says what does not fit, and what to export or to say instead.
    """
    declared = {feature.name: feature for feature in schema.features}
    for name in features or ():
        if name not in declared:
            raise ArtifactRefused(f"'{name}' is no feature of the model; its features are {_some(schema.names)}")
    chosen = features or schema.names
    inputs, batchable = _bind(facts.inputs, [declared[name] for name in chosen])
    outputs = tuple(_output(fact) for fact in facts.outputs)
    column = _default_score(outputs, task, classes) if score is None else _said_score(outputs, task, score)
    return Signature(task, inputs, outputs, column, _classes(facts, outputs, column, task, classes), batchable)


def _bind(facts: tuple[TensorFact, ...], features: list[Feature]) -> tuple[tuple[InputBinding, ...], bool]:
    if not facts:
        raise ArtifactRefused("the file has no inputs: a version must take at least one feature")
    named = {feature.name: feature for feature in features}
    batchable = all(_free_rows(fact) for fact in facts)
    if len(facts) == 1 and not (facts[0].name in named and _width(facts[0]) == 1):
        return (_block(facts[0], features),), batchable
    return tuple(_single(fact, named) for fact in facts), batchable


def _free_rows(fact: TensorFact) -> bool:
    dtype_of(fact, "input")
    if len(fact.shape) not in (1, 2):
        raise ArtifactRefused(
            f"input '{fact.name}' has {len(fact.shape)} dimensions: export it as (rows, features), or (rows,)"
        )
    if fact.shape[0] not in (None, 1):
        raise ArtifactRefused(
            f"input '{fact.name}' takes exactly {fact.shape[0]} rows: export it with a free first dimension"
        )
    return fact.shape[0] is None


def _width(fact: TensorFact) -> int | None:
    return 1 if len(fact.shape) == 1 else fact.shape[1]


def _block(fact: TensorFact, features: list[Feature]) -> InputBinding:
    width, names = _width(fact), tuple(feature.name for feature in features)
    if width is not None and width != len(features):
        raise ArtifactRefused(
            f"input '{fact.name}' takes {width} columns, and {len(features)} features are given: {_some(names)}"
        )
    dtype = dtype_of(fact, "input")
    for feature in features:
        _check_cast(feature, fact.name, dtype)
    return InputBinding(fact.name, dtype, names, flat=len(fact.shape) == 1)


def _single(fact: TensorFact, named: dict[str, Feature]) -> InputBinding:
    if fact.name not in named:
        raise ArtifactRefused(
            f"input '{fact.name}' is no feature of the model; of several inputs each must have the name of one: "
            f"{_some(tuple(named))}"
        )
    if _width(fact) not in (None, 1):
        raise ArtifactRefused(f"input '{fact.name}' takes {_width(fact)} columns: of several inputs each must take one")
    dtype = dtype_of(fact, "input")
    _check_cast(named[fact.name], fact.name, dtype)
    return InputBinding(fact.name, dtype, (fact.name,), flat=len(fact.shape) == 1)


def _check_cast(feature: Feature, tensor: str, dtype: Dtype) -> None:
    if dtype not in CASTS[feature.dtype]:
        raise ArtifactRefused(f"feature '{feature.name}' is {feature.dtype}, and input '{tensor}' takes {dtype}")


def dtype_of(fact: TensorFact, what: str) -> Dtype:
    """The dtype of a tensor; raises ArtifactRefused for a sequence, a map, or a dtype that nobody sends."""
    if not fact.kind.startswith("tensor("):
        advice = "export the classifier with zipmap off" if what == "output" else "export it as a tensor"
        raise ArtifactRefused(f"{what} '{fact.name}' is {fact.kind[:60]}, not a tensor: {advice}")
    if fact.kind not in KINDS:
        raise ArtifactRefused(
            f"{what} '{fact.name}' is {fact.kind[7:-1]}: export it as float32, float64, int64, string or bool"
        )
    return KINDS[fact.kind]


def _output(fact: TensorFact) -> OutputTensor:
    dtype = dtype_of(fact, "output")
    match fact.shape:
        case (_,) | (_, 1):
            return OutputTensor(fact.name, dtype)
        case (_, int() as width) if width > 1:
            return OutputTensor(fact.name, dtype, width)
        case _:
            raise ArtifactRefused(
                f"output '{fact.name}' has the shape {list(fact.shape)}: export it as (rows,) or (rows, width)"
            )


def _said_score(outputs: tuple[OutputTensor, ...], task: Task, said: str) -> ScoreColumn:
    names = {output.name: output for output in outputs}
    # the name of an output may itself end in ":0", so that the whole is tried first
    name, column = said, None
    if said not in names:
        name, _, digits = said.rpartition(":")
        column = int(digits) if digits.isascii() and digits.isdigit() else None
        if name not in names or column is None:
            raise ArtifactRefused(
                f"the score '{said}' is none of the outputs {_some(tuple(names))}: say OUTPUT[:COLUMN]"
            )
    output = names[name]
    if not output.dtype.startswith("float"):
        raise ArtifactRefused(f"the score '{name}' is {output.dtype}: a score is a float")
    if column is not None and column >= (output.width or 1):
        raise ArtifactRefused(f"the score '{said}' does not exist: '{name}' has {output.width or 1} columns, from 0")
    if task == "multiclass":
        if column is not None or output.width is None:
            raise ArtifactRefused(f"the score of a multiclass model is one float a class: '{said}' is one value")
    elif column is None and output.width is not None:
        raise ArtifactRefused(f"the score '{name}' has {output.width} columns: say which, as {name}:COLUMN")
    return ScoreColumn(name, None if output.width is None else column)


def _default_score(outputs: tuple[OutputTensor, ...], task: Task, classes: tuple[int | str, ...] | None) -> ScoreColumn:
    floats = [output for output in outputs if output.dtype.startswith("float")]
    match task:
        case "binary":
            fitting = [output for output in floats if output.width in (None, 2)]
        case "regression":
            fitting = [output for output in floats if output.width is None]
        case "multiclass":
            fitting = [output for output in floats if output.width is not None]
            if classes is not None:
                fitting = [output for output in fitting if output.width == len(classes)]
    if len(fitting) != 1:
        wanted = {"binary": "a probability", "regression": "one float a row", "multiclass": "one float a class"}[task]
        found = "none" if not fitting else _some(tuple(output.name for output in fitting))
        raise ArtifactRefused(
            f"the score of a {task} model is {wanted}, and of the outputs {_some(tuple(o.name for o in outputs))} "
            f"{found} can be it: say which with OUTPUT[:COLUMN]"
        )
    return ScoreColumn(fitting[0].name, 1 if task == "binary" and fitting[0].width == 2 else None)


def _classes(
    facts: ModelFacts,
    outputs: tuple[OutputTensor, ...],
    score: ScoreColumn,
    task: Task,
    said: tuple[int | str, ...] | None,
) -> tuple[int | str, ...]:
    if task == "regression":
        if said:
            raise ArtifactRefused("a regression model has no classes")
        return ()
    width = next(output.width for output in outputs if output.name == score.output)
    n_classes = width if task == "multiclass" and width is not None else 2
    if said is not None:
        if len(said) != n_classes or len(set(said)) != len(said):
            raise ArtifactRefused(f"the model has {n_classes} classes, and {list(said)} are given")
        return said
    labels = {output.dtype for output in outputs if output.width is None and output.dtype in ("int64", "string")}
    kind = str if labels == {"string"} else int
    fitting = {
        names for names in facts.class_labels if len(names) == n_classes and all(type(name) is kind for name in names)
    }
    if len(fitting) == 1:
        return fitting.pop()
    if kind is str or fitting:
        raise ArtifactRefused("the file does not say the order of its classes: say them, in the order of the scores")
    return tuple(range(n_classes))


def _some(names: tuple[str, ...], most: int = 8) -> str:
    shown = ", ".join(f"'{name[:60]}'" for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown or "none"
