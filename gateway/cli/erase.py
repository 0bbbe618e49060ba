"""`understudy erase`: what was sent of one person, account or order goes from a store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from gateway.cli.models import REASON
from gateway.cli.options import Failed, json_option, show, store_options
from gateway.cli.upkeep import upkeep_of

if TYPE_CHECKING:
    from gateway.journal.erasure import Erased


@click.command()
@click.argument("model")
@click.option("--association-id", required=True, help="The id with which it was sent.")
@REASON
@click.option("--yes", is_flag=True, help="Do not ask: it cannot be undone.")
@store_options
@json_option
def erase(
    model: str,
    association_id: str,
    reason: str,
    yes: bool,
    as_json: bool,
    config: Path | None,
    data_dir: str | None,
) -> None:
    """Erase what was sent to MODEL with an association id: inputs, who asked, traces, and the id itself.

    Answers, scores and outcomes stay, under a name that says nothing, so that evidence comes to what it came to. Rows
    of others that were recorded in one piece with it (those of the same request or moment) lose their inputs, too,
    and are counted. It may run while the store is served, and be killed; doctor tells what was not finished.
    """
    from gateway.journal.erasure import erase as erased
    from registry.types import Principal

    if not yes:
        click.confirm(f"Erase what was sent to {model} with this id? It cannot be undone.", abort=True, err=True)
    with upkeep_of(config, data_dir) as (store, registry, _):
        registry.model(model)  # raises for one that there is not
        made = erased(store, model, association_id)
        counts = {"n_rows": made.n_rows, "n_neighbours": made.n_neighbours, "n_outcomes": made.n_outcomes}
        registry.record("erase", by=Principal.local_operator(), model=model, detail=counts | {"reason": reason})
    show(made, lambda: _text(made), as_json=as_json)
    if made.held:
        raise Failed(f"somebody reads {', '.join(made.held)} just now, whose logs may hold it still: erase it again")


def _text(made: Erased) -> str:
    if not made.n_rows and not made.n_outcomes:
        return "nothing carries that id (any more)"
    others = f"; {made.n_neighbours:,} other rows lost their inputs with them" if made.n_neighbours else ""
    return (
        f"erased: {made.n_rows:,} rows in {made.n_chunks:,} chunks{others}; {made.n_outcomes:,} outcomes stay, unnamed"
    )
