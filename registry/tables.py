"""The registry's tables, in SQLAlchemy Core, for SQLite and PostgreSQL alike.

Documents are canonical JSON in text columns: they are read back into structs, never searched by the database, and
the audit hashes them as they are. What may grow without end (decisions, audit, lineups) is appended only.
"""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

metadata = MetaData()


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime, stored in UTC to the microsecond, read back aware also where the database forgets zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuses a naive datetime: it would mean another moment on another machine."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a moment must say its time zone, and {value.isoformat()} does not")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """The same moment, in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# one row: `change_stamp` moves with every change that a gateway worker must notice. Every write touches it first, so
# that on a database with row locks writers queue here as they queue for SQLite's one write lock.
state = Table(
    "state",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("change_stamp", BigInteger, nullable=False),
    Column("clock", UtcDateTime),
)

models = Table(
    "model",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("task", String(16), nullable=False),
    Column("schema_version", Integer, nullable=False),
    Column("policy", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)

schemas = Table(
    "model_schema",
    metadata,
    Column("model", String(63), ForeignKey("model.name"), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("digest", String(71), nullable=False),
    Column("features", Text, nullable=False),
    Column("since", UtcDateTime, nullable=False),
)

versions = Table(
    "version",
    metadata,
    Column("model", String(63), ForeignKey("model.name"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("digest", String(71), nullable=False),
    Column("n_bytes", BigInteger, nullable=False),
    Column("signature", Text, nullable=False),
    Column("training", Text),
    Column("created_at", UtcDateTime, nullable=False),
    Column("created_by", Text, nullable=False),
    UniqueConstraint("model", "digest", name="version_digest"),
)

lineups = Table(
    "lineup",
    metadata,
    Column("model", String(63), primary_key=True),
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("champion", Integer, nullable=False),
    Column("challengers", Text, nullable=False),
    Column("previous", Integer),
    Column("since", UtcDateTime, nullable=False),
    ForeignKeyConstraint(["model", "champion"], ["version.model", "version.number"], name="lineup_champion"),
)

reigns = Table(
    "reign",
    metadata,
    Column("model", String(63), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("champion", Integer, nullable=False),
    Column("first_generation", Integer, nullable=False),
    Column("since", UtcDateTime, nullable=False),
    Column("policy", Text, nullable=False),
    Column("training", Text),
    ForeignKeyConstraint(["model", "first_generation"], ["lineup.model", "lineup.generation"], name="reign_start"),
)

decisions = Table(
    "decision",
    metadata,
    Column("model", String(63), primary_key=True),
    Column("to_generation", Integer, primary_key=True, autoincrement=False),
    Column("kind", String(16), nullable=False),
    Column("version", Integer, nullable=False),
    Column("from_generation", Integer, nullable=False),
    Column("principal", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("evidence", Text),
    Column("cursors", Text),
    Column("hashes", Text),
    Column("proposal", Integer),
    ForeignKeyConstraint(["model", "to_generation"], ["lineup.model", "lineup.generation"], name="decision_lineup"),
)

proposals = Table(
    "proposal",
    metadata,
    Column("model", String(63), ForeignKey("model.name"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("kind", String(16), nullable=False),
    Column("version", Integer),
    Column("policy", Text),
    Column("generation", Integer, nullable=False),
    Column("principal", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("digest", String(71), nullable=False),
    Column("evidence", Text),
    Column("cursors", Text),
    Column("hashes", Text),
    Column("state", String(16), nullable=False),
    Column("closed_by", Text),
    Column("closed_reason", Text),
    Column("closed_at", UtcDateTime),
)

bars = Table(
    "bar",
    metadata,
    Column("model", String(63), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("at", UtcDateTime, nullable=False),
    Column("lifted_by", Text),
    Column("lifted_reason", Text),
    Column("lifted_at", UtcDateTime),
    ForeignKeyConstraint(["model", "version"], ["version.model", "version.number"], name="bar_version"),
)

audit = Table(
    "audit",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at", UtcDateTime, nullable=False),
    Column("principal", Text, nullable=False),
    Column("action", String(32), nullable=False),
    Column("model", String(63), nullable=False),
    Column("detail", Text, nullable=False),
    Column("previous_hash", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
)

api_keys = Table(
    "api_key",
    metadata,
    Column("key_id", String(16), primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("principal", String(63), nullable=False),
    Column("scopes", Text, nullable=False),
    Column("models", Text),
    Column("created_at", UtcDateTime, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("expires_at", UtcDateTime),
    Column("revoked_at", UtcDateTime),
    UniqueConstraint("digest", name="api_key_digest"),
)

closed_buckets = Table(
    "closed_bucket",
    metadata,
    Column("model", String(63), primary_key=True),
    Column("reign", Integer, primary_key=True, autoincrement=False),
    Column("bucket", BigInteger, primary_key=True, autoincrement=False),
    Column("closed_at", UtcDateTime, nullable=False),
    Column("prediction_cursor", Text, nullable=False),
    Column("outcome_cursor", Text, nullable=False),
    Column("sums", LargeBinary, nullable=False),
    ForeignKeyConstraint(["model", "reign"], ["reign.model", "reign.number"], name="closed_bucket_reign"),
)

evidence = Table(
    "evidence",
    metadata,
    Column("model", String(63), ForeignKey("model.name"), primary_key=True),
    Column("document", Text, nullable=False),
    Column("saved_at", UtcDateTime, nullable=False),
)

drift_references = Table(
    "drift_reference",
    metadata,
    Column("model", String(63), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("body", LargeBinary, nullable=False),
    ForeignKeyConstraint(["model", "version"], ["version.model", "version.number"], name="drift_reference_version"),
)

drift_days = Table(
    "drift_day",
    metadata,
    Column("model", String(63), ForeignKey("model.name"), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("bucket", BigInteger, primary_key=True, autoincrement=False),
    Column("part", String(16), primary_key=True),
    Column("body", LargeBinary, nullable=False),
)

drift_documents = Table(
    "drift_document",
    metadata,
    Column("model", String(63), ForeignKey("model.name"), primary_key=True),
    Column("document", Text, nullable=False),
    Column("saved_at", UtcDateTime, nullable=False),
)

recipes = Table(
    "recipe",
    metadata,
    Column("model", String(63), ForeignKey("model.name"), primary_key=True),
    Column("recipe", Text, nullable=False),
    Column("principal", Text, nullable=False),
    Column("at", UtcDateTime, nullable=False),
)

trainings = Table(
    "training",
    metadata,
    Column("model", String(63), ForeignKey("model.name"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("trigger", String(200), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("principal", Text, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("recipe", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("n_attempts", Integer, nullable=False),
    Column("progress", Text, nullable=False),
    Column("version", Integer),
    Column("sentence", Text),
    Column("ended_at", UtcDateTime),
    Column("holder", String(63)),
    Column("leased_until", UtcDateTime),
    UniqueConstraint("model", "trigger", name="training_trigger"),
)

training_outlooks = Table(
    "training_outlook",
    metadata,
    Column("model", String(63), ForeignKey("model.name"), primary_key=True),
    Column("document", Text, nullable=False),
    Column("saved_at", UtcDateTime, nullable=False),
)

replays = Table(
    "replay",
    metadata,
    Column("model", String(63), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False), Column("asked", Text, nullable=False),
    Column("state", String(16), nullable=False), Column("report", Text), Column("ended_at", UtcDateTime),
    Column("ended_generation", Integer),
    ForeignKeyConstraint(["model", "version"], ["version.model", "version.number"], name="replay_version"),
)  # fmt: skip
