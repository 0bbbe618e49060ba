"""The settings: one TOML file, one tree of frozen Structs, `UNDERSTUDY__SECTION__KEY` overrides. An empty file runs.

Every duration is here, in seconds, so that a story of months can run in seconds. The table in README is made
from this file (`described`). Nothing reads settings at import; each part is given its own section only.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

from gateway.errors import SettingsRefused

PREFIX = "UNDERSTUDY__"
LOOPBACK = ("127.0.0.1", "::1", "localhost")
KEY = "UNDERSTUDY_KEY"
"""No setting: what a client shows to a server, and nothing that a server is told."""


class ServerSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The HTTP front."""

    host: Annotated[str, Meta(description="address to bind; beyond this machine only with keys")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="port to bind; 0 takes any free one")] = 8080
    workers: Annotated[int, Meta(ge=1, le=64, description="gateway processes that share the port")] = 1
    max_body_bytes: Annotated[int, Meta(ge=1_024, description="largest request body")] = 1_048_576
    max_model_bytes: Annotated[int, Meta(ge=1_024, description="largest uploaded model")] = 268_435_456
    max_rows: Annotated[int, Meta(ge=1, le=1_000_000, description="most rows of one request")] = 1_000
    max_waiting_rows: Annotated[int, Meta(ge=1, description="rows waiting for one model before 503")] = 10_000
    max_wait_s: Annotated[float, Meta(gt=0, description="expected wait for one model before 503")] = 1.0
    lane: Annotated[bool, Meta(description="answer plain predictions where they are parsed, many times faster")] = True
    max_header_bytes: Annotated[int, Meta(ge=1_024, description="largest head of a request")] = 16_384
    max_headers: Annotated[int, Meta(ge=8, description="most headers of a request")] = 64
    receive_s: Annotated[
        float, Meta(gt=0, description="how long a request may take to come, or an answer to be read")
    ] = 8.0
    keep_alive_s: Annotated[float, Meta(gt=0, description="how long a connection may say nothing")] = 75.0
    drain_notice_s: Annotated[
        float,
        Meta(ge=0, description="how long a stopping worker still takes requests, while it says that it is not ready"),
    ] = 1.0
    drain_s: Annotated[float, Meta(ge=0, description="how long a stopping worker finishes what it accepted")] = 10.0

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host in LOOPBACK


class JournalSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """How records are made durable."""

    durability: Annotated[
        Literal["process", "power"],
        Meta(description="what an acknowledged record survives: a killed process, or a power cut too"),
    ] = "process"
    # A file has one writer, yet a reader that meets a commit half way takes the write lock for a moment to look again,
    # and on a full machine a niced reader can be put to sleep with it: 5 ms was seen to be too short.
    busy_s: Annotated[float, Meta(ge=0, description="wait for a locked predictions file before 503")] = 0.25
    outcomes_busy_s: Annotated[float, Meta(ge=0, description="wait for a locked journal.db before 503")] = 1.0
    checkpoint_s: Annotated[float, Meta(gt=0, description="between two checkpoints of a file")] = 1.0
    max_file_bytes: Annotated[
        int, Meta(ge=4_096, description="a predictions file is rotated above this size, and each day")
    ] = 1_073_741_824
    max_wal_bytes: Annotated[int, Meta(ge=4_096, description="a write-ahead log is cut back above this size")] = (
        67_108_864
    )
    heartbeat_s: Annotated[float, Meta(gt=0, description="how often an idle writer says that it is at this time")] = 1.0


class ClockSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Whose time it is."""

    source: Annotated[
        Literal["server", "caller"], Meta(description="the machine's time, or the one that callers state and advance")
    ] = "server"


BUCKET_SETTING = "cohorts.bucket_s"
"""Settled when a store is first served: another one would make its bucket numbers mean something else."""


class CohortSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """How predictions are grouped for evidence."""

    bucket_s: Annotated[int, Meta(ge=1, description="length of a bucket, for good; the rule is about days")] = 86_400


class ShadowSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The worker that mirrors."""

    poll_s: Annotated[float, Meta(gt=0, description="pause when nothing is new")] = 0.02
    batch_rows: Annotated[int, Meta(ge=1, description="rows a challenger is given at once")] = 512
    timeout_s: Annotated[float, Meta(gt=0, description="how long a challenger may take for a batch")] = 10.0
    memory_bytes: Annotated[int, Meta(ge=67_108_864, description="address space of a challenger's process")] = (
        1_073_741_824
    )
    lag_limit_s: Annotated[float, Meta(gt=0, description="older rows than this count as failed: lag")] = 86_400.0


class RetrainSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The worker that closes cohorts, decides and trains."""

    poll_s: Annotated[float, Meta(gt=0, description="pause when no bucket can be closed")] = 0.25
    functions: Annotated[
        str, Meta(description="folder of the Python functions that recipes may name; empty: there are none")
    ] = ""
    search_backend: Annotated[
        Literal["loky", "dask", "ray"], Meta(description="where candidates of a search are trained, through joblib")
    ] = "loky"
    search_jobs: Annotated[int, Meta(ge=1, description="candidates that are trained at once")] = 1
    training_limit_s: Annotated[float, Meta(gt=0, description="a training that takes longer is ended, and failed")] = (
        3_600.0
    )
    training_memory_bytes: Annotated[
        int, Meta(ge=268_435_456, description="address space of a process that trains")
    ] = 8_589_934_592


class LogSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """What is said to the terminal."""

    level: Annotated[Literal["debug", "info", "warning", "error"], Meta(description="least severe line printed")] = (
        "info"
    )
    format: Annotated[
        Literal["auto", "json", "console"], Meta(description="auto: console on a terminal, else json")
    ] = "auto"
    requests: Annotated[bool, Meta(description="one line a request")] = False


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that can be set."""

    store: Annotated[str, Meta(description="a folder for registry, artifacts and journal")] = "./understudy-data"
    poll_s: Annotated[float, Meta(gt=0, description="how often a process looks for a changed lineup or clock")] = 0.025
    server: ServerSettings = ServerSettings()
    journal: JournalSettings = JournalSettings()
    clock: ClockSettings = ClockSettings()
    cohorts: CohortSettings = CohortSettings()
    shadow: ShadowSettings = ShadowSettings()
    retrain: RetrainSettings = RetrainSettings()
    logs: LogSettings = LogSettings()

    @property
    def folder(self) -> Path:
        """The store as a folder.

        Raises:
            SettingsRefused: it is a URL; only folders are supported so far.
        """
        if "://" in self.store:
            raise SettingsRefused(f"store: expected a folder, got {self.store!r} (databases are not supported yet)")
        return Path(self.store)


def load(
    path: Path | None = None, overrides: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None
) -> Settings:
    """The settings of a file, then of the environment, then of the command line; later ones win.

    Args:
        path: a TOML file, or None for none.
        overrides: `{"server.port": 9000}`, from command-line options; None values are left out.
        environment: `os.environ` unless given; only `UNDERSTUDY__…` is looked at.

    Raises:
        SettingsRefused: an unknown key, a wrong type or a value out of range; the message names it.
    """
    tree: dict[str, Any] = {}
    if path is not None:
        try:
            tree = msgspec.toml.decode(path.read_bytes())
        except OSError as error:
            raise SettingsRefused(f"{path}: {(error.strerror or str(error)).lower()}") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise SettingsRefused(f"{path}: not TOML: {error}") from None
    for name, text in (os.environ if environment is None else environment).items():
        if name.startswith(PREFIX):
            _set(tree, name.removeprefix(PREFIX).lower().split("__"), text)
    for name, value in (overrides or {}).items():
        if value is not None:
            _set(tree, name.split("."), value)
    try:
        # Not strict: the environment has only strings, and "8080" means 8080.
        return msgspec.convert(tree, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsRefused(f"settings: {error}") from None


def key_of_environment(environment: Mapping[str, str] | None = None) -> str | None:
    """The API key that `UNDERSTUDY_KEY` holds, so that it need not stand on a command line; None for none."""
    return (os.environ if environment is None else environment).get(KEY, "").strip() or None


def environment_of_children() -> dict[str, str]:
    """This process's environment without the settings, which a child is told whole, and without anybody's key."""
    return {name: value for name, value in os.environ.items() if not name.startswith(PREFIX) and name != KEY}


def _set(tree: dict[str, Any], path: list[str], value: Any) -> None:
    for i, key in enumerate(path[:-1], 1):
        tree = tree.setdefault(key, {})
        if not isinstance(tree, dict):
            raise SettingsRefused(f"settings: {'.'.join(path[:i])}: expected a section, got {tree!r:.60}")
    tree[path[-1]] = value


class Described(Struct, frozen=True):
    """One setting, for the table in README and for `--help`."""

    key: str
    type: str
    default: Any
    description: str


def described(struct: type[Struct] = Settings, prefix: str = "") -> Iterator[Described]:
    """Every setting with its type, default and meaning, in the order of this file."""
    hints = get_type_hints(struct, include_extras=True)
    for field in msgspec.structs.fields(struct):
        hint = hints[field.name]
        if isinstance(hint, type) and issubclass(hint, Struct):
            yield from described(hint, f"{prefix}{field.name}.")
            continue
        inner, meta = get_args(hint)
        kind = " or ".join(map(str, get_args(inner))) if get_origin(inner) is Literal else inner.__name__
        yield Described(prefix + field.name, kind, field.default, meta.description)
