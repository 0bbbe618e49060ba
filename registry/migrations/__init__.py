"""How the registry's tables came to be: one revision a change, applied when a registry is opened.

A revision that was released is never edited. `HEAD` is the newest: a registry that is already there opens without
loading alembic at all.
"""

HEAD = "0006"
