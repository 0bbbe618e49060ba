"""The parent's end of a limited child: start it, exchange frames before a deadline, tell how it ended.

Nothing here knows what the frames mean. One thread at a time.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

from registry.errors import ChildCrashed, ChildFailed, ChildOutOfMemory, ChildTimedOut
from registry.frames import PREFIX, lengths
from registry.limits import ChildLimits

_BOOT = "import sys; sys.path.append(sys.argv[1]); from registry.child import main; main(sys.argv[2:])"
_ROOT = str(Path(__file__).resolve().parent.parent)
# one thread each, so that the memory limit is spent on the model and not on the stacks of a numerical library
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
_RECEIVE_BYTES = 2**18
_GRACE_S = 1.0
_OUT_OF_MEMORY = (b"bad_alloc", b"MemoryError", b"Cannot allocate memory")


class ChildProcess:
    """A started child; after it has failed once, everything raises that failure."""

    def __init__(self, limits: ChildLimits, mode: Literal["inspect", "trust"]) -> None:
        self._limits = limits
        self._failure: ChildFailed | None = None
        self._received = bytearray()
        self.printed = bytearray()
        # the child removes it as soon as it stands in it; what is left to remove here are children that never ran
        self._folder = Path(tempfile.mkdtemp(prefix="understudy-child-"))
        self._socket, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-B", "-c", _BOOT, _ROOT),
                    *(msgspec.json.encode(limits).decode(), mode, str(theirs.fileno())),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                env=_ENVIRONMENT,
                pass_fds=(theirs.fileno(),),
            )
        except BaseException:
            self._socket.close()
            self._remove_folder()
            raise
        finally:
            theirs.close()
        assert self._process.stdout is not None  # noqa: S101  # it was asked for above
        self._output = self._process.stdout.fileno()
        self._socket.setblocking(False)
        os.set_blocking(self._output, False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._socket, selectors.EVENT_READ)
        self._selector.register(self._output, selectors.EVENT_READ)

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def exchange(self, frame: bytes, timeout_s: float, deadline: float) -> tuple[bytearray, int]:
        """Sends a frame (nothing, if it is empty) and receives one: its bytes, and where in them the body begins.

        Meanwhile it takes away what the child prints, so that nobody blocks anybody.

        Raises:
            ChildFailed: the child ended; or it had not answered at `deadline` (monotonic clock) and was killed.
            BrokenFrame: it sends what is no frame, or one beyond the limit; call `fail` then.
        """
        if self._failure is not None:
            raise self._failure.with_traceback(None)
        to_send = memoryview(frame)
        self._watch(sending=bool(to_send))
        while (left_s := deadline - time.monotonic()) > 0:
            for key, events in self._selector.select(left_s):
                if key.fd == self._output:
                    self._take_output()
                    continue
                if events & selectors.EVENT_WRITE:
                    with suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
                        to_send = to_send[self._socket.send(to_send) :]
                    if not to_send:
                        self._watch(sending=False)
                if events & selectors.EVENT_READ:
                    self._receive()
            if len(self._received) >= PREFIX.size:
                header_length, body_length = lengths(self._received, self._limits.max_reply_bytes)
                body_at = PREFIX.size + header_length
                if len(self._received) >= body_at + body_length:
                    whole, self._received = self._received, bytearray()
                    return whole, body_at
        raise self.fail(ChildTimedOut(timeout_s))

    def fail(self, failure: ChildFailed) -> ChildFailed:
        """Kills the child, and gives back the failure to raise, which is raised from now on."""
        self._failure = failure
        self._process.kill()
        self._process.wait()
        return failure

    def kill(self) -> None:
        """Ends the child; may be called while another thread exchanges."""
        self._process.kill()

    def close(self) -> None:
        """Ends the child and gives back what it held."""
        self._process.kill()
        self._process.wait()
        self._failure = self._failure or ChildCrashed("SIGKILL")
        self._selector.close()
        self._socket.close()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._remove_folder()

    def _watch(self, *, sending: bool) -> None:
        events = selectors.EVENT_READ | selectors.EVENT_WRITE if sending else selectors.EVENT_READ
        self._selector.modify(self._socket, events)

    def _receive(self) -> None:
        try:
            received = self._socket.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return
        except ConnectionResetError:
            received = b""
        if not received:
            raise self.fail(self._how_it_ended())
        self._received += received

    def _take_output(self) -> None:
        try:
            printed = os.read(self._output, _RECEIVE_BYTES)
        except BlockingIOError:
            return
        self.printed += printed[: self._limits.max_output_bytes - len(self.printed)]
        if not printed:
            self._selector.unregister(self._output)

    def _how_it_ended(self) -> ChildFailed:
        """The child has closed its socket: it is ending, or is made to."""
        try:
            code = self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        with suppress(BlockingIOError):
            self.printed += os.read(self._output, self._limits.max_output_bytes)
        if any(sign in self.printed for sign in _OUT_OF_MEMORY):
            return ChildOutOfMemory(self._limits.memory_bytes)
        if self._limits.cpu_s is not None and code == -signal.SIGXCPU:
            return ChildTimedOut(self._limits.cpu_s, "processor")
        return ChildCrashed(signal.Signals(-code).name if code < 0 else None, code)

    def _remove_folder(self) -> None:
        with suppress(OSError):
            self._folder.rmdir()
