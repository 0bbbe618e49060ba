"""Evidence bundles for a server: each made by a process of its own, which knows how evidence is judged.

A gateway worker neither judges nor holds the tables of a reign in memory: it starts `python -m retrain.bundle`, passes
on what that writes, and ends it when whoever asked has gone.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import suppress

import msgspec
from msgspec import Struct

from gateway.config import Settings, environment_of_children
from gateway.errors import Conflict, GatewayError, JournalDamaged, JournalUnavailable

MODULE = "retrain.bundle"
PIECE_BYTES = 1 << 18
REFUSED = 1
"""Exit code of a maker that says on standard error, as `Refusal`, why there is no bundle."""


class Refusal(Struct, frozen=True):
    """Why there is no bundle."""

    error: str
    sentence: str


class Bundler:
    """Makes one bundle at a time for this worker."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._turn = asyncio.Lock()

    async def pieces(
        self, model: str, generation: int | None, version: int | None, *, whole_audit: bool
    ) -> AsyncGenerator[bytes, None]:
        """The bytes of a zip as they are made; what refuses is raised before the first of them.

        Raises:
            Conflict: there is nothing to bundle; JournalDamaged: it cannot be read any more.
        """
        wanted = {"model": model, "generation": generation, "version": version, "whole_audit": whole_audit}
        told = [msgspec.json.encode(each).decode() for each in (self._settings, wanted)]
        async with self._turn:
            maker = await asyncio.create_subprocess_exec(
                sys.executable, "-m", MODULE, *told, stdin=DEVNULL, stdout=PIPE,
                stderr=PIPE, env=environment_of_children(),
            )  # fmt: skip
            try:
                async for piece in _passed_on(maker):
                    yield piece
            finally:
                if maker.returncode is None:
                    with suppress(ProcessLookupError):
                        maker.kill()
                    await maker.wait()


async def _passed_on(maker: Process) -> AsyncGenerator[bytes, None]:
    assert maker.stdout is not None  # noqa: S101  # both were asked for
    assert maker.stderr is not None  # noqa: S101
    said = asyncio.create_task(maker.stderr.read())
    try:
        while piece := await maker.stdout.read(PIECE_BYTES):
            yield piece
        if await maker.wait() != 0:
            raise _refusal(maker.returncode, await said)
    finally:
        said.cancel()


def _refusal(code: int | None, said: bytes) -> GatewayError:
    if code != REFUSED:
        return JournalUnavailable(f"the process that makes bundles ended with {code}")
    try:
        refusal = msgspec.json.decode(said.splitlines()[-1], type=Refusal)
    except (msgspec.DecodeError, IndexError):
        return JournalUnavailable("the process that makes bundles failed without a word")
    if refusal.error == JournalDamaged.__name__:
        return JournalDamaged(refusal.sentence)
    return Conflict(refusal.sentence)
