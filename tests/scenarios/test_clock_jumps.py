"""The machine's clock jumps by an hour, forth and back, while predictions and outcomes come: nothing is torn apart."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from gateway.app import worker
from gateway.columns import Columns
from gateway.journal import open_reader
from gateway.lookup import by_association
from gateway.wire.own import Asked, Said
from tests.actors import logistic
from tests.asking import ticket
from tests.seasons import WEAK
from tests.stage import ME, Stage, at_us, staged

HOUR_US = 3_600_000_000
JUMPS = (0, 1, -1, -1, 1, 1, -1, 0, -1, 1)
"""In hours; a second goes by between two of them."""


async def lived(stage: Stage) -> list[dict[str, Any]]:
    """A prediction, its outcome and another jump, again and again; what is read of each at the end."""
    now = [at_us(10)]
    async with worker(stage.settings, serves=False, now_us=lambda: now[0]) as parts:
        for n, jump in enumerate(JUMPS):
            now[0] += jump * HOUR_US + 1_000_000
            said = Said(associations=[f"n{n}"])
            asked = Asked(Columns(1, {"float64": np.zeros((1, 2))}, {}), single=True, said=said)
            await parts.predictor.predict("m", asked, ticket())
            body = msgspec.json.encode({"association_id": f"n{n}", "outcome": n % 2})
            receipt = await parts.desk.take("m", body, by=ME, lines=False)
            assert (receipt.accepted, receipt.early) == (1, 0)
        model = stage.registry.model("m")
        rows = [
            await parts.desk.read(lambda files, n=n: by_association(files, model, f"n{n}"))  # type: ignore[misc]
            for n in range(len(JUMPS))
        ]
    return [row for (row,) in rows]


@pytest.fixture
def stage(tmp_path: Path) -> Any:
    with staged(tmp_path / "store", source="server") as made:
        made.declare()
        made.champion(logistic(WEAK))
        yield made


def test_a_clock_that_jumps_by_an_hour_loses_no_join_and_no_order(stage: Stage) -> None:
    found = asyncio.run(lived(stage))
    assert [row["outcome"] for row in found] == [n % 2 for n in range(len(JUMPS))]
    with closing(open_reader(stage.folder)) as reader:
        (state,) = reader.writers()
        chunks = [reader.chunk(state.writer, head.seq) for head in reader.heads(state.writer, 0, 100)]
    stamped = [chunk.at_us for chunk in chunks]
    assert stamped == sorted(stamped)
    took_us = [np.frombuffer(chunk.requests.latency_us, "<u4").item() for chunk in chunks]
    assert all(0 < us < 60_000_000 for us in took_us)  # by a clock that does not jump
    # the control: the machine's clock did go back, and by what it said alone the order would have been another
    said_us = np.cumsum([jump * HOUR_US + 1_000_000 for jump in JUMPS])
    assert (np.diff(said_us) < 0).any()
