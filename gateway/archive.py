"""`understudy export --by-day`: one Parquet file for each UTC day that is matured whole, each written once.

    FOLDER/MODEL/day=2013-06-01.parquet

A day whose content is another by now (a correction that came late, an erasure) is found by exporting and comparing it
once more; it is told, and replaced only where that is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from gateway.export import Wanted, written

DAY = timedelta(days=1)
COUNTED = ("n_rows", "n_with_outcome", "n_erased", "n_damaged_chunks")


class Archived(Struct, kw_only=True):
    """What became of each day; the counts are of all the days that were looked at."""

    model: str
    as_of: str
    folder: str
    written: list[str] = []
    unchanged: list[str] = []
    changed: list[str] = []
    """Not what their files hold any more; the files were left as they are."""
    rewritten: list[str] = []
    n_rows: int = 0
    n_with_outcome: int = 0
    n_erased: int = 0
    n_damaged_chunks: int = 0


def archived(
    days: Sequence[date],
    exported: Callable[[Wanted], Iterable[bytes]],
    model: str,
    folder: Path,
    wanted: Wanted,
    *,
    again: bool = False,
) -> Archived:
    """Write the files of these days that are not there; with `again` also those of days that changed.

    `wanted`: as of when, and with what; of its days only those count that lie whole within `since` and `until`.
    Whatever happens, each file is there whole, and is that of one moment.
    """
    into = folder / model
    into.mkdir(parents=True, exist_ok=True)
    made = Archived(model=model, as_of=wanted.as_of.isoformat() if wanted.as_of else "", folder=str(into))
    for since in (datetime.combine(day, time(), UTC) for day in days):
        day = since.date().isoformat()
        if since < (wanted.since or since) or since + DAY > (wanted.until or since + DAY):
            continue
        file, fresh = into / f"day={day}.parquet", into / f".day={day}.{os.getpid()}.new"
        try:
            account = written(exported(replace(wanted, since=since, until=since + DAY)), fresh)
            for name in COUNTED:
                setattr(made, name, getattr(made, name) + account[name])
            if not file.exists():
                if account["n_rows"]:
                    fresh.replace(file)
                    made.written.append(day)
            elif is_same(file, fresh):
                made.unchanged.append(day)
            elif again:
                fresh.replace(file)
                made.rewritten.append(day)
            else:
                made.changed.append(day)
        finally:
            fresh.unlink(missing_ok=True)
    _kept(into)
    return made


def is_same(one: Path, other: Path) -> bool:
    """Whether two exports hold the same columns with the same values, whenever they were made; a column at a time."""
    import pyarrow.parquet as pq

    schema = pq.read_schema(one)
    if not schema.equals(pq.read_schema(other)):
        return False
    return all(
        _parts(pq.read_table(one, columns=[name])[name]) == _parts(pq.read_table(other, columns=[name])[name])
        for name in schema.names
    )


def _parts(column: Any) -> list[Any]:
    """A column as arrays that are equal where it is; numbers by their bits, as NaN is no equal of itself."""
    import pyarrow as pa

    whole = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    missing = whole.is_null()
    if pa.types.is_fixed_size_list(whole.type):
        whole = whole.flatten()
    if pa.types.is_floating(whole.type):
        whole = whole.view(f"int{whole.type.bit_width}")
    return [missing, whole]


def _kept(folder: Path) -> None:
    """Names in a folder outlive the power only once the folder itself is on the disk."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
