"""From rows with outcomes to a version: choose, hold out the latest, fit, convert to ONNX, prove that it answers alike.

Importing this takes seconds, as scikit-learn and skl2onnx do.

The estimator and its ONNX form see the very same numbers (`encoding`), and the form starts at the columns as callers
send them: one ONNX input `(n, 1)` a feature, named as the feature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from registry.recipe import Recipe
from registry.store import Registry
from registry.types import InputSchema, Metric, Principal, Signature, Task, TrainingReport, Version
from retrain import errors
from retrain.drift.reference import Reference, Scores, cuts_of, encode, reference_of, score_counts_of
from retrain.evidence import EvidenceError
from retrain.training.answers import answers_of
from retrain.training.backends import Jobs
from retrain.training.backtest import Opponent, backtest, opponent_of
from retrain.training.convert import converted
from retrain.training.functions import source_of
from retrain.training.learned import Course, learn, mean_loss, named
from retrain.training.libraries import versions
from retrain.training.rows import Columns, Rows
from retrain.training.search import chosen

HELD_OUT = 0.2
"""Share of the rows, the latest, that the reference loss is measured on. The version itself learns from all."""

DEFAULT_METRIC, DEFAULT_RECIPE, ONE_AT_A_TIME = Metric(), Recipe(), Jobs()


def silent(_: str) -> None:
    """Progress that nobody follows."""


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
    weight: NDArray[Any] | None = None,
    recipe: Recipe = DEFAULT_RECIPE,
    functions: Path | None = None,
) -> Version:
    """`fit` under the model's schema and task, and register what comes out.

    Raises:
        TrainingRefused: nothing was trained, nor registered.
        RegistryError: what was trained is not taken; nothing was registered.
    """
    declared, known = registry.model(model), registry.versions(model)
    trained = fit(
        columns, target, declared.schema, declared.task, metric=declared.policy.metric,
        like=known[-1].signature if known else None,
        opponent=opponent_of(registry, model) if as_ == "challenger" else None,
        at=at, weight=weight, known_after=timedelta(seconds=declared.policy.maturity_s), recipe=recipe,
        functions=functions,
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
    like: Signature | None = None,
    opponent: Opponent | None = None,
    at: NDArray[np.datetime64] | None = None,
    weight: NDArray[Any] | None = None,
    known_after: timedelta = timedelta(0),
    recipe: Recipe = DEFAULT_RECIPE,
    functions: Path | None = None,
    jobs: Jobs = ONE_AT_A_TIME,
    kept: Path | None = None,
    progress: Callable[[str], None] = silent,
) -> Trained:
    """Train on `columns`, one `(n,)` array for each feature of `schema`, and `target` `(n,)`.

    Args:
        columns: of the model's features, all of them.
        target: of two classes the greater one is the positive one.
        schema: the model's.
        task: the model's.
        metric: what losses are measured by; a reward cannot be known from such rows, so then it is the task's default.
        like: of a version of the model: what is trained answers under the same names, and as the same.
        opponent: the champion that it is tried against on rows that neither has learned from, where that is possible.
        at: moments in UTC, `(n,)`; without it the rows are taken to be in order of time.
        weight: what each row counts, `(n,)`, in learning (where the estimator takes weights) and in losses.
        known_after: how long after a row its outcome is known. What is measured on later rows is learned, as in
            service, from outcomes that were known by then.
        recipe: by what estimator, with which settings or choice of settings.
        functions: the folder that a recipe's function is in.
        jobs: where candidates of a search are trained.
        kept: a folder for the finished candidates of a search, so that the same one goes on where it was killed.
        progress: told one short sentence at each step.

    Raises:
        TrainingRefused: one of its kinds, in one sentence.
        MemoryError: there is not enough.
    """
    rows = Rows.checked(columns, target, schema, task, at, weight, known_after)
    answers = answers_of(task, rows.classes, like)
    progress(f"checked {len(rows):,} rows")
    metric = DEFAULT_METRIC if metric.loss == "reward" else metric
    earlier, later = rows.split(1.0 - HELD_OUT)
    source = source_of(recipe.function, functions) if recipe.estimator == "function" else None
    made_by = "" if source is None else f"{source.function} ({source.digest}): "
    course = Course(recipe, metric, len(rows), source)
    with _measurable():
        terms = rows.terms(metric)
    found = chosen(earlier, course, jobs, kept, progress)

    progress(f"fitting on the first {len(earlier):,} rows, to measure on the latest {len(later):,}")
    scores = learn(earlier, course, found.parameters).scores(later)
    with _measurable():
        reference_loss = mean_loss(scores, later, metric, terms)
    tried = None
    if opponent is not None and later.at is not None and earlier.is_apart(later):
        tried = backtest(opponent, later, later.at, scores, later.measured(metric))

    progress(f"fitting on all {len(rows):,} rows")
    learned = learn(rows, course, found.parameters)
    progress("converting, and proving that it answers alike")
    form = converted(learned, rows, recipe.tolerance, answers)
    report = TrainingReport(
        n_rows=len(rows),
        trained_from=rows.moment(0),
        trained_until=rows.moment(-1),
        base_rate=terms.base_rate if isinstance(terms.base_rate, float) else None,
        reference_loss=reference_loss if 0.0 < reference_loss < np.inf else None,  # a benefit is no unit to measure by
        scale=terms.scale,
        prior=terms.prior,
        parity=form.parity,
        recipe=f"{made_by}{named(learned.estimator)}; {versions(recipe.estimator)}",
        dataset_digest=rows.digest(),
        metric=metric,
        backtest=tried,
        conversion=form.conversion,
        seed=recipe.seed,
        parameters=found.parameters,
        candidates=found.candidates,
    )
    cuts = cuts_of(scores) if task == "regression" else ()
    answered = tuple(score_counts_of(task, scores, cuts).tolist())
    happened = np.searchsorted(np.array(cuts), rows.outcome) if task == "regression" else rows.outcome
    known = Scores(cuts, answered, tuple(np.bincount(happened, minlength=len(rows.classes) or len(cuts) + 1).tolist()))
    reference = reference_of(rows.columns, rows.features, "training", scores=known)
    return Trained(form.model_bytes, report, answers.written_score, reference, rows.classes)


@contextmanager
def _measurable() -> Iterator[None]:
    """What the metric cannot measure is wrong with the outcomes; raises TargetRefused."""
    try:
        yield
    except EvidenceError as error:
        raise errors.TargetRefused("outcomes that the metric can measure", str(error)) from None
