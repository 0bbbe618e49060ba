"""`understudy export`: the journal as a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import rich_click as click
from msgspec.structs import replace

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
@click.option("-o", "--output", "file", type=click.Path(path_type=Path, dir_okay=False), help="The Parquet file.")
@click.option(
    "--by-day",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Instead: FOLDER/MODEL/day=2026-01-31.parquet for each UTC day that has matured whole and is not there yet.",
)
@click.option("--again", is_flag=True, help="With --by-day: also the days that hold something else by now.")
@click.option("--since", callback=_moment, help="Only predictions made from then on: 2026-01-31T12:00:00Z.")
@click.option("--until", callback=_moment, help="Only predictions made before.")
@click.option("--as-of", callback=_moment, help="Predictions made, and outcomes received, by then.  [default: now]")
@click.option("--with-shadow-scores", is_flag=True, help="Also what each challenger answered.")
@click.option("--with-waiting", is_flag=True, help="Also predictions whose outcomes have not had their time.")
@on_target
def export(
    model: str,
    file: Path | None,
    folder: Path | None,
    again: bool,
    since: datetime | None,
    until: datetime | None,
    as_of: datetime | None,
    with_shadow_scores: bool,
    with_waiting: bool,
    target: Target,
) -> None:
    """Write MODEL's predictions with what really happened to a Parquet file, or one a day; each is there whole or not.

    A row holds what was known when it was predicted, and its outcome as it was known at --as-of.
    """
    from gateway.export import Wanted, written

    if (file is None) == (folder is None):
        raise click.UsageError("expected either --output or --by-day")
    if (again and folder is None) or (with_waiting and folder is not None):
        raise click.UsageError("expected --again with --by-day, and --with-waiting with --output")
    wanted = Wanted(since, until, as_of, with_shadow_scores, with_waiting)
    with _source(model, target) as (exported, days_of):
        if file is not None:
            account = written(exported(wanted), file)
            target.show(account, lambda: _text(account))
        elif folder is not None:
            made = _by_day(model, folder, wanted, exported, days_of(as_of), again=again)
            target.show(made, lambda: _days_text(made))


@contextmanager
def _source(model: str, target: Target) -> Iterator[tuple[Callable[[Any], Iterable[bytes]], Callable[[Any], Any]]]:
    """What exports, and what tells the days: a server, or the store's files, which need not be sent anywhere."""
    if target.url is not None:
        with target.client() as client:
            yield partial(client.export, model), partial(client.export_days, model)
        return
    from gateway.clock import JournalClock
    from gateway.export import days_of, exported
    from registry.store import Registry

    target.check()
    settings = settings_of(target.config, target.data_dir)
    clock = JournalClock(settings.clock, settings.cohorts.bucket_s)
    with failing_in_one_line(), Registry.open(settings.folder, now=clock.now) as registry:
        clock.refresh(registry)
        yield partial(exported, settings, registry, clock, model), partial(days_of, settings, registry, clock, model)


def _by_day(
    model: str, folder: Path, wanted: Any, exported: Callable[[Any], Iterable[bytes]], told: Any, *, again: bool
) -> dict[str, Any]:
    """All days as of one moment, also where that is now."""
    from gateway.archive import archived
    from gateway.export import Days

    days = msgspec.convert(told, Days, from_attributes=True)
    made = archived(days.days, exported, model, folder, replace(wanted, as_of=days.as_of), again=again)
    plain: dict[str, Any] = msgspec.to_builtins(made)
    return plain


def _days_text(made: dict[str, Any]) -> str:
    counts = {name: len(made[name]) for name in ("written", "unchanged", "rewritten")}
    lines = [
        f"{made['folder']}: " + ", ".join(f"{n:,} days {name}" for name, n in counts.items() if n or name == "written")
    ]
    if left_out := _left_out(made):
        lines.append(left_out)
    if made["changed"]:
        lines.append(f"hold something else by now, and were left (--again): {', '.join(made['changed'])}")
    return "\n".join(lines)


def _left_out(account: dict[str, Any]) -> str:
    counts = [
        f"{account[key]:,} {what}"
        for key, what in (
            ("n_waiting", "rows whose outcomes have not had their time"),
            ("n_erased", "erased rows"),
            ("n_damaged_chunks", "damaged chunks"),
        )
        if account.get(key)
    ]
    return f"left out: {', '.join(counts)}" if counts else ""


def _text(account: dict[str, Any]) -> str:
    rows = (
        f"{account['n_rows']:,} rows, {account['n_with_outcome']:,} of them with an outcome, as of {account['as_of']}"
    )
    size = f"{account['file']}: {account['n_columns']} columns, {account['n_bytes'] / 1e6:.1f} MB"
    return "\n".join(filter(None, [rows, size, _left_out(account)]))
