"""How many streams of each kind: enough to see that it works, or enough to publish."""

from __future__ import annotations

from pathlib import Path
from zlib import crc32

import msgspec
import numpy as np

SEED = 20261126


class Effort(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of streams, and where the data of real days lie."""

    name: str
    n_equal: int
    n_equal_long: int
    n_day_streams: int
    n_alone: int
    n_gain: int
    n_backtests: int
    n_delayed: int
    n_probations: int
    n_rewarded: int
    folder: Path | None = None


QUICK = Effort(
    name="quick",
    n_equal=100,
    n_equal_long=4,
    n_day_streams=60,
    n_alone=20,
    n_gain=40,
    n_backtests=4,
    n_delayed=40,
    n_probations=60,
    n_rewarded=20,
)
LONG = Effort(
    name="long",
    n_equal=10_000,
    n_equal_long=200,
    n_day_streams=1_000,
    n_alone=100,
    n_gain=200,
    n_backtests=20,
    n_delayed=300,
    n_probations=500,
    n_rewarded=100,
)


def generator(*named: str) -> np.random.Generator:
    """The same numbers for the same names, whatever else is run."""
    return np.random.default_rng([SEED, crc32("/".join(named).encode())])
