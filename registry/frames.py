"""What parent and limited child say to each other: one message and the arrays that belong to it, in one frame.

    frame    = header length (4 bytes, little-endian), body length (8), header, body
    header   = msgpack of (message, columns), a column being (name, dtype, shape, bytes in the body)
    body     = the columns one after the other, each padded to 8 bytes
    column   = little-endian values, C order; strings as n + 1 offsets (8 bytes each) and their UTF-8

Neither side trusts the other: every length is checked against what is there, and no type beyond these is decoded.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from math import prod
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from registry.errors import RegistryError
from registry.signature import ModelFacts
from registry.types import Dtype, Signature

Array = NDArray[np.generic]

PREFIX = struct.Struct("<IQ")
_MAX_HEADER_BYTES = 2**24
_MAX_SIDE = 2**31

_WIRE: dict[Dtype, np.dtype[Any]] = {
    "float32": np.dtype("<f4"),
    "float64": np.dtype("<f8"),
    "int64": np.dtype("<i8"),
    "bool": np.dtype("|u1"),
}
_NATIVE: dict[Dtype, np.dtype[Any]] = {
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
    "int64": np.dtype(np.int64),
    "bool": np.dtype(np.bool_),
}
_DTYPE_NAMES: dict[str, Dtype] = {"f4": "float32", "f8": "float64", "i8": "int64", "b1": "bool", "O": "string"}


class BrokenFrame(RegistryError):
    """The bytes are no frame, or one beyond its limit."""


class InspectionRules(Struct, frozen=True):
    """What a file may contain."""

    max_nodes: int = 50_000
    max_depth: int = 16
    control_flow: bool = False


class Contents(Struct, frozen=True):
    """What was found in a file that breaks no rule: its nodes, and every list of classes that they name."""

    n_nodes: int = 0
    class_labels: tuple[tuple[int | str, ...], ...] = ()


class Load(Struct, frozen=True, tag=True):
    """Load the body's bytes; look into them first where there are rules."""

    signature: Signature | None
    rules: InspectionRules | None


class Bind(Struct, frozen=True, tag=True):
    """Answer by this signature from now on."""

    signature: Signature


class Run(Struct, frozen=True, tag=True):
    """Answer the body's columns."""


class Ready(Struct, frozen=True, tag=True):
    """The child has started, under these limits."""

    held: tuple[str, ...]


class Done(Struct, frozen=True, tag=True):
    """It is done; `facts` where something was loaded, columns where something was answered."""

    facts: ModelFacts | None = None


class Refused(Struct, frozen=True, tag=True):
    """It is not done: which error of the registry it is, and what that error is made of."""

    error: str
    arguments: tuple[str, ...]


Message = Load | Bind | Run | Ready | Done | Refused


class _Column(Struct, frozen=True, array_like=True):
    name: str
    dtype: Dtype
    shape: tuple[int, ...]
    n_bytes: int


class _Header(Struct, frozen=True, array_like=True):
    message: Message
    columns: tuple[_Column, ...]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Header)


def encode(message: Message, columns: Mapping[str, Array] | None = None, blob: bytes = b"") -> list[bytes]:
    """The frame as pieces to send in order; `blob` is a body without columns.

    Raises:
        TypeError: an array of another dtype, or of objects that are not strings.
    """
    described, body = [], [blob] if blob else []
    for name, array in (columns or {}).items():
        dtype, piece = _pack(name, array)
        described.append(_Column(name, dtype, array.shape, len(piece)))
        body.append(piece)
        body.append(bytes(-len(piece) % 8))
    header = _encoder.encode(_Header(message, tuple(described)))
    return [PREFIX.pack(len(header), sum(map(len, body))) + header, *body]


def lengths(prefix: bytes | bytearray, max_body_bytes: int) -> tuple[int, int]:
    """The lengths of header and body that a prefix announces; raises BrokenFrame beyond the limits."""
    header_length, body_length = PREFIX.unpack_from(prefix)
    if header_length > _MAX_HEADER_BYTES or body_length > max_body_bytes:
        raise BrokenFrame(f"a frame of {header_length} + {body_length} bytes is beyond the limit of {max_body_bytes}")
    return header_length, body_length


def decode(header: bytes | bytearray | memoryview, body: memoryview) -> tuple[Message, dict[str, Array]]:
    """The message and its arrays, which are views of `body` where they can be; raises BrokenFrame."""
    try:
        decoded = _decoder.decode(header)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BrokenFrame(f"the header cannot be read: {error}") from None
    columns: dict[str, Array] = {}
    at = 0
    for column in decoded.columns:
        end = at + column.n_bytes
        if column.n_bytes < 0 or end > len(body):
            raise BrokenFrame(f"column '{column.name}' lies outside of the frame")
        columns[column.name] = _unpack(column, body[at:end])
        at = end + -end % 8
    return decoded.message, columns


def _pack(name: str, array: Array) -> tuple[Dtype, bytes]:
    dtype = _DTYPE_NAMES.get(array.dtype.str[1:])
    if dtype is None:
        raise TypeError(f"column '{name}' is {array.dtype}: expected float32, float64, int64, bool or strings")
    if dtype != "string":
        return dtype, array.astype(_WIRE[dtype], copy=False).tobytes()
    try:
        texts = [text.encode() for text in array.ravel()]  # type: ignore[attr-defined]  # objects: strings or refused
    except (AttributeError, UnicodeEncodeError):
        raise TypeError(f"column '{name}' holds what is not text") from None
    offsets = np.zeros(len(texts) + 1, "<i8")
    np.cumsum([len(text) for text in texts], out=offsets[1:])
    return dtype, offsets.tobytes() + b"".join(texts)


def _unpack(column: _Column, body: memoryview) -> Array:
    n_values = prod(column.shape)
    if len(column.shape) not in (1, 2) or min(column.shape) < 0 or max(column.shape) > _MAX_SIDE:
        raise BrokenFrame(f"column '{column.name}' has the shape {column.shape}")
    if column.dtype == "string":
        return _unpack_texts(column, body, n_values)
    wire = _WIRE[column.dtype]
    if n_values * wire.itemsize != len(body):
        raise BrokenFrame(f"column '{column.name}' has {len(body)} bytes for {n_values} values of {column.dtype}")
    values = np.frombuffer(body, wire).reshape(column.shape)
    # a byte that is neither 0 nor 1 must not become a boolean that is neither
    return values != 0 if column.dtype == "bool" else values.astype(_NATIVE[column.dtype], copy=False)


def _unpack_texts(column: _Column, body: memoryview, n_values: int) -> Array:
    n_bytes = 8 * (n_values + 1)
    if n_bytes > len(body):
        raise BrokenFrame(f"column '{column.name}' has {len(body)} bytes for {n_values} texts")
    offsets = np.frombuffer(body[:n_bytes], "<i8")
    text = bytes(body[n_bytes:])
    if offsets[0] != 0 or offsets[-1] != len(text) or (np.diff(offsets) < 0).any():
        raise BrokenFrame(f"column '{column.name}' has offsets that do not describe its text")
    values = np.empty(n_values, np.object_)
    bounds = offsets.tolist()
    try:
        for index in range(n_values):
            values[index] = text[bounds[index] : bounds[index + 1]].decode()
    except UnicodeDecodeError:
        raise BrokenFrame(f"column '{column.name}' holds bytes that are no UTF-8") from None
    return values.reshape(column.shape)
