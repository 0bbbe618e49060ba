"""Real models that tests serve: trained here, exported by skl2onnx, answered for again by the registry's runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from skl2onnx import to_onnx
from sklearn.ensemble import GradientBoostingClassifier

from registry.onnx_model import OnnxModel
from registry.recipe import Recipe
from registry.signature import ModelFacts, signature_of
from registry.types import Feature, InputSchema, Task
from retrain.training.fit import fit

Row = dict[str, Any]

NUMPY: dict[str, Any] = {"float32": "f4", "float64": "f8", "int64": "i8", "bool": "?", "string": object}
MISSING: dict[str, Any] = {"float32": np.nan, "float64": np.nan, "string": ""}

LOAN = (
    Feature("income", "float64", required=False),
    Feature("ratio", "float32", required=False, default=0.5),
    Feature("branch", "string", required=False),
    Feature("visits", "int64"),
    Feature("member", "bool", required=False, default=False),
    Feature("weekday", "string"),
    Feature("age", "float64"),
)


class Made(Struct, frozen=True):
    """A model as a caller knows it: its declaration, a version's file, and rows to ask with."""

    name: str
    task: Task
    features: tuple[Feature, ...]
    onnx: bytes
    rows: list[Row]
    score: str | None = None
    classes: tuple[int | str, ...] = ()

    @property
    def schema(self) -> InputSchema:
        """The input schema."""
        return InputSchema(self.features)

    @property
    def declaration(self) -> dict[str, Any]:
        """The body of `POST /admin/models`."""
        return {"name": self.name, "task": self.task, "features": [msgspec.to_builtins(f) for f in self.features]}

    @property
    def options(self) -> dict[str, str]:
        """The query of an upload."""
        said = {"score": self.score, "classes": ",".join(map(str, self.classes)) or None}
        return {name: value for name, value in said.items() if value is not None}

    def answers(self, rows: Sequence[Row]) -> list[Row]:
        """What the model says to these rows, computed again without any of the gateway's code.

        The plain loop: a feature's value as sent; where it is null or not sent its default, else NaN or "".
        """
        columns = {}
        for feature in self.features:
            absent = MISSING.get(feature.dtype) if feature.default is None else feature.default
            values = [absent if row.get(feature.name) is None else row[feature.name] for row in rows]
            columns[feature.name] = np.array(values, NUMPY[feature.dtype])
        outputs = self.runtime().run(columns)
        said = {name: values.tolist() for name, values in outputs.items()}
        return [{name: values[i] for name, values in said.items()} for i in range(len(rows))]

    def runtime(self) -> OnnxModel:
        """The version, loaded in this process."""
        model = OnnxModel(self.onnx)
        facts = ModelFacts(*model.declared())
        model.bind(signature_of(facts, self.schema, self.task, score=self.score, classes=self.classes or None))
        return model


def made_models() -> Mapping[str, Made]:
    """By name: `fraud` (30 floats), `loan` (every dtype, missing values), `price` (regression), `species` (labels)."""
    return {made.name: made for made in (fraud(), loan(), price(), species())}


def fraud(seed: int = 1, n_trees: int = 20) -> Made:
    """30 float32 features in one tensor, gradient-boosted."""
    generator = np.random.default_rng(7)
    x = generator.normal(size=(400, 30)).astype(np.float32)
    y = (x[:, 0] + x[:, 1] * x[:, 2] > 0).astype(np.int64)
    model = GradientBoostingClassifier(n_estimators=n_trees, random_state=seed).fit(x, y)
    names = [f"v{i}" for i in range(30)]
    rows = [dict(zip(names, row, strict=True)) for row in x[:40].tolist()]
    onnx: bytes = to_onnx(model, x[:1], options={"zipmap": False}).SerializeToString()
    return Made("fraud", "binary", tuple(Feature(name, "float32") for name in names), onnx, rows)


def loan(seed: int = 2) -> Made:
    """Columns of every dtype with missing values, one ONNX input each."""
    generator = np.random.default_rng(seed)
    n = 500
    columns: dict[str, Any] = {
        "income": np.where(generator.random(n) < 0.2, np.nan, generator.lognormal(3, 1, n)),
        "ratio": generator.random(n).astype(np.float32),
        "branch": np.array(["", "north", "süd", "a:b"], dtype=object)[generator.integers(0, 4, n)],
        "visits": generator.integers(0, 50, n),
        "member": generator.random(n) < 0.5,
        "weekday": np.array(["mon", "tue", "wed"], dtype=object)[generator.integers(0, 3, n)],
        "age": generator.normal(40, 12, n),
    }
    target = (2.0 * columns["member"] + columns["ratio"] + 0.02 * columns["age"] > 2).astype(np.int64)
    trained = fit(columns, target, InputSchema(LOAN), "binary", recipe=Recipe(parameters={"max_iter": 15}, seed=seed))
    rows = [
        {name: None if value != value else value for name, value in zip(columns, row, strict=True)}
        for row in zip(*(column[:40].tolist() for column in columns.values()), strict=True)
    ]
    return Made("loan", "binary", LOAN, trained.model_bytes, rows, trained.score, trained.classes)


def price() -> Made:
    """A number from two numbers."""
    generator = np.random.default_rng(3)
    columns = {"area": generator.uniform(20, 200, 400), "rooms": generator.integers(1, 8, 400)}
    features = (Feature("area", "float64"), Feature("rooms", "int64"))
    target = columns["area"] * 3.0 + columns["rooms"]
    recipe = Recipe(parameters={"max_iter": 15, "learning_rate": 0.1, "loss": "squared_error"}, seed=3)
    trained = fit(columns, target, InputSchema(features), "regression", recipe=recipe)
    rows = [{"area": 30.0 + 10 * i, "rooms": 1 + i % 6} for i in range(12)]
    return Made("price", "regression", features, trained.model_bytes, rows, trained.score)


def species() -> Made:
    """One of three labels from four floats."""
    generator = np.random.default_rng(4)
    x = generator.normal(size=(300, 4))
    labels = np.array(["setosa", "versicolor", "virginica"])[(x[:, 0] > 0.5).astype(int) + (x[:, 0] > -0.5)]
    features = tuple(Feature(name, "float64") for name in ("sepal_length", "sepal_width", "petal_length", "width"))
    columns = {feature.name: x[:, i] for i, feature in enumerate(features)}
    trained = fit(columns, labels, InputSchema(features), "multiclass", recipe=Recipe("logistic_regression"))
    rows = [dict(zip(columns, row, strict=True)) for row in x[:12].tolist()]
    return Made("species", "multiclass", features, trained.model_bytes, rows, trained.score, trained.classes)
