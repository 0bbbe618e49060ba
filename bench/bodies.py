"""What systems are asked: one row a request, as each of them wants it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bench.models import FEATURES

Wire = Literal["tensor", "named", "rows"]
"""`tensor`: Open Inference Protocol. `named`: our own. `rows`: the plain list of lists of servers with neither."""
JSON_HEADERS = {"content-type": "application/json"}


def bodies(rows: NDArray[np.float32], wire: Wire) -> list[bytes]:
    """One request body a row, as compact JSON."""
    written = _WIRES[wire]
    # rounded back: 0.1 as float32 is 0.10000000149 as a double, and no client has such numbers
    return [
        json.dumps(written([round(value, 6) for value in row]), separators=(",", ":")).encode() for row in _floats(rows)
    ]


def requests(path: str, contents: Iterable[bytes], headers: dict[str, str] | None = None) -> list[bytes]:
    """Whole HTTP/1.1 requests, ready to be sent."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in (JSON_HEADERS | (headers or {})).items())
    start = f"POST {path} HTTP/1.1\r\nhost: localhost\r\n{lines}content-length: "
    return [f"{start}{len(body)}\r\n\r\n".encode() + body for body in contents]


def _floats(rows: NDArray[np.float32]) -> list[list[float]]:
    listed: list[list[float]] = rows.tolist()
    return listed


def _tensor(row: list[float]) -> object:
    return {"inputs": [{"name": "inputs", "shape": [1, len(row)], "datatype": "FP32", "data": row}]}


def _named(row: list[float]) -> object:
    return {"inputs": dict(zip(FEATURES, row, strict=True))}


def _rows(row: list[float]) -> object:
    return {"inputs": [row]}


_WIRES: dict[Wire, Callable[[list[float]], object]] = {"tensor": _tensor, "named": _named, "rows": _rows}
