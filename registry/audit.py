"""The audit: who did what, in order, each line holding the hash of the line before it.

    hash = SHA-256( previous_hash, newline, canonical JSON of {seq, at, principal, action, model, detail} )

Canonical: UTF-8, keys sorted, no spaces, moments in UTC. An edited line no longer matches its own hash, a removed,
swapped or inserted one breaks the number or the hash that follows. Lines cut from the end leave a valid chain:
against that, keep the last hash somewhere else and give it to `verify` (Crosby and Wallach, "Efficient Data
Structures for Tamper-Evident Logging", 2009, on what a plain chain can and cannot show).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, select

from registry.tables import audit
from registry.types import AuditRow, Decision, Principal

GENESIS = "0" * 64
FROZEN = ("evidence", "cursors", "hashes")
"""What a decision rests on: stored with it, and held by digest in its line."""


class ChainFault(msgspec.Struct, frozen=True):
    """The first place where an audit does not hold; `seq` is the number that was expected there."""

    seq: int
    sentence: str


def canonical(document: Any) -> str:
    """The one text of a JSON document, whatever the order of its keys."""
    return msgspec.json.encode(document, order="deterministic").decode()


def digest_of_text(document: str) -> str:
    """What the audit holds of a document that is stored elsewhere: `sha256:` and 64 hexadecimal digits."""
    return "sha256:" + hashlib.sha256(document.encode()).hexdigest()


def changed_documents(decision: Decision, line: AuditRow) -> list[str]:
    """Which of a decision's `evidence`, `cursors` and `hashes` are not those that its line of the audit froze."""
    return [
        name
        for name in FROZEN
        if line.detail.get(f"{name}_digest")
        != (None if (document := getattr(decision, name)) is None else digest_of_text(canonical(document)))
    ]


def link(
    previous_hash: str, seq: int, at: datetime, principal: str, action: str, model: str, detail: dict[str, Any]
) -> str:
    """The hash of one line, 64 hexadecimal digits."""
    payload = {
        "seq": seq,
        "at": at.astimezone(UTC).isoformat(timespec="microseconds"),
        "principal": principal,
        "action": action,
        "model": model,
        "detail": detail,
    }
    return hashlib.sha256(f"{previous_hash}\n{canonical(payload)}".encode()).hexdigest()


def append(
    connection: Connection, *, at: datetime, by: Principal, action: str, model: str = "", detail: dict[str, Any]
) -> AuditRow:
    """Adds one line in the caller's transaction, which must hold the write lock: two heads would fork the chain."""
    head = connection.execute(select(audit.c.seq, audit.c.hash).order_by(audit.c.seq.desc()).limit(1)).first()
    seq, previous_hash = (head.seq + 1, head.hash) if head else (1, GENESIS)
    # what is hashed is what will be read: encoded and decoded once, so that a tuple is the list it becomes
    detail = msgspec.json.decode(msgspec.json.encode(detail))
    row = AuditRow(
        seq, at, by.name, action, model, detail, previous_hash,
        link(previous_hash, seq, at, by.name, action, model, detail),
    )  # fmt: skip
    connection.execute(audit.insert().values(msgspec.structs.asdict(row) | {"detail": canonical(detail)}))
    return row


def verify(rows: Iterable[AuditRow], head: str | None = None) -> ChainFault | None:
    """The first fault of a whole audit (from line 1 on), or None where there is none.

    `head` is the hash of a line known from elsewhere: it must still be among the lines.
    """
    seq, previous_hash, seen = 0, GENESIS, head is None or head == GENESIS
    for seq, row in enumerate(rows, start=1):
        if row.seq != seq:
            return ChainFault(seq, f"line {seq} is missing: line {row.seq} stands in its place")
        if row.previous_hash != previous_hash:
            return ChainFault(seq, f"line {seq} does not follow line {seq - 1}: it names another hash before it")
        if row.hash != link(previous_hash, seq, row.at, row.principal, row.action, row.model, row.detail):
            return ChainFault(seq, f"line {seq} was changed after it was written: its hash is another")
        previous_hash = row.hash
        seen = seen or row.hash == head
    if not seen:
        return ChainFault(seq + 1, f"the end is missing: no line has the hash {head}")
    return None
