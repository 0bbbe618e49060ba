"""The model that everybody serves, and its two challengers: trained here on seeded synthetic rows, kept as ONNX."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

N_FEATURES = 30
N_TRAINING_ROWS = 20_000
N_ROWS = 2_000
"""Distinct rows that are asked for: one row again and again would flatter trees, whose branches the CPU then knows."""
N_WIDE, N_PASSES = 3_000, 9
SEED = 20_251_101
OPSETS = {"": 18, "ai.onnx.ml": 3}
FEATURES = tuple(f"f{i:02d}" for i in range(N_FEATURES))


class Trained(Struct, frozen=True):
    """Files of the models, and rows that none of them was trained on."""

    champion: Path
    challengers: tuple[Path, ...]
    rows: NDArray[np.float32]
    """`(N_ROWS, N_FEATURES)`."""


def slow(folder: Path) -> Path:
    """Write a network that passes a row through one wide layer again and again: about a millisecond of one core.

    Weights of chance, as nobody asks how well it answers; the same in each pass, as admission bounds a file's size.
    """
    generator = np.random.default_rng(SEED)

    def weights(*shape: int) -> NDArray[np.float32]:
        drawn: NDArray[np.float64] = generator.normal(size=shape) / np.sqrt(shape[0])
        return drawn.astype(np.float32)

    held = {"enter": weights(N_FEATURES, N_WIDE), "again": weights(N_WIDE, N_WIDE), "leave": weights(N_WIDE, 2)}
    names = ["enter", *["again"] * N_PASSES, "leave"]
    nodes, last = [], "x"
    for number, name in enumerate(names):
        nodes.append(helper.make_node("MatMul", [last, name], [f"sum{number}"]))
        activation = "Relu" if name != "leave" else "Softmax"
        last = f"layer{number}" if name != "leave" else "probabilities"
        nodes.append(helper.make_node(activation, [f"sum{number}"], [last]))
    graph = helper.make_graph(
        nodes, "slow",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, N_FEATURES])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2])],
        [numpy_helper.from_array(array, name) for name, array in held.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    path = folder / "slow.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def trained(folder: Path) -> Trained:
    """Train gradient boosting (100 trees), a random forest and a logistic regression; write them into a folder."""
    generator = np.random.default_rng(SEED)
    # 6 decimals, so that a row is the same number in JSON, whoever writes it
    x = generator.normal(size=(N_TRAINING_ROWS + N_ROWS, N_FEATURES)).round(6).astype(np.float32)
    signal = x[:, 0] + x[:, 1] * x[:, 2] + np.sin(2 * x[:, 3]) + 0.5 * generator.normal(size=len(x))
    y = (signal > 0).astype(np.int64)
    seen, labels = x[:N_TRAINING_ROWS], y[:N_TRAINING_ROWS]
    boosted = HistGradientBoostingClassifier(max_iter=100, early_stopping=False, random_state=SEED)
    forest = RandomForestClassifier(n_estimators=50, max_depth=8, random_state=SEED)
    linear = make_pipeline(StandardScaler(), LogisticRegression())
    files = [
        _written(folder / f"{name}.onnx", estimator.fit(seen, labels), seen[:1])
        for name, estimator in (("boosted", boosted), ("forest", forest), ("linear", linear))
    ]
    return Trained(files[0], tuple(files[1:]), x[N_TRAINING_ROWS:])


def _written(path: Path, estimator: Any, example: NDArray[np.float32]) -> Path:
    with warnings.catch_warnings():
        # skl2onnx 1.20 hands booleans to fields of integers, which protobuf 6 takes and warns of
        warnings.filterwarnings("ignore", "Field onnx.AttributeProto.ints", DeprecationWarning)
        onnx = to_onnx(estimator, example, options={"zipmap": False}, target_opset=OPSETS)
    path.write_bytes(onnx.SerializeToString())
    return path
