"""The champion as every peer runs it: one thread, as there is one core."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray


class Champion:
    """The model of `BENCH_CHAMPION`."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            os.environ["BENCH_CHAMPION"], options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name

    def __call__(self, x: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Labels `(n,)` and probabilities `(n, 2)` of rows `(n, 30)`."""
        answers: Any = self._session.run(None, {self._input: x})
        label, probabilities = answers
        return label, probabilities
