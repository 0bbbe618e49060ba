"""Closed loop: wrk keeps every connection busy, and what comes back says how fast the server is."""

from __future__ import annotations

import os
import resource
import subprocess
from pathlib import Path

import msgspec
from msgspec import Struct

SCRIPT = Path(__file__).with_name("load.lua")


class WrkFailed(Exception):
    """wrk is not there, or did not finish; carries what it printed."""


class Load(Struct, frozen=True):
    """What one run of wrk measured. Latencies are from sending to the end of the answer."""

    n_requests: int
    duration_us: int
    p50_us: int
    p99_us: int
    max_us: int
    n_bad_status: int
    """Answers of 400 and above."""
    n_socket_errors: int
    busy: float = 0.0
    """Share of its core that wrk used; near 1, wrk was measured and not the server."""

    @property
    def requests_per_s(self) -> float:
        """Answers a second."""
        return self.n_requests / self.duration_us * 1e6

    @property
    def n_errors(self) -> int:
        """Whatever was no answer of 200."""
        return self.n_bad_status + self.n_socket_errors


def written(folder: Path, name: str, contents: list[bytes]) -> Path:
    """A file of bodies as the script reads it."""
    path = folder / f"{name}.jsonl"
    path.write_bytes(b"\n".join(contents) + b"\n")
    return path


def wrk(address: tuple[str, int], path: str, bodies: Path, *, connections: int, seconds: float, core: int) -> Load:
    """Load a server for some (whole) seconds, from one thread on a core.

    Raises:
        WrkFailed: wrk is not installed, or did not end well.
    """
    command = [
        *("wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s", str(SCRIPT)),
        *(f"http://{address[0]}:{address[1]}", "--", str(bodies), path),
    ]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=seconds + 30,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )  # fmt: skip
    except FileNotFoundError:
        raise WrkFailed("expected wrk on the PATH, got none: install it (Debian: apt-get install wrk)") from None
    except subprocess.TimeoutExpired:
        raise WrkFailed(f"wrk did not end within {seconds + 30:g} s") from None
    if ended.returncode:
        raise WrkFailed(f"wrk ended with {ended.returncode}: {ended.stderr.strip() or ended.stdout.strip()}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return read(ended.stdout, cpu_s)


def read(printed: str, cpu_s: float = 0.0) -> Load:
    """What the script printed last, beside the tables that wrk prints for people.

    Raises:
        WrkFailed: it printed nothing of the kind.
    """
    line = next((line for line in reversed(printed.splitlines()) if line.startswith("{")), "")
    try:
        load = msgspec.json.decode(line, type=Load)
    except msgspec.DecodeError:
        raise WrkFailed(f"expected a line of JSON from wrk's script, got: {printed.strip()[-300:]!r}") from None
    return msgspec.structs.replace(load, busy=cpu_s / (load.duration_us / 1e6))
