"""The audit from a terminal: `audit list`, `audit verify`."""

from __future__ import annotations

from typing import Any

import msgspec
import rich_click as click

from gateway.cli.options import Failed, Target, on_target


@click.group()
def audit() -> None:
    """Who did what: read it, and see whether anything was changed behind its back.

    On a store (--data-dir, --config) or on a server (--url, --key), for people or for programs (--json).

    Keep the head that `verify` prints somewhere else (another machine, a ticket, paper), and give it back later with
    --head: nothing else shows that lines were cut from the end.
    """


@audit.command("list")
@click.option("--model", help="Of this model alone.")
@click.option("--after", type=int, default=0, help="From the line after this number.")
@click.option("--limit", type=int, default=1_000, show_default=True, help="At most so many lines.")
@on_target
def list_(model: str | None, after: int, limit: int, target: Target) -> None:
    """The lines of the audit, oldest first."""
    with target.client() as client:
        lines = client.audit(model, after=after, limit=limit)
    target.show(lines, lambda: "\n".join(map(_line, lines)) or "no lines")


def _line(line: dict[str, Any]) -> str:
    detail = msgspec.json.encode(line["detail"]).decode()
    return f"{line['seq']}  {line['at']}  {line['principal']}: {line['action']} {line['model']} {detail}"


@audit.command()
@click.option("--head", help="A hash that was kept elsewhere: it must still be there.")
@on_target
def verify(head: str | None, target: Target) -> None:
    """Whether the audit is whole, and everything that the registry stores is what it says; exits with 1 if not."""
    with target.client() as client:
        found = client.verify_audit(head)
    faults = found["faults"]
    text = f"{found['n_lines']:,} lines, and everything is as they say; head {found['head']}"
    target.show(found, lambda: "\n".join(faults) or text)
    if faults:
        raise Failed(f"{len(faults)} fault{'s' if len(faults) > 1 else ''} in {found['n_lines']:,} lines")
