"""What the commands share: where to work, how to print, and how to fail."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import rich_click as click
from click.exceptions import Exit
from msgspec import Struct

from gateway.config import Settings, key_of_environment, load
from gateway.errors import GatewayError, InvalidInput, ProblemError, SettingsRefused, Unreachable, sentence_of
from gateway.logs import set_up
from gateway.wire.strict_json import instant
from registry.errors import RegistryError

if TYPE_CHECKING:
    from gateway.client import Client

FAILED = 1
"""Exit code of a command that was understood and could not be done; click's own is 2, for one that was not."""


class Failed(Exit):
    """Understood, and not done: one line on standard error, whole, as a log or another program would want it."""

    def __init__(self, sentence: str) -> None:
        super().__init__(FAILED)
        click.echo(f"understudy: {sentence}", err=True)


@contextmanager
def failing_in_one_line() -> Iterator[None]:
    """Turn what is refused into one sentence and exit code 1."""
    try:
        yield
    except (ProblemError, Unreachable, GatewayError, RegistryError, OSError) as error:
        raise Failed(sentence_of(error)) from None


def settings_of(config: Path | None, data_dir: str | None, **overrides: Any) -> Settings:
    """The settings of a command; what cannot be meant is a usage error."""
    try:
        settings = load(config, {"store": data_dir, **overrides})
        settings.folder  # noqa: B018  # raises where the store is none that there is
    except SettingsRefused as error:
        raise click.UsageError(str(error)) from None
    return settings


class Target(Struct, frozen=True):
    """Where a command works, and how it prints."""

    config: Path | None
    data_dir: str | None
    url: str | None
    key: str | None
    as_json: bool

    @contextmanager
    def client(self) -> Iterator[Client]:
        """The client of the command; what it refuses becomes one line and exit code 1."""
        self.check()
        with failing_in_one_line(), self._opened() as client:
            yield client

    def check(self) -> None:
        """A command works on a server or on a store; raises UsageError for both."""
        if self.url is not None and (self.config is not None or self.data_dir is not None):
            raise click.UsageError("expected either --url or a store (--config, --data-dir), got both")
        if self.url is None and self.key is not None:
            raise click.UsageError("expected --key beside --url only: on a store no key is needed")

    def of_server(self, url: str) -> Client:
        """The client of a server, with the key of the command line or else of the environment."""
        try:
            from gateway.client import Client  # here, as `serve` needs none, and httpx is long in loading

            return Client(url, self.key or key_of_environment())
        except ValueError as error:
            raise click.UsageError(str(error)) from None

    def _opened(self) -> Client:
        if self.url is not None:
            return self.of_server(self.url)
        settings = settings_of(self.config, self.data_dir)
        set_up(settings.logs, "command")  # lines to stderr: stdout is for the result
        from gateway.client import Client

        return Client.on_store(settings)

    def show(self, document: Any, text: Callable[[], str]) -> None:
        """Print a result: for programs, or for people."""
        show(document, text, as_json=self.as_json)


def show(document: Any, text: Callable[[], str], *, as_json: bool) -> None:
    """Print a result: for programs, or for people."""
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n")
    else:
        click.echo(text())


def moment_option(_context: click.Context, option: click.Parameter, text: str | None) -> datetime | None:
    """The callback of an option that is a moment with its zone."""
    try:
        return None if text is None else instant(option.opts[0], text)
    except InvalidInput as refused:
        raise click.UsageError(str(refused)) from None


def json_option(command: Callable[..., None]) -> Callable[..., None]:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(command)


def store_options(command: Callable[..., None]) -> Callable[..., None]:
    """`--config` and `--data-dir`."""
    command = click.option("--data-dir", help="The store's folder.  [default: ./understudy-data]")(command)
    return click.option(
        "--config", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="A TOML file of settings."
    )(command)


def on_target(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command `--url`, `--key`, `--config`, `--data-dir` and `--json`, handed to it as one `target`."""

    @wraps(command)
    def with_target(
        config: Path | None, data_dir: str | None, url: str | None, key: str | None, as_json: bool, **rest: Any
    ) -> None:
        command(target=Target(config, data_dir, url, key, as_json), **rest)

    with_key = click.option("--key", help="The API key for it; better in UNDERSTUDY_KEY, where nobody sees it.")
    with_url = click.option("--url", help="Work on a running server instead of a store.")
    return store_options(json_option(with_url(with_key(with_target))))
