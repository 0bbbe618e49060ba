"""`python -m bench.soak --minutes 20`: half load, two challengers, outcomes, cohorts that close; does anything grow?

Requests leave on time in slices of some seconds, each followed by its outcomes and a look at every process and file.
Buckets are seconds long instead of days, so that hundreds of them close; prediction files are rotated early.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import replace

from bench.bodies import requests
from bench.ground import MODEL, Ground
from bench.memory import pss_bytes
from bench.models import FEATURES
from bench.open_loop import drive
from bench.readme import RESULTS
from bench.running import Running, running
from bench.soak_picture import svg
from bench.soak_report import Sample, Soak, markdown, slope_mib_per_h
from bench.systems import PREDICT, System, understudy
from gateway.client import Client

BUCKET_S, MATURITY_S = 10, 10.0
MAX_FILE_BYTES = 16 * 2**20
PATIENCE_S = 60.0
WARM_SHARE = 0.2
"""The first part of a run, in which caches fill: it is drawn, and not in the slope."""
SYSTEM = System(
    "soak",
    "Understudy, 2 challengers",
    understudy(
        "with challengers",
        cohorts__bucket_s=str(BUCKET_S),
        journal__max_file_bytes=str(MAX_FILE_BYTES),
        journal__max_wal_bytes=str(8 * 2**20),
    ),
    PREDICT,
    "named",
    challengers=2,
)


class Load:
    """Predictions with association ids, and their outcomes, in slices."""

    def __init__(self, ground: Ground, server: Running, seed: int = 0) -> None:
        self._server, self._generator = server, np.random.default_rng(seed)
        self._rows = [dict(zip(FEATURES, row, strict=True)) for row in ground.models.rows.round(6).tolist()]
        self._n = 0

    def slice(self, rate_per_s: float, seconds: float) -> tuple[int, int, float, float]:
        """(requests, errors, p50 ms, p99 ms) of so many seconds; then each request's outcome is reported."""
        n = round(rate_per_s * seconds)
        first, self._n = self._n, self._n + n
        rows = (self._rows[i % len(self._rows)] for i in range(first, self._n))
        bodies = [json.dumps({"inputs": row, "association_id": f"s{i}"}).encode() for i, row in enumerate(rows, first)]
        said = drive(self._server.address, requests(PREDICT, bodies), rate_per_s, seconds, seed=first)
        self._report(range(first, self._n))
        return n, said.n_errors, said.latency_us(50) / 1e3, said.latency_us(99) / 1e3

    def _report(self, numbers: range) -> None:
        outcomes = self._generator.integers(0, 2, len(numbers)).tolist()
        for start in range(0, len(numbers), 1_000):
            part = list(zip(numbers, outcomes, strict=True))[start : start + 1_000]
            lines = (json.dumps({"association_id": f"s{i}", "outcome": outcome}) for i, outcome in part)
            post(self._server, f"/models/{MODEL}/outcomes", "\n".join(lines).encode(), "application/x-ndjson")


def post(server: Running, path: str, body: bytes, kind: str = "application/json", method: str = "POST") -> Any:
    """What the server answers."""
    host, port = server.address
    asked = urllib.request.Request(  # our own server
        f"http://{host}:{port}{path}", body or None, {"content-type": kind}, method=method
    )
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            with urllib.request.urlopen(asked, timeout=PATIENCE_S) as answer:  # noqa: S310
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            if error.code != 503 or time.monotonic() > deadline_s:
                raise
            _say(f"{path}: {error.read().decode()}")  # try again later, as it says
            time.sleep(0.5)


