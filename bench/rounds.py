"""Every system once a round, started afresh, in an order that rotates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from bench.bodies import requests
from bench.cpu import cpu_us, difference
from bench.ground import MODEL, Ground
from bench.load_wrk import Load, wrk
from bench.memory import pss_bytes
from bench.open_loop import drive
from bench.running import Running, running
from bench.systems import System, Unavailable
from gateway.client import Client

CONNECTIONS = (64, 16, 1)
OPEN_LOOP_PER_S = 3_000.0
Say = Callable[[str], None]


class Cell(Struct, frozen=True):
    """One system at one number of connections."""

    connections: int
    load: Load
    cpu_us: dict[str, float]
    """By role, over the whole cell."""


class Paced(Struct, frozen=True):
    """One system at a fixed rate; latencies from when requests were due."""

    rate_per_s: float
    p50_us: float
    p99_us: float
    send_delay_p99_us: float
    n_errors: int


class Mirrored(Struct, frozen=True):
    """Where a challenger stood when the load ended."""

    version: int
    scored: int
    failed: int
    n_chunks_waiting: int
    lag_s: float


class Visit(Struct, frozen=True):
    """One system in one round."""

    system: str
    round: int
    start_s: float
    pss_bytes: dict[str, int]
    """By role, under load."""
    cells: tuple[Cell, ...]
    paced: Paced | None = None
    mirrored: tuple[Mirrored, ...] = ()


class Skipped(Struct, frozen=True):
    """A system that could not be measured, and why."""

    system: str
    reason: str


def rotated(systems: Sequence[System], number: int) -> list[System]:
    """The order of a round: each system is first, and each is last, in turn."""
    start = number % len(systems) if systems else 0
    return [*systems[start:], *systems[:start]]


def measured(
    systems: Sequence[System], ground: Ground, *, rounds: int, seconds: float, say: Say
) -> tuple[list[Visit], list[Skipped]]:
    """Visit every system in every round; one that cannot be started is left out from then on.

    Raises:
        WrkFailed: wrk is not installed, or failed.
    """
    visits: list[Visit] = []
    skipped: dict[str, str] = {}
    for number in range(rounds):
        for system in rotated(systems, number):
            if system.name in skipped:
                continue
            try:
                visit = _visited(system, ground, number, seconds)
            except Unavailable as reason:
                skipped[system.name] = str(reason)
                say(f"round {number + 1}: {system.name}: skipped: {reason}")
                continue
            visits.append(visit)
            figures = " / ".join(f"{cell.load.requests_per_s:,.0f}" for cell in visit.cells)
            say(f"round {number + 1}: {system.name}: {figures} requests/s, started in {visit.start_s:.2f} s")
    return visits, [Skipped(name, reason) for name, reason in skipped.items()]


def _visited(system: System, ground: Ground, number: int, seconds: float) -> Visit:
    with running(system, ground) as server:
        load(server, ground, CONNECTIONS[0], 1.0)  # caches fill, challengers start
        # before the closed loop, which leaves challengers with more than they can do
        paced = at_rate(server, ground, OPEN_LOOP_PER_S, seconds, seed=number) if system.open_loop else None
        cells: list[Cell] = []
        pss: dict[str, int] = {}
        for connections in CONNECTIONS:
            roles = server.roles()
            before = cpu_us(roles)
            cell = load(server, ground, connections, seconds)
            cells.append(Cell(connections, cell, difference(before, cpu_us(roles))))
            pss = pss or pss_bytes(server.roles())
        return Visit(system.name, number, server.start_s, pss, tuple(cells), paced, mirrored(server))


def load(server: Running, ground: Ground, connections: int, seconds: float) -> Load:
    """A closed loop on a running system."""
    system = server.system
    bodies = ground.bodies_file(system.wire)
    return wrk(server.address, system.path, bodies, connections=connections, seconds=seconds, core=ground.load_core)


def at_rate(server: Running, ground: Ground, rate_per_s: float, seconds: float, *, seed: int) -> Paced:
    """An open loop on a running system."""
    prepared = requests(server.system.path, ground.bodies(server.system.wire))
    outcome = drive(server.address, prepared, rate_per_s, seconds, seed=seed)
    return Paced(
        rate_per_s, outcome.latency_us(50), outcome.latency_us(99), outcome.send_delay_us(99), outcome.n_errors
    )


def mirrored(server: Running) -> tuple[Mirrored, ...]:
    """Ask our server where its challengers stand; nothing for other servers."""
    if not server.system.challengers:
        return ()
    with Client(f"http://{server.address[0]}:{server.address[1]}") as client:
        entries: list[Mapping[str, Mapping[str, int]]] = client.model(MODEL)["mirror"]
    return tuple(_mirrored(entry) for entry in entries)


def _mirrored(entry: Mapping[str, object]) -> Mirrored:
    match entry:
        case {
            "version": int(version),
            "mirror": {"scored": int(scored), "failed": int(failed)},
            "n_chunks_waiting": int(waiting),
            "lag_s": int() | float() as lag_s,
        }:
            return Mirrored(version, scored, failed, waiting, lag_s)
    raise ValueError(f"expected an entry of a model's mirror, got {entry!r}")
