"""What the stories are checked by: counted and computed again from the journal, by none of the code that kept it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from gateway.chunk import STATUSES, Chunk, unpack_columns, unpack_outputs
from gateway.columns import Array, Columns
from gateway.desk import Files
from gateway.errors import NotFound
from gateway.journal import ChunkHead, open_ledger, open_reader
from gateway.journal.join import OutcomeJoin
from gateway.lookup import by_id
from gateway.records import MirrorCount
from registry.onnx_model import OnnxModel
from registry.types import Model
from tests.stage import PATIENT, Stage


class Acknowledged(Struct, frozen=True):
    """A prediction, or an outcome of one (`outcome` not None), that somebody was told is kept."""

    prediction_id: str
    outputs: dict[str, Any] | None = None
    outcome: Any = None


def lost(store: Path, model: Model, acknowledged: Iterable[Acknowledged]) -> list[Acknowledged]:
    """What was acknowledged and cannot be read back as it was told."""
    missing = []
    with closing(open_ledger(store, PATIENT)) as ledger, closing(open_reader(store)) as reader:
        files = Files(ledger, reader, OutcomeJoin(reader, ledger))
        for told in acknowledged:
            try:
                document = by_id(files, model, told.prediction_id, 0)
            except NotFound:
                missing.append(told)
                continue
            kept = msgspec.json.decode(msgspec.json.encode(document))
            if told.outputs is not None and kept["outputs"] != told.outputs:
                missing.append(told)
            if told.outcome is not None and told.outcome not in [entry["outcome"] for entry in kept["outcomes"]]:
                missing.append(told)
    return missing


def gaps(stage: Stage) -> list[ChunkHead]:
    """Chunks before which a seq of their writer is missing."""
    seen: dict[int, int] = {}
    found = []
    for head, _ in stage.chunks():
        if head.seq != seen.get(head.writer, 0) + 1:
            found.append(head)
        seen[head.writer] = head.seq
    return found


def counted(stage: Stage, version: int) -> MirrorCount:
    """The account of a challenger over all time: eligible rows from the chunks, the rest from what is beside them.

    Raises:
        AssertionError: beside an eligible chunk stands nothing, or another number of rows.
    """
    mine = {
        lineup.generation
        for lineup in stage.registry.lineups(stage.name)
        if version in lineup.challengers or version == lineup.previous
    }
    eligible = 0
    statuses: Counter[str] = Counter()
    for head, _ in stage.chunks():
        shadow = stage.ledger.shadow_chunk(head.writer, head.seq, version)
        if head.purpose != "live" or head.generation not in mine:
            assert shadow is None, f"{head} is not for version {version}"
            continue
        assert shadow is not None, f"version {version} has nothing beside {head}"
        assert len(shadow.status) == head.n_rows
        eligible += head.n_rows
        statuses.update(STATUSES[code] for code in shadow.status)
    scored = statuses.pop("scored", 0)
    skipped = sum(statuses[reason] for reason in ("paused", "sampled_out", "expired"))
    return MirrorCount(eligible, scored, eligible - scored - skipped, skipped, dict(statuses))


def kept_account(stage: Stage, version: int) -> MirrorCount:
    """The account as it is kept."""
    return stage.ledger.mirror_count(stage.name, version, range(1, 1_000_000))


def recomputed(stage: Stage, chunk: Chunk, writer: int) -> dict[str, Array]:
    """The answers of a chunk, made again by its version from its inputs, in the runs that it records."""
    layout = stage.reader.layout(writer, chunk.layout)
    columns: Columns = unpack_columns(chunk, layout)
    version = stage.registry.version(chunk.model, chunk.version)
    model = OnnxModel(stage.registry.artifact(version), version.signature)
    bounds = [*chunk.runs, chunk.n_rows]
    parts = [model.run(columns.rows(start, stop).by_name(layout.groups)) for start, stop in pairwise(bounds)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def recorded(stage: Stage, chunk: Chunk, writer: int) -> dict[str, Array]:
    """The answers of a chunk as they were kept."""
    return unpack_outputs(chunk.outputs, stage.reader.layout(writer, chunk.layout).outputs)
