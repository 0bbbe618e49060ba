"""What a connection is read and given up by: no further while enough waits, and at once where nobody reads."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

from uvicorn.protocols.http.flow_control import FlowControl

_AT_ONCE = struct.pack("ii", 1, 0)
"""For SO_LINGER: closing throws away what is unsent."""


class Flow(FlowControl):
    """Reads no more while requests wait for their turn, although the one at its turn asks for more of its body.

    It has all of its body by then. Without this, who sends without end and reads nothing fills the memory.
    """

    def __init__(self, transport: asyncio.Transport, may_read: Callable[[], bool]) -> None:
        super().__init__(transport)
        self._may_read = may_read

    def resume_reading(self) -> None:
        """Read on, unless there is enough to do."""
        if self._may_read():
            super().resume_reading()


def reset(transport: asyncio.Transport) -> None:
    """End a connection at once, and have the system forget what it holds for a caller that does not read: megabytes."""
    its = transport.get_extra_info("socket")
    if its is not None:
        its.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    transport.abort()
