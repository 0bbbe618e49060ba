"""One system from its start to its end."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.bodies import JSON_HEADERS
from bench.ground import Ground, free_port
from bench.processes import roles, stop
from bench.systems import System, Unavailable

STARTS_WITHIN_S = 90.0
HOST = "127.0.0.1"


class Running:
    """A system that has answered its first prediction."""

    def __init__(self, system: System, pid: int, port: int, start_s: float) -> None:
        self.system, self.pid, self.address = system, pid, (HOST, port)
        self.start_s = start_s
        """From starting the program to the first answer of 200 to a prediction."""

    def roles(self) -> dict[int, str]:
        """Its processes now."""
        return roles(self.pid)


@contextmanager
def running(system: System, ground: Ground, core: int | None = None) -> Iterator[Running]:
    """Start a system with everything that it starts on one core; end it, and remove its folder.

    Args:
        system: what to start.
        ground: models, folder and cores.
        core: where; the ground's core for servers unless given.

    Raises:
        Unavailable: it is not installed, ended, or did not answer within `STARTS_WITHIN_S`; says what it printed.
    """
    folder = ground.folder / "running"
    folder.mkdir()
    port = free_port()
    place = {ground.server_core if core is None else core}
    try:
        launch = system.launch(ground, folder, port)
        body = ground.bodies(system.wire)[0]
        environment = os.environ | dict(launch.environment)
        log = folder / "printed.log"
        with log.open("wb") as output:
            started_s = time.perf_counter()
            process = subprocess.Popen(
                launch.command, stdout=output, stderr=output, cwd=launch.folder, env=environment,
                preexec_fn=lambda: os.sched_setaffinity(0, place),  # no thread holds a lock here
            )  # fmt: skip
        try:
            start_s = _first_answer_s(system, process, port, body, log) - started_s
            yield Running(system, process.pid, port, start_s)
        finally:
            stop(process.pid)
            process.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _first_answer_s(system: System, process: subprocess.Popen[bytes], port: int, body: bytes, log: Path) -> float:
    deadline_s = time.perf_counter() + STARTS_WITHIN_S
    said = "nobody listens"
    while time.perf_counter() < deadline_s:
        try:
            connection = http.client.HTTPConnection(HOST, port, timeout=10)
            connection.request("POST", system.path, body, JSON_HEADERS)
            answer = connection.getresponse()
            said = f"{answer.status} {answer.read()[:300]!r}"
            if answer.status == 200:
                return time.perf_counter()
        except (OSError, http.client.HTTPException) as error:
            said = f"{type(error).__name__}: {error}"
        finally:
            connection.close()
        if process.poll() is not None:
            break
        time.sleep(0.002)
    printed = _last_words(log.read_text(errors="replace"))
    raise Unavailable(f"no answer ({said}); exit code {process.poll()}; it printed: {printed or 'nothing'}")


def _last_words(printed: str) -> str:
    """The line that names the error, or the last one: a report is no place for traces, nor for paths of a machine."""
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]
    return (named or lines or [""])[-1][:300]
