"""`understudy export`: the journal as a file."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import rich_click as click

from gateway.cli.options import Target, failing_in_one_line, on_target, settings_of
from gateway.errors import InvalidInput
from gateway.wire.strict_json import instant


def _moment(_context: click.Context, option: click.Parameter, text: str | None) -> datetime | None:
    try:
        return None if text is None else instant(f"--{option.name}".replace("_", "-"), text)
    except InvalidInput as refused:
        raise click.UsageError(str(refused)) from None


@click.command()
@click.argument("model")
@click.option(
    "-o", "--output", "file", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The Parquet file."
)
@click.option("--since", callback=_moment, help="Only predictions made from then on: 2026-01-31T12:00:00Z.")
@click.option("--until", callback=_moment, help="Only predictions made before.")
@click.option("--as-of", callback=_moment, help="Predictions made, and outcomes received, by then.  [default: now]")
@click.option("--with-shadow-scores", is_flag=True, help="Also what each challenger answered.")
@click.option("--with-waiting", is_flag=True, help="Also predictions whose outcomes have not had their time.")
@on_target
def export(
    model: str,
    file: Path,
    since: datetime | None,
    until: datetime | None,
    as_of: datetime | None,
    with_shadow_scores: bool,
    with_waiting: bool,
    target: Target,
) -> None:
    """Write MODEL's predictions with what really happened to a Parquet file, which is there whole or not at all.

    A row holds what was known when it was predicted, and its outcome as it was known at --as-of.
    """
    from gateway.export import Wanted, written

    wanted = Wanted(since, until, as_of, with_shadow_scores, with_waiting)
    if target.url is not None:
        with target.client() as client:
            account = written(client.export(model, wanted), file)
    else:
        account = _of_store(model, wanted, file, target)
    target.show(account, lambda: _text(account))


def _of_store(model: str, wanted: Any, file: Path, target: Target) -> dict[str, Any]:
    """Read the store's files here: nothing has to be sent anywhere."""
    from gateway.clock import JournalClock
    from gateway.export import exported, written
    from registry.store import Registry

    target.check()
    settings = settings_of(target.config, target.data_dir)
    clock = JournalClock(settings.clock, settings.cohorts.bucket_s)
    with failing_in_one_line(), Registry.open(settings.folder, now=clock.now) as registry:
        clock.refresh(registry)
        return written(exported(settings, registry, clock, model, wanted), file)


def _text(account: dict[str, Any]) -> str:
    left_out = [
        f"{account[key]:,} {what}"
        for key, what in (
            ("n_waiting", "rows whose outcomes have not had their time"),
            ("n_erased", "erased rows"),
            ("n_damaged_chunks", "damaged chunks"),
        )
        if account[key]
    ]
    rows = (
        f"{account['n_rows']:,} rows, {account['n_with_outcome']:,} of them with an outcome, as of {account['as_of']}"
    )
    size = f"{account['file']}: {account['n_columns']} columns, {account['n_bytes'] / 1e6:.1f} MB"
    return "\n".join([rows, size, *([f"left out: {', '.join(left_out)}"] if left_out else [])])
