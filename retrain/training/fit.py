"""From rows with outcomes to a version: fit, hold out the latest part, convert to ONNX, prove that it answers the same.

Importing this takes seconds, as scikit-learn and skl2onnx do.

Numbers become float32 before the estimator sees them, and strings the index of their category (an unknown one is
missing), so the estimator and its ONNX form split the very same numbers. The pipeline that is converted starts at the
columns as callers send them: one ONNX input `(n, 1)` a feature, named as the feature.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import skl2onnx
import sklearn
from msgspec import Struct
from numpy.typing import NDArray
from skl2onnx.sklapi import CastTransformer
from sklearn.base import BaseEstimator, clone
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from registry.onnx_model import brief
from registry.store import Registry
from registry.types import Dtype, InputSchema, Metric, Principal, Task, TrainingReport, Version
from retrain import errors
from retrain.drift.reference import Reference, Scores, cuts_of, encode, reference_of, score_counts_of
from retrain.evidence import Pairs
from retrain.evidence.losses import paired_losses
from retrain.training.backtest import Opponent, backtest, opponent_of
from retrain.training.convert import SCORES, converted, named, parity, round_thresholds_down, scores_of
from retrain.training.rows import MIN_ROWS, Columns, Rows

HELD_OUT = 0.2
"""Share of the rows, the latest, that the reference loss is measured on. The version itself learns from all."""

CHUNK_ROWS = 50_000
DEFAULT_METRIC = Metric()


class Trained(Struct, frozen=True):
    """A version before it is registered. `score` as `register` takes it; `classes` in the order of its columns."""

    model_bytes: bytes
    report: TrainingReport
    score: str
    reference: Reference
    """What drift will be measured against: all of its rows, and its scores on those that were held out."""
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
    trained = fit(
        columns, target, declared.schema, declared.task, metric=declared.policy.metric,
        opponent=opponent_of(registry, model) if as_ == "challenger" else None,
        at=at, estimator=estimator, seed=seed,
    )  # fmt: skip
    version = registry.register(
        model,
        trained.model_bytes,
        as_,
        by=by,
        reason=reason,
        score=trained.score,
        classes=trained.classes or None,
        training=trained.report,
    )
    registry.drift.save_reference(model, version.number, encode(trained.reference))
    return version


def fit(
    columns: Columns,
    target: NDArray[Any],
    schema: InputSchema,
    task: Task,
    *,
    metric: Metric = DEFAULT_METRIC,
    opponent: Opponent | None = None,
    at: NDArray[np.datetime64] | None = None,
    estimator: BaseEstimator | None = None,
    seed: int = 0,
) -> Trained:
    """Train on `columns`, one `(n,)` array for each feature of `schema`, and `target` `(n,)`.

    `at`: moments in UTC, `(n,)`; without it the rows are taken to be in order of time. `estimator`: an unfitted
    scikit-learn estimator over float32 columns, NaN where missing; `boosted_trees` unless given.
    `metric`: by what losses are measured; a reward cannot be known from such rows, so then it is the task's default.
    `opponent`: the champion that it is tried against on rows that neither has learned from, where that is possible.
    Of two classes the greater one is the positive one.

    Raises:
        TrainingRefused: one of its kinds, in one sentence.
    """
    rows = Rows.checked(columns, target, schema, task, at)
    metric = DEFAULT_METRIC if metric.loss == "reward" else metric
    estimator = boosted_trees(task, len(rows), seed, metric.quantile) if estimator is None else estimator
    earlier, later = rows.part(0.0, 1.0 - HELD_OUT), rows.part(1.0 - HELD_OUT, 1.0)
    terms = rows.terms(metric)
    unseen = set(rows.classes) - set(earlier.target.tolist())
    if unseen:
        raise errors.TargetRefused(f"every class in the first {len(earlier)} rows of time", f"none of {unseen.pop()!r}")
    scores = scores_of(_fitted(earlier, estimator), later)
    measured = later.measured(metric)
    held_out = Pairs(later.outcome, scores, scores, np.zeros(len(later), np.int64), **measured)
    tried = None
    if opponent is not None and rows.at is not None:
        tried = backtest(opponent, later, rows.at[-len(later) :], scores, measured)

    pipeline = _fitted(rows, estimator)
    model_bytes = converted(pipeline, rows)
    report = TrainingReport(
        n_rows=len(rows),
        trained_from=rows.moment(0),
        trained_until=rows.moment(-1),
        base_rate=terms.base_rate if isinstance(terms.base_rate, float) else None,
        reference_loss=float(paired_losses(held_out, terms).champion.mean()) or None,  # 0 is no unit to measure by
        scale=terms.scale,
        prior=terms.prior,
        parity=parity(pipeline, model_bytes, rows),
        recipe=f"{named(estimator)}; scikit-learn {sklearn.__version__}, skl2onnx {skl2onnx.__version__}",
        dataset_digest=rows.digest(),
        metric=metric,
        backtest=tried,
    )
    cuts = cuts_of(scores) if task == "regression" else ()
    answered = tuple(score_counts_of(task, scores, cuts).tolist())
    happened = np.searchsorted(np.array(cuts), rows.outcome) if task == "regression" else rows.outcome
    known = Scores(cuts, answered, tuple(np.bincount(happened, minlength=len(rows.classes) or len(cuts) + 1).tolist()))
    reference = reference_of(rows.columns, rows.features, "training", scores=known)
    return Trained(model_bytes, report, SCORES[task], reference, rows.classes)


def boosted_trees(task: Task, n_rows: int, seed: int = 0, quantile: float | None = None) -> BaseEstimator:
    """The default estimator: slow, smooth trees; no early stopping, whose random hold-out would ignore time."""
    settings: dict[str, Any] = {
        "learning_rate": 0.05,
        "min_samples_leaf": min(100, max(5, n_rows // 50)),
        "early_stopping": False,
        "random_state": seed,
    }
    if task == "regression" and quantile is not None:
        return HistGradientBoostingRegressor(loss="quantile", quantile=quantile, **settings)
    if task == "regression":
        return HistGradientBoostingRegressor(loss="absolute_error", **settings)  # the loss that evidence measures
    return HistGradientBoostingClassifier(**settings)


def _fitted(rows: Rows, estimator: BaseEstimator) -> Pipeline:
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
        raise errors.EstimatorRefused(named(estimator), brief(error)) from None
    if rows.task != "regression" and not hasattr(learned, "predict_proba"):
        raise errors.EstimatorRefused(named(estimator), "it gives no probabilities")
    round_thresholds_down(learned)
    return Pipeline([("columns", encoder), ("estimator", learned)])
