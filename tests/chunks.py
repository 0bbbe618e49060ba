"""Chunks of every kind, drawn by Hypothesis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from gateway.chunk import Chunk, Layout, Requests, pack_columns, pack_outputs
from gateway.columns import DTYPES, NUMPY, Array, Columns
from registry.types import Dtype, Feature, InputSchema, OutputTensor

TEXT = st.one_of(st.sampled_from(["", "\0", "a\0b", "süß", "日本", "\U0001f600", "x" * 300]), st.text(max_size=5))
VALUES: dict[Dtype, st.SearchStrategy[Any]] = {
    "float32": st.floats(width=32),
    "float64": st.floats(),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "bool": st.booleans(),
    "string": TEXT,
}
INT64 = st.integers(-(2**63), 2**63 - 1)


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    dtypes = draw(st.lists(st.sampled_from(DTYPES), max_size=12))
    features = tuple(Feature(f"f{i}", dtype) for i, dtype in enumerate(dtypes))
    widths = draw(st.lists(st.sampled_from([None, 1, 3]), min_size=1, max_size=3))
    outputs = tuple(OutputTensor(f"o{i}", draw(st.sampled_from(DTYPES)), width) for i, width in enumerate(widths))
    return Layout(InputSchema(features), outputs)


def arrays(draw: Callable[[st.SearchStrategy[Any]], Any], dtype: Dtype, n_rows: int, n_columns: int) -> Array:
    n = n_rows * n_columns
    array = np.empty(n, NUMPY[dtype])
    array[:] = draw(st.lists(VALUES[dtype], min_size=n, max_size=n))
    return array.reshape(n_rows, n_columns)


@st.composite
def columns_of(draw: st.DrawFn, layout: Layout, n_rows: int) -> Columns:
    blocks = {dtype: arrays(draw, dtype, n_rows, len(names)) for dtype, names in layout.groups.items()}
    lacking = [dtype for dtype in blocks if draw(st.booleans())]
    return Columns(n_rows, blocks, {dtype: arrays(draw, "bool", n_rows, blocks[dtype].shape[1]) for dtype in lacking})


@st.composite
def requests_of(draw: st.DrawFn, n_rows: int) -> Requests:
    inner = draw(st.sets(st.integers(1, max(n_rows - 1, 1)), max_size=3)) if n_rows > 1 else set()
    starts = [0, *sorted(inner)]

    def a_row(values: st.SearchStrategy[Any]) -> Any:
        return draw(st.none() | st.lists(st.none() | values, min_size=n_rows, max_size=n_rows))

    times = draw(st.none() | st.lists(INT64, min_size=n_rows, max_size=n_rows))
    return Requests(
        starts=np.array(starts, "<u4").tobytes(),
        latency_us=np.full(len(starts), 2**32 - 1, "<u4").tobytes(),
        principals=draw(st.none() | st.just([draw(TEXT)] * len(starts))),
        traces=draw(st.none() | st.lists(st.none() | TEXT, min_size=len(starts), max_size=len(starts))),
        predicted_at_us=None if times is None else np.array(times, "<i8").tobytes(),
        associations=a_row(TEXT),
        decisions=a_row(TEXT | INT64 | st.floats(allow_nan=False, allow_infinity=False)),
        propensities=a_row(st.floats(0, 1)),
    )


@st.composite
def chunks(draw: st.DrawFn) -> tuple[Chunk, Layout, Columns, dict[str, Array]]:
    layout, n_rows = draw(layouts()), draw(st.integers(0, 9))
    columns = draw(columns_of(layout, n_rows))
    outputs = {tensor.name: arrays(draw, tensor.dtype, n_rows, tensor.width or 1) for tensor in layout.outputs}
    outputs = {t.name: outputs[t.name] if t.width else outputs[t.name][:, 0] for t in layout.outputs}
    chunk = Chunk(
        layout=layout.digest,
        model=draw(TEXT),
        version=draw(st.integers(1, 2**31)),
        generation=draw(st.integers(1, 2**31)),
        purpose=draw(st.sampled_from(["live", "test", "pinned"])),
        bucket=draw(INT64),
        at_us=draw(INT64),
        n_rows=n_rows,
        runs=tuple(draw(st.lists(st.integers(0, 2**32), max_size=3))),
        secret=draw(st.binary(min_size=16, max_size=16)),
        inputs=pack_columns(columns),
        outputs=pack_outputs(outputs, layout.outputs),
        requests=draw(requests_of(n_rows)),
    )
    return chunk, layout, columns, outputs
