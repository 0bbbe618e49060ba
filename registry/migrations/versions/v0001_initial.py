"""The first tables. Frozen: a later change is a later revision."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Creates every table, and the one row of `state`."""
    moment = sa.DateTime(timezone=True)
    state = op.create_table(
        "state",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("change_stamp", sa.BigInteger, nullable=False),
        sa.Column("clock", moment),
    )
    op.bulk_insert(state, [{"id": 1, "change_stamp": 0, "clock": None}])
    op.create_table(
        "model",
        sa.Column("name", sa.String(63), primary_key=True),
        sa.Column("task", sa.String(16), nullable=False),
        sa.Column("schema_version", sa.Integer, nullable=False),
        sa.Column("policy", sa.Text, nullable=False),
        sa.Column("created_at", moment, nullable=False),
    )
    op.create_table(
        "model_schema",
        sa.Column("model", sa.String(63), sa.ForeignKey("model.name"), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("digest", sa.String(71), nullable=False),
        sa.Column("features", sa.Text, nullable=False),
        sa.Column("since", moment, nullable=False),
    )
    op.create_table(
        "version",
        sa.Column("model", sa.String(63), sa.ForeignKey("model.name"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("digest", sa.String(71), nullable=False),
        sa.Column("n_bytes", sa.BigInteger, nullable=False),
        sa.Column("signature", sa.Text, nullable=False),
        sa.Column("training", sa.Text),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.UniqueConstraint("model", "digest", name="version_digest"),
    )
    op.create_table(
        "lineup",
        sa.Column("model", sa.String(63), primary_key=True),
        sa.Column("generation", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("champion", sa.Integer, nullable=False),
        sa.Column("challengers", sa.Text, nullable=False),
        sa.Column("previous", sa.Integer),
        sa.Column("since", moment, nullable=False),
        sa.ForeignKeyConstraint(["model", "champion"], ["version.model", "version.number"], name="lineup_champion"),
    )
    op.create_table(
        "reign",
        sa.Column("model", sa.String(63), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("champion", sa.Integer, nullable=False),
        sa.Column("first_generation", sa.Integer, nullable=False),
        sa.Column("since", moment, nullable=False),
        sa.Column("policy", sa.Text, nullable=False),
        sa.Column("training", sa.Text),
        sa.ForeignKeyConstraint(
            ["model", "first_generation"], ["lineup.model", "lineup.generation"], name="reign_start"
        ),
    )
    op.create_table(
        "decision",
        sa.Column("model", sa.String(63), primary_key=True),
        sa.Column("to_generation", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("from_generation", sa.Integer, nullable=False),
        sa.Column("principal", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at", moment, nullable=False),
        sa.Column("evidence", sa.Text),
        sa.Column("cursors", sa.Text),
        sa.ForeignKeyConstraint(
            ["model", "to_generation"], ["lineup.model", "lineup.generation"], name="decision_lineup"
        ),
    )
    op.create_table(
        "audit",
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("at", moment, nullable=False),
        sa.Column("principal", sa.Text, nullable=False),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("model", sa.String(63), nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("previous_hash", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )
    op.create_table(
        "closed_bucket",
        sa.Column("model", sa.String(63), primary_key=True),
        sa.Column("reign", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("bucket", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("closed_at", moment, nullable=False),
        sa.Column("prediction_cursor", sa.Text, nullable=False),
        sa.Column("outcome_cursor", sa.Text, nullable=False),
        sa.Column("sums", sa.LargeBinary, nullable=False),
        sa.ForeignKeyConstraint(["model", "reign"], ["reign.model", "reign.number"], name="closed_bucket_reign"),
    )
    op.create_table(
        "evidence",
        sa.Column("model", sa.String(63), sa.ForeignKey("model.name"), primary_key=True),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("saved_at", moment, nullable=False),
    )
