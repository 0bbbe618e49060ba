"""API keys from a terminal: `keys list`, `keys issue`, `keys revoke`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import rich_click as click

from gateway.cli.options import Target, moment_option, on_target
from registry.types import SCOPES


@click.group()
def keys() -> None:
    """Who may ask a server for what: list, issue and revoke API keys.

    While no key was ever issued, a server is open to its own machine, and to nobody else. From the first key on every
    request needs one. On a store (--data-dir, --config) no key is needed; on a server (--url) one with the scope
    admin is (--key). Every one of these commands has --json.
    """


@keys.command("list")
@on_target
def list_(target: Target) -> None:
    """Every key that was ever issued, without its secret."""
    with target.client() as client:
        issued = client.keys()
    target.show(issued, lambda: "\n".join(map(_line, issued)) or "no keys yet: a server is open to its own machine")


def _line(key: dict[str, Any]) -> str:
    models = "every model" if key["models"] is None else ", ".join(key["models"])
    if key["revoked_at"] is not None:
        until = f"revoked {key['revoked_at']}"
    else:
        until = "never expires" if key["expires_at"] is None else f"expires {key['expires_at']}"
    return f"{key['key_id']}  {key['principal']}: {', '.join(key['scopes'])} for {models}; {until}"


def _listed(_context: click.Context, _option: click.Parameter, text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",")]


def _scopes(context: click.Context, option: click.Parameter, text: str) -> list[str]:
    scopes = _listed(context, option, text) or []
    for scope in scopes:
        if scope not in SCOPES:
            raise click.BadParameter(f"expected any of {', '.join(SCOPES)}; got {scope!r:.40}")
    return scopes


@keys.command()
@click.argument("principal")
@click.option("--scope", "scopes", required=True, callback=_scopes, help=f"What it may do, any of {','.join(SCOPES)}.")
@click.option("--model", "models", callback=_listed, help="For these models only: a,b.  [default: every model]")
@click.option(
    "--expires", "expires_at", callback=moment_option, help="When it ends: 2027-01-01T00:00:00Z.  [default: never]"
)
@on_target
def issue(
    principal: str, scopes: list[str], models: list[str] | None, expires_at: datetime | None, target: Target
) -> None:
    """Issue a key to PRINCIPAL, and print its token: this once, as it is kept nowhere."""
    with target.client() as client:
        issued = client.issue_key(principal, scopes, models=models, expires_at=expires_at)
    target.show(issued, lambda: f"{_line(issued['key'])}\n{issued['token']}\nkeep it: it is not shown again")


@keys.command()
@click.argument("key_id")
@click.option("--reason", required=True, help="Why; it stays in the audit.")
@on_target
def revoke(key_id: str, reason: str, target: Target) -> None:
    """End the key of that id, at once and for good."""
    with target.client() as client:
        revoked = client.revoke_key(key_id, reason)
    target.show(revoked, lambda: _line(revoked))
