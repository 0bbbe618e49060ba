"""What challengers cost when the shadow worker and they have a core that the gateway does not need.

The gateway alone is on the servers' core; load, shadow worker, challengers, retrain and supervisor share the other.
Blocks without and with challengers alternate, so that what changes meanwhile falls on both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from bench.ground import Ground
from bench.load_wrk import Load
from bench.processes import pin
from bench.rounds import CONNECTIONS, Paced, Say, at_rate, load
from bench.running import running
from bench.systems import System

WITHOUT, WITH = "process", "shadowed"
MOST_PER_S = 10_000.0
"""What the open loop of one core sends on time beside challengers that use it too."""


class Block(Struct, frozen=True):
    """A server with or without challengers, at full load and at half of it."""

    system: str
    full: Load
    half: Paced


class Cost(Struct, frozen=True):
    """With challengers against without, of two blocks that followed each other."""

    requests_percent: float
    """How many requests/s fewer at full load."""
    half_p99_us: float
    """How much longer p99 is at half load, from when requests were due."""
    full_p99_us: float


def blocks(systems: Mapping[str, System], ground: Ground, *, rounds: int, seconds: float, say: Say) -> list[Block]:
    """Two blocks a round, in an order that alternates; half load is half of what the first one answered.

    Raises:
        Unavailable: the server does not start.
        WrkFailed: wrk is not installed, or failed.
    """
    found: list[Block] = []
    rate_per_s = 0.0
    for number in range(rounds):
        for name in (WITHOUT, WITH) if number % 2 == 0 else (WITH, WITHOUT):
            with running(systems[name], ground, core=ground.load_core) as server:
                for pid, role in server.roles().items():
                    if role == "gateway":
                        pin(pid, ground.server_core)
                warm = load(server, ground, CONNECTIONS[0], 1.0)
                rate_per_s = rate_per_s or min(MOST_PER_S, warm.requests_per_s / 2)
                half = at_rate(server, ground, rate_per_s, seconds, seed=number)
                full = load(server, ground, CONNECTIONS[0], seconds)
            found.append(Block(name, full, half))
            say(f"elsewhere: {name}: {full.requests_per_s:,.0f} requests/s; p99 {half.p99_us:,.0f} µs at half load")
    return found


def costs(found: Sequence[Block]) -> list[Cost]:
    """One a round."""
    pairs = [sorted(found[i : i + 2], key=lambda block: block.system != WITHOUT) for i in range(0, len(found) - 1, 2)]
    return [
        Cost(
            100 * (1 - shadowed.full.requests_per_s / alone.full.requests_per_s),
            shadowed.half.p99_us - alone.half.p99_us,
            shadowed.full.p99_us - alone.full.p99_us,
        )
        for alone, shadowed in pairs
    ]
