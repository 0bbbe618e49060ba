"""Where a stream goes: to a server, or to a store that is served here; and what is there already."""

from __future__ import annotations

import time
from datetime import datetime

import rich_click as click
from msgspec import Struct

from gateway.cli.local import callers_time
from gateway.cli.options import settings_of
from gateway.cli.plan import Found
from gateway.client import Client
from gateway.config import Settings
from gateway.errors import Conflict, ProblemError
from gateway.locks import is_locked
from gateway.logs import set_up

NOT_FOUND = 404
LAST_WORKERS_S = 5.0
"""How long the workers of a stream that was killed may take to find out and end."""


class Options(Struct, frozen=True):
    """Where to stream to, and how."""

    model: str
    url: str | None
    key: str | None
    data_dir: str | None
    port: int
    speed: float | None
    ends: bool
    as_json: bool


def settings_at(options: Options) -> Settings:
    """The store that is served here.

    Raises:
        Conflict: another process serves it.
    """
    settings = settings_of(None, options.data_dir, **callers_time(options.port))
    deadline_s = time.monotonic() + LAST_WORKERS_S
    while is_locked(settings.folder / "retrain.lock"):
        if time.monotonic() > deadline_s:
            raise Conflict(f"{settings.store} is served by another process: stream to it with --url, or end it")
        time.sleep(0.05)
    set_up(settings.logs, "stream")
    return settings


def found_in(settings: Settings, options: Options) -> Found:
    """What is in a store; in none, nothing, and none is made."""
    if not (settings.folder / "registry.db").exists():
        return Found()
    with Client.on_store(settings) as client:
        return found_on(client, options)


def found_on(client: Client, options: Options) -> Found:
    """What is on a server.

    Raises:
        Conflict: its clock is its own.
    """
    clock = client.clock()
    if clock["source"] != "caller":
        raise Conflict(
            f"the clock of {options.url} is the server's own, and the rows have times of theirs: start it with "
            "UNDERSTUDY__CLOCK__SOURCE=caller"
        )
    now = None if clock["now"] is None else datetime.fromisoformat(clock["now"])
    try:
        document = client.model(options.model)
    except ProblemError as problem:
        if problem.status != NOT_FOUND:
            raise
        return Found(now=now)
    decisions = client.decisions(options.model)
    return Found(document, decisions[0]["reason"] if decisions else "", now)


def client_at(url: str, options: Options) -> Client:
    """A client of the server there; an address that cannot be meant is a usage error."""
    try:
        return Client(url, options.key)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
