"""The rows that a file is tried with before it is admitted, and what its answers to them must be.

    zeros           one row, then several
    missing         every optional feature as it is when a caller leaves it out
    random          32 seeded rows: twice as they are, then permuted, then one by one

A version may be run on any rows together (those that arrive in one turn, those of a mirror batch): its answer to a row
must not depend on the others. Answers agree when they differ by at most 1e-5 of themselves or of the largest answer in
the same output: sums over features are added up in another order for one row than for many, and what cancels to
nearly nothing keeps the error of what it was made of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from registry.errors import AnswerRefused, ArtifactRefused, ModelRaised
from registry.frames import Array
from registry.types import Dtype, Feature, Scalar, Signature

Columns = dict[str, Array]
Run = Callable[[Mapping[str, Array]], Columns]

N_ROWS = 32
_SEVERAL = 4
_TOLERANCE = 1e-5
_SEED = 20_260_101
_EDGE = 1e-6  # a probability computed in float32 may pass 1 by its last bits
_TEXTS = ("", "a", "b", "Z", "0")
_NUMPY: dict[Dtype, type[np.generic]] = {
    "float32": np.float32,
    "float64": np.float64,
    "int64": np.int64,
    "bool": np.bool_,
    "string": np.object_,
}


def zeros(features: Sequence[Feature], n_rows: int) -> Columns:
    """Rows of nothing: 0, False, empty text."""
    return {feature.name: _full(feature.dtype, n_rows, "" if feature.dtype == "string" else 0) for feature in features}


def missing(features: Sequence[Feature], n_rows: int) -> Columns:
    """Rows in which every optional feature is left out: its default, or NaN, or empty text; the others are zero."""
    columns = zeros(features, n_rows)
    for feature in features:
        if feature.required:
            continue
        value = feature.default
        if value is None:
            value = "" if feature.dtype == "string" else np.nan
        columns[feature.name] = _full(feature.dtype, n_rows, value)
    return columns


def random(features: Sequence[Feature]) -> Columns:
    """The same 32 rows every time."""
    generator = np.random.default_rng(_SEED)
    columns: Columns = {}
    for feature in features:
        match feature.dtype:
            case "string":
                columns[feature.name] = np.array(generator.choice(_TEXTS, N_ROWS), np.object_)
            case "bool":
                columns[feature.name] = generator.random(N_ROWS) < 0.5
            case "int64":
                columns[feature.name] = generator.integers(0, 10, N_ROWS)
            case _:
                columns[feature.name] = (2 * generator.normal(size=N_ROWS)).astype(_NUMPY[feature.dtype])
    return columns


def try_single(run: Run, features: Sequence[Feature], signature: Signature) -> None:
    """One row of zeros, and one of missing values; raises ArtifactRefused."""
    _try(run, zeros(features, 1), signature, "one row of zeros")
    if any(not feature.required for feature in features):
        _try(run, missing(features, 1), signature, "a row in which every optional feature is missing")


def takes_several(run: Run, features: Sequence[Feature]) -> bool:
    """Whether it answers several rows at all; one that answers a single row only is run row by row."""
    try:
        run(zeros(features, _SEVERAL))
    except ModelRaised:
        return False
    except AnswerRefused:
        return True
    return True


def try_many(run: Run, features: Sequence[Feature], signature: Signature) -> None:
    """Several rows of zeros, and the random rows in every arrangement; raises ArtifactRefused."""
    _try(run, zeros(features, _SEVERAL), signature, f"{_SEVERAL} rows of zeros")
    rows = random(features)
    what = f"{N_ROWS} random rows"
    whole = _try(run, rows, signature, what)
    _check_classes(whole, signature)
    if not _agree(whole, _try(run, rows, signature, what)):
        raise ArtifactRefused("it answers the same rows differently the second time: a version must not be random")
    order = np.random.default_rng(_SEED + 1).permutation(N_ROWS)
    permuted = _try(run, _pick(rows, order), signature, what)
    if not _agree(_pick(whole, order), permuted):
        raise _mixes_rows()
    for row in range(N_ROWS):
        alone = _try(run, _pick(rows, np.array([row])), signature, "one random row")
        if not _agree(_pick(whole, np.array([row])), alone, scale_of=whole):
            raise _mixes_rows()


def _try(run: Run, columns: Columns, signature: Signature, what: str) -> Columns:
    try:
        answers = run(columns)
    except AnswerRefused as refused:
        raise ArtifactRefused(f"given {what}, {refused}") from None
    except ModelRaised as raised:
        raise ArtifactRefused(f"given {what}, it raised: {raised}") from None
    _check_score(answers, signature, what)
    return answers


def _check_score(answers: Columns, signature: Signature, what: str) -> None:
    if signature.task == "regression":
        return
    score = answers[signature.score.output].astype(np.float64)
    if signature.score.column is not None:
        score = score[:, signature.score.column]
    outside = score[(score < -_EDGE) | (score > 1 + _EDGE)]
    if outside.size:
        raise ArtifactRefused(
            f"given {what}, its score '{signature.score.output}' is {outside.flat[0]:.6g}: the score of a "
            f"{signature.task} model is a probability from 0 to 1; export predict_proba, not decision_function"
        )
    if signature.task == "multiclass":
        sums = score.sum(axis=1)
        worst = sums[np.abs(sums - 1).argmax()]
        if abs(worst - 1) > 1e-3:
            raise ArtifactRefused(
                f"given {what}, the probabilities in '{signature.score.output}' add up to {worst:.6g}, not to 1: "
                "export predict_proba, one column a class"
            )


def _check_classes(answers: Columns, signature: Signature) -> None:
    """A label that is answered must be one of the classes, else the order of the scores was guessed wrong."""
    for output in signature.outputs:
        comparable = {type(name) for name in signature.classes} == {str if output.dtype == "string" else int}
        if output.dtype not in ("int64", "string") or output.width is not None or not comparable:
            continue
        for label in answers[output.name].tolist():
            if label not in signature.classes:
                raise ArtifactRefused(
                    f"it answers the label {label!r} in '{output.name}', which is none of the classes "
                    f"{list(signature.classes)}: say its classes, in the order of the scores"
                )


def _agree(left: Columns, right: Columns, scale_of: Columns | None = None) -> bool:
    return all(_close(left[name], right[name], (scale_of or left)[name]) for name in left)


def _close(left: Array, right: Array, whole: Array) -> bool:
    if left.dtype.kind != "f":
        return bool((left == right).all())
    largest = float(np.abs(whole).max(initial=0.0))
    return bool(np.allclose(left, right, rtol=_TOLERANCE, atol=_TOLERANCE * largest))


def _pick(columns: Columns, rows: Array) -> Columns:
    return {name: column[rows] for name, column in columns.items()}


def _full(dtype: Dtype, n_rows: int, value: Scalar) -> Array:
    column: Array = np.empty(n_rows, _NUMPY[dtype])
    column[:] = value
    return column


def _mixes_rows() -> ArtifactRefused:
    return ArtifactRefused("its answer for a row depends on the other rows of the batch")
