"""Random bytes and digits, drawn from the operating system many at a time.

A system call for each would cost more than all else that a request id needs.
"""

from __future__ import annotations

import os
from collections.abc import Callable

Source = Callable[[int], bytes]
"""`os.urandom`, or a test's own."""
_DRAWN = 256
"""How many are drawn at once."""


class Drawn:
    """Random pieces of one size, each given out once."""

    def __init__(self, n_bytes: int, source: Source = os.urandom) -> None:
        self._n_bytes, self._source = n_bytes, source
        self._left: list[bytes] = []

    def take(self) -> bytes:
        """The next piece."""
        if not self._left:
            many, size = self._source(_DRAWN * self._n_bytes), self._n_bytes
            self._left = [many[i : i + size] for i in range(0, len(many), size)]
        return self._left.pop()


class HexDigits:
    """Random hexadecimal texts, 16 digits each."""

    def __init__(self, source: Source = os.urandom) -> None:
        self._source = source
        self._left: list[str] = []

    def take(self) -> str:
        """The next text."""
        if not self._left:
            many = self._source(_DRAWN * 8).hex()
            self._left = [many[i : i + 16] for i in range(0, len(many), 16)]
        return self._left.pop()
