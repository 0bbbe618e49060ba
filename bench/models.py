"""The model that everybody serves, and its two challengers: trained here on seeded synthetic rows, kept as ONNX."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from skl2onnx import to_onnx
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

N_FEATURES = 30
N_TRAINING_ROWS = 20_000
N_ROWS = 2_000
"""Distinct rows that are asked for: one row again and again would flatter trees, whose branches the CPU then knows."""
N_WIDE, N_DEEP, N_SLOW_TRAINING_ROWS = 4_000, 3, 200
SEED = 20_251_101
OPSETS = {"": 18, "ai.onnx.ml": 3}
FEATURES = tuple(f"f{i:02d}" for i in range(N_FEATURES))


class Trained(Struct, frozen=True):
    """Files of the models, and rows that none of them was trained on."""

    champion: Path
    challengers: tuple[Path, ...]
    rows: NDArray[np.float32]
    """`(N_ROWS, N_FEATURES)`."""


def trained_slow(folder: Path) -> Path:
    """Train (one step, as nobody asks how well) a network that is so wide that a row takes it half a millisecond."""
    generator = np.random.default_rng(SEED)
    x = generator.normal(size=(N_SLOW_TRAINING_ROWS, N_FEATURES)).astype(np.float32)
    y = (x[:, 0] + x[:, 1] * x[:, 2] > 0).astype(np.int64)
    wide = MLPClassifier((N_WIDE,) * N_DEEP, max_iter=1, batch_size=N_SLOW_TRAINING_ROWS, random_state=SEED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        wide.fit(x, y)
    return _written(folder / "slow.onnx", wide, x[:1])


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
