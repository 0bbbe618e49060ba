"""A challenger at work: a version in a limited child process, given batches, answered for row by row.

Whatever it does is an answer or a reason. A batch that fails is halved, and halved again, until the rows that cannot
be answered stand alone: they fail, the others are scored. A challenger that fails for too long at one batch is given
up for the rest of that batch, so that it costs time only, and only its own.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
from msgspec import Struct

from gateway.chunk import NUMPY, STATUSES, Array
from registry.errors import (
    AnswerRefused,
    ArtifactRefused,
    ChildFailed,
    ChildTimedOut,
    InputsRefused,
    ModelRaised,
)
from registry.limited_child import LimitedChild
from registry.limits import ChildLimits
from registry.types import Dtype, OutputTensor, Version

PATIENCE = 3
"""How many timeouts' worth of trying one batch may cost."""
MAX_PAUSE_S = 60.0
_NOTHING: dict[Dtype, object] = {"float32": np.nan, "float64": np.nan, "int64": 0, "bool": False, "string": ""}


class Scores(Struct, frozen=True):
    """What became of some rows: a status each, and outputs that hold NaN, 0 or the empty string where none came."""

    status: Array
    """uint8, an index into STATUSES."""
    outputs: dict[str, Array]

    def rows(self, start: int, stop: int) -> Scores:
        """The rows start … stop - 1."""
        return Scores(self.status[start:stop], {name: values[start:stop] for name, values in self.outputs.items()})


class Challenger:
    """One version in one child, which is started when it is first needed and again after it ended."""

    def __init__(self, version: Version, artifact: bytes, *, memory_bytes: int, timeout_s: float) -> None:
        self.version = version
        self._artifact, self._timeout_s = artifact, timeout_s
        self._limits = ChildLimits(memory_bytes=memory_bytes)
        self._child: LimitedChild | None = None
        self._pause_s = 0.0
        self._resumes_s = 0.0

    @property
    def pausing(self) -> bool:
        """Whether it is given time after a batch at which nothing went well; its rows wait, and may lag."""
        return time.monotonic() < self._resumes_s

    @property
    def pid(self) -> int | None:
        """The number of its process, while it has one."""
        return None if self._child is None else self._child.pid

    def score(self, columns: Mapping[str, Array]) -> Scores:
        """Answers to n rows, feature name → array of n values. Never raises for what the challenger does."""
        n_rows = len(next(iter(columns.values())))
        scores = _unanswered(n_rows, self.version.signature.outputs)
        self._fill(scores, columns, 0, n_rows, time.monotonic() + PATIENCE * self._timeout_s)
        self._rest_if_hopeless(scores)
        return scores

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.close()
            self._child = None

    def _fill(self, scores: Scores, columns: Mapping[str, Array], start: int, stop: int, deadline_s: float) -> None:
        try:
            outputs = self._run({name: column[start:stop] for name, column in columns.items()})
        except (AnswerRefused, InputsRefused, ModelRaised, ArtifactRefused, ChildFailed) as error:
            if isinstance(error, ChildFailed):
                self.close()
            if stop - start == 1 or time.monotonic() > deadline_s:
                scores.status[start:stop] = STATUSES.index(_reason(error))
                return
            middle = (start + stop) // 2
            self._fill(scores, columns, start, middle, deadline_s)
            self._fill(scores, columns, middle, stop, deadline_s)
            return
        scores.status[start:stop] = STATUSES.index("scored")
        for name, values in outputs.items():
            scores.outputs[name][start:stop] = values

    def _run(self, columns: Mapping[str, Array]) -> dict[str, Array]:
        child = self._started()
        if self.version.signature.batchable:
            return child.run(columns, timeout_s=self._timeout_s)
        n_rows = len(next(iter(columns.values())))
        rows = [
            child.run({name: column[i : i + 1] for name, column in columns.items()}, timeout_s=self._timeout_s)
            for i in range(n_rows)
        ]
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}

    def _started(self) -> LimitedChild:
        if self._child is None:
            self._child = LimitedChild(self._limits)
            self._child.load(self._artifact, self.version.signature, timeout_s=max(30.0, self._timeout_s))
        return self._child

    def _rest_if_hopeless(self, scores: Scores) -> None:
        """After a batch that only ever ended the child, wait before the next one, each time twice as long."""
        if np.isin(scores.status, [STATUSES.index(reason) for reason in ("crashed", "timeout")]).all():
            self._pause_s = min(MAX_PAUSE_S, max(0.5, 2 * self._pause_s))
            self._resumes_s = time.monotonic() + self._pause_s
        else:
            self._pause_s = 0.0


def _reason(error: Exception) -> str:
    match error:
        case ChildTimedOut():
            return "timeout"
        case ChildFailed() | ArtifactRefused():
            return "crashed"
        case AnswerRefused():
            return "invalid_answer"
        case _:
            return "error"


def _unanswered(n_rows: int, tensors: tuple[OutputTensor, ...]) -> Scores:
    outputs = {}
    for tensor in tensors:
        shape = (n_rows,) if tensor.width is None else (n_rows, tensor.width)
        outputs[tensor.name] = np.full(shape, _NOTHING[tensor.dtype], NUMPY[tensor.dtype])
    return Scores(np.full(n_rows, STATUSES.index("error"), np.uint8), outputs)


def failed(n_rows: int, tensors: tuple[OutputTensor, ...], reason: str) -> Scores:
    """Rows that were never tried, for one reason."""
    scores = _unanswered(n_rows, tensors)
    scores.status[:] = STATUSES.index(reason)
    return scores
