"""The composition root of a gateway worker: every part is made here, given what it needs, and taken down in order."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from datetime import UTC, datetime
from importlib.metadata import version as version_of
from pathlib import Path

import structlog
from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.di import Provide
from litestar.openapi.config import OpenAPIConfig

from gateway.backends import Stopwatch
from gateway.bundler import Bundler
from gateway.clock import JournalClock, server_now_us
from gateway.config import BUCKET_SETTING, Settings
from gateway.desk import JournalDesk
from gateway.front import Front
from gateway.journal import GroupAppender, LoopAppender, open_ledger, open_reader, open_writer
from gateway.keyring import KeyRing
from gateway.lineup import Lineups
from gateway.metrics import Tally, TallyPool
from gateway.metrics.exposition import Exposition
from gateway.metrics.facts import FactFinder
from gateway.predictor import Predictor
from gateway.pulse import Pulse
from gateway.randomness import HexDigits, Source
from gateway.routes import (
    admin,
    audit,
    bundle,
    door,
    export,
    health,
    keys,
    metrics,
    oip,
    outcomes,
    predict,
    proposals,
    replays,
    trainings,
)
from gateway.routes.description import DescribedJson, DescribedYaml
from gateway.routes.parts import Parts
from gateway.routes.problems import HANDLERS
from registry.store import Registry

VERSION = version_of("understudy")


@asynccontextmanager
async def worker(
    settings: Settings,
    *,
    serves: bool,
    tallies: Path | None = None,
    now_us: Callable[[], int] = server_now_us,
    random: Source = os.urandom,
    seconds: Stopwatch = time.perf_counter,
) -> AsyncIterator[Parts]:
    """The parts of one worker, for as long as it serves. One that does not serve others needs no pulse.

    `now_us`: the server's clock. `random`: where request ids and the secrets of chunks come from. `seconds`: what
    champions are timed by; how long they take decides what runs together, and where.
    Taken down in this order: those requests that were taken are answered, the journal is closed.
    """
    store, loop = settings.folder, asyncio.get_running_loop()
    async with AsyncExitStack() as opened:  # what is opened first is closed last, also when the next cannot be opened
        clock = JournalClock(settings.clock, settings.cohorts.bucket_s, now_us)
        registry = opened.enter_context(Registry.open(store, now=clock.now))
        clock.refresh(registry)
        ring = KeyRing(registry.keys if serves else None, now=lambda: datetime.now(UTC))
        ring.refresh()
        lineups = Lineups(registry, settings.server.max_rows, seconds)
        lineups.refresh()
        with closing(open_ledger(store, settings.journal)) as ledger:
            ledger.settle(BUCKET_SETTING, settings.cohorts.bucket_s, keep=serves)
            writer = open_writer(store, settings.journal, ledger, kind="gateway", now_us=server_now_us())
        grouped = settings.journal.durability == "power"
        appender = opened.enter_context(closing(GroupAppender(writer, loop) if grouped else LoopAppender(writer)))
        desk = JournalDesk(
            lambda: open_ledger(store, settings.journal), lambda: open_reader(store), writer.writer, lineups, clock
        )
        opened.enter_context(closing(desk))
        tally = Tally()
        predictor = Predictor(
            lineups, appender, writer.writer, clock,
            max_waiting_rows=settings.server.max_waiting_rows, max_wait_s=settings.server.max_wait_s, tally=tally,
            random=random,
        )  # fmt: skip
        opened.enter_context(closing(predictor))
        log = structlog.get_logger("gateway") if settings.logs.requests else None
        front = Front(ring, tally, log, HexDigits(random))
        pool = opened.enter_context(closing(TallyPool(tally, tallies, writer.writer, lambda: predictor.n_unfinished)))
        pulse = Pulse(
            registry, lineups, clock, ring, appender, predictor, pool,
            poll_s=settings.poll_s, heartbeat_s=settings.journal.heartbeat_s,
        )  # fmt: skip
        if serves:
            pulse.start()
        opened.push_async_callback(pulse.stop)
        try:
            facts = FactFinder(registry, desk, clock, store)
            exposition = Exposition(
                pool, facts, ready=lambda: not (front.draining or pulse.problems()),
                release=VERSION, wal_limit_bytes=settings.journal.max_wal_bytes,
            )  # fmt: skip
            yield Parts(
                settings, front, registry, lineups, clock, predictor, desk, pulse, exposition, Bundler(settings)
            )
        finally:
            await drained(predictor, settings.server.drain_s)


async def drained(predictor: Predictor, within_s: float) -> None:
    """Wait until every request that was taken is answered, at most so long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await predictor.idle()


def create_app(
    settings: Settings,
    *,
    serves: bool = True,
    tallies: Path | None = None,
    now_us: Callable[[], int] = server_now_us,
    random: Source = os.urandom,
    seconds: Stopwatch = time.perf_counter,
) -> Litestar:
    """The ASGI application of one worker; `serves=False` is for one process's own use of a store, which is its own key.

    Its `state.parts` are there from the end of its start-up to the beginning of its end.
    """

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        async with worker(
            settings, serves=serves, tallies=tallies, now_us=now_us, random=random, seconds=seconds
        ) as parts:
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
            health.livez, health.readyz, metrics.read_metrics, *admin.HANDLERS, *proposals.HANDLERS,
            *trainings.HANDLERS, *replays.HANDLERS,
            *audit.HANDLERS, export.read_export, export.read_days, bundle.read_bundle, *keys.HANDLERS,
        ],
        before_request=door.admit,
        before_send=[door.leave],
        dependencies={
            "parts": Provide(parts, sync_to_thread=False),
            "release": Provide(release, sync_to_thread=False),
        },
        lifespan=[lifespan],
        exception_handlers=HANDLERS,
        request_max_body_size=settings.server.max_body_bytes,
        openapi_config=OpenAPIConfig(
            title="Understudy",
            version=VERSION,
            openapi_router=Router("/schema", route_handlers=[], opt={"scope": "open"}),
            render_plugins=[DescribedJson(), DescribedYaml()],
        ),
        logging_config=None,
    )  # fmt: skip
