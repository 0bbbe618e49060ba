"""A journal for tests: real files in a folder of their own, and chunks to write into them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from gateway.chunk import (
    STATUSES,
    Chunk,
    Layout,
    Requests,
    ShadowChunk,
    pack_columns,
    pack_outputs,
)
from gateway.columns import Columns
from gateway.config import JournalSettings
from gateway.journal import (
    Draft,
    Ledger,
    Mirrored,
    PredictionReader,
    PredictionWriter,
    open_ledger,
    open_reader,
    open_writer,
)
from gateway.records import Address, OutcomeRecord, Purpose
from registry.types import Feature, InputSchema, OutputTensor

PATIENCE_S = 30.0
"""How long a test waits for what must come; reached only when it fails."""

LAYOUT = Layout(InputSchema((Feature("x", "float64"), Feature("city", "string"))), (OutputTensor("y", "float32"),))
Part = TypeVar("Part", PredictionWriter, PredictionReader, Ledger)
SECRET = bytes(range(16))
HERE = Address(1, 1, 0)


def draft(
    n_rows: int = 1,
    *,
    model: str = "loans",
    generation: int = 1,
    purpose: Purpose = "live",
    bucket: int = 0,
    at_us: int = 0,
    starts: Sequence[int] = (0,),
    associations: list[str | None] | None = None,
    predicted_at_us: Sequence[int] | None = None,
    city: str = "Riga",
    layout: Layout = LAYOUT,
    secret: bytes = SECRET,
) -> Draft:
    """A chunk of `n_rows` rows: `x` counts them, and the champion answers x / 2."""
    x = np.arange(n_rows, dtype=np.float64).reshape(-1, 1)
    cities = np.full((n_rows, 1), city, dtype=object)
    requests = Requests(
        starts=np.array(starts, "<u4").tobytes(),
        latency_us=np.zeros(len(starts), "<u4").tobytes(),
        associations=associations,
        predicted_at_us=None if predicted_at_us is None else np.array(predicted_at_us, "<i8").tobytes(),
    )
    chunk = Chunk(
        layout=layout.digest,
        model=model,
        version=1,
        generation=generation,
        purpose=purpose,
        bucket=bucket,
        at_us=at_us,
        n_rows=n_rows,
        runs=(0,),
        secret=secret,
        inputs=pack_columns(Columns(n_rows, {"float64": x, "string": cities}, {})),
        outputs=pack_outputs({"y": x[:, 0] / 2}, layout.outputs),
        requests=requests,
    )
    return Draft(chunk, layout)


def mirrored(writer: int, seq: int, statuses: Sequence[str], generation: int = 1) -> Mirrored:
    """A challenger's answers to a chunk: 0.25 where it scored."""
    codes = bytes(STATUSES.index(status) for status in statuses)
    y = np.where(np.frombuffer(codes, np.uint8) == 0, 0.25, np.nan)
    outputs = pack_outputs({"y": y}, LAYOUT.outputs) if "scored" in statuses else None
    return Mirrored(writer, seq, generation, ShadowChunk(LAYOUT.digest, codes, outputs, 1_000))


def record(
    outcome: int | float | str,
    observed_at_us: int = 0,
    *,
    to: Address | str = HERE,
    row: int = 0,
    source: str = "default",
    stated: bool = True,
    model: str = "loans",
) -> OutcomeRecord:
    """An outcome of row 0 of chunk 1 of writer 1, unless said otherwise; received when observed."""
    address, association = (to, None) if isinstance(to, Address) else (None, to)
    number = row if address is None else address.row
    return OutcomeRecord(model, address, association, number, outcome, source, observed_at_us, stated, observed_at_us)


class Journal:
    """The journal of one store: opens its parts with settings for tests, and closes what a test left open."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self._opened: list[PredictionWriter | PredictionReader | Ledger] = []

    @property
    def predictions(self) -> Path:
        """The folder of the prediction files."""
        return self.store / "predictions"

    def ledger(self, **settings: Any) -> Ledger:
        """Another connection to the shared file."""
        return self._kept(open_ledger(self.store, JournalSettings(**settings)))

    def writer(self, **settings: Any) -> PredictionWriter:
        """A new writer, as a gateway process that starts."""
        ledger = open_ledger(self.store, JournalSettings(outcomes_busy_s=PATIENCE_S))
        writer = open_writer(self.store, JournalSettings(**settings), ledger, kind="gateway", now_us=0)
        ledger.close()
        return self._kept(writer)

    def reader(self) -> PredictionReader:
        """Another reader."""
        return self._kept(open_reader(self.store))

    def close(self) -> None:
        """Close everything that was opened here."""
        while self._opened:
            self._opened.pop().close()

    def _kept(self, part: Part) -> Part:
        self._opened.append(part)
        return part


@contextmanager
def journal_in(store: Path) -> Iterator[Journal]:
    """A journal in a folder, closed at the end."""
    journal = Journal(store)
    try:
        yield journal
    finally:
        journal.close()


def seqs(reader: PredictionReader, writer: int, after: int = 0) -> list[int]:
    """The seqs of a writer's chunks as they are read."""
    return [head.seq for head in reader.heads(writer, after, 1_000_000)]


def until(holds: Callable[[], bool], what: str) -> None:
    """Look again and again until it holds.

    Raises:
        AssertionError: it did not, within PATIENCE_S.
    """
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not within {PATIENCE_S:.0f} s"
        time.sleep(0.002)  # the pause of a poll: nothing is taken to have happened because of it
