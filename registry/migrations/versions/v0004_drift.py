"""What is derived of drift. Frozen: a later change is a later revision."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Creates the tables of drift, empty: days are derived from the journal as far back as it goes."""
    op.create_table(
        "drift_reference",
        sa.Column("model", sa.String(63), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.ForeignKeyConstraint(["model", "version"], ["version.model", "version.number"], name="drift_reference_version"),
    )
    op.create_table(
        "drift_day",
        sa.Column("model", sa.String(63), sa.ForeignKey("model.name"), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("bucket", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("part", sa.String(16), primary_key=True),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "drift_document",
        sa.Column("model", sa.String(63), sa.ForeignKey("model.name"), primary_key=True),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("saved_at", sa.DateTime(timezone=True), nullable=False),
    )
