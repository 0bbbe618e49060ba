"""`python -m bench.training_overhead`: what the gateway's callers wait longer while the same store trains.

One server on a journal of sixty days; blocks of an open loop while nothing is trained and while a training is under
way, in an order that alternates. Ratios are taken within a pair, and their median has a bootstrap interval over them.
Once with everything on one core, and once with both cores for all.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench.bodies import requests
from bench.isolation import PREDICT, Ratio, ratio, served
from bench.open_loop import drive
from bench.readme import RESULTS
from gateway.client import Client
from registry.recipe import Recipe, Triggers
from tests.actors import logistic
from tests.seasons import WEAK, rows_of
from tests.stage import ME, staged

N_DAYS, ROWS_A_DAY = 60, 1_000
SLOW = Recipe(
    parameters={"max_iter": 3_000}, triggers=Triggers(min_outcomes=1_000, max_challengers=50, must_win_backtest=False)
)  # trains for longer than any block
IDLE_WITHIN_S = 120.0


def filled(folder: Path) -> None:
    """A store with a champion, a journal and a recipe whose trainings outlast a block."""
    with staged(folder, source="server") as stage:
        stage.declare()
        stage.champion(logistic(WEAK))
        stage.registry.trainings.set_recipe("m", SLOW, by=ME)
        for day in range(N_DAYS):
            rows, happened = rows_of(day, ROWS_A_DAY)
            stage.outcomes(stage.predict(day + 0.25, rows), happened, day + 1)


def state(client: Client) -> str:
    """Of the last training; `none` while there was none."""
    trainings = client.trainings("m")["trainings"]
    return trainings[-1]["state"] if trainings else "none"


def wait(client: Client, states: Sequence[str]) -> None:
    """Until the last training is in one of these states."""
    deadline_s = time.monotonic() + IDLE_WITHIN_S
    while state(client) not in states:
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"the last training is {state(client)}, and not one of {', '.join(states)}")
        time.sleep(0.05)


def measured(folder: Path, cores: set[int], *, n_pairs: int, seconds: float, rate_per_s: float) -> list[Ratio]:
    """p50 and p99 while it trains over those while it does not."""
    asked = requests(PREDICT, [msgspec.json.encode({"inputs": {"a": i / 50 - 1, "b": 0.1}}) for i in range(100)])
    p50, p99 = [], []
    with served(folder, cores) as (_, port), Client(f"http://127.0.0.1:{port}") as client:
        for number in range(n_pairs):
            found = {}
            for trains in (False, True) if number % 2 == 0 else (True, False):
                if trains:
                    client.train("m", "to see what it costs")
                    wait(client, ["running"])
                    time.sleep(2.0)  # from reading on it only fits: a block is of what lasts
                found[trains] = drive(
                    ("127.0.0.1", port), asked, rate_per_s, seconds, n_connections=8, seed=number
                )  # fmt: skip
                if trains and state(client) != "running":
                    raise RuntimeError("the training ended before the block did: nothing was measured")
                wait(client, ["none", "registered", "declined", "failed"])
            p50.append((found[False].latency_us(50), found[True].latency_us(50)))
            p99.append((found[False].latency_us(99), found[True].latency_us(99)))
    return [ratio(p50), ratio(p99)]


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(prog="python -m bench.training_overhead", description=__doc__)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each block")
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second")
    options = parser.parse_args()
    cores = os.sched_getaffinity(0)
    lines = ["| the server has | p50 while it trains | p99 while it trains |", "|---|---:|---:|"]
    for name, of in (("one core for all its processes", {min(cores)}), ("both cores", set(cores))):
        with tempfile.TemporaryDirectory(prefix="understudy-overhead-") as folder:
            store = Path(folder) / "store"
            filled(store)
            found = measured(
                store, of, n_pairs=options.pairs, seconds=options.seconds, rate_per_s=options.rate
            )  # fmt: skip
        told = [f"{each.median:.3f}x ({each.low:.3f} to {each.high:.3f})" for each in found]
        lines.append(f"| {name} | {told[0]} | {told[1]} |")
        print(lines[-1], flush=True)
    said = (
        f"{options.pairs} pairs of blocks of {options.seconds:g} s at {options.rate:g} requests a second, with and "
        "without a training under way: the median of the ratios, and where 95 % of drawn medians lie.\n\n"
    )
    (RESULTS / "training_overhead.md").write_text(said + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
