"""Every command by name. A file a command group; each is imported when one of its commands is used."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version

import rich_click as click

COMMANDS = {
    "demo": "demo",
    "stream": "stream",
    "serve": "serve",
    "gateway": "serve",
    "shadow": "serve",
    "retrain": "serve",
    "register": "models",
    "status": "models",
    "evidence": "models",
    "compare": "compare",
    "drift": "models",
    "recipe": "trainings",
    "train": "trainings",
    "trainings": "trainings",
    "promote": "models",
    "rollback": "models",
    "retire": "models",
    "enlist": "models",
    "propose": "consent",
    "proposals": "consent",
    "approve": "consent",
    "reject": "consent",
    "lift-bar": "consent",
    "predict": "calls",
    "outcome": "calls",
    "wait": "calls",
    "replay": "replay",
    "export": "export",
    "compact": "compact",
    "erase": "erase",
    "bundle": "bundle",
    "keys": "keys",
    "audit": "audit",
    "doctor": "doctor",
}


class LazyGroup(click.RichGroup):
    """Knows the names of all commands, and imports what one needs only when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of a first day with the product."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, from its file."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"gateway.cli.{COMMANDS[cmd_name]}"), cmd_name.replace("-", "_"))
        return command


@click.group(cls=LazyGroup)
@click.version_option(version("understudy"), prog_name="understudy")
def main() -> None:
    """Serve models of which every champion has understudies.

    The champion answers; challengers see the same live requests; every answer is scored against what really happened;
    and a challenger takes over when the evidence, valid however often anyone looks, says that it should.
    """
