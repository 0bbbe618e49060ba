"""What retrain derives of drift and keeps here: references, days, and what is shown. Bytes that only drift reads.

All of it can be derived again from the journal (a reference of training rows apart), so it is stored plainly, and
decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Table, select

from registry.audit import canonical
from registry.database import Database
from registry.lookup import find_model, find_version
from registry.rows import to_document
from registry.tables import drift_days, drift_documents, drift_references


class DriftShelf:
    """The documents of drift, of every model of a store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def reference(self, model: str, version: int) -> bytes | None:
        """What a version's traffic is compared with; None while there is nothing."""
        table = drift_references
        query = select(table.c.body).where(table.c.model == model, table.c.version == version)
        with self._database.read() as connection:
            return connection.scalar(query)

    def save_reference(self, model: str, version: int, body: bytes) -> bool:
        """Freeze it; returns False, and changes nothing, where there is one. Raises UnknownModel or UnknownVersion."""
        with self._database.write() as connection:
            find_version(connection, model, version)
            return insert_reference(connection, model, version, body)

    def days(self, model: str, version: int, part: str) -> dict[int, bytes]:
        """Bucket → what was derived of it against that version's reference, by bucket."""
        table = drift_days
        query = select(table.c.bucket, table.c.body).where(
            table.c.model == model, table.c.version == version, table.c.part == part
        )
        with self._database.read() as connection:
            return {row.bucket: row.body for row in connection.execute(query.order_by(table.c.bucket))}

    def save_day(self, model: str, version: int, bucket: int, part: str, body: bytes) -> bool:
        """Keep it; returns False, and changes nothing, where it is there."""
        key = {"model": model, "version": version, "bucket": bucket, "part": part}
        with self._database.write() as connection:
            find_model(connection, model)
            return _added(connection, drift_days, key, body)

    def document(self, model: str) -> dict[str, Any] | None:
        """What is shown of a model; None while nothing is. Raises UnknownModel."""
        with self._database.read() as connection:
            find_model(connection, model)
            query = select(drift_documents.c.document).where(drift_documents.c.model == model)
            return to_document(connection.scalar(query))

    def save_document(self, model: str, document: Mapping[str, Any], at: datetime) -> None:
        """Show this in place of what was shown; raises UnknownModel."""
        table, values = drift_documents, {"document": canonical(dict(document)), "saved_at": at}
        with self._database.write() as connection:
            find_model(connection, model)
            if connection.execute(table.update().where(table.c.model == model).values(values)).rowcount == 0:
                connection.execute(table.insert().values(values | {"model": model}))


def insert_reference(connection: Connection, model: str, version: int, body: bytes) -> bool:
    """Freezes what a version's traffic is compared with; returns False, and changes nothing, where there is one."""
    return _added(connection, drift_references, {"model": model, "version": version}, body)


def _added(connection: Connection, table: Table, key: Mapping[str, Any], body: bytes) -> bool:
    there = select(table.c.model)
    for name, value in key.items():
        there = there.where(table.c[name] == value)
    if connection.execute(there).first() is not None:
        return False
    connection.execute(table.insert().values({**key, "body": body}))
    return True
