"""`python -m bench.drift_speed`: how fast days are counted, rows of 100 features a second of one core."""

from __future__ import annotations

import time

import numpy as np

from gateway.chunk import Chunk, Layout, Requests, pack_columns
from gateway.columns import Columns, groups_of
from gateway.journal.sets import Located
from registry.types import Feature, InputSchema
from retrain.drift.bets import Guesser
from retrain.drift.reference import reference_of
from retrain.drift.sketch import Sketcher

N_ROWS = 60_000


def schema_of(n_numbers: int, n_strings: int) -> InputSchema:
    """Features of that many numbers and strings."""
    numbers = [Feature(f"x{k}", "float32") for k in range(n_numbers)]
    return InputSchema((*numbers, *(Feature(f"s{k}", "string") for k in range(n_strings))))


def rows_a_second(n_numbers: int, n_strings: int, chunk_rows: int) -> float:
    """The best of five passes, in CPU time."""
    rng = np.random.default_rng(1)
    schema = schema_of(n_numbers, n_strings)
    layout = Layout(schema, ())
    columns = {
        f.name: (
            rng.normal(size=N_ROWS).astype(np.float32)
            if f.dtype == "float32"
            else np.array([f"town-{k}" for k in rng.zipf(1.6, N_ROWS) % 200], object)
        )
        for f in schema.features
    }
    page = []
    for start in range(0, N_ROWS, chunk_rows):
        blocks = {
            dtype: np.stack([columns[name][start : start + chunk_rows] for name in names], axis=1)
            for dtype, names in groups_of(schema).items()
        }
        n = min(chunk_rows, N_ROWS - start)
        chunk = Chunk(
            layout.digest, "m", 1, 1, "live", 0, 0, n, (0,), bytes(16),
            pack_columns(Columns(n, blocks, {})), [], Requests(b"", b""),
        )  # fmt: skip
        page.append(Located(1, start, chunk))
    reference = reference_of({name: values[:20_000] for name, values in columns.items()}, schema.features, "training")
    sketcher, guesser = Sketcher(reference), Guesser(reference)
    best = 0.0
    for _ in range(5):
        started_s = time.process_time()
        sketch = sketcher.sketch(page, layout)
        guesser.signs(sketcher.codes(page, layout, np.arange(0, N_ROWS, N_ROWS // 100)))
        guesser.learn(sketch)
        best = max(best, N_ROWS / (time.process_time() - started_s))
    return best


def main() -> None:
    """Print a line a case."""
    for n_numbers, n_strings, chunk_rows in ((100, 0, 500), (100, 0, 32), (80, 20, 500)):
        speed = rows_a_second(n_numbers, n_strings, chunk_rows)
        print(
            f"{n_numbers} numbers, {n_strings} strings, chunks of {chunk_rows}: {speed:,.0f} rows/s of CPU time",
            flush=True,
        )


if __name__ == "__main__":
    main()
