"""`python -m bench.overload`: what becomes of a server that is asked three and five times what it can do.

An open loop does not slow down when the server does, as the callers of a service do not. The champion is a real one
that is slow (a wide network), so that the load generator can exceed it many times from one core. The
peak is what a closed loop gets; goodput is answers of 200 a second, of requests that became due in the overload.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import msgspec
import numpy as np
from msgspec import Struct

from bench.bodies import requests
from bench.cpu import cpu_us
from bench.ground import Ground
from bench.load_wrk import WrkFailed
from bench.memory import pss_bytes
from bench.open_loop import Outcome, drive
from bench.rounds import load
from bench.running import Running, running
from bench.stores import NotPrepared
from bench.systems import System, Unavailable, understudy

RESULTS = Path(__file__).with_name("results")
FACTORS = (3, 5)
MAX_WAIT_S = 0.25
"""`server.max_wait_s`: what callers of a prediction would wait for, rather than the second that is the default."""
N_CONNECTIONS = 1_000
"""More than can be waiting at the peak: a request that finds none idle would not reach the server, and not load it."""
CLOSED_CONNECTIONS = 64
SLOW = System("slow", "Understudy, a slow champion", understudy("slow", server__max_wait_s=str(MAX_WAIT_S)))
GOODPUT = {3: (0.95, 0.90), 5: (0.90, 0.80)}
"""Share of the peak by factor: goal and gate."""


class Overload(Struct, frozen=True):
    """One server at one multiple of its peak."""

    round: int
    factor: int
    peak_per_s: float
    goodput_per_s: float
    n_refused: int
    refused_p50_us: float
    refused_p99_us: float
    """From sending to the end of the refusal."""
    n_without_retry_after: int
    n_other: int
    """Neither answered nor refused."""
    answered_p99_us: float
    """Of answers of 200, from when they were due."""
    late_p99_us: float
    """How late requests left: what the generator itself adds."""
    recovered_s: float
    """After the overload, at half of the peak: when the last request was due that was not answered within a tenth."""
    peak_cpu_us: float
    """Processor time of an answer of 200 at the peak."""
    cpu_us: float
    """And in the overload, with what refusals cost: where nothing else has the core, goodput follows it."""
    grown_bytes: int
    """What the processes that answer had more at the end than before."""


def measured(ground: Ground, *, rounds: int, seconds: float) -> Iterator[Overload]:
    """Every factor once a round, each on a server that has just started.

    Raises:
        Unavailable, NotPrepared: the server does not start.
        WrkFailed: wrk is not installed, or failed.
    """
    for number in range(rounds):
        for factor in FACTORS:
            with running(SLOW, ground) as server:
                yield _overloaded(server, ground, number, factor, seconds)


def _overloaded(server: Running, ground: Ground, number: int, factor: int, seconds: float) -> Overload:
    prepared = requests(SLOW.path, ground.bodies(SLOW.wire))
    load(server, ground, CLOSED_CONNECTIONS, 2.0)
    before = sum(pss_bytes(server.roles()).values())
    used_us = [_used_us(server)]
    at_peak = load(server, ground, CLOSED_CONNECTIONS, seconds)
    used_us.append(_used_us(server))
    peak = at_peak.requests_per_s
    outcome = drive(server.address, prepared, factor * peak, seconds, n_connections=N_CONNECTIONS, seed=number)
    used_us.append(_used_us(server))
    after = drive(server.address, prepared, peak / 2, max(3.0, seconds), n_connections=CLOSED_CONNECTIONS, seed=number)
    refused, n_answered = outcome.status == 503, int((outcome.status == 200).sum())
    return Overload(
        round=number,
        factor=factor,
        peak_per_s=peak,
        goodput_per_s=goodput_per_s(outcome, seconds),
        n_refused=int(refused.sum()),
        refused_p50_us=outcome.refusal_us(50),
        refused_p99_us=outcome.refusal_us(99),
        n_without_retry_after=int(np.isnan(outcome.retry_after_s[refused]).sum()),
        n_other=len(refused) - int(refused.sum()) - n_answered,
        answered_p99_us=outcome.latency_us(99),
        late_p99_us=outcome.send_delay_us(99),
        recovered_s=recovered_s(after),
        peak_cpu_us=(used_us[1] - used_us[0]) / at_peak.n_requests,
        cpu_us=(used_us[2] - used_us[1]) / max(1, n_answered),
        grown_bytes=sum(pss_bytes(server.roles()).values()) - before,
    )


def _used_us(server: Running) -> float:
    """Processor time of what answers."""
    return cpu_us(server.roles()).get("gateway", 0.0)


def goodput_per_s(outcome: Outcome, seconds: float) -> float:
    """Answers of 200 a second, without the time in which what was waiting at the end is answered."""
    answered = outcome.answered_s[outcome.status == 200]
    return float((answered <= seconds).sum()) / seconds


def recovered_s(outcome: Outcome, within_s: float = 0.1) -> float:
    """When the last request was due that was not answered by 200 within a tenth of a second; 0 if all were."""
    well = (outcome.status == 200) & (outcome.answered_s - outcome.intended_s <= within_s)
    bad = outcome.intended_s[~well]
    return float(bad.max()) if len(bad) else 0.0


def markdown(found: Sequence[Overload], facts: str) -> str:
    """The table that README includes."""
    intro = (
        f"Measured {facts}. A wide network as champion, `server.max_wait_s` = {MAX_WAIT_S:g}. "
        "Medians. Refusals are timed from sending; the last column is how late the load generator itself was."
    )
    head = (
        "asked for | peak, req/s | goodput | of peak (goal) | CPU µs an answer at peak / now | "
        "refusals p50 / p99 ms | answers p99 ms | without Retry-After | lost | normal again after s | "
        "memory MB | late p99 ms"
    )
    lines = [intro, "", f"| {head} |", "| --- |" + " ---: |" * 11]
    for factor in FACTORS:
        own = [each for each in found if each.factor == factor]
        if not own:
            continue

        def middle(name: str, own: Sequence[Overload] = own) -> float:
            return float(median(getattr(each, name) for each in own))

        share = median(each.goodput_per_s / each.peak_per_s for each in own)
        goal = GOODPUT[factor][0]
        lines.append(
            f"| {factor}x | {middle('peak_per_s'):,.0f} | {middle('goodput_per_s'):,.0f} | {share:.0%} (>= {goal:.0%}) "
            f"| {middle('peak_cpu_us'):,.0f} / {middle('cpu_us'):,.0f} "
            f"| {middle('refused_p50_us') / 1e3:.2f} / {middle('refused_p99_us') / 1e3:.1f} "
            f"| {middle('answered_p99_us') / 1e3:.0f} | {sum(each.n_without_retry_after for each in own)} "
            f"| {sum(each.n_other for each in own)} | {middle('recovered_s'):.2f} "
            f"| {middle('grown_bytes') / 1e6:+.0f} | {middle('late_p99_us') / 1e3:.1f} |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0, or 2 if nothing could be measured."""
    parser = argparse.ArgumentParser(prog="python -m bench.overload", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--quick", action="store_true", help="one short round; writes no results")
    options = parser.parse_args(arguments)
    rounds, seconds = (1, 2.0) if options.quick else (options.rounds, options.seconds)
    with tempfile.TemporaryDirectory(prefix="understudy-bench-") as folder:
        ground = Ground(Path(folder))
        os.sched_setaffinity(0, {ground.load_core})
        found = []
        try:
            for each in measured(ground, rounds=rounds, seconds=seconds):
                print(each, file=sys.stderr, flush=True)
                found.append(each)
        except (WrkFailed, NotPrepared, Unavailable) as reason:
            print(f"bench: {reason}", file=sys.stderr)
            return 2
        report = markdown(found, f"{datetime.now(UTC):%Y-%m-%d}, {ground.described()['cpu']}, one core for the server")
    print(report)
    if not options.quick:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "overload.json").write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
        (RESULTS / "overload.md").write_text(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
