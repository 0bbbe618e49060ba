"""The function of a recipe: a file in the operator's folder, read once a training, and what it gives back.

It is code that the operator put there. Whatever goes wrong in it is one sentence; that it ends at all is for whoever
started the training to see to.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from msgspec import Struct
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from registry.onnx_model import brief
from retrain import errors
from retrain.training.dataset import Dataset


class Source(Struct, frozen=True):
    """What the file of a function said when it was read: what is named by its digest is what runs.

    `function`: `FILE.py:NAME`. It goes wherever a candidate of a search is trained.
    """

    function: str
    path: Path
    text: bytes

    @property
    def digest(self) -> str:
        """Names what the file said."""
        return "sha256:" + hashlib.sha256(self.text).hexdigest()


def source_of(function: str | None, folder: Path | None) -> Source:
    """The file of `FILE.py:NAME`, read once.

    Raises:
        FunctionRefused: there is no folder of functions, or no such file in it.
    """
    if function is None:
        raise errors.FunctionRefused("(none)", "the recipe names none, as FILE.py:NAME")
    if folder is None:
        raise errors.FunctionRefused(function, "the setting retrain.functions names no folder")
    folder = folder.resolve()
    path = (folder / function.partition(":")[0]).resolve()
    if path.parent != folder:
        raise errors.FunctionRefused(function, "its file must lie in the folder of functions itself")
    if not path.is_file():
        there = ", ".join(sorted(file.name for file in folder.glob("*.py"))) or "none"
        raise errors.FunctionRefused(
            function, f"there is no such file in the folder of functions: its files are {there}"
        )
    return Source(function, path, path.read_bytes())


def fitted_by(source: Source, dataset: Dataset) -> BaseEstimator:
    """What the function makes of the rows: a fitted estimator over `dataset.matrix`.

    Raises:
        FunctionRefused: the function or what it gave is not as it must be, or it raised.
    """
    function, learn = source.function, _loaded(source)
    try:
        made = learn(dataset)
    except MemoryError:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001  # somebody else's code: it may raise anything
        raise errors.FunctionRefused(function, f"it raised {type(error).__name__}: {brief(error)}") from None
    if not isinstance(made, BaseEstimator):
        raise errors.FunctionRefused(function, f"it gave {_kind(made)}: expected a fitted scikit-learn estimator")
    try:
        check_is_fitted(made)
    except (NotFittedError, TypeError):
        raise errors.FunctionRefused(function, f"it gave {_kind(made)} that is not fitted") from None
    n_features = getattr(made, "n_features_in_", len(dataset.features))
    if n_features != len(dataset.features):
        expected = f"it must take the {len(dataset.features)} of the matrix"
        raise errors.FunctionRefused(function, f"it gave an estimator of {n_features} features: {expected}")
    classes = list(range(len(dataset.classes)))
    learned = np.asarray(getattr(made, "classes_", classes)).tolist()
    if classes and learned != classes:
        expected = f"expected those of the target, {classes}"
        raise errors.FunctionRefused(function, f"it gave an estimator of the classes {learned}: {expected}")
    return made


def _loaded(source: Source) -> Callable[[Dataset], Any]:
    function, name = source.function, source.function.partition(":")[2]
    module = ModuleType(f"understudy_function_{source.path.stem}")
    module.__file__ = str(source.path)
    sys.modules[module.__name__] = module  # dataclasses, and pickles of what it makes, look for it there
    try:
        # the operator's own code, without the `__future__` of this file
        exec(compile(source.text, source.path, "exec", dont_inherit=True), module.__dict__)  # noqa: S102
    except MemoryError:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001  # as above
        raise errors.FunctionRefused(function, f"its file raised {type(error).__name__}: {brief(error)}") from None
    found = getattr(module, name, None)
    if not callable(found):
        raise errors.FunctionRefused(function, f"there is no function '{name}' in its file")
    loaded: Callable[[Dataset], Any] = found
    return loaded


def _kind(made: object) -> str:
    return f"a value of type {type(made).__name__}"
