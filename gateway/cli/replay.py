"""`understudy replay`: what a version would have answered in the past, and what that would have been worth."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import rich_click as click

from gateway.cli.models import MODEL
from gateway.cli.options import Failed, Target, moment_option, on_target

if TYPE_CHECKING:
    from gateway.client import Client


@click.command()
@MODEL
@click.argument("version", type=int)
@click.option("--since", required=True, callback=moment_option, help="Rows predicted from this moment on.")
@click.option("--until", callback=moment_option, help="Rows predicted before this moment.  [default: now]")
@click.option(
    "--trained-until",
    callback=moment_option,
    help="Until when VERSION has learned, where its training report does not say; it is kept with the replay.",
)
@click.option("--reason", default="asked for by hand", show_default=True, help="Why: it stays in the audit.")
@click.option("--wait/--no-wait", "waits", default=True, show_default=True, help="For the report.")
@click.option("--timeout-s", type=float, default=3600.0, show_default=True, help="Give up waiting after this.")
@on_target
def replay(
    model: str,
    version: int,
    since: datetime,
    until: datetime | None,
    trained_until: datetime | None,
    reason: str,
    waits: bool,
    timeout_s: float,
    target: Target,
) -> None:
    """Score the past of MODEL by VERSION, and say how it would have done. It is a backtest, and never evidence.

    Rows in which VERSION played are left out, as they are its evidence, and so are those that it may have learned
    from. The shadow worker scores the others when nothing live waits for it, and the retrain worker reports: both
    must run. A replay goes on by itself when nobody waits for it, and after any crash.
    """
    with target.client() as client:
        asked = client.replay(model, version, reason, since=since, until=until, trained_until=trained_until)
        ended = _waited(client, asked, timeout_s) if waits else asked
    target.show(ended, lambda: _text(ended))
    if ended["state"] == "failed":
        raise Failed(f"replay {ended['number']} of '{model}' has failed")


def _waited(client: Client, asked: dict[str, Any], timeout_s: float) -> dict[str, Any]:
    from gateway.cli.progress import Progress

    with Progress().bar("chunks", asked["progress"]["n_chunks"]) as bar:
        return client.wait_replayed(
            asked["model"], asked["number"], timeout_s=timeout_s,
            look=lambda found: bar.update(found["progress"]["n_chunks_done"], _note(found["progress"]["n_rows"])),
        )  # fmt: skip


def _note(n_rows: dict[str, int]) -> str:
    told = [f"{n:,} {status.replace('_', ' ')}" for status, n in n_rows.items() if status != "not_asked"]
    return ", ".join(told) or "nothing scored yet"


def _text(replay: dict[str, Any]) -> str:
    if replay["report"] is not None:
        return "\n".join(replay["report"]["sentences"])
    span = f"version {replay['version']} on rows from {replay['since']} to {replay['until']}"
    return f"replay {replay['number']} of {replay['model']} is {replay['state']}: {span}"
