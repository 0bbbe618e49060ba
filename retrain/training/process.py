"""The process of a training, as whoever has it done sees it: started in a folder, listened to, ended.

It is another's code that runs there, so nothing that it writes is waited for or kept without bound: of each pipe some
is taken at every look, and who writes more waits until the next.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

import msgspec

from gateway.config import environment_of_children
from retrain.training.run import ASSIGNMENT, Assignment

READ_BYTES, READS_AT_ONCE = 65_536, 16
LONGEST_LINE, LAST_WORDS = 300, 4_096
"""Bytes that are kept: of how far it is, and of the end of everything else that it says."""


class TrainingProcess:
    """One attempt at a training."""

    def __init__(self, assignment: Assignment, folder: Path) -> None:
        """Start it; `folder` is its own. Raises OSError."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ASSIGNMENT).write_bytes(msgspec.json.encode(assignment))
        self.folder, self.progress, self.began_s = folder, "", time.monotonic()
        self._unread = self._last_words = b""
        root = str(Path(__file__).parents[2])
        environment = environment_of_children()
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH", "")]))
        # a group of its own, but in the session of this process, whose place in the queue it shares
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-m", "retrain.training.run", str(folder / ASSIGNMENT)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, process_group=0,
        )  # fmt: skip
        for pipe in (self._child.stdout, self._child.stderr):
            os.set_blocking(_there(pipe).fileno(), False)

    @property
    def pid(self) -> int:
        """Its number."""
        return self._child.pid

    @property
    def has_ended(self) -> bool:
        """Whether it has."""
        return self._child.poll() is not None

    def listen(self) -> bool:
        """Take some of what it has said since; whether it has said how far it is."""
        self._last_words = (self._last_words + _read(_there(self._child.stderr)))[-LAST_WORDS:]
        *lines, rest = (self._unread + _read(_there(self._child.stdout))).split(b"\n")
        self._unread = rest[:LONGEST_LINE]
        if lines:
            self.progress = lines[-1][:LONGEST_LINE].decode(errors="replace")
        return bool(lines)

    def how_it_ended(self) -> str:
        """What is to be said of a process that has ended without leaving a result."""
        code = self._child.returncode
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        words = self._last_words.decode(errors="replace").strip().splitlines()
        return f"its process {how}" + (f" ({words[-1][:LONGEST_LINE]})" if words else "")

    def end(self) -> None:
        """End whatever of it still runs."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout, self._child.stderr):
            _there(pipe).close()


def _there(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None  # noqa: S101  # every one is a pipe
    return pipe


def _read(pipe: IO[bytes]) -> bytes:
    parts: list[bytes] = []
    with suppress(BlockingIOError):
        while len(parts) < READS_AT_ONCE and (part := os.read(pipe.fileno(), READ_BYTES)):
            parts.append(part)
    return b"".join(parts)
