"""`serve`, and each of its roles alone."""

from __future__ import annotations

import json
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import rich_click as click

from gateway.cli.options import Failed, failing_in_one_line, json_option, settings_of, store_options
from gateway.cli.role import run_role
from gateway.clock import JournalClock
from gateway.config import Settings
from gateway.journal import open_ledger
from gateway.logs import set_up
from gateway.supervisor import Supervisor, listening_socket, stop_on_signals
from registry.store import Registry


@click.command()
@store_options
@click.option("--host", help="Address to bind.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="Port to bind; 0 takes any free one.  [default: 8080]")
@click.option("--workers", type=int, help="Gateway processes that share the port.  [default: 1]")
@json_option
def serve(
    config: Path | None, data_dir: str | None, host: str | None, port: int | None, workers: int | None, as_json: bool
) -> None:
    """Answer requests, mirror them, close cohorts and decide: all roles on this machine.

    Runs until SIGTERM or Ctrl-C, which finish what was taken.
    """
    overrides = {"server.host": host, "server.port": port, "server.workers": workers}
    settings = settings_of(config, data_dir, **overrides)
    set_up(settings.logs, "supervisor")
    stop = stop_on_signals()
    with failing_in_one_line():
        has_keys = _looked_at(settings)
        with listening_socket(settings, has_keys=has_keys) as bound:
            supervisor = Supervisor(settings, bound)
            announce(settings, *bound.getsockname()[:2], has_keys=has_keys, as_json=as_json)
            code = supervisor.run(stop)
    if code:
        raise Failed("a worker crashed five times within a minute; its last words are above")


def _looked_at(settings: Settings) -> bool:
    """Whether the store has keys, once it can be read and written at all: one sentence, not five crashes."""
    settings.folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryFile(dir=settings.folder),
        closing(open_ledger(settings.folder, settings.journal)),
        Registry.open(settings.folder, now=JournalClock(settings.clock, settings.cohorts.bucket_s).now) as registry,
    ):
        registry.models()
        return registry.keys.any_issued()


def announce(settings: Settings, host: str, port: int, *, has_keys: bool, as_json: bool) -> None:
    """Say where it serves, once, on standard output; and that it is open, where there are no keys."""
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    if as_json:
        sys.stdout.write(json.dumps({"url": url, "store": settings.store}) + "\n")
    else:
        click.echo(f"understudy serves {settings.store} at {url}")
        if not has_keys:
            click.echo("open: there are no keys, so anyone on this machine may predict and promote as local-operator")
    sys.stdout.flush()


@click.command()
@store_options
@click.option("--host", help="Address to bind.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="Port to bind.  [default: 8080]")
@json_option
def gateway(config: Path | None, data_dir: str | None, host: str | None, port: int | None, as_json: bool) -> None:
    """One gateway worker alone: answers and records."""
    settings = settings_of(config, data_dir, **{"server.host": host, "server.port": port})
    with failing_in_one_line():
        has_keys = _looked_at(settings)
        with listening_socket(settings, has_keys=has_keys) as bound:
            announce(settings, *bound.getsockname()[:2], has_keys=has_keys, as_json=as_json)
            run_role("gateway", settings, bound)


@click.command()
@store_options
@json_option
def shadow(config: Path | None, data_dir: str | None, as_json: bool) -> None:
    """The shadow worker alone: mirrors what the gateways record."""
    _alone("shadow", settings_of(config, data_dir), as_json=as_json)


@click.command()
@store_options
@json_option
def retrain(config: Path | None, data_dir: str | None, as_json: bool) -> None:
    """The retrain worker alone: closes cohorts, judges and decides."""
    _alone("retrain", settings_of(config, data_dir), as_json=as_json)


def _alone(role: str, settings: Settings, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps({"role": role, "store": settings.store}) + "\n")
        sys.stdout.flush()
    with failing_in_one_line():
        run_role(role, settings)
