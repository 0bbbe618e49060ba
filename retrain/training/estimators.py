"""The estimators that a recipe may name, unfitted: what each can learn, and what of it may be set.

All are set so that two fits give the same: the seed is the recipe's, and one thread adds the sums up. None stops early,
as the rows that it would stop by are chosen without regard to time.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from msgspec import Struct
from sklearn.base import BaseEstimator
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression

from registry.recipe import Estimator, Parameter
from registry.types import Task
from retrain import errors
from retrain.training.encoding import Style

STYLES: dict[Estimator, Style] = {"logistic_regression": "linear", "random_forest": "lowest"}
"""How each wants its matrix, where that is not `ordinal`."""

_OURS = {
    "boosted_trees": {"categorical_features", "early_stopping", "n_iter_no_change", "random_state", "scoring", "tol",
                      "validation_fraction", "verbose", "warm_start"},
    "logistic_regression": {"random_state", "n_jobs", "verbose", "warm_start", "multi_class", "dual"},
    "random_forest": {"random_state", "n_jobs", "verbose", "warm_start", "oob_score", "monotonic_cst"},
    "lightgbm": {"random_state", "n_jobs", "importance_type", "class_weight", "kwargs"},
    "xgboost": {"random_state", "n_jobs", "verbosity", "device", "missing", "enable_categorical", "feature_types",
                "feature_weights", "early_stopping_rounds", "callbacks", "eval_metric", "importance_type",
                "max_cat_to_onehot", "max_cat_threshold", "validate_parameters", "kwargs"},
}  # fmt: skip
"""Settings that are not a recipe's: the seed, threads, what would be converted wrongly, and what is only said."""


class Aim(Struct, frozen=True):
    """What is to be learned, and from how many rows in all. `quantile`: of numbers, where the metric names one."""

    task: Task
    n_rows: int
    quantile: float | None = None

    @property
    def leaf_rows(self) -> int:
        """Rows that a leaf of slow, smooth trees holds at least."""
        return min(100, max(5, self.n_rows // 50))


def estimator_of(name: Estimator, aim: Aim, parameters: Mapping[str, Parameter], seed: int) -> BaseEstimator:
    """An unfitted estimator.

    Raises:
        TaskUnlearnable: it cannot learn that.
        ParameterUnknown: a parameter is none of its.
        ExtraMissing: it needs a library that is not installed here.
    """
    kind, ours, defaults = _made(name, aim)
    taken = _accepted(kind)
    known = tuple(sorted(taken - _OURS[name] - ours.keys()))
    for parameter in parameters:
        if parameter not in known:
            raise errors.ParameterUnknown(name, parameter, known)
    return kind(**defaults | dict(parameters) | ours, random_state=seed)


def boosted_trees(task: Task, n_rows: int, seed: int = 0, quantile: float | None = None) -> BaseEstimator:
    """The default estimator: slow, smooth trees."""
    return estimator_of("boosted_trees", Aim(task, n_rows, quantile), {}, seed)


def _made(name: Estimator, aim: Aim) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """The class, what it is given whatever a recipe says, and what a recipe may set otherwise."""
    is_number = aim.task == "regression"
    match name:
        case "boosted_trees":
            defaults = {"learning_rate": 0.05, "min_samples_leaf": aim.leaf_rows}
            ours: dict[str, Any] = {"early_stopping": False}
            if not is_number:
                return HistGradientBoostingClassifier, ours, defaults
            if aim.quantile is not None:
                return HistGradientBoostingRegressor, ours | {"loss": "quantile", "quantile": aim.quantile}, defaults
            # the loss that evidence measures
            return HistGradientBoostingRegressor, ours, defaults | {"loss": "absolute_error"}
        case "logistic_regression":
            if is_number:
                raise errors.TaskUnlearnable(name, "numbers", ("boosted_trees", "random_forest", "lightgbm", "xgboost"))
            return LogisticRegression, {}, {"max_iter": 1_000}
        case "random_forest":
            if is_number and aim.quantile is not None:
                raise errors.TaskUnlearnable(name, "a quantile", ("boosted_trees", "lightgbm", "xgboost"))
            kind = RandomForestRegressor if is_number else RandomForestClassifier
            # about a thousand leaves at most: a version is a file that every worker loads
            return kind, {"n_jobs": 1}, {"min_samples_leaf": max(5, aim.n_rows // 1_000)}
        case "lightgbm":
            library = _library(name)
            kind = library.LGBMRegressor if is_number else library.LGBMClassifier
            ours = {"n_jobs": 1, "verbosity": -1, "deterministic": True, "force_row_wise": True}
            defaults = {"learning_rate": 0.05, "min_child_samples": aim.leaf_rows}
            if is_number and aim.quantile is not None:
                return kind, ours | {"objective": "quantile", "alpha": aim.quantile}, defaults
            return kind, ours, defaults | ({"objective": "regression_l1"} if is_number else {})
        case "xgboost":
            library = _library(name)
            kind = library.XGBRegressor if is_number else library.XGBClassifier
            ours, defaults = {"n_jobs": 1}, {"learning_rate": 0.05, "max_depth": 5, "min_child_weight": 5.0}
            if is_number and aim.quantile is not None:
                return kind, ours | {"objective": "reg:quantileerror", "quantile_alpha": aim.quantile}, defaults
            return kind, ours, defaults | ({"objective": "reg:absoluteerror"} if is_number else {})
        case "function":
            raise AssertionError("a function makes its estimator itself")


def _library(name: Estimator) -> Any:
    try:
        import_module("onnxmltools")
        return import_module(name)
    except ModuleNotFoundError:
        raise errors.ExtraMissing(f"estimator {name}", name) from None


def _accepted(kind: Any) -> set[str]:
    """Names of the arguments of its class, and of the classes that it hands further ones to."""
    named: set[str] = set()
    for one in kind.__mro__:
        if "__init__" in vars(one):
            parameters = inspect.signature(one.__init__).parameters
            named |= parameters.keys() - {"self"}
            if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
                break
    return named - {"args"}
