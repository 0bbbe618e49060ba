"""Runs the revisions on the connection of whoever opens the registry, inside the transaction that it has begun."""

from alembic import context

from registry.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
