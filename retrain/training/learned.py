"""From rows to an estimator that has learned from them, and its answers to others."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import has_fit_parameter
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from registry.onnx_model import brief
from registry.recipe import Parameter, Recipe
from registry.types import Metric, Task
from retrain import errors
from retrain.evidence import Pairs, Rule
from retrain.evidence.losses import paired_losses
from retrain.training.dataset import Dataset
from retrain.training.encoding import Encoding, Matrix, Which
from retrain.training.estimators import STYLES, Aim, estimator_of
from retrain.training.functions import Source, fitted_by
from retrain.training.rows import Rows

CHUNK_ROWS = 50_000
_PROBABILITY_EDGE = 1e-4  # sums of float32 over the classes miss 1 by their last bits


class Course(Struct, frozen=True):
    """How a version is made: the recipe, the metric, how many rows there are in all, and what its function says."""

    recipe: Recipe
    metric: Metric
    n_rows: int
    source: Source | None = None


class Learned(Struct, frozen=True, eq=False):
    """A fitted estimator with the encoding that makes its matrix. `n_classes`: 0 in regression."""

    encoding: Encoding
    estimator: BaseEstimator
    task: Task
    n_classes: int

    def matrix(self, rows: Rows, which: Which = slice(None)) -> Matrix:
        """Some rows as the estimator takes them."""
        return self.encoding.matrix(rows.columns, which)

    def scores(self, rows: Rows, which: Which = slice(None)) -> NDArray[np.float64]:
        """Its answers as evidence takes them: `(n,)`, or `(n, n_classes)` for multiclass.

        Raises:
            AnswersRefused: they are not finite, no probabilities, or not one for each class.
        """
        index = np.arange(len(rows))[which]
        chunks = [self._answers(rows, index[start : start + CHUNK_ROWS]) for start in range(0, len(index), CHUNK_ROWS)]
        answers = np.concatenate(chunks)
        return answers[:, 1] if self.task == "binary" else answers

    def _answers(self, rows: Rows, which: NDArray[np.intp]) -> NDArray[np.float64]:
        matrix = self.matrix(rows, which)
        ask = self.estimator.predict if self.task == "regression" else self.estimator.predict_proba
        try:
            with threadpool_limits(limits=1):
                answers = np.asarray(ask(matrix), np.float64)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001  # of any library, or of a function's own class
            raise errors.AnswersRefused(
                named(self.estimator), "answers", f"{type(error).__name__}: {brief(error)}"
            ) from None
        expected = (len(which),) if self.task == "regression" else (len(which), self.n_classes)
        if self.task == "regression" and answers.shape == (len(which), 1):
            answers = answers[:, 0]
        if answers.shape != expected:
            raise errors.AnswersRefused(named(self.estimator), f"shape {expected}", f"shape {answers.shape}")
        wrong = ~np.isfinite(answers)
        if self.task != "regression":
            wrong |= (
                (answers < 0) | (answers > 1) | (np.abs(answers.sum(axis=1) - 1) > _PROBABILITY_EDGE)[:, np.newaxis]
            )
        if wrong.any():
            kind = "finite numbers" if self.task == "regression" else "probabilities that add up to 1"
            raise errors.AnswersRefused(named(self.estimator), kind, f"{answers[wrong][0]:g} among them")
        return answers


def learn(rows: Rows, course: Course, parameters: Mapping[str, Parameter]) -> Learned:
    """Fit to all of the rows.

    Raises:
        TrainingRefused: one of its kinds, in one sentence.
    """
    recipe, metric = course.recipe, course.metric
    encoding = Encoding.of(rows.features, rows.columns, STYLES.get(recipe.estimator, "ordinal"))
    matrix = encoding.matrix(rows.columns)
    quantile = metric.quantile if rows.task == "regression" else None
    # one thread: beside busy neighbours OpenMP's threads wait for each other (measured on two busy cores: 38 s
    # instead of 5), and sums do not depend on how many cores there are
    with threadpool_limits(limits=1):
        if course.source is not None:
            dataset = Dataset(
                matrix, rows.outcome, rows.weight, rows.at, encoding.names, MappingProxyType(rows.columns),
                {column.name: column.categories for column in encoding.columns if column.dtype == "string"},
                rows.classes, rows.task, quantile, dict(parameters), recipe.seed,
            )  # fmt: skip
            estimator = fitted_by(course.source, dataset)
        else:
            aim = Aim(rows.task, course.n_rows, quantile)
            estimator = _fitted(estimator_of(recipe.estimator, aim, parameters, recipe.seed), matrix, rows)
    if rows.task != "regression" and not hasattr(estimator, "predict_proba"):
        raise errors.EstimatorRefused(named(estimator), "it gives no probabilities")
    return Learned(encoding, estimator, rows.task, len(rows.classes))


def mean_loss(scores: NDArray[np.float64], rows: Rows, metric: Metric, terms: Rule) -> float:
    """What these answers to the rows lost, in units of the evidence; each row by its weight."""
    pairs = Pairs(rows.outcome, scores, scores, np.zeros(len(rows), np.int64), **rows.measured(metric))
    return float(np.average(paired_losses(pairs, terms).champion, weights=rows.weight))


def named(estimator: BaseEstimator) -> str:
    """An estimator in one line."""
    return " ".join(repr(estimator).split())


def _fitted(estimator: BaseEstimator, matrix: Matrix, rows: Rows) -> BaseEstimator:
    # scikit-learn's binning fails on a column that is always missing; a constant one is never split on
    matrix[:, np.isnan(matrix).all(axis=0)] = 0.0
    weight: dict[str, Any] = {}
    if rows.weight is not None and has_fit_parameter(estimator, "sample_weight"):
        weight = {"sample_weight": rows.weight}
    try:
        with warnings.catch_warnings():
            # the evidence decides whether it learned enough, and the recipe may say max_iter
            warnings.simplefilter("ignore", ConvergenceWarning)
            return estimator.fit(matrix, rows.outcome, **weight)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  # each library has classes of its own for a parameter that it refuses
        raise errors.EstimatorRefused(named(estimator), brief(error)) from None
