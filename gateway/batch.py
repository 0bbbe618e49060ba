"""One run of a champion: the requests that share a chunk, answered by one call and packed for the journal."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from msgspec import Struct

from gateway.chunk import Chunk, Requests, pack_columns, pack_outputs
from gateway.columns import Array, Columns, Outputs
from gateway.errors import ModelFailed
from gateway.front import Ticket
from gateway.journal import Draft
from gateway.lineup import Serving
from gateway.records import Purpose
from gateway.wire.own import Asked, Said
from registry.errors import AnswerRefused, InputsRefused, ModelRaised

_MOST_US = 2**32 - 1
_NOTHING = Said()
FAULTS = (AnswerRefused, InputsRefused, ModelRaised, MemoryError)
"""How a version fails to answer, a batch that is too large for it included; anything else would be a fault of ours."""


class Answered(Struct, frozen=True):
    """The champion's answer to one request: rows start … stop - 1 of `outputs`. Without an id it is not recorded."""

    prediction_id: str | None
    version: int
    outputs: Outputs
    start: int
    stop: int


class Ask(Struct):
    """A request on its way: decoded, waiting for its run and its commit."""

    asked: Asked
    ticket: Ticket
    done: Callable[[Answered | Exception], None]
    finished: bool = False
    """Whether `done` was called, which happens once."""


class Cohort(Struct):
    """Requests that will be one chunk: of one purpose and one bucket, stamped when the run starts."""

    asks: list[Ask]
    purpose: Purpose
    bucket: int
    at_us: int


class Ran(Struct):
    """A cohort that the champion has answered; `failed` are those of its requests that it could not answer."""

    cohort: Cohort
    asks: list[Ask]
    columns: Columns
    outputs: Outputs
    runs: tuple[int, ...]
    failed: list[tuple[Ask, ModelFailed]] = []
    starts: list[int] = []
    """The first row of each request, and one past the last row."""

    def __post_init__(self) -> None:
        n_rows = (ask.asked.columns.n_rows for ask in self.asks)
        lonely = len(self.asks) == self.columns.n_rows
        self.starts = list(range(len(self.asks) + 1)) if lonely else list(accumulate(n_rows, initial=0))


def run(serving: Serving, cohort: Cohort) -> Ran:
    """Answer a cohort by one call; if that fails, each request alone, so that only the guilty ones fail."""
    columns = Columns.joined([ask.asked.columns for ask in cohort.asks])
    try:
        outputs, runs = serving.champion.run(columns)
    except FAULTS as error:
        if len(cohort.asks) == 1:
            return Ran(cohort, [], columns, Outputs({}), (), [(cohort.asks[0], _failure(serving, error))])
        return _run_alone(serving, cohort)
    return Ran(cohort, cohort.asks, columns, Outputs(outputs), runs)


def _run_alone(serving: Serving, cohort: Cohort) -> Ran:
    good: list[Ask] = []
    parts: list[dict[str, Array]] = []
    runs: list[int] = []
    failed: list[tuple[Ask, ModelFailed]] = []
    n_rows = 0
    for ask in cohort.asks:
        try:
            outputs, own_runs = serving.champion.run(ask.asked.columns)
        except FAULTS as error:
            failed.append((ask, _failure(serving, error)))
            continue
        good.append(ask)
        parts.append(outputs)
        runs.extend(n_rows + first for first in own_runs)
        n_rows += ask.asked.columns.n_rows
    if not good:
        return Ran(cohort, [], cohort.asks[0].asked.columns, Outputs({}), (), failed)
    columns = Columns.joined([ask.asked.columns for ask in good])
    outputs = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Ran(cohort, good, columns, Outputs(outputs), tuple(runs), failed)


def _failure(serving: Serving, error: Exception) -> ModelFailed:
    return ModelFailed(f"version {serving.lineup.champion} of '{serving.model.name}' could not answer: {error}")


def draft(serving: Serving, ran: Ran, secret: bytes, answered_ns: int) -> Draft:
    """The chunk of a run, for the journal."""
    layout = serving.champion.layout
    chunk = Chunk(
        layout=layout.digest,
        model=serving.model.name,
        version=serving.lineup.champion,
        generation=serving.lineup.generation,
        purpose=ran.cohort.purpose,
        bucket=ran.cohort.bucket,
        at_us=ran.cohort.at_us,
        n_rows=ran.columns.n_rows,
        runs=ran.runs,
        secret=secret,
        inputs=pack_columns(ran.columns),
        outputs=pack_outputs(ran.outputs.arrays, layout.outputs),
        requests=_facts(ran, answered_ns),
    )
    return Draft(chunk, layout)


def _facts(ran: Ran, answered_ns: int) -> Requests:
    tickets = [ask.ticket for ask in ran.asks]
    latency_us = [min((answered_ns - ticket.arrived_ns) // 1_000, _MOST_US) for ticket in tickets]
    traces = [ticket.trace for ticket in tickets]
    requests = Requests(
        starts=_uint32(ran.starts[:-1]),
        latency_us=_uint32(latency_us),
        principals=[ticket.principal.name for ticket in tickets],
        traces=traces if any(traces) else None,
    )
    if any(ask.asked.said for ask in ran.asks):
        said = [ask.asked.said or _NOTHING for ask in ran.asks]
        predicted = _a_row(ran, [each.predicted_at_us for each in said], ran.cohort.at_us)
        requests.predicted_at_us = None if predicted is None else np.array(predicted, "<i8").tobytes()
        requests.associations = _a_row(ran, [each.associations for each in said], None)
        requests.decisions = _a_row(ran, [each.decisions for each in said], None)
        requests.propensities = _a_row(ran, [each.propensities for each in said], None)
    return requests


def _uint32(numbers: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(numbers)}I", *numbers)


def _a_row(ran: Ran, said: Sequence[list[Any] | None], unsaid: Any) -> list[Any] | None:
    """What the requests said of their rows, one a row; None if none of them said anything."""
    if said.count(None) == len(said):
        return None
    rows: list[Any] = []
    for ask, values in zip(ran.asks, said, strict=True):
        rows.extend([unsaid] * ask.asked.columns.n_rows if values is None else values)
    return rows
