"""The composition root of a gateway worker: every part is made here, given what it needs, and taken down in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from importlib.metadata import version as version_of

import structlog
from litestar import Litestar
from litestar.datastructures import State
from litestar.di import Provide
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, YamlRenderPlugin

from gateway.clock import JournalClock, server_now_us
from gateway.config import Settings
from gateway.desk import JournalDesk
from gateway.front import Front
from gateway.journal import GroupAppender, LoopAppender, open_ledger, open_reader, open_writer
from gateway.lineup import Lineups
from gateway.predictor import Predictor
from gateway.pulse import Pulse
from gateway.routes import admin, health, oip, outcomes, predict
from gateway.routes.parts import Parts
from gateway.routes.problems import handlers
from registry.store import Registry

VERSION = version_of("understudy")


@asynccontextmanager
async def worker(settings: Settings, door: Front, *, serves: bool) -> AsyncIterator[Parts]:
    """The parts of one worker, for as long as it serves. One that does not serve others needs no pulse.

    Taken down in this order: no more requests, those that were taken are answered, the journal is closed.
    """
    store, loop = settings.folder, asyncio.get_running_loop()
    async with AsyncExitStack() as opened:  # what is opened first is closed last, also when the next cannot be opened
        clock = JournalClock(settings.clock, settings.cohorts.bucket_s)
        registry = opened.enter_context(Registry.open(store, now=clock.now))
        clock.refresh(registry)
        lineups = Lineups(registry, settings.server.max_rows)
        lineups.refresh()
        with closing(open_ledger(store, settings.journal)) as ledger:
            writer = open_writer(store, settings.journal, ledger, kind="gateway", now_us=server_now_us())
        grouped = settings.journal.durability == "power"
        appender = opened.enter_context(closing(GroupAppender(writer, loop) if grouped else LoopAppender(writer)))
        desk = JournalDesk(
            lambda: open_ledger(store, settings.journal), lambda: open_reader(store), writer.writer, lineups, clock
        )
        opened.enter_context(closing(desk))
        waiting = settings.server.max_waiting_rows
        predictor = Predictor(lineups, appender, writer.writer, clock, max_waiting_rows=waiting)
        opened.enter_context(closing(predictor))
        pulse = Pulse(
            registry, lineups, clock, appender, predictor,
            poll_s=settings.poll_s, heartbeat_s=settings.journal.heartbeat_s,
        )  # fmt: skip
        if serves:
            pulse.start()
        opened.push_async_callback(pulse.stop)
        try:
            yield Parts(settings, door, registry, lineups, clock, predictor, desk, pulse)
        finally:
            door.draining = True
            await drained(predictor, settings.server.drain_s)


async def drained(predictor: Predictor, within_s: float) -> None:
    """Wait until every request that was taken is answered, at most so long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await predictor.idle()


def create_app(settings: Settings, *, serves: bool = True) -> Litestar:
    """The ASGI application of one worker; `serves=False` is for one process's own use of a store."""
    log = structlog.get_logger("gateway") if settings.logs.requests else None
    door = Front(log)

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        async with worker(settings, door, serves=serves) as parts:
            app.state.parts = parts
            yield

    def parts(state: State) -> Parts:
        made: Parts = state.parts
        return made

    def release() -> str:
        return VERSION

    return Litestar(
        route_handlers=[
            predict.predict, predict.read_prediction, predict.read_predictions, outcomes.take_outcomes,
            oip.server_metadata, oip.live, oip.ready, oip.models, oip.model_metadata, oip.model_ready, oip.infer,
            health.livez, health.readyz, *admin.HANDLERS,
        ],
        dependencies={
            "parts": Provide(parts, sync_to_thread=False),
            "release": Provide(release, sync_to_thread=False),
        },
        lifespan=[lifespan],
        exception_handlers=handlers(door),
        request_max_body_size=settings.server.max_body_bytes,
        openapi_config=OpenAPIConfig(
            title="Understudy", version=VERSION, path="/schema", render_plugins=[JsonRenderPlugin(), YamlRenderPlugin()]
        ),
        logging_config=None,
    )  # fmt: skip
