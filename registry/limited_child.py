"""One process that may do little but run one model: admission tries files in it, a local challenger lives in one.

    with LimitedChild() as child:
        child.load(model_bytes, signature)
        answers = child.run({"age": ages, "income": incomes})

It is started fresh (never forked), with an empty environment, in a folder that vanishes; it can open no file and no
socket once it runs, is killed at its limits of time, and ends by itself when this process does, even by kill -9.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from registry.child_process import ChildProcess
from registry.errors import (
    AnswerRefused,
    ArtifactRefused,
    ChildCrashed,
    ChildOutOfMemory,
    InputsRefused,
    ModelRaised,
    RegistryError,
)
from registry.frames import (
    PREFIX,
    Array,
    Bind,
    BrokenFrame,
    Done,
    InspectionRules,
    Load,
    Message,
    Ready,
    Refused,
    Run,
    decode,
    encode,
)
from registry.limits import ChildLimits
from registry.signature import ModelFacts
from registry.types import Signature

_MAX_MESSAGE = 300


class LimitedChild:
    """A child process with one model in it. Safe to call from several threads: calls wait for one another."""

    def __init__(self, limits: ChildLimits | None = None, *, inspects: bool = False) -> None:
        """Starts the process and does not wait for it; `inspects` lets it look into files (`load` with rules)."""
        self.limits = limits or ChildLimits()
        self.held: tuple[str, ...] = ()
        """The limits that hold, by name; known after the first call."""
        self._process = ChildProcess(self.limits, "inspect" if inspects else "trust")
        self._lock = threading.Lock()

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    @property
    def printed(self) -> str:
        """The beginning of what the process has printed."""
        return self._process.printed.decode(errors="replace")

    def load(
        self,
        model_bytes: bytes,
        signature: Signature | None = None,
        *,
        rules: InspectionRules | None = None,
        timeout_s: float = 30.0,
    ) -> ModelFacts:
        """Loads a model in place of the one before, and returns what the file declares. The first waits for the start.

        Raises:
            ArtifactRefused: the file breaks a rule, or the runtime cannot load it.
            ChildFailed: the process is gone.
        """
        done, _ = self._ask(Load(signature, rules), None, model_bytes, timeout_s)
        if done.facts is None:
            raise self._process.fail(ChildCrashed(None))
        return done.facts

    def bind(self, signature: Signature, *, timeout_s: float = 30.0) -> None:
        """From now on, answers by this signature; raises ChildFailed."""
        self._ask(Bind(signature), None, b"", timeout_s)

    def run(self, columns: Mapping[str, Array], *, timeout_s: float = 10.0) -> dict[str, Array]:
        """The answers to n rows, as `OnnxModel.run` gives them; arrays may be read-only.

        Raises:
            InputsRefused, AnswerRefused, ModelRaised: as there; the process is well.
            ChildFailed: it crashed, was stopped at `timeout_s`, or ran out of memory.
        """
        return self._ask(Run(), columns, b"", timeout_s)[1]

    def close(self) -> None:
        """Ends the process; a call that another thread has under way raises ChildCrashed."""
        self._process.kill()
        with self._lock:
            self._process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(
        self, request: Message, columns: Mapping[str, Array] | None, blob: bytes, timeout_s: float
    ) -> tuple[Done, dict[str, Array]]:
        try:
            frame = b"".join(encode(request, columns, blob))
        except TypeError as unpackable:
            raise InputsRefused(str(unpackable)) from None
        with self._lock:
            deadline = time.monotonic() + timeout_s
            if not self.held:
                self.held = self._await_start(timeout_s, deadline)
            reply, answers = self._exchange(frame, timeout_s, deadline)
            if not isinstance(reply, Done):
                raise self._refusal(reply)
            return reply, answers

    def _await_start(self, timeout_s: float, deadline: float) -> tuple[str, ...]:
        reply, _ = self._exchange(b"", timeout_s, deadline)
        if not isinstance(reply, Ready):
            raise self._process.fail(ChildCrashed(None))
        return reply.held

    def _exchange(self, frame: bytes, timeout_s: float, deadline: float) -> tuple[Message, dict[str, Array]]:
        try:
            whole, body_at = self._process.exchange(frame, timeout_s, deadline)
            # the body is copied, as in its place behind the header its numbers would not be aligned
            return decode(memoryview(whole)[PREFIX.size : body_at], memoryview(whole[body_at:]))
        except BrokenFrame:
            # this is not the child that was started any more: its model has taken it over
            raise self._process.fail(ChildCrashed(None)) from None

    def _refusal(self, reply: Message) -> RegistryError:
        """The error that a child tells of: cut to length, made by its name and never by lookup."""
        if not isinstance(reply, Refused):
            return self._process.fail(ChildCrashed(None))
        match reply.error, tuple(argument[:_MAX_MESSAGE] for argument in reply.arguments):
            case "AnswerRefused", (output, expected, got):
                return AnswerRefused(output, expected, got)
            case "ArtifactRefused", (message,):
                return ArtifactRefused(message)
            case "InputsRefused", (message,):
                return InputsRefused(message)
            case "ModelRaised", (message,):
                return ModelRaised(message)
            case "ChildOutOfMemory", ():
                return self._process.fail(ChildOutOfMemory(self.limits.memory_bytes))
            case _:
                return self._process.fail(ChildCrashed(None))
