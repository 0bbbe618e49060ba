"""A challenger at work: a version in a limited child process, given batches, answered for row by row.

Whatever it does is an answer or a reason. A batch that fails is halved, and halved again, until the rows that cannot
be answered stand alone: they fail, the others are scored. A challenger that fails for too long at one batch is given
up for the rest of that batch, so that it costs time only, and only its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

import numpy as np
from msgspec import Struct

from gateway.chunk import STATUSES
from gateway.columns import NUMPY, Array
from registry.errors import (
    AnswerRefused,
    ArtifactRefused,
    ChildCrashed,
    ChildFailed,
    ChildTimedOut,
    InputsRefused,
    ModelRaised,
)
from registry.limited_child import LimitedChild
from registry.limits import ChildLimits
from registry.types import Dtype, OutputTensor, Version

PATIENCE = 3
"""For how many timeouts a batch is halved; after that each part that is left is tried once more, as a whole."""
LOADING_S = 30.0
UNLOADABLE = (ArtifactRefused, ChildFailed)
MAX_PAUSE_S = 60.0
_HOPELESS = {STATUSES.index("crashed"), STATUSES.index("timeout")}
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

    def __init__(self, version: Version, artifact: Callable[[], bytes], *, memory_bytes: int, timeout_s: float) -> None:
        """`artifact` is asked for the bytes whenever a child is started."""
        self.version = version
        self.features = frozenset(name for binding in version.signature.inputs for name in binding.features)
        """What it takes."""
        self._artifact, self._timeout_s = artifact, timeout_s
        self._limits = ChildLimits(memory_bytes=memory_bytes)
        self._child: LimitedChild | None = None
        self._starting: LimitedChild | None = None
        self._ended = threading.Event()
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
        """Answers to n rows, feature name → array of n values. Never raises for what the challenger does.

        Raises:
            ArtifactDamaged, ArtifactMissing: it cannot be started, through no fault of its own.
        """
        n_rows = len(next(iter(columns.values())))
        scores = _unanswered(n_rows, self.version.signature.outputs)
        try:
            self._started()
        except UNLOADABLE as error:  # no row is to blame: none is tried alone
            scores.status[:] = STATUSES.index(_reason(error))
        else:
            self._fill(scores, columns, 0, n_rows, time.monotonic() + PATIENCE * self._timeout_s)
        self._rest_if_hopeless(scores)
        return scores

    def alone_us(self, row: Mapping[str, Array]) -> int | None:
        """What one row takes by itself, in microseconds: the shorter of two calls; None where it does not answer.

        A batch says nothing of it: nobody who asks for one row waits for a thousand. The child is niced and its
        answer crosses a pipe, so the shorter of two is taken, and what is left of that counts against the challenger;
        the champion's time is what its caller waited.
        """
        took_us = []
        for _ in range(2):
            started_ns = time.perf_counter_ns()
            try:
                self._call(row, 1)
            except ChildFailed:
                self.close()
                return None
            except (AnswerRefused, InputsRefused, ModelRaised, ArtifactRefused):
                return None
            took_us.append((time.perf_counter_ns() - started_ns) // 1_000)
        return min(took_us)

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.close()
            self._child = None

    def end(self) -> None:
        """End the child for good; called while another thread waits for it, that gets reasons, and no new child."""
        self._ended.set()
        for child in (self._child, self._starting):
            if child is not None:
                child.close()

    def _fill(self, scores: Scores, columns: Mapping[str, Array], start: int, stop: int, deadline_s: float) -> None:
        try:
            outputs = self._run({name: column[start:stop] for name, column in columns.items()})
        except (AnswerRefused, InputsRefused, ModelRaised, *UNLOADABLE) as error:
            if isinstance(error, ChildFailed):
                self.close()
            if stop - start == 1 or self._ended.is_set() or time.monotonic() > deadline_s:
                scores.status[start:stop] = STATUSES.index(_reason(error))
                return
            middle = (start + stop) // 2
            self._fill(scores, columns, start, middle, deadline_s)
            self._fill(scores, columns, middle, stop, deadline_s)
            return
        scores.status[start:stop] = STATUSES.index("scored")
        for name, place in scores.outputs.items():
            place[start:stop] = outputs[name]

    def _run(self, columns: Mapping[str, Array]) -> dict[str, Array]:
        n_rows = len(next(iter(columns.values())))
        if self.version.signature.batchable:
            return self._call(columns, n_rows)
        rows = [self._call({name: column[i : i + 1] for name, column in columns.items()}, 1) for i in range(n_rows)]
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}

    def _call(self, columns: Mapping[str, Array], n_rows: int) -> dict[str, Array]:
        """One call of the child. That an answer has its shape is seen again here: a model may have taken it over."""
        outputs = self._started().run(columns, timeout_s=self._timeout_s)
        for name, expected in _unanswered(n_rows, self.version.signature.outputs).outputs.items():
            got = outputs.get(name)
            if got is None or got.shape != expected.shape or got.dtype != expected.dtype:
                found = "missing" if got is None else f"{got.dtype} of shape {got.shape}"
                raise AnswerRefused(name, f"{expected.dtype} of shape {expected.shape}", found)
        return outputs

    def _started(self) -> LimitedChild:
        if self._ended.is_set():
            raise ChildCrashed("SIGKILL")
        if self._child is None:
            artifact = self._artifact()
            child = self._starting = LimitedChild(self._limits)
            try:
                child.load(artifact, self.version.signature, timeout_s=max(LOADING_S, self._timeout_s))
            except BaseException:
                child.close()  # one without its model would answer that it has none
                raise
            self._child = child
            if self._ended.is_set():
                self.close()
                raise ChildCrashed("SIGKILL")
        return self._child

    def _rest_if_hopeless(self, scores: Scores) -> None:
        """After a batch that only ever ended the child, wait before the next one, each time twice as long."""
        if set(scores.status.tolist()) <= _HOPELESS:
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
