"""A prediction read back: what was asked, what was answered, what the challengers said, what really happened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.chunk import STATUSES, Chunk, Layout, Packed, ShadowChunk, unpack_columns, unpack_outputs
from gateway.columns import Outputs
from gateway.desk import Files, resolve
from gateway.journal.join import rank
from gateway.records import Address, moment, prediction_id
from registry.types import Model


def by_id(files: Files, model: Model, request_id: str, row: int) -> dict[str, Any]:
    """Row `row` of the request with this prediction id.

    Raises:
        NotFound: no such prediction of this model.
        InvalidInput: the request has no such row.
    """
    address = resolve(files.reader, model.name, request_id, row)
    return document(files, model, address)


def by_association(files: Files, model: Model, association_id: str) -> list[dict[str, Any]]:
    """Every row that carries this association id, oldest first."""
    return [document(files, model, address) for address, _ in files.reader.associated(model.name, association_id)]


def document(files: Files, model: Model, address: Address) -> dict[str, Any]:
    """Everything that is known of one row."""
    chunk = files.reader.chunk(address.writer, address.seq, anew=True)
    layout = files.reader.layout(address.writer, chunk.layout)
    starts = chunk.starts().tolist()
    number = max(i for i, start in enumerate(starts) if start <= address.row)
    history = files.join.history(address.writer, address.seq, chunk, model.policy.association).get(address.row, [])
    facts = chunk.requests
    return {
        "prediction_id": prediction_id(address.writer, address.seq, starts[number], chunk.secret),
        "row": address.row - starts[number],
        "model": chunk.model,
        "version": chunk.version,
        "generation": chunk.generation,
        "purpose": chunk.purpose,
        "at": moment(chunk.at_us),
        "predicted_at": moment(int(chunk.predicted_at_us()[address.row])),
        "inputs": None if chunk.erased else _inputs(chunk, layout, address.row),
        "outputs": _row(chunk.outputs, layout, address.row),
        "association_id": None if facts.associations is None else facts.associations[address.row],
        "decision": None if facts.decisions is None else facts.decisions[address.row],
        "propensity": None if facts.propensities is None else facts.propensities[address.row],
        "principal": None if facts.principals is None else facts.principals[number],
        "trace": None if facts.traces is None else facts.traces[number],
        "shadow": [
            _shadow(files, version, shadow, address.row)
            for version, shadow in files.ledger.shadow_chunks(address.writer, address.seq).items()
        ],
        "outcome": max(history, key=rank).outcome if history else None,
        "outcomes": [
            {
                "outcome": outcome.outcome,
                "source": outcome.source,
                "observed_at": moment(outcome.observed_at_us),
                "received_at": moment(outcome.received_at_us),
            }
            for outcome in history
        ],
    }


def _inputs(chunk: Chunk, layout: Layout, row: int) -> dict[str, Any]:
    columns = unpack_columns(chunk, layout).rows(row, row + 1)
    values = {name: column.tolist()[0] for name, column in columns.by_name(layout.groups).items()}
    for dtype, mask in columns.missing.items():
        absent = (name for name, missing in zip(layout.groups[dtype], mask[0], strict=True) if missing)
        values.update(dict.fromkeys(absent))
    return {name: values[name] for name in layout.schema.names}


def _row(packed: Sequence[Packed], layout: Layout, row: int) -> dict[str, Any]:
    return Outputs(unpack_outputs(packed, layout.outputs)).rows(row, row + 1)[0]


def _shadow(files: Files, version: int, shadow: ShadowChunk, row: int) -> dict[str, Any]:
    status = STATUSES[shadow.status[row]]
    outputs = None
    if status == "scored" and shadow.outputs is not None:
        layout = files.ledger.layout(shadow.layout)
        outputs = _row(shadow.outputs, layout, row)
    return {"version": version, "status": status, "outputs": outputs, "at": moment(shadow.at_us)}
