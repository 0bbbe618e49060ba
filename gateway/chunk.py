"""The codec of chunks: columns in, bytes out, and back.

A chunk holds the predictions of one model version that were committed together. It is one msgpack array and
a CRC-32 of it, so that a flipped byte is found and never believed:

    format · layout digest · model · version · generation · purpose · bucket · at · n_rows · runs · secret
    · inputs · outputs · requests · erased                                                        · crc32

Inputs are grouped by dtype in the order of DTYPES; within a group each feature is one contiguous little-endian
array of n_rows values, beside a bitmap of what is valid (left out while everything is). Strings are offsets and
UTF-8. What the columns are called is said once for many chunks, by the *layout* that the digest names.

A shadow chunk is a challenger's answer to one chunk: row i beside row i, with a status for each row.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import pairwise

import msgspec
import numpy as np
from msgspec import Struct

from gateway.columns import NUMPY, Array, Columns, groups_of
from gateway.errors import JournalDamaged
from gateway.records import Purpose
from registry.types import Dtype, InputSchema, OutputTensor, Signature

FORMAT = 1


class Layout(Struct, frozen=True, dict=True):
    """What the columns of a chunk are called: the model's input schema and the version's outputs."""

    schema: InputSchema
    outputs: tuple[OutputTensor, ...]

    @cached_property
    def digest(self) -> bytes:
        """16 bytes that name this layout in the chunk and in the journal's table of layouts."""
        return hashlib.blake2b(msgspec.json.encode(self), digest_size=16).digest()

    @cached_property
    def groups(self) -> dict[Dtype, tuple[str, ...]]:
        """The features of each dtype, in schema order; the dtypes in the order of DTYPES."""
        return groups_of(self.schema)

    @classmethod
    def of(cls, schema: InputSchema, signature: Signature) -> Layout:
        """The layout of one version's chunks under one schema."""
        return cls(schema, signature.outputs)


class Requests(Struct, array_like=True):
    """Facts of the requests in a chunk, and of their rows. What nobody said is None, and costs one byte.

    A field more, here or in `Chunk`, makes other bytes of every chunk that is cold, which has to come to the checksum
    that it was committed with: encode those of an older `format` as they were.
    """

    starts: bytes
    """uint32, the first row of each request."""
    latency_us: bytes
    """uint32 each: from the arrival of the request to the champion's answer."""
    principals: list[str] | None = None
    traces: list[str | None] | None = None
    predicted_at_us: bytes | None = None
    """int64 a row; None where it is the chunk's `at_us`."""
    associations: list[str | None] | None = None
    """One a row."""
    decisions: list[int | float | str | None] | None = None
    """One a row: what was done with the answer, where the caller said so."""
    propensities: list[float | None] | None = None
    """One a row: how probable that decision was."""


class Strings(Struct, array_like=True):
    """Some strings in one piece."""

    offsets: bytes
    """uint32, one more than there are strings."""
    text: bytes


Packed = bytes | Strings


class Block(Struct, array_like=True):
    """The features of one dtype, each contiguous; `valid` is a bitmap in the same order, None where all are."""

    values: bytes | Strings
    valid: bytes | None = None


class Chunk(Struct, array_like=True, frozen=True):
    """One chunk as stored, without its address: writer and seq are the key under which the journal keeps it."""

    layout: bytes
    model: str
    version: int
    generation: int
    purpose: Purpose
    bucket: int
    at_us: int
    n_rows: int
    runs: tuple[int, ...]
    """The first row of each call of the model: a linear model's last bits depend on the batch."""
    secret: bytes
    inputs: list[Block] | None
    outputs: list[bytes | Strings]
    requests: Requests
    erased: bool = False
    format: int = FORMAT

    def starts(self) -> Array:
        """The first row of each request."""
        return np.frombuffer(self.requests.starts, "<u4")

    def predicted_at_us(self) -> Array:
        """The time of each row's prediction, int64: the caller's where given, else the chunk's."""
        if self.requests.predicted_at_us is None:
            return np.full(self.n_rows, self.at_us, np.int64)
        return np.frombuffer(self.requests.predicted_at_us, "<i8")


STATUSES = (
    "scored",
    "error",
    "timeout",
    "crashed",
    "invalid_answer",
    "missing_feature",
    "lag",
    "paused",
    "sampled_out",
    "expired",
    "damaged",
    "in_training",
    "not_asked",
)
"""What became of a row at a challenger; its index is the byte in a shadow chunk. Only ever appended to."""
SPARED = ("in_training", "not_asked")
"""Of rows of a replay only: the version may have learned from it; it is outside of the span."""
SKIPPED = frozenset({"paused", "sampled_out", "expired", "damaged", *SPARED})
"""Caused without the challenger. Every other reason counts as its own failure."""


