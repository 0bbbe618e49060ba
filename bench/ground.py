"""What a run stands on: its folder, its cores, its models, and files that are made once."""

from __future__ import annotations

import os
import platform
import socket
from contextlib import suppress
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # it ships no types

from bench.bodies import Wire, bodies
from bench.load_wrk import written
from bench.models import Trained, slow, trained

MODEL = "bench"
"""The public name of the model."""


class Ground:
    """The folder and the cores of one run. Not for several threads at once."""

    def __init__(self, folder: Path) -> None:
        """Stores, models and bodies are written below `folder`; a journal is as durable as its disk."""
        cores = sorted(os.sched_getaffinity(0))
        self.folder = folder
        self.server_core, self.load_core = cores[0], cores[min(1, len(cores) - 1)]
        self._bodies: dict[Wire, list[bytes]] = {}

    @cached_property
    def models(self) -> Trained:
        """Trained when they are first needed."""
        return trained(self.folder)

    @cached_property
    def slow_model(self) -> Path:
        """As `models`, where it is wanted."""
        return slow(self.folder)

    def bodies(self, wire: Wire) -> list[bytes]:
        """Request bodies, made when they are first needed."""
        if wire not in self._bodies:
            self._bodies[wire] = bodies(self.models.rows, wire)
        return self._bodies[wire]

    def bodies_file(self, wire: Wire) -> Path:
        """The same, in a file for wrk."""
        path = self.folder / f"{wire}.jsonl"
        return path if path.exists() else written(self.folder, wire, self.bodies(wire))

    def described(self) -> dict[str, str]:
        """The machine and what figures depend on, for the report."""
        return {
            "cpu": _cpu(),
            "cores": f"server on {self.server_core}, load on {self.load_core} of {os.cpu_count()}",
            "kernel": platform.release(),
            "python": platform.python_version(),
            "store on": _disk(self.folder),
            **_versions("onnxruntime", "fastapi", "uvicorn", "pydantic"),
        }


def free_port() -> int:
    """A port that nobody listens on, as everybody is told one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _versions(*names: str) -> dict[str, str]:
    """Of those that are installed."""
    found = {}
    for name in names:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def _disk(folder: Path) -> str:
    """The file system that a folder is on: the longest mount point above it."""
    place = folder.resolve()
    mounts = [each for each in psutil.disk_partitions(all=True) if place.is_relative_to(each.mountpoint)]
    found = max(mounts, key=lambda each: len(each.mountpoint), default=None)
    return "unknown" if found is None else f"{found.fstype} ({found.device})"
