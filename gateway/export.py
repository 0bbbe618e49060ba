"""`understudy export`: a model's predictions with what really happened, as one Parquet file.

Written a row group at a time, so that it can be sent while it is made. What was left out is told in the file's own
metadata, under the key `understudy`.
"""

from __future__ import annotations

import io
import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from datetime import date, datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from gateway.clock import MICROSECONDS, JournalClock
from gateway.config import Settings
from gateway.errors import InvalidInput, Unreachable
from gateway.journal import ChunkHead, PredictionReader, open_ledger, open_reader
from gateway.records import micros, moment
from registry.errors import NoChampion
from registry.reader import RegistryReader

ROW_GROUP_ROWS = 131_072
HEADS_AT_ONCE = 10_000
DAY_US = 86_400 * MICROSECONDS
METADATA = b"understudy"


class Wanted(Struct, frozen=True):
    """What an export is to hold: predictions made in [since, until), as everything stood at `as_of` (None: now)."""

    since: datetime | None = None
    until: datetime | None = None
    as_of: datetime | None = None
    with_shadow_scores: bool = False
    with_waiting: bool = False


class Days(Struct, frozen=True):
    """The UTC days with predictions whose cohorts have all matured, as of a time."""

    as_of: datetime
    days: list[date]


def exported(
    settings: Settings, registry: RegistryReader, clock: JournalClock, name: str, wanted: Wanted
) -> Generator[bytes, None, None]:
    """The bytes of the file, piece by piece; everything is opened and read where the pieces are asked for.

    Raises:
        UnknownModel, NoChampion: there is nothing to export.
        InvalidInput: it cannot be said as of when, or that time has not come.
        JournalUnavailable, JournalDamaged: what was yielded so far is no whole file.
    """
    import pyarrow.parquet as pq  # 50 MB that only an export needs

    from gateway.journal.table import EVER, PredictionTable, Span

    model, lineups = registry.model(name), registry.lineups(name)
    if not lineups:
        raise NoChampion(name)
    as_of_us = _as_of_us(clock, wanted.as_of)
    span = Span(
        as_of_us,
        0 if wanted.since is None else micros(wanted.since),
        EVER if wanted.until is None else micros(wanted.until),
        wanted.with_waiting,
    )
    shadows = sorted({v for line in lineups for v in line.challengers}) if wanted.with_shadow_scores else []
    signatures = {version.number: version.signature for version in registry.versions(name)}
    with (
        closing(open_reader(settings.folder)) as reader,
        closing(open_ledger(settings.folder, settings.journal)) as ledger,
    ):
        table = PredictionTable(
            reader, ledger, model, signatures, span,
            bucket_us=_bucket_us(settings), shadows=shadows,
        )  # fmt: skip
        sink = _Outbox()
        with pq.ParquetWriter(sink, table.schema, compression="zstd", write_statistics=True) as parquet:
            for batches in _grouped(table.batches()):
                parquet.write_table(_table(batches))
                yield sink.taken()
            account = {"model": name, "as_of": moment(as_of_us).isoformat()} | msgspec.to_builtins(table.account)
            parquet.add_key_value_metadata({METADATA: msgspec.json.encode(account)})
        yield sink.taken()


def days_of(
    settings: Settings, registry: RegistryReader, clock: JournalClock, name: str, as_of: datetime | None
) -> Days:
    """The days that can be exported once and for all; a walk over the heads of all chunks.

    Raises:
        UnknownModel, InvalidInput, JournalUnavailable, JournalDamaged: as `exported`.
    """
    policy, as_of_us, bucket_us = registry.model(name).policy, _as_of_us(clock, as_of), _bucket_us(settings)
    mature_us = as_of_us - round(policy.maturity_s * MICROSECONDS)
    found: set[int] = set()
    with closing(open_reader(settings.folder)) as reader:
        for bucket in {head.bucket for head in _heads(reader) if head.model == name and head.purpose == "live"}:
            first, last = bucket * bucket_us // DAY_US, ((bucket + 1) * bucket_us - 1) // DAY_US
            # a day is whole where every bucket that has a part of it is, which the one with its last moment says
            found |= {
                day for day in range(first, last + 1)
                if ((((day + 1) * DAY_US - 1) // bucket_us) + 1) * bucket_us <= mature_us
            }  # fmt: skip
    return Days(moment(as_of_us), [moment(day * DAY_US).date() for day in sorted(found)])


def _heads(reader: PredictionReader) -> Iterator[ChunkHead]:
    for state in reader.writers():
        after = 0
        while heads := reader.heads(state.writer, after, HEADS_AT_ONCE):
            yield from heads
            after = heads[-1].seq


def _as_of_us(clock: JournalClock, as_of: datetime | None) -> int:
    now_us = clock.now_us()
    as_of_us = now_us if as_of is None else micros(as_of)
    if now_us is not None and as_of_us is not None and as_of_us > now_us and not clock.of_caller:
        raise InvalidInput(f"as_of: expected a time that has come, got {moment(as_of_us).isoformat()}")
    if as_of_us is None:
        raise InvalidInput("as_of: expected a time, as the caller's clock was never set")
    return as_of_us


def _bucket_us(settings: Settings) -> int:
    return settings.cohorts.bucket_s * MICROSECONDS


def written(pieces: Iterable[bytes], file: Path) -> dict[str, Any]:
    """Write the pieces of an export to a file, which is there whole or not at all; returns what the export tells.

    Raises:
        Unreachable: what came is no export.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    beside = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        with beside.open("xb") as into:
            for piece in pieces:
                into.write(piece)
            into.flush()
            os.fsync(into.fileno())
        try:
            metadata = pq.read_metadata(beside)
            account: dict[str, Any] = msgspec.json.decode((metadata.metadata or {})[METADATA])
        except (pa.ArrowInvalid, KeyError):
            raise Unreachable("what came is no whole export") from None
        n_bytes = beside.stat().st_size
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)
    return account | {"file": str(file), "n_bytes": n_bytes, "n_columns": metadata.num_columns}


def _grouped(batches: Iterator[Any]) -> Iterator[list[Any]]:
    """Batches of about a row group each."""
    group: list[Any] = []
    for batch in batches:
        group.append(batch)
        if sum(each.num_rows for each in group) >= ROW_GROUP_ROWS:
            yield group
            group = []
    if group:
        yield group


def _table(batches: Sequence[Any]) -> Any:
    import pyarrow as pa

    return pa.Table.from_batches(batches)


class _Outbox(io.RawIOBase):
    """A file that only grows, and that whoever reads it empties."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._n_bytes = 0

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, piece: Any) -> int:
        """Keep a copy."""
        kept = bytes(piece)
        self._pieces.append(kept)
        self._n_bytes += len(kept)
        return len(kept)

    def tell(self) -> int:
        """How much was ever written."""
        return self._n_bytes

    def taken(self) -> bytes:
        """What was written since the last time."""
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)