class ShadowChunk(Struct, array_like=True, frozen=True):
    """A challenger's answers to the rows of one chunk, row i beside row i."""

    layout: bytes
    status: bytes
    """One byte a row: an index into STATUSES."""
    outputs: list[bytes | Strings] | None
    """As in a chunk; None where no row was scored. Rows that were not scored hold NaN, 0 or the empty string."""
    at_us: int
    format: int = FORMAT
    alone_us: int | None = None
    """What its first row took by itself, asked again without the others; None where it was not timed."""


_encode = msgspec.msgpack.Encoder().encode
_decode_chunk = msgspec.msgpack.Decoder(Chunk).decode
_decode_shadow = msgspec.msgpack.Decoder(ShadowChunk).decode


def encode(chunk: Chunk | ShadowChunk) -> bytes:
    """The stored form: msgpack and its CRC-32."""
    body = _encode(chunk)
    return body + zlib.crc32(body).to_bytes(4, "little")


def _checked(stored: bytes | None) -> memoryview:
    if not isinstance(stored, bytes):  # a byte that flipped in the row itself
        raise JournalDamaged("a chunk is no bytes any more")
    body = memoryview(stored)[:-4]
    if len(stored) < 5 or zlib.crc32(body) != int.from_bytes(stored[-4:], "little"):
        raise JournalDamaged(f"a chunk of {len(stored):,} bytes does not match its checksum")
    return body


def decode(stored: bytes | None) -> Chunk:
    """The chunk in these bytes.

    Raises:
        JournalDamaged: a byte of them is not what was written.
    """
    return _decode_chunk(_checked(stored))


def decode_shadow(stored: bytes | None) -> ShadowChunk:
    """The shadow chunk in these bytes; raises as `decode`."""
    return _decode_shadow(_checked(stored))


def pack_columns(columns: Columns) -> list[Block]:
    """The stored form of some rows' inputs."""
    blocks = []
    for dtype, block in columns.blocks.items():
        mask = columns.missing.get(dtype)
        valid = None if mask is None else np.packbits(~mask.T).tobytes()
        values = pack_strings(block.T.ravel().tolist()) if dtype == "string" else block.T.tobytes()
        blocks.append(Block(values, valid))
    return blocks


def unpack_columns(chunk: Chunk, layout: Layout) -> Columns:
    """The inputs of a chunk, equal to what was packed. Undefined for an erased chunk (`inputs` is None)."""
    if chunk.inputs is None:
        raise JournalDamaged("the inputs of this chunk were erased")
    blocks: dict[Dtype, Array] = {}
    missing: dict[Dtype, Array] = {}
    for (dtype, names), block in zip(layout.groups.items(), chunk.inputs, strict=True):
        shape = (len(names), chunk.n_rows)
        blocks[dtype] = _unpack(block.values, dtype).reshape(shape).T
        if block.valid is not None:
            bits = np.unpackbits(np.frombuffer(block.valid, np.uint8), count=shape[0] * shape[1])
            missing[dtype] = ~bits.astype(bool).reshape(shape).T
    return Columns(chunk.n_rows, blocks, missing)


def pack_outputs(outputs: Mapping[str, Array], tensors: Sequence[OutputTensor]) -> list[bytes | Strings]:
    """The stored form of some rows' outputs, `(n,)` or `(n, width)` each, in the signature's order."""
    packed: list[bytes | Strings] = []
    for tensor in tensors:
        values = outputs[tensor.name]
        if tensor.dtype == "string":
            packed.append(pack_strings(values.ravel().tolist()))
        else:
            packed.append(values.astype(NUMPY[tensor.dtype], copy=False).tobytes())
    return packed


def unpack_outputs(packed: Sequence[bytes | Strings], tensors: Sequence[OutputTensor]) -> dict[str, Array]:
    """Output name → `(n,)` or `(n, width)`."""
    outputs = {}
    for tensor, values in zip(tensors, packed, strict=True):
        array = _unpack(values, tensor.dtype)
        outputs[tensor.name] = array if tensor.width is None else array.reshape(-1, tensor.width)
    return outputs


def pack_strings(strings: Sequence[str]) -> Strings:
    """Offsets and UTF-8 of some strings."""
    encoded = [s.encode() for s in strings]
    offsets = np.zeros(len(encoded) + 1, "<u4")
    np.cumsum([len(e) for e in encoded], out=offsets[1:])
    return Strings(offsets.tobytes(), b"".join(encoded))


def _unpack(values: bytes | Strings, dtype: Dtype) -> Array:
    if isinstance(values, Strings):
        offsets = np.frombuffer(values.offsets, "<u4").tolist()
        text = values.text
        return np.array([text[a:b].decode() for a, b in pairwise(offsets)], dtype=object)
    return np.frombuffer(values, NUMPY[dtype])
