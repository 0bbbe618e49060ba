"""What a recipe's function is given: the rows as one matrix, with all that was known of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from registry.recipe import Parameter
from registry.types import Task


class Dataset(Struct, frozen=True, eq=False):
    """Rows in order of time.

    `matrix`: float32 `(n, n_features)`, a column for each of `features`; NaN where missing, a string as the index of
    its value among `categories`. `target`: `(n,)`, the index among `classes`, or the number. `weight`: `(n,)`, what
    each row counts, or None. `at`: `(n,)` moments in UTC, or None. `columns`: the features as they were logged, `(n,)`
    each. `quantile`: that is forecast, where the metric says one. `parameters`: those of the recipe, or of its search.
    """

    matrix: NDArray[np.float32]
    target: NDArray[Any]
    weight: NDArray[np.float64] | None
    at: NDArray[np.datetime64] | None
    features: tuple[str, ...]
    columns: Mapping[str, NDArray[Any]]
    categories: Mapping[str, tuple[str, ...]]
    classes: tuple[int | str, ...]
    task: Task
    quantile: float | None
    parameters: Mapping[str, Parameter]
    seed: int
