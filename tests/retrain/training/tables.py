"""Tables to learn from, functions of recipes as files, and versions asked by the registry's runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from registry.onnx_model import OnnxModel
from registry.recipe import Parameter, Recipe, Search
from registry.signature import ModelFacts, signature_of
from registry.types import Feature, InputSchema, Signature, Task
from retrain.training.fit import Trained

Columns = dict[str, NDArray[Any]]

ALL_DTYPES = InputSchema(
    (
        Feature("branch", "string", required=False),
        Feature("visits", "int64"),
        Feature("amount", "float64", required=False),
        Feature("ratio", "float32", required=False),
        Feature("member", "bool"),
        Feature("weekday", "string"),
    )
)
ONE_FLOAT = InputSchema((Feature("x", "float32"),))


def table(n: int = 600, seed: int = 1) -> tuple[Columns, NDArray[np.float64]]:
    """Columns of every dtype, with missing values, and a number that depends on them."""
    rng = np.random.default_rng(seed)
    columns: Columns = {
        "branch": np.array(["", "north", "süd", "west"], dtype=object)[rng.integers(0, 4, n)],
        "visits": rng.integers(0, 50, n),
        "amount": np.where(rng.random(n) < 0.2, np.nan, rng.lognormal(3, 1, n)),
        "ratio": rng.random(n).astype(np.float32),
        "member": rng.random(n) < 0.5,
        "weekday": np.array(["mon", "tue", "wed"], dtype=object)[rng.integers(0, 3, n)],
    }
    signal = 2.0 * columns["member"] + columns["ratio"] + (columns["branch"] == "süd") + 0.3 * rng.normal(size=n)
    return columns, signal


def runtime(trained: Trained, schema: InputSchema, task: Task) -> tuple[OnnxModel, Signature]:
    """The version, loaded in this process, with its signature."""
    model = OnnxModel(trained.model_bytes)
    facts = ModelFacts(*model.declared())
    signature = signature_of(facts, schema, task, score=trained.score, classes=trained.classes or None)
    model.bind(signature)
    return model, signature


def function(
    folder: Path, body: str, *, search: Search | None = None, parameters: dict[str, Parameter] | None = None
) -> dict[str, Any]:
    """What `fit` is told of a recipe's function with this body, and where it is; `dataset` is its argument."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    folder.mkdir(exist_ok=True)
    (folder / "learn.py").write_text(f"def learn(dataset):\n{lines}")
    recipe = Recipe("function", function="learn.py:learn", search=search, parameters=parameters or {})
    return {"recipe": recipe, "functions": folder}


def fitted(imported: str, made: str) -> str:
    """The body of a function that fits one estimator: `from IMPORTED`, and how it is made."""
    return f"from {imported}\nreturn {made}.fit(dataset.matrix, dataset.target)"
