"""Who agrees to what, from a terminal: `propose`, `proposals`, `approve`, `reject`, `lift-bar`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import rich_click as click

from gateway.cli.models import GENERATION, MODEL, REASON
from gateway.cli.options import Target, on_target

NUMBER = click.argument("number", type=int)


@click.command()
@MODEL
@click.argument("version", type=int, required=False)
@click.option(
    "--policy",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Propose these terms instead of a version: a JSON file.",
)
@REASON
@GENERATION
@on_target
def propose(
    model: str, version: int | None, policy: Path | None, reason: str, if_generation: int | None, target: Target
) -> None:
    """Ask others to promote VERSION of MODEL, or to change its terms."""
    if (version is None) == (policy is None):
        raise click.UsageError("expected either a VERSION or --policy")
    terms = None if policy is None else _terms(policy)
    with target.client() as client:
        proposal = client.propose(model, version, reason, policy=terms, generation=if_generation)
    target.show(proposal, lambda: _line(proposal))


def _terms(file: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise click.UsageError(f"--policy {file}: {error}") from None


@click.command()
@MODEL
@on_target
def proposals(model: str, target: Target) -> None:
    """What is or was proposed for MODEL, oldest first."""
    with target.client() as client:
        proposed = client.proposals(model)
    target.show(proposed, lambda: "\n".join(map(_line, proposed)) or f"nothing was proposed for {model}")


def _line(proposal: dict[str, Any]) -> str:
    what = "other terms" if proposal["version"] is None else f"promote version {proposal['version']}"
    asked = (
        f"proposal {proposal['number']} of {proposal['model']} ({proposal['state']}): {what}, asked by {proposal['by']}"
    )
    because = f" as {proposal['reason']!r} upon generation {proposal['generation']}, {proposal['digest']}"
    if proposal["closed_by"] is None:
        return asked + because
    return f"{asked}{because}; {proposal['state']} by {proposal['closed_by']} as {proposal['closed_reason']!r}"


@click.command()
@MODEL
@NUMBER
@REASON
@click.option("--digest", help="Only if it is still what has this digest.  [default: as it is read now]")
@on_target
def approve(model: str, number: int, reason: str, digest: str | None, target: Target) -> None:
    """Agree to proposal NUMBER of MODEL, and make the change."""
    with target.client() as client:
        read = client.proposal(model, number)
        approved = client.approve(model, read if digest is None else read | {"digest": digest}, reason)
    target.show(approved, lambda: _line(approved))


@click.command()
@MODEL
@NUMBER
@REASON
@on_target
def reject(model: str, number: int, reason: str, target: Target) -> None:
    """Refuse proposal NUMBER of MODEL, for good."""
    with target.client() as client:
        rejected = client.reject(model, number, reason)
    target.show(rejected, lambda: _line(rejected))


@click.command("lift-bar")
@MODEL
@click.argument("version", type=int)
@REASON
@on_target
def lift_bar(model: str, version: int, reason: str, target: Target) -> None:
    """Let VERSION of MODEL play again, which was rolled back."""
    with target.client() as client:
        bar = client.lift_bar(model, version, reason)
    target.show(bar, lambda: f"version {version} of {model} may be enlisted again, after its rollback at {bar['at']}")