def sample(server: Running, store: Path, at_s: float, said: tuple[int, int, float, float]) -> Sample:
    """Every process and file, now."""
    model = post(server, f"/admin/models/{MODEL}", b"", method="GET")
    evidence = post(server, f"/admin/models/{MODEL}/evidence", b"", method="GET")
    logs = [path.stat().st_size for path in store.rglob("*-wal")]
    files = [path.stat().st_size for path in (store / "predictions").glob("*.db")]
    accounts = [entry["mirror"] for entry in model["mirror"]]
    through = evidence["closed_through"]
    closed_s = None if through is None else time.time() - datetime.fromisoformat(through).timestamp()
    return Sample(
        at_s=at_s,
        pss_bytes=pss_bytes(server.roles()),
        largest_wal_bytes=max(logs, default=0),
        ledger_wal_bytes=sum(path.stat().st_size for path in store.glob("journal.db-wal")),
        n_files=len(files),
        journal_bytes=sum(files) + (store / "journal.db").stat().st_size + sum(logs),
        lag_s=max((entry["lag_s"] for entry in model["mirror"]), default=0.0),
        closing_lag_s=closed_s,
        n_requests=said[0],
        n_errors=said[1],
        p50_ms=said[2],
        p99_ms=said[3],
        eligible=sum(account["eligible"] for account in accounts),
        scored=sum(account["scored"] for account in accounts),
        failed=sum(account["failed"] for account in accounts),
        skipped=sum(account["skipped"] for account in accounts),
    )


def samples(
    server: Running, load: Load, store: Path, rate_per_s: float, minutes: float, every_s: float
) -> Iterator[Sample]:
    """One after each slice, until the time is over."""
    began_s = time.monotonic()
    while (at_s := time.monotonic() - began_s) < minutes * 60:
        said = load.slice(rate_per_s, every_s)
        yield sample(server, store, at_s, said)


def soaked(ground: Ground, *, minutes: float, every_s: float, most_per_s: float) -> Soak:
    """The whole run."""
    with running(SYSTEM, ground) as server:
        store = ground.folder / "running" / "store"
        policy = json.dumps({"promotion": "one", "maturity_s": MATURITY_S}).encode()
        post(server, f"/admin/models/{MODEL}/policy", policy, method="PUT")
        load = Load(ground, server)
        n, n_errors, _, _ = load.slice(2 * most_per_s, 3.0)
        with Client(f"http://{server.address[0]}:{server.address[1]}") as client:
            client.wait_caught_up(MODEL, timeout_s=300.0)  # the challengers have been loaded by then
        rate_per_s = max(20.0, min(most_per_s, (n - n_errors) / 3.0 / 2))
        found = []
        for each in samples(server, load, store, rate_per_s, minutes, every_s):
            found.append(each)
            mib = sum(each.pss_bytes.values()) / 2**20, each.largest_wal_bytes / 2**20
            _say(
                f"{each.at_s:6.0f} s  {mib[0]:5.0f} MiB  log {mib[1]:4.1f} MiB  {each.n_files} files  "
                f"lag {each.lag_s:.1f} s  p99 {each.p99_ms:.1f} ms  {each.n_errors} errors"
            )
        facts = ground.described() | {
            "measured": datetime.now(UTC).strftime("%Y-%m-%d"),
            "requests/s": f"{rate_per_s:.0f}",
            "load average": " ".join(f"{each:.1f}" for each in os.getloadavg()),
        }
        run = Soak(facts, found, {})
        return replace(run, slopes=slope_mib_per_h(found, WARM_SHARE))


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 if a request failed."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--every-s", type=float, default=5.0, help="length of a slice of load")
    parser.add_argument("--most-per-s", type=float, default=400.0, help="never more than so many requests a second")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where soak.{json,md,svg} are written")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="understudy-soak-") as folder:
        ground = Ground(Path(folder))
        run = soaked(ground, minutes=options.minutes, every_s=options.every_s, most_per_s=options.most_per_s)
    options.results.mkdir(exist_ok=True)
    encoded = msgspec.json.format(msgspec.json.encode(run), indent=1)
    (options.results / "soak.json").write_bytes(encoded + b"\n")
    (options.results / "soak.md").write_text(markdown(run))
    (options.results / "soak.svg").write_text(svg(run.samples))
    print(markdown(run))
    return int(any(each.n_errors for each in run.samples))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
