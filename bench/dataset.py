"""`python -m bench.dataset`: how fast predictions are read back with their outcomes, on one core.

A journal is written as the gateway writes it, rows of 30 floats in chunks of 500 and of 32, with an outcome for every
row: by address, by an association id of its own (in the order in which they were given, or in none), and by ids that
two requests share.
"""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np

from gateway.chunk import Chunk, Layout, Requests, pack_columns, pack_outputs
from gateway.columns import Columns
from gateway.config import JournalSettings
from gateway.journal import Draft, open_ledger, open_reader, open_writer
from gateway.journal.table import PredictionTable, Span
from gateway.records import Address, OutcomeRecord
from registry.types import Feature, InputBinding, InputSchema, Model, OutputTensor, Policy, ScoreColumn, Signature

N_FEATURES = 30
SCHEMA = InputSchema(tuple(Feature(f"f{i}", "float32") for i in range(N_FEATURES)))
SIGNATURE = Signature(
    "binary", (InputBinding("X", "float32", SCHEMA.names),), (OutputTensor("p", "float32"),), ScoreColumn("p"), (0, 1)
)
LAYOUT = Layout.of(SCHEMA, SIGNATURE)
MODEL = Model("m", "binary", SCHEMA, Policy(maturity_s=0), datetime(2026, 1, 1, tzinfo=UTC))
DAY_US = 86_400_000_000
PATIENT = JournalSettings(outcomes_busy_s=30, busy_s=30)
Outcomes = Literal["none", "by address", "by id", "by scattered id", "by shared id"]


def filled(store: Path, n_rows: int, chunk_rows: int, outcomes: Outcomes) -> None:
    """Write the journal."""
    rng = np.random.default_rng(1)
    with closing(open_ledger(store, PATIENT)) as ledger:
        writer = open_writer(store, PATIENT, ledger, kind="bench", now_us=0)
        with closing(writer):
            for start in range(0, n_rows, chunk_rows):
                number = start // chunk_rows
                at_us = DAY_US + start
                names = [_name(start + row, outcomes) for row in range(chunk_rows)]
                chunk = Chunk(
                    LAYOUT.digest, "m", 1, 1, "live", at_us // DAY_US, at_us, chunk_rows, (0,), bytes(16),
                    pack_columns(Columns(chunk_rows, {"float32": rng.random((chunk_rows, 30), np.float32)}, {})),
                    pack_outputs({"p": rng.random(chunk_rows, np.float32)}, LAYOUT.outputs),
                    Requests(
                        np.arange(chunk_rows, dtype="<u4").tobytes(), bytes(4 * chunk_rows),
                        associations=None if names[0] is None else names,
                    ),
                )  # fmt: skip
                (seq,) = writer.append([Draft(chunk, LAYOUT)])
                if outcomes != "none":
                    said = [
                        OutcomeRecord(
                            "m", Address(writer.writer, seq, row) if name is None else None, name,
                            row if name is None else 0, row % 2, "default", at_us + 1, True, at_us + 1,
                        )
                        for row, name in enumerate(names)
                    ]  # fmt: skip
                    ledger.append_outcomes(writer.writer, number + 1, said)


def _name(row: int, outcomes: Outcomes) -> str | None:
    match outcomes:
        case "by id":
            return f"loan-{row}"
        case "by scattered id":
            return f"loan-{row * 2_654_435_761 % 2**32}"  # an odd factor: each of them once
        case "by shared id":
            return f"customer-{row // 1_000 // 2 * 1_000 + row % 1_000}"
        case _:
            return None


def rows_a_second(store: Path) -> tuple[float, int, int]:
    """Rows a second of one reading, how many rows, and how many of them with an outcome."""
    with closing(open_reader(store)) as reader, closing(open_ledger(store, PATIENT)) as ledger:
        started_s = time.process_time()
        table = PredictionTable(
            reader, ledger, MODEL, {1: SIGNATURE}, Span(as_of_us=100 * DAY_US), bucket_us=DAY_US
        )  # fmt: skip
        n_rows = sum(batch.num_rows for batch in table.batches())
        return n_rows / (time.process_time() - started_s), n_rows, table.account.n_with_outcome


def main() -> None:
    """Print a line a case."""
    n_rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    cases: list[tuple[int, Outcomes]] = [
        (500, "none"), (32, "none"), (500, "by address"), (500, "by id"),
        (500, "by scattered id"), (500, "by shared id"),
    ]  # fmt: skip
    for chunk_rows, outcomes in cases:
        n = n_rows if outcomes == "none" else n_rows // 5
        with tempfile.TemporaryDirectory(prefix="understudy-bench-") as folder:
            filled(Path(folder), n // chunk_rows * chunk_rows, chunk_rows, outcomes)
            best = max(rows_a_second(Path(folder)) for _ in range(3))
        print(
            f"chunks of {chunk_rows:3} rows, outcomes {outcomes:15}: {best[0]:12,.0f} rows/s of CPU time "
            f"({best[1]:,} rows, {best[2]:,} with an outcome)",
            flush=True,
        )


if __name__ == "__main__":
    main()
