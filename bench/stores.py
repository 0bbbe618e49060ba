"""Stores with the models in them: registered once through a running server, as a user does, then copied."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

from bench.ground import MODEL, Ground, free_port
from bench.models import FEATURES
from bench.processes import stop
from gateway.client import Client
from gateway.errors import Unreachable

STARTS_WITHIN_S = 60.0


class NotPrepared(Exception):
    """The server that takes the models did not start; carries what it printed."""


def copied_store(ground: Ground, store: Path, *, challengers: bool) -> Path:
    """A fresh store with a champion, and two challengers if wanted; nothing was ever asked of it."""
    template = ground.folder / ("store-with-challengers" if challengers else "store-alone")
    if not template.exists():
        _prepare(ground, template, challengers=challengers)
    shutil.copytree(template, store)
    return store


def _prepare(ground: Ground, store: Path, *, challengers: bool) -> None:
    """Serve an empty folder, register, stop."""
    port = free_port()
    log = store.with_suffix(".log")
    program = (sys.executable, "-c", "from gateway.cli import main; main(prog_name='understudy')")
    with log.open("wb") as output:
        command = (*program, "serve", "--data-dir", str(store), "--port", str(port))
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        with Client(f"http://127.0.0.1:{port}") as client:
            _wait(client, process, log)
            client.create_model(MODEL, "binary", [{"name": name, "dtype": "float32"} for name in FEATURES])
            client.register(MODEL, ground.models.champion.read_bytes(), "champion", score="probabilities:1")
            for challenger in ground.models.challengers if challengers else ():
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
