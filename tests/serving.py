"""`understudy serve` on a store, with all of its processes: to be asked, watched, and killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import httpx
import psutil  # type: ignore[import-untyped]  # it ships no types

Role = Literal["gateway", "shadow", "retrain"]
PATIENCE_S = 60.0
"""How long a story waits for what must come; reached only when it fails."""
PROGRAM = (sys.executable, "-c", "from gateway.cli import main; main(prog_name='understudy')")


def until(holds: Callable[[], Any], what: str, within_s: float = PATIENCE_S) -> Any:
    """Look again and again until it holds; returns what it then says.

    Raises:
        AssertionError: it did not in time.
    """
    deadline_s = time.monotonic() + within_s
    while not (found := holds()):
        assert time.monotonic() < deadline_s, f"{what}: not within {within_s:g} s"
        time.sleep(0.005)  # the pause of a poll: nothing is taken to have happened because of it
    return found


def gone(process: psutil.Process) -> bool:
    """Whether a process has ended, reaped or not."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class Serve:
    """A running `understudy serve`."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
        self.process, self.url, self._log = process, url, log
        self.http = httpx.Client(base_url=url, timeout=PATIENCE_S, trust_env=False)

    @property
    def port(self) -> int:
        """Where it listens."""
        return httpx.URL(self.url).port or 80

    @property
    def log(self) -> str:
        """What it has printed so far."""
        return self._log.read_text(errors="replace")

    def workers(self, role: Role) -> list[psutil.Process]:
        """Its running workers of a role."""
        found = []
        for child in psutil.Process(self.process.pid).children():
            with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                told = (child.cmdline() or [""])[-1]  # empty for a moment, before it is the program
                if told.startswith("{") and json.loads(told)["role"] == role and not gone(child):
                    found.append(child)
        return found

    def worker(self, role: Role) -> psutil.Process:
        """The one worker of a role, waited for."""
        return until(lambda: self.workers(role), f"a {role} worker")[0]

    def kill(self, role: Role) -> None:
        """Kill -9 of the worker of a role, whatever it is doing."""
        self.worker(role).kill()

    def post(self, path: str, body: Any, **more: Any) -> Any:
        """What it answers to a request that must succeed."""
        response = self.http.post(path, json=body, **more)
        assert response.status_code < 300, f"{path}: {response.status_code} {response.text}"
        return response.json()

    def get(self, path: str, **more: Any) -> Any:
        """As `post`."""
        response = self.http.get(path, **more)
        assert response.status_code == 200, f"{path}: {response.status_code} {response.text}"
        return response.json()

    def ready(self) -> None:
        """Wait until it answers."""

        def answers() -> bool:
            try:
                return self.http.get("/readyz").status_code == 200
            except httpx.TransportError:
                return False

        until(answers, "an answer of /readyz")

    def caught_up(self, model: str = "m", within_s: float = PATIENCE_S) -> dict[str, Any]:
        """Wait until every challenger was given everything; returns the model."""

        def all_given() -> Any:
            document = self.get(f"/admin/models/{model}")
            return document if not any(e["n_chunks_waiting"] for e in document["mirror"]) else None

        found: dict[str, Any] = until(all_given, "the mirror has caught up", within_s)
        return found

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)


@contextmanager
def serving(store: Path, *, port: int = 0, **settings: Any) -> Iterator[Serve]:
    """Serve a store until the end of the block; `section__key=value` are settings."""
    names = {f"UNDERSTUDY__{key.upper()}": str(value) for key, value in settings.items()}
    log = store.with_name(f"{store.name}-{time.monotonic_ns()}.log")
    command = [*PROGRAM, "serve", "--data-dir", str(store), "--port", str(port), "--json"]
    with log.open("wb") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, env=os.environ | names)
    assert process.stdout is not None
    said = process.stdout.readline()
    assert said, log.read_text()
    serve = Serve(process, json.loads(said)["url"], log)
    try:
        yield serve
    finally:
        serve.http.close()
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(30)
            finally:
                process.kill()
        process.wait()
        process.stdout.close()
