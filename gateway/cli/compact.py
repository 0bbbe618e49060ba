"""`understudy compact`: old predictions as Parquet files, in the store itself."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from gateway.cli.options import Failed, json_option, show, store_options
from gateway.cli.upkeep import upkeep_of

if TYPE_CHECKING:
    from gateway.journal.compaction import Compacted


@click.command()
@click.option(
    "--older-than",
    "days",
    type=click.IntRange(0, 10_000),
    default=30,
    show_default=True,
    help="Only files of predictions of which the last one is so many days old.",
)
@click.option(
    "--least-bytes",
    type=click.IntRange(0),
    default=65_536,
    show_default=True,
    help="Leave a model's days that take less in such a file: a Parquet file for each would take more.",
)
@store_options
@json_option
def compact(days: int, least_bytes: int, as_json: bool, config: Path | None, data_dir: str | None) -> None:
    """Move old predictions of a store into Parquet files, and give back what is free then.

    A file of predictions, which a gateway process has written on one day, goes as a whole, once nobody writes to it any
    more and its last prediction is old enough: into one Parquet file for each model, day and kind of row in it.

    Nothing is lost or answered differently: whatever reads a prediction reads it from there, and gets the bytes that
    were recorded, or an error. It may run while the store is served, and be killed at any time; the next run goes on.
    Outcomes and shadow scores stay where they are.
    """
    from gateway.journal.compaction import compact as compacted
    from gateway.records import micros

    with upkeep_of(config, data_dir) as (store, _, now):
        made = compacted(store, micros(now - timedelta(days=days)), progress=_say, least_bytes=least_bytes)
    show(made, lambda: _text(made), as_json=as_json)
    if made.faults:
        raise Failed("not everything could be compacted: see above")


def _say(file: str) -> None:
    sys.stderr.write(f"compacting {file}\n")


def _text(made: Compacted) -> str:
    if not made.n_files:
        return "\n".join(["nothing to compact", *made.faults])
    text = (
        f"{made.n_predictions:,} predictions in {made.n_chunks:,} chunks of {made.n_files:,} files: "
        f"{made.n_bytes_before / 1e6:.1f} MB are {made.n_bytes_after / 1e6:.1f} MB now"
    )
    left = [f"left as they are: {made.n_left:,} chunks"] if made.n_left else []
    return "\n".join([text, *left, *made.faults])
