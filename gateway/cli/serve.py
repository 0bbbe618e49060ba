"""`serve`, and each of its roles alone."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import rich_click as click
from click.exceptions import Exit

from gateway.cli.options import FAILED, Failed, failing_in_one_line, json_option, settings_of, store_options
from gateway.cli.role import run_role
from gateway.config import Settings
from gateway.logs import set_up
from gateway.supervisor import Supervisor, listening_socket, stop_on_signals


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

    Runs until SIGTERM or Ctrl-C, which finish what was taken; the second time they hurry.
    """
    overrides = {"server.host": host, "server.port": port, "server.workers": workers}
    settings = settings_of(config, data_dir, **overrides)
    set_up(settings.logs, "supervisor")
    hurry = threading.Event()
    stop = stop_on_signals(hurry)
    with failing_in_one_line(), _bound(settings) as bound:
        ending = Supervisor(settings, bound, announcing(settings, bound, as_json=as_json)).run(stop, hurry)
    if ending == "refused":
        raise Exit(FAILED)  # the worker has told it
    if ending == "crashed":
        raise Failed("a worker crashed five times within a minute; its last words are above")


def _bound(settings: Settings) -> socket.socket:
    """Where callers connect. That no key is needed is found out before a network is bound; a worker looks again."""
    return listening_socket(settings, has_keys=not settings.server.is_loopback and _looked_at(settings))


def _looked_at(settings: Settings) -> bool:
    from gateway.store_check import looked_at  # a worker loads all of this too, and on this machine alone only it must

    return looked_at(settings)


def announcing(settings: Settings, bound: socket.socket, *, as_json: bool) -> Callable[[bool], None]:
    """How a supervisor says that a gateway answers, and whether callers need a key."""
    host, port = bound.getsockname()[:2]
    return lambda has_keys: announce(settings, host, port, has_keys=has_keys, as_json=as_json)


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
    from gateway.worker import run_gateway

    settings = settings_of(config, data_dir, **{"server.host": host, "server.port": port})
    set_up(settings.logs, "gateway")
    with failing_in_one_line(), _bound(settings) as bound:
        run_gateway(settings, bound, None, announcing(settings, bound, as_json=as_json))


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
