"""The command line: `understudy COMMAND`. What a child process starts with is here too, and loads none of it."""

from __future__ import annotations

from typing import Any


def main(**options: Any) -> None:
    """Run a command, as the arguments of this process say."""
    from gateway.cli.commands import main

    main(**options)
