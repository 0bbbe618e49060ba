"""A file as people have it, CSV (also gzipped) or Parquet, to columns: the only place that reads with pyarrow.

Of a CSV every value is text until somebody looks at the whole column: readers that guess a type from the first
thousand rows fail on the first odd value after them.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import re
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct
from pyarrow import csv as arrow_csv
from pyarrow import parquet

from gateway.cli.typed import Column, TableRefused, Text

DELIMITERS = ",;\t|"
PARQUET, GZIP, BOM, UTF_16 = b"PAR1", b"\x1f\x8b", b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")
_SOURCE_DIGITS = 16


class Table(Struct, frozen=True, eq=False):
    """The columns of a file by name, in its order; `digest` names its bytes."""

    columns: dict[str, Text | Column]
    n_rows: int
    digest: str
    n_unreadable: dict[str, str] = {}
    """Columns of a type that no feature has (lists, structures, bytes), with that type."""

    def column(self, name: str, option: str) -> Text | Column:
        """A column that an option names.

        Raises:
            TableRefused: there is none.
        """
        if name not in self.columns:
            raise TableRefused(f"{option} {name}: no such column; the columns are {', '.join(self.columns)}")
        return self.columns[name]


def read(path: Path) -> Table:
    """The table in a file, whatever it is called: what it is shows in its first bytes.

    Raises:
        TableRefused: it cannot be read, is no table, or has no rows; one sentence.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TableRefused(f"{path}: {(error.strerror or str(error)).lower()}") from None
    digest = hashlib.sha256(content).hexdigest()[:_SOURCE_DIGITS]
    try:
        is_parquet = content.startswith(PARQUET)
        arrow = parquet.read_table(pa.BufferReader(content)) if is_parquet else _csv(path, content)
    except pa.ArrowInvalid as error:
        raise TableRefused(f"{path}: {_brief(str(error))}") from None
    names = [name.strip() for name in arrow.column_names]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise TableRefused(f"{path}: expected columns of different names, got '{twice}' twice")
    if arrow.num_rows == 0:
        raise TableRefused(f"{path}: expected rows, got none")
    columns: dict[str, Text | Column] = {}
    unreadable: dict[str, str] = {}
    for name, values in zip(names, arrow.columns, strict=True):
        column = _column(values)
        if column is None:
            unreadable[name] = str(values.type)
        else:
            columns[name] = column
    return Table(columns, arrow.num_rows, digest, unreadable)


def _csv(path: Path, content: bytes) -> pa.Table:
    if content.startswith(GZIP):
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error):
            raise TableRefused(f"{path}: not a whole gzip file") from None
    if content.startswith(UTF_16):
        raise TableRefused(f"{path}: expected text in UTF-8, got UTF-16")
    content = content.removeprefix(BOM)
    head = content.split(b"\n", 1)[0]
    if not head.strip():
        raise TableRefused(f"{path}: expected a first line of column names, got an empty one")
    if b"\0" in content[:4_096]:
        raise TableRefused(f"{path}: expected a CSV or a Parquet file, got neither")
    delimiter = _delimiter(head)
    try:
        names = next(csv.reader([head.decode()], delimiter=delimiter))
    except UnicodeDecodeError:
        raise TableRefused(f"{path}: expected text in UTF-8") from None
    return arrow_csv.read_csv(
        pa.BufferReader(content),
        arrow_csv.ReadOptions(use_threads=False),  # so that an error names its row
        arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        arrow_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False),
    )


def _delimiter(head: bytes) -> str:
    """The one that stands most often in the first line, outside of quotes."""
    unquoted = re.sub(rb'"[^"]*"', b"", head)
    return max(DELIMITERS, key=lambda delimiter: unquoted.count(delimiter.encode()))


def _column(values: pa.ChunkedArray) -> Text | Column | None:
    """A column in one of the few kinds that there are; None where it is of no such kind."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        return _column(values.cast(kind.value_type))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        encoded = pc.utf8_trim_whitespace(pc.fill_null(values, "")).combine_chunks().dictionary_encode()
        return Text(encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int64))
    if pa.types.is_null(kind):
        return Text([""], np.zeros(len(values), np.int64))
    missing = values.is_null().combine_chunks().to_numpy(zero_copy_only=False)
    if pa.types.is_boolean(kind):
        return Column("bool", _plain(pc.fill_null(values, False)), missing)
    if pa.types.is_integer(kind) and kind != pa.uint64():
        return Column("whole", _plain(pc.fill_null(values.cast(pa.int64()), 0)), missing)
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_integer(kind):
        numbers = _plain(pc.fill_null(values.cast(pa.float64()), float("nan")))
        return Column("number", numbers, missing | ~np.isfinite(numbers))
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        moments = values.cast(pa.timestamp("us", getattr(kind, "tz", None)), safe=False).cast(pa.int64())
        unit_us = 86_400_000_000 if pa.types.is_date(kind) else 0
        return Column("moment", _plain(pc.fill_null(moments, 0)), missing, unit_us=unit_us)
    return None


def _plain(values: pa.ChunkedArray) -> np.ndarray[tuple[int], np.dtype[np.generic]]:
    array: np.ndarray[tuple[int], np.dtype[np.generic]] = values.combine_chunks().to_numpy(zero_copy_only=False)
    return array


def _brief(complaint: str) -> str:
    """What pyarrow says, in one line and without the row that it says it of."""
    if "UTF8" in complaint or "UTF-8" in complaint:
        return "expected text in UTF-8"
    found = re.search(r"(Row #\d+): Expected (\d+) columns, got (\d+)", complaint)
    if found:
        return f"{found[1].lower().replace('#', '')}: expected {found[2]} values, got {found[3]}"
    return " ".join(complaint.split())[:200]
