"""What runs a champion. So far only here, in the gateway's process; remote ones will be a second class."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import EllipsisType

import numpy as np

from gateway.chunk import Layout
from gateway.columns import NUMPY, Array, Columns, groups_of
from registry.onnx_model import OnnxModel
from registry.types import Dtype, InputSchema, Version

SLOW_CALL_S = 0.000_3
"""A call for one row above this leaves the event loop: everybody else would wait for it."""
LONG_BATCH_S = 0.003
"""And so does any batch that is expected to take longer than this."""
LONGEST_RUN_S = 0.05
"""Whatever runs longer is split: a promotion, and whoever comes next, would wait for its end."""
_ANY_NUMBER = 1_000_000_000
Stopwatch = Callable[[], float]
"""Seconds from any moment on: what calls are timed by."""
WARM_UP_CALLS, WARM_UP_S = 8, 0.01
_GAIN = 0.2
_MOST_TIMES = 4.0
"""A call that took longer by more than this was interrupted, which says nothing of the model."""


class LocalBackend:
    """A version loaded in this process, which admission has loaded in a limited child before."""

    def __init__(
        self, version: Version, artifact: bytes, schema: InputSchema, seconds: Stopwatch = time.perf_counter
    ) -> None:
        self.version, self._seconds = version, seconds
        self.layout = Layout.of(schema, version.signature)
        self._model = OnnxModel(artifact, version.signature)
        self._groups = groups_of(schema)
        self._picked = self._picked_from_block()
        self.row_s = self._warmed_up(schema)
        """Seconds a row has taken of late: less in a large batch than alone."""
        self.most_rows = _ANY_NUMBER
        """How many rows to run at once: as many as `LONGEST_RUN_S` has been seen to allow, or two calls alone take."""
        self._longest_run_s = max(LONGEST_RUN_S, 2 * self.row_s)
        self._is_slow = self.row_s > SLOW_CALL_S

    def leaves_the_loop(self, n_rows: int) -> bool:
        """Whether a batch of this size should run in a thread."""
        return self._is_slow or n_rows * self.row_s > LONG_BATCH_S

    def run(self, columns: Columns) -> tuple[dict[str, Array], tuple[int, ...]]:
        """Answer some rows.

        Returns:
            Output name → `(n,)` or `(n, width)`, and the first row of every call that was made.

        Raises:
            AnswerRefused, InputsRefused, ModelRaised: the model raised, or answered outside of its signature.
        """
        started = self._seconds()
        runs = (0,) if self.version.signature.batchable else tuple(range(columns.n_rows))
        outputs = self._answer(columns) if len(runs) == 1 else self._answer_alone(columns)
        self.learn(columns.n_rows, self._seconds() - started)
        return outputs, runs

    def learn(self, n_rows: int, took_s: float) -> None:
        """Take a run into account."""
        self.row_s += _GAIN * (min(took_s / n_rows, _MOST_TIMES * self.row_s) - self.row_s)
        if took_s > self._longest_run_s:
            self.most_rows = max(1, int(n_rows * self._longest_run_s / took_s))
        elif n_rows >= self.most_rows:
            self.most_rows = 2 * n_rows

    def _answer_alone(self, columns: Columns) -> dict[str, Array]:
        """A call a row."""
        parts = [self._answer(columns.rows(i, i + 1)) for i in range(columns.n_rows)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _answer(self, columns: Columns) -> dict[str, Array]:
        """One call."""
        if self._picked is None:
            return self._model.run(columns.by_name(self._groups))
        block = columns.blocks["float32"]
        return self._model.run_block(block if self._picked is ... else np.ascontiguousarray(block[:, self._picked]))

    def _picked_from_block(self) -> list[int] | EllipsisType | None:
        """Where the version's features stand in a block of float32: `...` for all of it as it is.

        None where the version wants more than one tensor of them, column by column.
        """
        wanted, there = self._model.block_features, self._groups.get("float32", ())
        if wanted is None or not set(wanted) <= set(there):
            return None
        return ... if wanted == there else [there.index(name) for name in wanted]

    def _warmed_up(self, schema: InputSchema) -> float:
        """Seconds a call for one row takes, after the first calls, which are always slower."""
        row = {feature.name: _zero(feature.dtype) for feature in schema.features}
        took: list[float] = []
        while len(took) < WARM_UP_CALLS and sum(took) < WARM_UP_S:  # a promotion waits for this
            started = self._seconds()
            self._model.run(row)
            took.append(self._seconds() - started)
        return sorted(took)[len(took) // 4]


def _zero(dtype: Dtype) -> Array:
    return np.array([""], object) if dtype == "string" else np.zeros(1, NUMPY[dtype])
