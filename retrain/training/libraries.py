"""What skl2onnx does not know of itself: LightGBM and XGBoost, through onnxmltools, where they are installed.

Their trees split float32 columns; LightGBM's thresholds, as those of scikit-learn's boosting, are float64 that lie
half way between float32 neighbours, and a converter rounds to the nearest float32, which may be the upper neighbour:
then rows change sides (sklearn-onnx issue 1192). Rounded down they do not.
"""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import skl2onnx
import sklearn
from numpy.typing import NDArray
from skl2onnx.common.shape_calculator import (
    calculate_linear_classifier_output_shapes,
    calculate_linear_regressor_output_shapes,
)
from sklearn.base import BaseEstimator

from registry.recipe import Estimator

_LIGHTGBM = re.compile(r"^threshold=(.*)$", re.MULTILINE)
_SIZES = re.compile(r"^tree_sizes=.*\n", re.MULTILINE)
_DISTRIBUTIONS = {"lightgbm": ("lightgbm",), "xgboost": ("xgboost", "xgboost-cpu")}
_CLASSIFIER_OPTIONS = {"nocl": [True, False], "zipmap": [True, False, "columns"]}


def versions(estimator: Estimator) -> str:
    """Of everything that has a say in what a version is; of a function, of all that it may use."""
    made = [f"scikit-learn {sklearn.__version__}", f"skl2onnx {skl2onnx.__version__}"]
    for library, distributions in _DISTRIBUTIONS.items():
        for distribution in distributions if estimator in (library, "function") else ():
            with suppress(PackageNotFoundError):
                made.append(f"{library} {version(distribution)}")
    return ", ".join(made)


def register_converters() -> None:
    """Teach skl2onnx the libraries that are loaded in this process: an estimator of another one cannot be at hand."""
    for library, prefix, module in (
        ("lightgbm", "LGBM", "onnxmltools.convert.lightgbm.operator_converters.LightGbm"),
        ("xgboost", "XGB", "onnxmltools.convert.xgboost.operator_converters.XGBoost"),
    ):
        loaded = sys.modules.get(library)
        if loaded is None:
            continue
        try:
            convert = getattr(import_module(module), f"convert_{library}")
        except ModuleNotFoundError:  # a function may use the library without the extra: then it has no ONNX form
            continue
        for kind, shapes, options in (
            ("Classifier", calculate_linear_classifier_output_shapes, {"options": _CLASSIFIER_OPTIONS}),
            ("Regressor", calculate_linear_regressor_output_shapes, {}),
        ):
            taught = getattr(loaded, prefix + kind)
            skl2onnx.update_registered_converter(taught, f"Understudy{prefix}{kind}", shapes, convert, **options)


def round_thresholds_down(estimator: BaseEstimator) -> None:
    """Make boosted trees split float32 columns in their ONNX form exactly as before; also the last of a pipeline."""
    last = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
    for trees in getattr(last, "_predictors", ()):
        for tree in trees:
            tree.nodes["num_threshold"] = _down(tree.nodes["num_threshold"])
    lightgbm = sys.modules.get("lightgbm")
    if lightgbm is not None and isinstance(last, lightgbm.LGBMModel):
        # its booster is C++; written out as text and read back it is the same one, all digits of its leaves included
        text = _LIGHTGBM.sub(_rounded, _SIZES.sub("", last.booster_.model_to_string()))
        last._Booster = lightgbm.Booster(model_str=text)


def _rounded(line: re.Match[str]) -> str:
    return "threshold=" + " ".join(map(repr, _down(np.array(line[1].split(), np.float64)).tolist()))


def _down(exact: NDArray[np.float64]) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        nearest = exact.astype(np.float32)
    return np.where(nearest > exact, np.nextafter(nearest, np.float32(-np.inf)), nearest).astype(np.float64)
