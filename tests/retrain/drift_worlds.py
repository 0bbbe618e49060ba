"""Rows for the tests of drift: pages of chunks without a journal, and days that move when they are told to."""

from __future__ import annotations

import numpy as np

from gateway.chunk import Chunk, Layout, Requests, pack_columns
from gateway.columns import Array, Columns, groups_of
from gateway.journal.sets import Located
from registry.types import Feature, InputSchema

SCHEMA = InputSchema(
    (
        Feature("age", "float32"),
        Feature("income", "float64", required=False),
        Feature("visits", "int64"),
        Feature("vip", "bool"),
        Feature("branch", "string", required=False),
    )
)
LAYOUT = Layout(SCHEMA, ())
TOWNS = np.array(["Riga", "Tartu", "Vilnius", "Ωmega", ""], object)


def rows_of(rng: np.random.Generator, n: int, *, older: float = 0.0, town: str | None = None) -> dict[str, Array]:
    """A column a feature; `older` years are added to everybody, and a tenth of the rows come from a new `town`."""
    income = rng.lognormal(size=n)
    income[rng.random(n) < 0.1] = np.nan
    towns = TOWNS[rng.choice(5, n, p=[0.4, 0.3, 0.15, 0.1, 0.05])]
    if town is not None:
        towns = np.where(rng.random(n) < 0.1, town, towns)
    return {
        "age": (rng.normal(45, 12, n) + older).astype(np.float32),
        "income": income,
        "visits": rng.poisson(1.5, n),
        "vip": rng.random(n) < 0.2,
        "branch": towns.astype(object),
    }


def page_of(columns: dict[str, Array], sizes: list[int]) -> list[Located]:
    """The same rows in chunks of these sizes."""
    pages, start = [], 0
    for seq, n in enumerate(sizes, 1):
        blocks = {
            dtype: np.stack([columns[name][start : start + n] for name in names], axis=1)
            for dtype, names in groups_of(SCHEMA).items()
        }
        requests = Requests(bytes(4), bytes(4))
        chunk = Chunk(
            LAYOUT.digest, "m", 1, 1, "live", 0, 0, n, (0,), bytes(16),
            pack_columns(Columns(n, blocks, {})), [], requests,
        )  # fmt: skip
        pages.append(Located(1, seq, chunk))
        start += n
    return pages
