"""What a soak has seen, and what it comes to: how fast memory grows, and between which bounds the rest stayed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

BLOCK_S = 60.0
"""Samples of one block depend on each other; blocks hardly do, so the interval of a slope is drawn from blocks."""
N_DRAWS = 2_000


class Sample(Struct, frozen=True):
    """One look at a running server, after a slice of load."""

    at_s: float
    pss_bytes: dict[str, int]
    """By role."""
    largest_wal_bytes: int
    ledger_wal_bytes: int
    n_files: int
    journal_bytes: int
    lag_s: float
    """How far the challenger that is furthest behind is behind."""
    closing_lag_s: float | None
    """How long ago the last closed bucket ended; None before the first."""
    n_requests: int
    n_errors: int
    p50_ms: float
    p99_ms: float
    eligible: int
    scored: int
    failed: int
    skipped: int


class Slope(Struct, frozen=True):
    """How fast something grows, with a 95 % interval."""

    mib_per_h: float
    low: float
    high: float


class Soak(Struct, frozen=True):
    """A whole run."""

    facts: dict[str, str]
    samples: list[Sample]
    slopes: dict[str, Slope]
    """By role, and `all`."""


def slope_mib_per_h(samples: Sequence[Sample], warm_share: float) -> dict[str, Slope]:
    """The memory of each role and of all of them, after the first part of the run."""
    warm = [each for each in samples if each.at_s >= warm_share * samples[-1].at_s]
    at_h = np.array([each.at_s for each in warm]) / 3_600
    roles = sorted({role for each in warm for role in each.pss_bytes})
    columns = {role: np.array([each.pss_bytes.get(role, 0) for each in warm]) / 2**20 for role in roles}
    columns["all"] = np.array([sum(each.pss_bytes.values()) for each in warm]) / 2**20
    return {role: _slope(at_h, mib) for role, mib in columns.items()}


def _slope(at_h: NDArray[np.float64], mib: NDArray[np.float64]) -> Slope:
    """Least squares through the medians of blocks; its interval by drawing blocks again, with their order's times."""
    block = (at_h * 3_600 // BLOCK_S).astype(int)
    numbers = np.unique(block)
    x = np.array([np.median(at_h[block == number]) for number in numbers])
    y = np.array([np.median(mib[block == number]) for number in numbers])
    if len(numbers) < 3:
        return Slope(float("nan"), float("nan"), float("nan"))
    generator = np.random.default_rng(0)
    drawn = []
    for _ in range(N_DRAWS):
        taken = generator.integers(0, len(x), len(x))
        if len(np.unique(taken)) > 2:
            drawn.append(_line(x[taken], y[taken]))
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Slope(_line(x, y), float(low), float(high))


def _line(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    centred = x - x.mean()
    return float((centred * (y - y.mean())).sum() / (centred**2).sum())


def markdown(run: Soak) -> str:
    """The part of README."""
    samples, last = run.samples, run.samples[-1]
    minutes = (last.at_s - samples[0].at_s) / 60
    n_requests, n_errors = sum(each.n_requests for each in samples), sum(each.n_errors for each in samples)
    facts = "; ".join(f"{name}: {said}" for name, said in run.facts.items() if name not in ("fastapi", "pydantic"))
    wal, lag = max(each.largest_wal_bytes for each in samples), [each.lag_s for each in samples]
    closing = [each.closing_lag_s for each in samples if each.closing_lag_s is not None]
    closed = f"{np.median(closing):.0f} s in the median" if closing else "none was closed"
    table = (
        f"| {role} | {_pss(last, role):.0f} | {slope.mib_per_h:+.1f} ({slope.low:+.1f} to {slope.high:+.1f}) |"
        for role, slope in run.slopes.items()
    )
    return f"""\
{minutes:.0f} minutes, {n_requests:,} predictions with outcomes, {n_errors:,} without an answer of 200. {facts}.

| | memory (PSS) at the end, MiB | growth, MiB an hour (95 % interval) |
| --- | ---: | ---: |
{chr(10).join(table)}

Mirror: {last.eligible:,} rows eligible = {last.scored:,} scored + {last.failed:,} failed + {last.skipped:,} skipped; \
behind {np.median(lag):.1f} s in the median, {max(lag):.1f} s at most. Largest write-ahead log {wal / 2**20:.1f} MiB. \
Prediction files {samples[0].n_files} to {last.n_files}. Since the end of the last closed bucket: {closed}.
"""


def _pss(sample: Sample, role: str) -> float:
    return (sum(sample.pss_bytes.values()) if role == "all" else sample.pss_bytes.get(role, 0)) / 2**20
