"""Stores with the models in them: registered once through a running server, as a user does, then copied."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, assert_never

from bench.ground import MODEL, Ground, free_port
from bench.models import FEATURES
from bench.processes import stop
from gateway.client import Client
from gateway.errors import Unreachable

STARTS_WITHIN_S = 60.0


class NotPrepared(Exception):
    """The server that takes the models did not start; carries what it printed."""


Cast = Literal["alone", "with challengers", "slow"]
"""Who plays: a champion, with two challengers, or a slow champion."""


def copied_store(ground: Ground, store: Path, cast: Cast, environment: Mapping[str, str]) -> Path:
    """A fresh store with these versions; nothing was ever asked of it.

    Of the settings in `environment` those of cohorts are heeded: a store has them for good.
    """
    settled = {name: value for name, value in environment.items() if "__COHORTS__" in name}
    template = ground.folder / " ".join(("store", cast, *settled.values()))
    if not template.exists():
        match cast:
            case "slow":
                _prepare(template, ground.slow_model, (), settled)
            case "alone" | "with challengers":
                models = ground.models
                _prepare(template, models.champion, models.challengers if cast != "alone" else (), settled)
            case _:
                assert_never(cast)
    shutil.copytree(template, store)
    return store


def _prepare(store: Path, champion: Path, challengers: Sequence[Path], environment: Mapping[str, str]) -> None:
    """Serve an empty folder, register, stop."""
    port = free_port()
    log = store.with_suffix(".log")
    program = (sys.executable, "-c", "from gateway.cli import main; main(prog_name='understudy')")
    with log.open("wb") as output:
        command = (*program, "serve", "--data-dir", str(store), "--port", str(port))
        process = subprocess.Popen(command, stdout=output, stderr=output, env=os.environ | dict(environment))
    try:
        with Client(f"http://127.0.0.1:{port}") as client:
            _wait(client, process, log)
            client.create_model(MODEL, "binary", [{"name": name, "dtype": "float32"} for name in FEATURES])
            client.register(MODEL, champion.read_bytes(), "champion", score="probabilities:1")
            for challenger in challengers:
                client.register(MODEL, challenger.read_bytes(), "challenger", score="probabilities:1")
    finally:
        stop(process.pid)
        process.wait()


def _wait(client: Client, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline_s = time.monotonic() + STARTS_WITHIN_S
    while True:
        try:
            client.ready()
        except Unreachable:
            if process.poll() is not None or time.monotonic() > deadline_s:
                raise NotPrepared(f"understudy serve: {log.read_text(errors='replace')[-2_000:]}") from None
            time.sleep(0.02)
        else:
            return
