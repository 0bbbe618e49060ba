"""What a misbehaving challenger costs the champion's callers: blocks with it and without any, in turn, on pinned cores.

    python -m bench.isolation --pairs 20 --seconds 2

Each pair is a block without a challenger and a block with one, in an order that alternates, on two servers that are
both up all the while; ratios are taken within a pair, and their median has a bootstrap interval over the pairs.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from bench.bodies import requests
from bench.ground import free_port
from bench.open_loop import drive
from bench.processes import roles, stop
from bench.readme import RESULTS
from gateway.client import Client
from gateway.errors import Unreachable
from tests.actors import Quirk, hostile, logistic
from tests.faults import Faults
from tests.seasons import WEAK
from tests.stage import staged

MODES: dict[str, Quirk] = {
    "raises": "raises",
    "hangs": "loops",
    "takes memory without end": "hoards",
    "answers NaN": "answers nan",
    "answers too few rows": "answers too few",
    "is slow": "is slow",
    "dies of a segmentation fault": "raises",
}
"""The last is a well-behaved one whose process is killed by SIGSEGV again and again."""
N_DRAWS = 4_000
PREDICT = "/models/m/predict"


class Ratio(Struct, frozen=True):
    """With a challenger over without, of one percentile: the median of the pairs and its 95 % interval."""

    median: float
    low: float
    high: float


class Isolation(Struct, frozen=True):
    """One way to misbehave."""

    mode: str
    n_pairs: int
    p50: Ratio
    p99: Ratio
    n_requests: int
    n_errors: int


def ratio(pairs: Sequence[tuple[float, float]], seed: int = 0) -> Ratio:
    """Of (without, with): the median of with / without, and where 95 % of medians of drawn pairs lie."""
    values = np.array([with_ / without for without, with_ in pairs])
    drawn = np.random.default_rng(seed).choice(values, (N_DRAWS, len(values)))
    low, high = np.percentile(np.median(drawn, axis=1), [2.5, 97.5])
    return Ratio(float(np.median(values)), float(low), float(high))


def cast(folder: Path, challenger: bytes | None) -> None:
    """A store with a champion, and with a challenger if one is given."""
    with staged(folder, source="server") as stage:
        stage.declare()
        stage.champion(logistic(WEAK))
        if challenger is not None:
            stage.challenger(challenger)


@contextmanager
def served(folder: Path, cores: set[int]) -> Iterator[tuple[int, int]]:
    """(pid, port) of a server of this store, on these cores."""
    port = free_port()
    program = (sys.executable, "-c", "from gateway.cli import main; main(prog_name='understudy')")
    environment = os.environ | {"UNDERSTUDY__SHADOW__TIMEOUT_S": "1", "UNDERSTUDY__SHADOW__BATCH_ROWS": "64"}
    with folder.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(
            (*program, "serve", "--data-dir", str(folder), "--port", str(port)), stdout=log, stderr=log,
            env=environment, preexec_fn=lambda: os.sched_setaffinity(0, cores),  # no thread holds a lock here
        )  # fmt: skip
    try:
        with Client(f"http://127.0.0.1:{port}") as client:
            _answers(client)
        yield process.pid, port
    finally:
        stop(process.pid)
        process.wait()


def _answers(client: Client) -> None:
    deadline_s = time.monotonic() + 60
    while True:
        try:
            client.ready()
        except Unreachable:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.02)
        else:
            return


def isolated(mode: str, *, n_pairs: int, seconds: float, rate_per_s: float, folder: Path) -> Isolation:
    """All pairs of one way to misbehave; every request is answered, or counted as an error."""
    cores = sorted(os.sched_getaffinity(0))
    bodies = [msgspec.json.encode({"inputs": {"a": i / 50 - 1, "b": 99.0 if i % 4 == 0 else 0.1}}) for i in range(100)]
    asked = requests(PREDICT, bodies)
    n_requests = n_errors = 0
    p50, p99 = [], []
    with ExitStack() as opened:
        cast(folder / "alone", None)
        cast(folder / "beside", hostile(MODES[mode]))
        alone = opened.enter_context(served(folder / "alone", {cores[0]}))
        beside = opened.enter_context(served(folder / "beside", {cores[0]}))
        for number in range(n_pairs):
            found = {}
            for pid, port in (alone, beside) if number % 2 == 0 else (beside, alone):
                if "segmentation" in mode:
                    _shoot(beside[0])
                said = drive(("127.0.0.1", port), asked, rate_per_s, seconds, n_connections=8, seed=number)
                found[pid] = said
                n_requests, n_errors = n_requests + len(said.status), n_errors + said.n_errors
            p50.append((found[alone[0]].latency_us(50), found[beside[0]].latency_us(50)))
            p99.append((found[alone[0]].latency_us(99), found[beside[0]].latency_us(99)))
    return Isolation(mode, n_pairs, ratio(p50), ratio(p99), n_requests, n_errors)


def _shoot(pid: int) -> None:
    for child, role in roles(pid).items():
        if role == "challenger":
            os.kill(child, 11)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 1 if the upper end of a ratio of p50 is above 1.05, of p99 above 1.10, or a request failed."""
    parser = argparse.ArgumentParser(prog="python -m bench.isolation", description=__doc__)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each block")
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second")
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(MODES))
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    kept, missed = Faults(options.results), False
    for mode in options.only:
        with tempfile.TemporaryDirectory(prefix="understudy-isolation-") as folder:
            found = isolated(
                mode, n_pairs=options.pairs, seconds=options.seconds, rate_per_s=options.rate, folder=Path(folder)
            )
        told = (
            f"p50 {found.p50.median:.3f}x ({found.p50.low:.3f} to {found.p50.high:.3f}), "
            f"p99 {found.p99.median:.2f}x ({found.p99.low:.2f} to {found.p99.high:.2f}) of none; "
            f"{found.n_errors} of {found.n_requests:,} requests failed"
        )
        print(f"{mode}: {told}", flush=True)
        kept.record(f"a challenger that {mode}", found.n_pairs, told, "blocks without a challenger, in turn")
        missed = missed or found.p50.high > 1.05 or found.p99.high > 1.10 or found.n_errors > 0
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
