"""The codec: what goes into a chunk comes out of it, and what was damaged is never believed."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.chunk import (
    STATUSES,
    Chunk,
    Layout,
    ShadowChunk,
    decode,
    decode_shadow,
    encode,
    pack_columns,
    pack_outputs,
    pack_strings,
    unpack_columns,
    unpack_outputs,
)
from gateway.columns import DTYPES, NUMPY, Array, Columns, groups_of
from gateway.errors import JournalDamaged
from registry.types import Dtype, Feature, InputBinding, InputSchema, OutputTensor, ScoreColumn, Signature
from tests.chunks import INT64, arrays, chunks, columns_of, layouts
from tests.journals import LAYOUT, draft, mirrored


def same(left: Array, right: Array) -> bool:
    """Alike to the last bit, NaN and -0.0 included."""
    if left.shape != right.shape:
        return False
    if left.dtype == object:
        return bool(left.tolist() == right.tolist())
    return left.dtype == right.dtype and left.tobytes() == right.tobytes()


def same_arrays(left: dict[Any, Array], right: dict[Any, Array]) -> bool:
    return list(left) == list(right) and all(same(left[name], right[name]) for name in left)


@settings(max_examples=150, deadline=None)
@given(chunks())
def test_what_is_stored_in_a_chunk_is_read_again_bit_for_bit(
    made: tuple[Chunk, Layout, Columns, dict[str, Array]],
) -> None:
    chunk, layout, columns, outputs = made
    read = decode(encode(chunk))
    assert read == chunk
    again = unpack_columns(read, layout)
    assert again.n_rows == columns.n_rows
    assert same_arrays(again.blocks, columns.blocks)
    assert same_arrays(again.missing, columns.missing)
    assert same_arrays(unpack_outputs(read.outputs, layout.outputs), outputs)


@settings(max_examples=50, deadline=None)
@given(st.data(), st.lists(st.sampled_from(STATUSES), max_size=20))
def test_what_is_stored_in_a_shadow_chunk_is_read_again(data: st.DataObject, statuses: list[str]) -> None:
    layout = data.draw(layouts())
    outputs = {
        tensor.name: arrays(data.draw, tensor.dtype, len(statuses), tensor.width or 1) for tensor in layout.outputs
    }
    packed = data.draw(st.none() | st.just(pack_outputs(outputs, layout.outputs)))
    shadow = ShadowChunk(layout.digest, bytes(STATUSES.index(s) for s in statuses), packed, data.draw(INT64))
    read = decode_shadow(encode(shadow))
    assert read == shadow
    assert [STATUSES[code] for code in read.status] == statuses
    if read.outputs is not None:
        again = unpack_outputs(read.outputs, layout.outputs)
        assert all(same(again[t.name].reshape(outputs[t.name].shape), outputs[t.name]) for t in layout.outputs)


def test_thousands_of_rows_and_hundreds_of_features_come_back_alike() -> None:
    schema = InputSchema(tuple(Feature(f"f{i}", DTYPES[i % len(DTYPES)]) for i in range(300)))
    generator = np.random.default_rng(1)
    layout = Layout(schema, (OutputTensor("y", "float64", 2),))
    n = 3_000
    blocks: dict[Dtype, Array] = {}
    for dtype, names in groups_of(schema).items():
        numbers = generator.integers(0, 2**62, (n, len(names)))
        blocks[dtype] = numbers.astype(str).astype(object) if dtype == "string" else numbers.astype(NUMPY[dtype])
    missing: dict[Dtype, Array] = {
        dtype: np.asarray(generator.random(block.shape) < 0.3) for dtype, block in blocks.items()
    }
    columns = Columns(n, blocks, missing)
    chunk = msgspec.structs.replace(draft().chunk, n_rows=n, inputs=pack_columns(columns))
    again = unpack_columns(decode(encode(chunk)), layout)
    assert same_arrays(again.blocks, blocks)
    assert same_arrays(again.missing, missing)
    assert same(again.by_name(layout.groups)["f299"], blocks["string"][:, -1])


@pytest.mark.parametrize("stored", [encode(draft(3).chunk), encode(mirrored(1, 1, ["scored", "lag"]).chunk)])
def test_every_flipped_bit_is_found(stored: bytes) -> None:
    kind, read = (ShadowChunk, decode_shadow) if len(stored) < 80 else (Chunk, decode)
    read(stored)
    n_believed = 0
    for i in range(8 * len(stored)):
        flipped = bytearray(stored)
        flipped[i // 8] ^= 1 << (i % 8)
        with pytest.raises(JournalDamaged, match="does not match its checksum"):
            read(bytes(flipped))
        try:  # control: without the checksum
            msgspec.msgpack.decode(flipped[:-4], type=kind)
            n_believed += 1
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
    assert n_believed > len(stored)


def test_every_truncation_is_found() -> None:
    for stored in (encode(draft(3).chunk), encode(mirrored(1, 1, ["scored"]).chunk)):
        for length in range(len(stored)):
            with pytest.raises(JournalDamaged):
                decode(stored[:length])
            with pytest.raises(JournalDamaged):
                decode_shadow(stored[:length])


def test_chunks_stored_by_earlier_releases_are_read() -> None:
    chunk = draft(2, associations=["a", None], at_us=7).chunk
    assert encode(chunk).hex() == STORED
    assert decode(bytes.fromhex(STORED)) == chunk
    assert STATUSES[:10] == (
        "scored", "error", "timeout", "crashed", "invalid_answer", "missing_feature", "lag", "paused", "sampled_out",
        "expired",
    )  # fmt: skip


def test_an_erased_chunk_keeps_its_answers_and_says_that_its_inputs_are_gone() -> None:
    erased = msgspec.structs.replace(draft(2).chunk, inputs=None, erased=True)
    read = decode(encode(erased))
    assert unpack_outputs(read.outputs, LAYOUT.outputs)["y"].tolist() == [0.0, 0.5]
    with pytest.raises(JournalDamaged, match="erased"):
        unpack_columns(read, LAYOUT)


def test_a_layout_is_named_by_what_it_says() -> None:
    x, y = Feature("x", "float64"), OutputTensor("y", "float32")
    layouts = [
        Layout(InputSchema((x,)), (y,)),
        Layout(InputSchema((x,), version=2), (y,)),
        Layout(InputSchema((x, Feature("z", "bool"))), (y,)),
        Layout(InputSchema((Feature("x", "float32"),)), (y,)),
        Layout(InputSchema((Feature("x", "float64", required=False, default=0.0),)), (y,)),
        Layout(InputSchema((x,)), (OutputTensor("y", "float32", 1),)),
        Layout(InputSchema((x,)), (y, y)),
    ]
    assert len({layout.digest for layout in layouts}) == len(layouts)
    for layout in layouts:
        again = msgspec.json.decode(msgspec.json.encode(layout), type=Layout)
        assert again == layout
        assert again.digest == layout.digest
        assert len(layout.digest) == 16


def test_a_layout_groups_the_features_by_dtype_in_schema_order() -> None:
    features = (Feature("s", "string"), Feature("b", "float64"), Feature("t", "string"), Feature("a", "float64"))
    signature = Signature(
        "regression", (InputBinding("X", "float64", ("b", "a")),), (OutputTensor("y", "float32"),), ScoreColumn("y")
    )
    layout = Layout.of(InputSchema(features), signature)
    assert list(layout.groups.items()) == [("float64", ("b", "a")), ("string", ("s", "t"))]
    assert layout.outputs == signature.outputs


def test_the_time_of_a_row_is_the_callers_where_given_else_the_chunks() -> None:
    unsaid = draft(3, at_us=5, starts=(0, 2)).chunk
    assert unsaid.starts().tolist() == [0, 2]
    assert unsaid.predicted_at_us().tolist() == [5, 5, 5]
    said = draft(3, at_us=5, predicted_at_us=[1, -2, 2**40]).chunk
    assert said.predicted_at_us().tolist() == [1, -2, 2**40]


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_joining_requests_and_taking_their_rows_again_are_inverse(data: st.DataObject) -> None:
    layout = data.draw(layouts())
    parts = [data.draw(columns_of(layout, n)) for n in data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=4))]
    joined = Columns.joined(parts)
    assert joined.n_rows == sum(part.n_rows for part in parts)
    start = 0
    for part in parts:
        again = joined.rows(start, start + part.n_rows)
        assert same_arrays(again.blocks, part.blocks)
        for dtype, mask in again.missing.items():
            assert same(mask, part.missing.get(dtype, np.zeros(mask.shape, bool)))
        start += part.n_rows


def test_strings_are_offsets_and_utf8() -> None:
    packed = pack_strings(["", "ü", "a\0"])
    assert np.frombuffer(packed.offsets, "<u4").tolist() == [0, 0, 2, 4]
    assert packed.text == "üa\0".encode()


STORED = (
    "9fc41064869e968dc05c2b6f82042a9c281dcfa56c6f616e730101a46c6976650007029100c410000102030405060708090a"
    "0b0c0d0e0f9292c4100000000000000000000000000000f03fc09292c40c000000000400000008000000c408526967615269"
    "6761c091c408000000000000003f98c40400000000c40400000000c0c0c092a161c0c0c0c201dc20400d"
)
"""The chunk of that test as format 1 stores it."""
