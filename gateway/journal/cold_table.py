"""Chunks as rows of a table: how the journal looks where it is cold. `cold_group.py` makes the same chunks of them.

A row a prediction, columns named as in an export (`table.py`):

    predicted_at bucket version generation purpose writer seq row association_id decision propensity
    inputs.<feature>…   null where the caller did not send it
    outputs.<output>…   principal trace latency_us
    at starts_request starts_run secret told

The last line is bookkeeping: the chunk's own time, where requests and runs of the model begin, the secret under its
prediction ids, and which of its optional parts the chunk has at all (a list of nothing is not the lack of a list).
A decision is its JSON, as 1, 1.0 and "1" are three decisions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from gateway.chunk import Chunk, Layout
from gateway.columns import DTYPES, NUMPY, Array
from gateway.journal.arrow import MOMENT, TYPES, each_row, inputs_of, listed, numbers_in, strings_in, vector
from gateway.journal.sets import Located
from gateway.records import SECRET_BYTES
from registry.types import Dtype, OutputTensor

LAYOUT = b"understudy.layout"
OPTIONAL = ("predicted_at_us", "associations", "decisions", "propensities", "principals", "traces")
"""What `Requests` may lack: bit i of `told`."""


def valid_bit(dtype: Dtype) -> int:
    """The bit of `told` that says that the chunk has a bitmap of what is valid in this dtype."""
    return 1 << len(OPTIONAL) + DTYPES.index(dtype)


def schema_of(layout: Layout) -> pa.Schema:
    """The columns of chunks of this layout, which the file keeps with them."""
    columns = {
        "predicted_at": MOMENT, "bucket": pa.int64(), "version": pa.int32(), "generation": pa.int32(),
        "purpose": pa.string(), "writer": pa.int64(), "seq": pa.int64(), "row": pa.int32(),
        "association_id": pa.string(), "decision": pa.string(), "propensity": pa.float64(),
    }  # fmt: skip
    columns |= {f"inputs.{feature.name}": TYPES[feature.dtype] for feature in layout.schema.features}
    columns |= {f"outputs.{out.name}": vector(TYPES[out.dtype], out.width) for out in layout.outputs}
    columns |= {
        "principal": pa.string(), "trace": pa.string(), "latency_us": pa.uint32(), "at": MOMENT,
        "starts_request": pa.bool_(), "starts_run": pa.bool_(), "secret": pa.binary(SECRET_BYTES), "told": pa.uint16(),
    }  # fmt: skip
    return pa.schema(columns, {LAYOUT: msgspec.json.encode(layout)})


def holds_floats(kind: pa.DataType) -> bool:
    """Whether a column of this type holds floats, each or in lists."""
    return bool(pa.types.is_floating(kind.value_type if pa.types.is_fixed_size_list(kind) else kind))


def table_of(page: Sequence[Located], layout: Layout) -> pa.Table:
    """The rows of chunks that have this layout and were not erased."""
    chunks = [each.chunk for each in page]
    lengths = np.array([chunk.n_rows for chunk in chunks])
    firsts = (np.cumsum(lengths) - lengths).tolist()
    n_rows = int(lengths.sum())
    starts = np.concatenate([chunk.starts() + first for chunk, first in zip(chunks, firsts, strict=True)])
    runs = np.concatenate([np.array(chunk.runs) + first for chunk, first in zip(chunks, firsts, strict=True)])
    of_chunk = pa.array(np.repeat(np.arange(len(chunks)), lengths))
    of_request = pa.array(np.repeat(np.arange(len(starts)), np.diff(np.r_[starts, n_rows])))
    latencies = np.frombuffer(b"".join(chunk.requests.latency_us for chunk in chunks), "<u4")
    columns: dict[str, Any] = {
        "predicted_at": np.concatenate([chunk.predicted_at_us() for chunk in chunks]),
        "row": np.concatenate([np.arange(length) for length in lengths]),
        "association_id": each_row(page, "associations", pa.string()),
        "decision": [text for chunk in chunks for text in _decisions(chunk)],
        "propensity": each_row(page, "propensities", pa.float64()),
        "latency_us": pa.array(latencies).take(of_request),
        "starts_request": _marks(starts, n_rows),
        "starts_run": _marks(runs, n_rows),
    }
    of_chunks = {
        "bucket": [chunk.bucket for chunk in chunks], "version": [chunk.version for chunk in chunks],
        "generation": [chunk.generation for chunk in chunks], "purpose": [chunk.purpose for chunk in chunks],
        "writer": [each.writer for each in page], "seq": [each.seq for each in page],
        "at": [chunk.at_us for chunk in chunks], "secret": [chunk.secret for chunk in chunks],
        "told": [_told(chunk, layout) for chunk in chunks],
    }  # fmt: skip
    of_requests = {
        "principal": [name for chunk in chunks for name in _each_request(chunk, chunk.requests.principals)],
        "trace": [trace for chunk in chunks for trace in _each_request(chunk, chunk.requests.traces)],
    }
    columns |= {f"inputs.{name}": column for name, column in inputs_of(page, layout).items()}
    columns |= {f"outputs.{out.name}": _output(chunks, place, out) for place, out in enumerate(layout.outputs)}
    schema = schema_of(layout)
    for values, where in ((of_chunks, of_chunk), (of_requests, of_request)):
        columns |= {name: pa.array(each, schema.field(name).type).take(where) for name, each in values.items()}
    return pa.table([_as(columns[field.name], field.type) for field in schema], schema=schema)


def _as(values: Any, kind: pa.DataType) -> Any:
    return values if isinstance(values, pa.Array) else pa.array(values, kind)


def _decisions(chunk: Chunk) -> Iterator[str | None]:
    for value in chunk.requests.decisions or [None] * chunk.n_rows:
        yield None if value is None else msgspec.json.encode(value).decode()


def _each_request(chunk: Chunk, said: Sequence[str | None] | None) -> Sequence[str | None]:
    return [None] * len(chunk.starts()) if said is None else said


def _output(chunks: Sequence[Chunk], place: int, out: OutputTensor) -> Any:
    packed = [chunk.outputs[place] for chunk in chunks]
    if out.dtype == "string":
        return listed(pa.concat_arrays([strings_in(values) for values in packed]), out.width)
    flat = np.concatenate([numbers_in(values, NUMPY[out.dtype]) for values in packed])
    return listed(pa.array(flat, TYPES[out.dtype]), out.width)


def _told(chunk: Chunk, layout: Layout) -> int:
    """Which optional parts the chunk has, a bit each."""
    told = sum(1 << i for i, fact in enumerate(OPTIONAL) if getattr(chunk.requests, fact) is not None)
    blocks = zip(layout.groups, chunk.inputs or (), strict=True)
    return told + sum(valid_bit(dtype) for dtype, block in blocks if block.valid is not None)


def _marks(places: Array, n_rows: int) -> Array:
    marks = np.zeros(n_rows, bool)
    marks[places] = True
    return marks
