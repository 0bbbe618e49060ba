"""Rows of a cold table as the chunks that they were, to the byte."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from gateway.chunk import Block, Chunk, Layout, Requests, pack_strings
from gateway.columns import NUMPY, Array, fill_of
from gateway.journal.cold_table import OPTIONAL, valid_bit
from registry.types import Dtype, Feature

_decision_of = msgspec.json.Decoder(int | float | str | None).decode
_FACTS = ("version", "generation", "purpose", "bucket", "secret", "told")
_SAID = [{fact for i, fact in enumerate(OPTIONAL) if told >> i & 1} for told in range(1 << len(OPTIONAL))]
"""The optional parts by what `told` says of them."""
_COPIES = 2
"""A row group is kept as Arrow's columns and as arrays of its inputs."""
_STRING_BYTES = 64
"""Of a string in such an array, beside its letters, about."""


class ColdGroup:
    """Some chunks, in order of seq."""

    def __init__(self, table: pa.Table, layout: Layout) -> None:
        self._digest, self._dtypes = layout.digest, tuple(layout.groups)
        self._columns = {name: table[name].combine_chunks() for name in table.column_names}
        n_strings = table.num_rows * len(layout.groups.get("string", ()))
        self.n_bytes = _COPIES * table.nbytes + _STRING_BYTES * n_strings
        """About what it takes in memory."""
        self._seq, self._latency_us = self._array("seq"), self._array("latency_us")
        self._starts, self._runs = self._array("starts_request"), self._array("starts_run")
        self._facts = [self._array(name) for name in _FACTS]
        self._predicted_at_us = self._columns["predicted_at"].cast(pa.int64()).to_numpy()
        self._at_us = self._columns["at"].cast(pa.int64()).to_numpy()
        self._inputs: dict[Dtype, Array] = {}
        self._valid: dict[Dtype, Array] = {}
        features = {feature.name: feature for feature in layout.schema.features}
        for dtype, names in layout.groups.items():
            sent = [self._columns[f"inputs.{name}"] for name in names]
            seen = [
                column.fill_null(_stored_fill(features[name])) if column.null_count else column
                for name, column in zip(names, sent, strict=True)
            ]
            self._valid[dtype] = np.stack([column.is_valid().to_numpy(zero_copy_only=False) for column in sent])
            self._inputs[dtype] = np.stack([column.to_numpy(zero_copy_only=False) for column in seen])
        self._outputs = [(self._array(f"outputs.{out.name}"), out.width or 1, out.dtype) for out in layout.outputs]

    def chunk(self, seq: int, model: str) -> Chunk | None:
        """The chunk of that seq, which is of that model; None where it is not here."""
        first, end = (int(self._seq.searchsorted(seq, side=side)) for side in ("left", "right"))
        if first == end:
            return None
        rows = slice(first, end)
        version, generation, purpose, bucket, secret, told = (values.item(first) for values in self._facts)
        return Chunk(
            layout=self._digest,
            model=model,
            version=version,
            generation=generation,
            purpose=purpose,
            bucket=bucket,
            at_us=self._at_us.item(first),
            n_rows=end - first,
            runs=tuple(self._runs[rows].nonzero()[0].tolist()),
            secret=secret,
            inputs=[self._block(dtype, rows, told) for dtype in self._dtypes],
            outputs=[
                pack_strings(values[first * width : end * width].tolist())
                if dtype == "string"
                else values[first * width : end * width].tobytes()
                for values, width, dtype in self._outputs
            ],
            requests=self._requests(rows, told),
        )

    def _block(self, dtype: Dtype, rows: slice, told: int) -> Block:
        values = self._inputs[dtype][:, rows]
        valid = np.packbits(self._valid[dtype][:, rows]).tobytes() if told & valid_bit(dtype) else None
        return Block(pack_strings(values.ravel().tolist()) if dtype == "string" else values.tobytes(), valid)

    def _requests(self, rows: slice, told: int) -> Requests:
        starts = self._starts[rows].nonzero()[0]
        requests = Requests(starts.astype("<u4").tobytes(), self._latency_us[rows][starts].tobytes())
        said = _SAID[told % len(_SAID)]
        if "principals" in said:
            principals = self._list("principal", rows)
            requests.principals = [principals[start] for start in starts.tolist()]
        if "traces" in said:
            traces = self._list("trace", rows)
            requests.traces = [traces[start] for start in starts.tolist()]
        if "predicted_at_us" in said:
            requests.predicted_at_us = self._predicted_at_us[rows].tobytes()
        if "associations" in said:
            requests.associations = self._list("association_id", rows)
        if "decisions" in said:
            texts = self._list("decision", rows)
            requests.decisions = [None if text is None else _decision_of(text) for text in texts]
        if "propensities" in said:
            requests.propensities = self._list("propensity", rows)
        return requests

    def _array(self, name: str) -> Array:
        """A column as an array; one of lists as all of their values."""
        column = self._columns[name]
        flat = column.flatten() if pa.types.is_fixed_size_list(column.type) else column
        values: Array = flat.to_numpy(zero_copy_only=False)
        return values

    def _list(self, name: str, rows: slice) -> list[Any]:
        values: list[Any] = self._columns[name].slice(rows.start, rows.stop - rows.start).to_pylist()
        return values


def _stored_fill(feature: Feature) -> Any:
    """What stands for a missing value, as its column holds it: 0.1 is another number in float32."""
    return np.array([fill_of(feature)], NUMPY[feature.dtype]).tolist()[0]
