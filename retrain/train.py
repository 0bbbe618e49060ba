"""From rows with outcomes to a version: fit, hold out the latest part, convert to ONNX, prove that it answers the same.

The only module that imports scikit-learn and skl2onnx: importing it takes seconds.

Numbers become float32 before the estimator sees them, and strings the index of their category (an unknown one is
missing), so the estimator and its ONNX form split the very same numbers. The pipeline that is converted starts at the
columns as callers send them: one ONNX input `(n, 1)` a feature, named as the feature.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, Self

import msgspec
import numpy as np
import skl2onnx
import sklearn
from msgspec import Struct
from numpy.typing import NDArray
from skl2onnx.common import data_types as onnx_types
from skl2onnx.sklapi import CastTransformer
from sklearn.base import BaseEstimator, clone
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from registry.errors import RegistryError
from registry.onnx_model import OnnxModel, brief
from registry.signature import ModelFacts, signature_of
from registry.store import Registry
from registry.types import Dtype, Feature, InputSchema, Principal, Task, TrainingReport, Version
from retrain import errors
from retrain.evidence import Pairs, Rule
from retrain.evidence.losses import paired_losses

Columns = Mapping[str, NDArray[Any]]

HELD_OUT = 0.2
"""Share of the rows, the latest, that the reference loss is measured on. The version itself learns from all."""

MIN_ROWS, MIN_CLASS_ROWS = 200, 10
TOLERANCE = 1e-5
"""Largest difference between estimator and ONNX form: of a probability, or of a number relative to the largest one."""

N_PARITY_ROWS = 10_000
CHUNK_ROWS = 50_000
_LARGEST = float(np.finfo(np.float32).max)
OPSETS = {"": 21, "ai.onnx.ml": 3}
SCORES: dict[Task, str] = {"binary": "probabilities:1", "multiclass": "probabilities", "regression": "prediction"}
"""The output that is compared with the outcome, as `register --score` writes it."""

_ONNX_TYPES: dict[Dtype, Any] = {
    "float32": onnx_types.FloatTensorType,
    "float64": onnx_types.DoubleTensorType,
    "int64": onnx_types.Int64TensorType,
    "bool": onnx_types.BooleanTensorType,
    "string": onnx_types.StringTensorType,
}
_NUMPY_KINDS: dict[Dtype, tuple[str, str]] = {  # kinds of arrays that are taken, and what to say otherwise
    "float32": ("fiu", "numbers within float32"),
    "float64": ("fiu", "numbers within float32"),
    "int64": ("iu", "whole numbers"),
    "bool": ("b", "booleans"),
    "string": ("OU", "strings"),
}


class Trained(Struct, frozen=True):
    """A version before it is registered. `score` as `register` takes it; `classes` in the order of its columns."""

    model_bytes: bytes
    report: TrainingReport
    score: str
    classes: tuple[int | str, ...] = ()


def train_and_register(
    registry: Registry,
    model: str,
    columns: Columns,
    target: NDArray[Any],
    as_: Literal["champion", "challenger"],
    *,
    by: Principal,
    reason: str = "",
    at: NDArray[np.datetime64] | None = None,
    estimator: BaseEstimator | None = None,
    seed: int = 0,
) -> Version:
    """`fit` under the model's schema and task, and register what comes out.

    Raises:
        TrainingRefused: nothing was trained, nor registered.
        RegistryError: what was trained is not taken; nothing was registered.
    """
    declared = registry.model(model)
    trained = fit(columns, target, declared.schema, declared.task, at=at, estimator=estimator, seed=seed)
    return registry.register(
        model,
        trained.model_bytes,
        as_,
        by=by,
        reason=reason,
        score=trained.score,
        classes=trained.classes or None,
        training=trained.report,
    )


def fit(
    columns: Columns,
    target: NDArray[Any],
    schema: InputSchema,
    task: Task,
    *,
    at: NDArray[np.datetime64] | None = None,
    estimator: BaseEstimator | None = None,
    seed: int = 0,
) -> Trained:
    """Train on `columns`, one `(n,)` array for each feature of `schema`, and `target` `(n,)`.

    `at`: moments in UTC, `(n,)`; without it the rows are taken to be in order of time. `estimator`: an unfitted
    scikit-learn estimator over float32 columns, NaN where missing; `boosted_trees` unless given.
    Of two classes the greater one is the positive one.

    Raises:
        TrainingRefused: one of its kinds, in one sentence.
    """
    rows = _Rows.checked(columns, target, schema, task, at)
    estimator = boosted_trees(task, len(rows), seed) if estimator is None else estimator
    earlier, later = rows.part(0.0, 1.0 - HELD_OUT), rows.part(1.0 - HELD_OUT, 1.0)
    terms = rows.terms()
    unseen = set(rows.classes) - set(earlier.target.tolist())
    if unseen:
        raise errors.TargetRefused(f"every class in the first {len(earlier)} rows of time", f"none of {unseen.pop()!r}")
    scores = _answers(_fitted(earlier, estimator), later)
    held_out = Pairs(later.outcome, scores, scores, np.zeros(len(later), np.int64))

    pipeline = _fitted(rows, estimator)
    model_bytes = _converted(pipeline, rows)
    report = TrainingReport(
        n_rows=len(rows),
        trained_from=rows.moment(0),
        trained_until=rows.moment(-1),
        base_rate=terms.base_rate if isinstance(terms.base_rate, float) else None,
        reference_loss=float(paired_losses(held_out, terms).champion.mean()) or None,  # 0 is no unit to measure by
        scale=terms.scale,
        prior=terms.prior,
        parity=_parity(pipeline, model_bytes, rows),
        recipe=f"{_named(estimator)}; scikit-learn {sklearn.__version__}, skl2onnx {skl2onnx.__version__}",
        dataset_digest=rows.digest(),
    )
    return Trained(model_bytes, report, SCORES[task], rows.classes)


def boosted_trees(task: Task, n_rows: int, seed: int = 0) -> BaseEstimator:
    """The default estimator: slow, smooth trees; no early stopping, whose random hold-out would ignore time."""
    settings: dict[str, Any] = {
        "learning_rate": 0.05,
        "min_samples_leaf": min(100, max(5, n_rows // 50)),
        "early_stopping": False,
        "random_state": seed,
    }
    if task == "regression":
        return HistGradientBoostingRegressor(loss="absolute_error", **settings)  # the loss that evidence measures
    return HistGradientBoostingClassifier(**settings)


def _fitted(rows: _Rows, estimator: BaseEstimator) -> Pipeline:
    """The pipeline from columns to answers. Columns are encoded a chunk at a time: as objects they are large."""
    groups: dict[Dtype, list[int]] = {}
    for index, feature in enumerate(rows.features):
        groups.setdefault(feature.dtype, []).append(index)
    encoders: list[tuple[str, Any, list[int]]] = []
    for dtype, indices in groups.items():
        if dtype == "string":
            categories = [sorted(set(rows.columns[rows.features[index].name])) for index in indices]
            known = {"handle_unknown": "use_encoded_value", "unknown_value": np.nan, "dtype": np.float32}
            encoders.append((dtype, OrdinalEncoder(categories=categories, **known), indices))
        else:
            encoders.append((dtype, CastTransformer(dtype=np.float32), indices))
    encoder = ColumnTransformer(encoders).fit(rows.table(slice(0, MIN_ROWS)))
    chunks = [slice(start, start + CHUNK_ROWS) for start in range(0, len(rows), CHUNK_ROWS)]
    matrix = np.concatenate([encoder.transform(rows.table(chunk)) for chunk in chunks])
    # scikit-learn's binning fails on a column that is always missing; a constant one is never split on
    matrix[:, np.isnan(matrix).all(axis=0)] = 0.0
    try:
        # one thread: beside busy neighbours OpenMP's threads wait for each other (measured on two busy cores: 38 s
        # instead of 5), and sums do not depend on how many cores there are
        with threadpool_limits(limits=1):
            learned = clone(estimator).fit(matrix, rows.target)
    except (ValueError, TypeError) as error:
        raise errors.EstimatorRefused(_named(estimator), brief(error)) from None
    if rows.task != "regression" and not hasattr(learned, "predict_proba"):
        raise errors.EstimatorRefused(_named(estimator), "it gives no probabilities")
    _round_thresholds_down(learned)
    return Pipeline([("columns", encoder), ("estimator", learned)])


def _round_thresholds_down(learned: BaseEstimator) -> None:
    # boosted trees keep float64 thresholds half way between float32 neighbours, and the converter rounds them to the
    # nearest float32, which may be the upper neighbour: then rows change sides (sklearn-onnx issue 1192). Rounded
    # down here, they split float32 columns exactly as before
    for trees in getattr(learned, "_predictors", ()):
        for tree in trees:
            exact = tree.nodes["num_threshold"]
            with np.errstate(over="ignore"):
                nearest = exact.astype(np.float32)
            below = np.nextafter(nearest, np.float32(-np.inf))
            tree.nodes["num_threshold"] = np.where(nearest > exact, below, nearest)


def _answers(pipeline: Pipeline, rows: _Rows, which: slice | NDArray[np.intp] = slice(None)) -> NDArray[Any]:
    """Scores of the fitted pipeline, as evidence takes them: `(n,)`, or `(n, n_classes)` for multiclass."""
    table = rows.table(which)
    if rows.task == "regression":
        return np.asarray(pipeline.predict(table), np.float64)
    probabilities = np.asarray(pipeline.predict_proba(table), np.float64)
    return probabilities[:, 1] if rows.task == "binary" else probabilities


def _converted(pipeline: Pipeline, rows: _Rows) -> bytes:
    estimator = pipeline["estimator"]
    inputs = [(feature.name, _ONNX_TYPES[feature.dtype]([None, 1])) for feature in rows.features]
    kind: dict[str, Any] = (
        {"final_types": [("prediction", onnx_types.FloatTensorType([None, 1]))]}
        if rows.task == "regression"
        else {"options": {id(estimator): {"zipmap": False}}}
    )
    try:
        with warnings.catch_warnings():
            # skl2onnx 1.20 hands booleans to fields of integers, which protobuf 6 takes and warns of
            warnings.filterwarnings("ignore", "Field onnx.AttributeProto.ints", DeprecationWarning)
            onnx = skl2onnx.convert_sklearn(pipeline, "understudy", inputs, target_opset=OPSETS, **kind)
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise errors.NotConvertible(_named(estimator), brief(error)) from None
    # skl2onnx lists the opsets in the order of a set of strings, which is another one in every process
    opsets = sorted(onnx.opset_import, key=lambda opset: str(opset.domain))
    del onnx.opset_import[:]
    onnx.opset_import.extend(opsets)
    return bytes(onnx.SerializeToString(deterministic=True))


def _parity(pipeline: Pipeline, model_bytes: bytes, rows: _Rows) -> dict[str, float]:
    """How far estimator and ONNX form are apart on rows spread evenly over the training rows.

    `max` and `q99` of the absolute difference of scores (regression: over the largest absolute answer), and
    `label_flips`, the number of rows whose most probable class differs.

    Raises:
        ParityBroken: `max` is above `TOLERANCE`.
        NotConvertible: the registry's runtime does not take the ONNX form, or it does not answer.
    """
    which = np.unique(np.linspace(0, len(rows) - 1, N_PARITY_ROWS).astype(np.intp))
    schema, score, classes = InputSchema(rows.features), SCORES[rows.task], rows.classes or None
    try:
        model = OnnxModel(model_bytes)
        facts = ModelFacts(*model.declared())
        model.bind(signature_of(facts, schema, rows.task, score=score, classes=classes))
        answers = model.run({name: column[which] for name, column in rows.columns.items()})
    except RegistryError as refused:
        raise errors.NotConvertible(_named(pipeline["estimator"]), str(refused)) from None
    answered = answers[score.partition(":")[0]]
    expected, got = _answers(pipeline, rows, which), np.asarray(answered, np.float64)
    flips = 0
    if rows.task == "regression":
        unit = max(float(np.abs(expected).max()), 1e-30)
        expected, got = expected / unit, got / unit
    else:
        winner = expected > 0.5 if rows.task == "binary" else expected.argmax(axis=1)
        got_winner = got.argmax(axis=1)
        flips = int((winner != got_winner).sum())
        got = got[:, 1] if rows.task == "binary" else got
    difference = np.abs(expected - got)
    largest = float(difference.max())
    if not largest <= TOLERANCE:
        raise errors.ParityBroken(TOLERANCE, largest, len(which))
    q99 = float(np.quantile(difference, 0.99))
    return {"n_rows": len(which), "max": largest, "q99": q99, "label_flips": flips}


def _named(estimator: BaseEstimator) -> str:
    return " ".join(repr(estimator).split())


class _Rows(Struct, frozen=True, eq=False):
    """What is learned from, checked and in order of time. `target` as given; `classes` sorted, none in regression."""

    features: tuple[Feature, ...]
    columns: dict[str, NDArray[Any]]
    target: NDArray[Any]
    task: Task
    classes: tuple[int | str, ...]
    at: NDArray[np.datetime64] | None

    @classmethod
    def checked(
        cls, columns: Columns, target: NDArray[Any], schema: InputSchema, task: Task, at: NDArray[np.datetime64] | None
    ) -> Self:
        """The rows in order of `at`; raises as `fit` does for all that is wrong with them before any estimator."""
        target = np.asarray(target)
        if target.ndim != 1:
            raise errors.TargetRefused("one dimension", f"shape {target.shape}")
        if len(target) < MIN_ROWS:
            raise errors.TooFewRows("rows", MIN_ROWS, len(target))
        for name in columns.keys() - set(schema.names):
            raise errors.ColumnRefused(name, f"one of the schema's features {', '.join(schema.names)}", "another name")
        taken = {feature.name: _column(feature, columns, len(target)) for feature in schema.features}
        target = _outcomes(target, task)
        if at is not None:
            at = np.asarray(at)
            if at.dtype.kind != "M" or at.shape != target.shape or np.isnat(at).any():
                raise errors.ColumnRefused("at", f"{len(target)} datetime64, none missing", f"{at.dtype} {at.shape}")
            order = np.argsort(at, kind="stable")
            taken, target, at = {name: values[order] for name, values in taken.items()}, target[order], at[order]
        classes = () if task == "regression" else tuple(np.unique(target).tolist())
        return cls(schema.features, taken, target, task, classes, at)

    def __len__(self) -> int:
        return len(self.target)

    def part(self, start: float, end: float) -> Self:
        """The rows from one share of the way to another, all of the classes kept in mind."""
        which = slice(round(start * len(self)), round(end * len(self)))
        columns = {name: values[which] for name, values in self.columns.items()}
        return msgspec.structs.replace(self, columns=columns, target=self.target[which], at=None)

    def table(self, which: slice | NDArray[np.intp] = slice(None)) -> NDArray[np.object_]:
        """Rows as scikit-learn takes columns of mixed dtypes: `(n, n_features)` of objects."""
        table = np.empty((len(self.target[which]), len(self.features)), dtype=object)
        for index, feature in enumerate(self.features):
            table[:, index] = self.columns[feature.name][which]
        return table

    @property
    def outcome(self) -> NDArray[Any]:
        """`(n,)` as evidence takes it: the index of the class, or the number itself."""
        return self.target if self.task == "regression" else np.searchsorted(np.array(self.classes), self.target)

    def terms(self) -> Rule:
        """What losses are measured by: share of positives, or the best constant answer and what it loses."""
        match self.task:
            case "binary":
                return Rule(task="binary", base_rate=float(self.outcome.mean()))
            case "multiclass":
                return Rule(task="multiclass")
            case "regression":
                prior = float(np.median(self.target))
                return Rule(task="regression", prior=prior, scale=float(np.abs(self.target - prior).mean()))

    def moment(self, index: int) -> datetime | None:
        """When that row was; None where it was not said."""
        return None if self.at is None else self.at[index].astype("datetime64[us]").item().replace(tzinfo=UTC)

    def digest(self) -> str:
        """Names these rows in this order."""
        digest = hashlib.sha256(msgspec.json.encode(list(self.columns)))
        for values in (*self.columns.values(), self.target):
            plain = values.astype(values.dtype.newbyteorder("<")).tobytes() if values.dtype.kind != "O" else None
            digest.update(plain if plain is not None else msgspec.json.encode(values.tolist()))
        return "sha256:" + digest.hexdigest()


def _column(feature: Feature, columns: Columns, n_rows: int) -> NDArray[Any]:
    if feature.name not in columns:
        raise errors.ColumnMissing(feature.name, tuple(columns))
    values = np.asarray(columns[feature.name])
    kinds, expected = _NUMPY_KINDS[feature.dtype]
    if values.shape != (n_rows,):
        raise errors.ColumnRefused(feature.name, f"shape ({n_rows},), as the target", f"shape {values.shape}")
    if values.dtype.kind not in kinds:
        raise errors.ColumnRefused(feature.name, expected, f"dtype {values.dtype}")
    if feature.dtype == "string":
        strange = next((repr(value) for value in values.tolist() if not isinstance(value, str)), None)
        values = values.astype(object)
    else:
        # what overflows float32 would be infinite to the estimator, and no caller can send infinity
        too_large = values[np.abs(values) > _LARGEST] if values.dtype.kind == "f" else values[:0]
        strange = repr(float(too_large[0])) if len(too_large) else None
        values = values.astype(feature.dtype)
    if strange is not None:
        raise errors.ColumnRefused(feature.name, expected, strange)
    return values


def _outcomes(target: NDArray[Any], task: Task) -> NDArray[Any]:
    is_number = target.dtype.kind in "biuf"
    if task == "regression" and not is_number:
        raise errors.TargetRefused("numbers", f"dtype {target.dtype}")
    if is_number:
        target = target.astype(np.float64)
        if not np.isfinite(target).all():
            row = int(np.flatnonzero(~np.isfinite(target))[0])
            raise errors.TargetRefused("finite numbers", f"{target[row]} in row {row}")
    else:
        strange = [value for value in target.tolist() if not isinstance(value, str)]
        if strange:
            raise errors.TargetRefused("classes, as whole numbers or strings", f"{strange[0]!r} among them")
    found, counts = np.unique(target, return_counts=True)
    if len(found) == 1:
        raise errors.OneClass(found.tolist()[0], len(target))
    if task == "regression":
        return target
    if is_number and (found != np.floor(found)).any():
        raise errors.TargetRefused("classes, as whole numbers or strings", f"{found[found != np.floor(found)][0]}")
    if task == "binary" and len(found) > 2:
        raise errors.TargetRefused("two classes", f"{len(found)}")
    if counts.min() < MIN_CLASS_ROWS:
        rarest = found[counts.argmin()]
        named = f"{rarest:g}" if is_number else repr(str(rarest))
        raise errors.TooFewRows(f"rows of class {named}", MIN_CLASS_ROWS, int(counts.min()))
    return target.astype(np.int64) if is_number else target
