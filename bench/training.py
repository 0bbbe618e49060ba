"""`python -m bench.training [ESTIMATOR …]`: what a training of a million rows of 30 features takes, in memory and time.

Each runs in a process of its own whose address space is limited as a training's is by default, from columns in memory
to a version that could be registered: checked, fitted to the first four fifths and measured on the rest, fitted to
all, converted and proved. Memory is the most that the process ever had, the columns themselves included.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, cast, get_args

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from gateway.config import RetrainSettings
from registry.recipe import Estimator, Recipe
from registry.types import Feature, InputSchema

N_ROWS = 1_000_000
RESULTS = Path(__file__).with_name("results") / "training.md"
SCHEMA = InputSchema(
    (
        *(Feature(f"amount_{index}", "float64", required=False) for index in range(22)),
        *(Feature(f"count_{index}", "int64") for index in range(4)),
        *(Feature(f"flag_{index}", "bool") for index in range(2)),
        *(Feature(f"town_{index}", "string", required=False) for index in range(2)),
    )
)


class Taken(Struct, frozen=True):
    """What one training took; `parity`: the largest difference between estimator and ONNX form."""

    estimator: Estimator
    peak_bytes: int
    columns_bytes: int
    cpu_s: float
    file_bytes: int
    parity: float


def main() -> None:
    """Run each in a child, and write the table."""
    if sys.argv[1:2] == ["--child"]:
        sys.stdout.buffer.write(msgspec.json.encode(taken(cast("Estimator", sys.argv[2]), int(sys.argv[3]))))
        return
    names = sys.argv[1:] or [name for name in get_args(Estimator) if name != "function"]
    found = []
    for name in names:
        command = [sys.executable, "-m", "bench.training", "--child", name, str(N_ROWS)]
        done = subprocess.run(command, capture_output=True, check=True)
        found.append(msgspec.json.decode(done.stdout, type=Taken))
        print(found[-1], flush=True)
    RESULTS.write_text(table(found))


def taken(name: Estimator, n_rows: int) -> Taken:
    """Train once, here."""
    from retrain.training.fit import fit

    limit = RetrainSettings().training_memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    columns, target = made(n_rows)
    columns_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1_024
    started_s = time.process_time()
    trained = fit(columns, target, SCHEMA, "binary", recipe=Recipe(name), progress=_told)
    cpu_s = time.process_time() - started_s
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1_024
    parity = trained.report.parity["max"]
    return Taken(name, peak_bytes, columns_bytes, cpu_s, len(trained.model_bytes), parity)


def made(n_rows: int) -> tuple[dict[str, NDArray[Any]], NDArray[Any]]:
    """Columns of every kind, one in twenty amounts missing, and an outcome that depends on some of them."""
    rng = np.random.default_rng(1)
    towns = np.array([f"town-{index}" for index in range(50)], object)
    columns: dict[str, NDArray[Any]] = {}
    for feature in SCHEMA.features:
        match feature.dtype:
            case "float64":
                columns[feature.name] = np.where(rng.random(n_rows) < 0.05, np.nan, rng.lognormal(3, 1, n_rows))
            case "int64":
                columns[feature.name] = rng.integers(0, 1_000, n_rows)
            case "bool":
                columns[feature.name] = rng.random(n_rows) < 0.3
            case _:
                columns[feature.name] = towns[rng.zipf(1.5, n_rows) % 50]
    signal = 0.04 * np.nan_to_num(columns["amount_0"]) + columns["flag_0"] + 0.002 * columns["count_0"]
    return columns, (signal + rng.normal(size=n_rows) > 2.5).astype(np.int64)


def table(found: list[Taken]) -> str:
    """As README shows it."""
    told = (
        f"A training of {N_ROWS:,} rows of {len(SCHEMA.features)} features (22 floats, 4 whole numbers, 2 booleans, "
        "2 strings), with each estimator as it is by default, on one core, in a process whose address space is limited "
        f"to {RetrainSettings().training_memory_bytes / 2**30:g} GiB: two fits, the conversion and its proof."
    )
    lines = [
        told,
        "",
        "| estimator | memory at most | of it before training | CPU seconds | ONNX file | largest difference |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {one.estimator} | {one.peak_bytes / 2**30:.2f} GiB | {one.columns_bytes / 2**30:.2f} GiB | "
        f"{one.cpu_s:,.0f} | {one.file_bytes / 2**20:.1f} MiB | {one.parity:.1g} |"
        for one in found
    ]
    return "\n".join(lines) + "\n"


def _told(step: str) -> None:
    print(step, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
