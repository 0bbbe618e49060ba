"""Recipes, and the trainings that were asked for. Frozen: a later change is a later revision."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Creates the tables, empty: no model had a recipe."""
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "recipe",
        sa.Column("model", sa.String(63), sa.ForeignKey("model.name"), primary_key=True),
        sa.Column("recipe", sa.Text, nullable=False),
        sa.Column("principal", sa.Text, nullable=False),
        sa.Column("at", moment, nullable=False),
    )
    op.create_table(
        "training",
        sa.Column("model", sa.String(63), sa.ForeignKey("model.name"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("trigger", sa.String(200), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("principal", sa.Text, nullable=False),
        sa.Column("at", moment, nullable=False),
        sa.Column("recipe", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("n_attempts", sa.Integer, nullable=False),
        sa.Column("progress", sa.Text, nullable=False),
        sa.Column("version", sa.Integer),
        sa.Column("sentence", sa.Text),
        sa.Column("ended_at", moment),
        sa.Column("holder", sa.String(63)),
        sa.Column("leased_until", moment),
        sa.UniqueConstraint("model", "trigger", name="training_trigger"),
    )
    op.create_table(
        "training_outlook",
        sa.Column("model", sa.String(63), sa.ForeignKey("model.name"), primary_key=True),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("saved_at", moment, nullable=False),
    )
