"""Proposals, bars, and what a decision was computed by. Frozen: a later change is a later revision."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Creates `proposal`, empty, and `bar`, with one for every version that a rollback has deposed so far."""
    moment = sa.DateTime(timezone=True)
    op.add_column("decision", sa.Column("hashes", sa.Text))
    op.add_column("decision", sa.Column("proposal", sa.Integer))
    op.create_table(
        "proposal",
        sa.Column("model", sa.String(63), sa.ForeignKey("model.name"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("version", sa.Integer),
        sa.Column("policy", sa.Text),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("principal", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at", moment, nullable=False),
        sa.Column("digest", sa.String(71), nullable=False),
        sa.Column("evidence", sa.Text),
        sa.Column("cursors", sa.Text),
        sa.Column("hashes", sa.Text),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("closed_by", sa.Text),
        sa.Column("closed_reason", sa.Text),
        sa.Column("closed_at", moment),
    )
    op.create_table(
        "bar",
        sa.Column("model", sa.String(63), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("generation", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at", moment, nullable=False),
        sa.Column("lifted_by", sa.Text),
        sa.Column("lifted_reason", sa.Text),
        sa.Column("lifted_at", moment),
        sa.ForeignKeyConstraint(["model", "version"], ["version.model", "version.number"], name="bar_version"),
    )
    op.execute(
        "INSERT INTO bar (model, version, generation, at) "
        "SELECT decision.model, lineup.champion, decision.to_generation, decision.at FROM decision JOIN lineup "
        "ON lineup.model = decision.model AND lineup.generation = decision.from_generation "
        "WHERE decision.kind = 'rollback'"
    )
