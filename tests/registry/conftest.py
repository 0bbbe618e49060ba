"""What the registry's tests share: a store in a temporary folder, a clock that ticks, real trained models."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from registry.store import Registry
from registry.types import (
    Feature,
    InputBinding,
    InputSchema,
    OutputTensor,
    Principal,
    ScoreColumn,
    Signature,
)


@pytest.fixture
def now() -> Callable[[], datetime]:
    """A clock that moves by one second whenever it is looked at."""
    seconds = count()
    return lambda: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=next(seconds))


@pytest.fixture
def registry(tmp_path: Path, now: Callable[[], datetime]) -> Iterator[Registry]:
    with Registry.open(tmp_path / "store", now=now) as opened:
        yield opened


@pytest.fixture
def me() -> Principal:
    return Principal.local_operator()


@pytest.fixture
def schema() -> InputSchema:
    """Four numbers, as the trained models take them."""
    return InputSchema(tuple(Feature(name, "float64") for name in "abcd"))


@pytest.fixture
def signature() -> Signature:
    """What a binary scikit-learn classifier of that schema has."""
    return Signature(
        "binary",
        (InputBinding("X", "float32", ("a", "b", "c", "d")),),
        (OutputTensor("label", "int64"), OutputTensor("probabilities", "float32", 2)),
        ScoreColumn("probabilities", 1),
        (0, 1),
    )


@pytest.fixture(scope="session")
def trained() -> Mapping[str, bytes]:
    """Real models by name, as ONNX; they take (n, 4) floats named `X`, and those of columns take `age` and `city`."""
    generator = np.random.default_rng(7)
    rows = generator.normal(size=(400, 4)).astype(np.float32)
    yes = (rows[:, 0] + 0.5 * rows[:, 1] > 0).astype(np.int64)
    three = (rows[:, 0] > 0.5).astype(np.int64) + (rows[:, 0] > -0.5)
    flat = {"zipmap": False}
    linear = LogisticRegression().fit(rows, yes)
    forest = RandomForestClassifier(5, random_state=1).fit(rows, yes)
    boosted = GradientBoostingClassifier(n_estimators=20, random_state=1).fit(rows, three)
    net = MLPClassifier((8,), solver="lbfgs", max_iter=5_000, random_state=1).fit(
        rows, np.array(["x", "y", "z"])[three]
    )
    return {
        "linear": to_onnx(linear, rows[:1], options=flat).SerializeToString(),
        "other": to_onnx(LogisticRegression(C=0.1).fit(rows, yes), rows[:1], options=flat).SerializeToString(),
        "forest": to_onnx(forest, rows[:1], options=flat).SerializeToString(),
        "multiclass": to_onnx(boosted, rows[:1], options=flat).SerializeToString(),
        "texts": to_onnx(net, rows[:1], options=flat).SerializeToString(),
        "regression": to_onnx(LinearRegression().fit(rows, rows[:, 1] * 3), rows[:1]).SerializeToString(),
        "zipmap": to_onnx(linear, rows[:1]).SerializeToString(),
        "columns": _columns("ignore"),
        "strict columns": _columns("error"),
    }


def _columns(handle_unknown: str) -> bytes:
    generator = np.random.default_rng(8)
    ages, cities = generator.normal(40, 10, 200), generator.choice(["Riga", "Oslo"], 200)
    table = np.column_stack([ages.astype(object), cities.astype(object)])
    encode = OneHotEncoder(handle_unknown=handle_unknown)
    columns = ColumnTransformer([("age", StandardScaler(), [0]), ("city", encode, [1])])
    pipeline = make_pipeline(columns, LogisticRegression()).fit(table, (ages > 40).astype(int))
    takes = [("age", FloatTensorType([None, 1])), ("city", StringTensorType([None, 1]))]
    model: bytes = to_onnx(pipeline, initial_types=takes, options={"zipmap": False}).SerializeToString()
    return model
