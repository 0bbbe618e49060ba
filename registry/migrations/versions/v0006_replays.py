"""Replays of the past journal. Frozen: a later change is a later revision."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Creates the table, empty: nothing was ever replayed."""
    op.create_table(
        "replay",
        sa.Column("model", sa.String(63), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("asked", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("report", sa.Text),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.Column("ended_generation", sa.Integer),
        sa.ForeignKeyConstraint(["model", "version"], ["version.model", "version.number"], name="replay_version"),
    )
