"""The gateway's application run in this process, as what a client talks to: a store needs no server to be used."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import Any

import httpx

from gateway.app import create_app
from gateway.config import Settings


class InProcess(httpx.BaseTransport):
    """Runs the gateway's application on a store, in a thread with an event loop of its own."""

    def __init__(self, settings: Settings) -> None:
        app: Any = create_app(settings, serves=False)
        self._closed = asyncio.Event()
        opened: Future[asyncio.AbstractEventLoop] = Future()
        # `run` ends with the threads of its loop; a daemon, so that Ctrl-C while it opens waits for nobody
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live(app, opened)), daemon=True)
        self._thread.start()
        try:
            self._loop = opened.result()
        except Exception:  # whatever kept it from opening: its thread is ended before the caller is told
            self._thread.join()
            raise
        self._transport = httpx.ASGITransport(app)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """What the application answers."""

        async def answer() -> httpx.Response:
            sent = httpx.Request(request.method, request.url, headers=request.headers, content=request.read())
            response = await self._transport.handle_async_request(sent)
            body = await response.aread()
            return httpx.Response(response.status_code, headers=response.headers, content=body)

        return asyncio.run_coroutine_threadsafe(answer(), self._loop).result()

    def close(self) -> None:
        """Closes the store."""
        self._loop.call_soon_threadsafe(self._closed.set)
        self._thread.join()

    async def _live(self, app: Any, opened: Future[asyncio.AbstractEventLoop]) -> None:
        """From the opening of the store to its closing, in one task, as cancel scopes want it."""
        try:
            async with app.lifespan():
                opened.set_result(asyncio.get_running_loop())
                await self._closed.wait()
        except BaseException as error:
            if opened.done():
                raise
            cause = error
            while isinstance(cause, BaseExceptionGroup):  # task groups wrap what went wrong
                cause = cause.exceptions[0]
            opened.set_exception(cause)
