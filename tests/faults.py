"""The results of faults, as `make chaos` counts them: a line a fault, as JSON and as the table that README shows."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct


class Fault(Struct, frozen=True):
    """What was done, how often, and what came of it."""

    name: str
    n: int
    found: str
    """Counts, in words."""
    control: str
    """What the control did, that must fail."""
    measured: str


class Faults:
    """Keeps results in a folder; without one it keeps nothing."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def record(self, name: str, n: int, found: str, control: str) -> None:
        """Keep a result in place of the one that this fault had."""
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / "chaos.json"
        known = msgspec.json.decode(path.read_bytes(), type=list[Fault]) if path.exists() else []
        today = f"{datetime.now(UTC):%Y-%m-%d}, load average {os.getloadavg()[0]:.0f}"
        kept = sorted([f for f in known if f.name != name] + [Fault(name, n, found, control, today)],
                      key=lambda fault: fault.name)  # fmt: skip
        path.write_bytes(msgspec.json.format(msgspec.json.encode(kept), indent=1) + b"\n")
        (self._folder / "chaos.md").write_text(table(kept))


def table(faults: list[Fault]) -> str:
    """As README shows it."""
    rows = (f"| {f.name} | {f.n:,} | {f.found} | {f.control} | {f.measured} |" for f in faults)
    head = "| fault | times | what came of it | the control | measured |\n| --- | ---: | --- | --- | --- |\n"
    return head + "\n".join(rows) + "\n"
