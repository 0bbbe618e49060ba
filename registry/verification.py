"""Whether what the registry stores is what its audit says: the audit is told again from its first line, row by row.

    audit lines ▶ chain and numbers ▶ told again (`Told`) ▶ held against the tables ▶ each fault in one sentence

The chain alone shows only that the audit was not edited. Whoever edits a lineup, a decision's evidence, a proposal, the
terms, a version or a key in the database is found here, as no audit line says so. What is derived from the journal
(closed buckets, latest evidence) and the caller's clock are no part of it: they can be derived again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, Table, select

from registry import tables
from registry.audit import FROZEN, canonical, digest_of_text, verify
from registry.errors import RegistryError
from registry.policy import policy_of
from registry.proposals import digest_of
from registry.retelling import Told
from registry.rows import AnyRow, to_audit_row
from registry.types import AuditRow

Facts = Mapping[str, Any]
BY_DIGEST = (*FROZEN, "signature", "training", "features", "recipe", "asked", "report")
"""Documents of which the audit holds a digest."""


class Verified(Struct, frozen=True):
    """What was found: no `faults` where all is well; `head` is the hash to keep elsewhere."""

    n_lines: int
    head: str | None
    faults: list[str]


def verified(connection: Connection, head: str | None) -> Verified:
    """The whole audit, and every row that it speaks of, in the snapshot of this connection."""
    lines, faults = _lines(connection)
    chain = verify(lines, head)
    faults += [] if chain is None else [chain.sentence]
    if chain is None and not faults:
        faults += _compared(connection, lines)
    return Verified(len(lines), lines[-1].hash if lines else None, faults)


def _lines(connection: Connection) -> tuple[list[AuditRow], list[str]]:
    lines: list[AuditRow] = []
    try:
        # line by line: what was read before one that cannot be is what its number is told by
        lines.extend(map(to_audit_row, connection.execute(select(tables.audit).order_by(tables.audit.c.seq))))
    except (msgspec.DecodeError, ValueError, TypeError) as error:
        return lines, [f"line {len(lines) + 1} was changed after it was written: it cannot be read any more ({error})"]
    return lines, []


def _compared(connection: Connection, lines: list[AuditRow]) -> Iterator[str]:
    told = Told()
    for line in lines:
        try:
            told.hear(line)
        except (RegistryError, KeyError, TypeError, ValueError) as error:
            yield f"line {line.seq} cannot have happened after the lines before it: {error}"
            return
    for table, expected in told.rows.items():
        try:
            yield from _differences(connection, table, expected)
        except (msgspec.DecodeError, ValueError, TypeError) as error:
            yield f"a row of {table.name} was changed: it cannot be read any more ({error})"


def _differences(connection: Connection, table: Table, expected: Mapping[tuple[Any, ...], Facts]) -> Iterator[str]:
    key = [column.name for column in table.primary_key.columns]
    found = {tuple(getattr(row, name) for name in key): row for row in connection.execute(select(table))}
    for place in sorted(expected.keys() | found.keys(), key=repr):
        named = f"{table.name} {' '.join(map(str, place))}"
        if place not in found:
            yield f"{named} is missing: the audit tells of it"
        elif place not in expected:
            yield f"{named} was never made: the audit tells of none"
        else:
            facts = _facts(connection, table, found[place])
            for name, value in expected[place].items():
                if facts[name] != value:
                    yield f"{named} was changed: its {name} is {facts[name]!s:.80}, and the audit says {value!s:.80}"


def _facts(connection: Connection, table: Table, row: AnyRow) -> dict[str, Any]:
    """A row as the audit speaks of it: documents by their digests, terms as they are read, a proposal by its own."""
    facts: dict[str, Any] = dict(row._mapping)
    for name in facts.keys() & BY_DIGEST:
        facts[f"{name}_digest"] = None if facts[name] is None else digest_of_text(facts[name])
    if table is tables.models or table is tables.reigns:
        facts["policy"] = canonical(policy_of(row.policy))
    if table is tables.api_keys:
        facts["token_digest"] = digest_of_text(row.digest.hex())
    if table is tables.proposals:
        key = (tables.versions.c.model == row.model) & (tables.versions.c.number == row.version)
        facts["recomputed"] = digest_of(row, connection.scalar(select(tables.versions.c.digest).where(key)))
    return facts
