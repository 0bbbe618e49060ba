"""A Parquet file of cold chunks: written a row group at a time, and read so.

Parquet's own readers trust what they read, and one flipped bit can end the process. So nothing is parsed before its
checksum: that of the footer is in the stub of each chunk, and those of the row groups are in the footer.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gateway.chunk import Layout
from gateway.errors import JournalDamaged, JournalUnavailable
from gateway.journal.cold_group import ColdGroup
from gateway.journal.cold_table import LAYOUT, holds_floats, schema_of, table_of
from gateway.journal.sets import Located

GROUP_BYTES = 4_194_304
"""Of bodies in a row group: what is read and unpacked for one chunk."""
SUM_BYTES = 8
_UNPACKED = 12
"""How much more memory a footer takes than the file has of it, about (measured: 200 columns, 60 row groups)."""
_GROUPS = b"understudy.groups"
"""Of the file's metadata: where each row group ends, and its CRC-32."""
_TAIL_BYTES = 8
"""Of a Parquet file: the length of its footer (uint32), and PAR1."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """What is wrong with a file: it is not what was written, or it cannot be reached now.

    Its name is made of what a page says, which may be damaged.

    Raises:
        JournalDamaged: it is not there, or not what was written.
        JournalUnavailable: the disk refuses.
    """
    name = "/".join(path.parts[-3:])
    try:
        yield
    except FileNotFoundError:
        raise JournalDamaged(f"{name} is not there") from None
    except OSError as error:  # Arrow says so of what it cannot make sense of, too, and then without a number
        kind = JournalDamaged if error.errno in (None, errno.ENAMETOOLONG, errno.ENOTDIR) else JournalUnavailable
        raise kind(f"{name}: {error}") from None
    except (pa.ArrowException, ValueError) as error:
        raise JournalDamaged(f"{name}: {error}") from None


class ColdFile:
    """One file: what its footer says, and its row groups."""

    def __init__(self, path: Path, footer_sum: bytes) -> None:
        """`footer_sum`: what is known of its footer. Raises as `reading`."""
        self._path, self.footer_sum = path, footer_sum
        with reading(path):
            if _footer_sum(path) != footer_sum:
                raise ValueError("its footer does not match its checksum")
            self._footer = pq.read_metadata(path)
            self.n_bytes = _UNPACKED * self._footer.serialized_size
            told = self._footer.metadata or {}
            self._layout = msgspec.json.decode(told[LAYOUT], type=Layout)
            self._groups = msgspec.json.decode(told[_GROUPS], type=list[tuple[int, int]])
            seq = self._footer.schema.names.index("seq")
            groups = (self._footer.row_group(i).column(seq) for i in range(self._footer.num_row_groups))
            self._firsts = np.array([group.statistics.min for group in groups], np.int64)

    def group_of(self, seq: int) -> int:
        """The number of the row group in which this chunk is, if it is there."""
        return max(0, int(self._firsts.searchsorted(seq, side="right")) - 1)

    def group(self, number: int) -> ColdGroup:
        """A row group. Raises as `reading`."""
        with reading(self._path), self._path.open("rb") as file:
            start = self._groups[number - 1][0] if number else 0
            end, checksum = self._groups[number]
            file.seek(start)
            if zlib.crc32(file.read(end - start)) != checksum:
                raise ValueError(f"row group {number} does not match its checksum")
            with pq.ParquetFile(file, metadata=self._footer) as parquet:
                return ColdGroup(parquet.read_row_group(number, use_threads=False), self._layout)


def _footer_sum(path: Path) -> bytes:
    """Of the footer and of what says how long it is."""
    with path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(max(0, size - _TAIL_BYTES))
        n_bytes = int.from_bytes(file.read()[:4], "little") + _TAIL_BYTES
        file.seek(max(0, size - n_bytes))
        return _sum_of(file.read())


def _sum_of(footer: bytes | bytearray) -> bytes:
    return blake2b(footer, digest_size=SUM_BYTES).digest()


class ColdWriter:
    """A file on its way; it gets its name once it is whole and on the disk."""

    def __init__(self, path: Path, layout: Layout, like: Path) -> None:
        """`like`: a file of the store, whose owner and mode this one gets: who compacts may be somebody else."""
        self._path, self._layout, self._like = path, layout, like.stat()
        self._new = path.with_name(f".{path.name}.new")
        self._page: list[Located] = []
        self._n_bytes = 0
        self._groups: list[tuple[int, int]] = []
        self._make_folders(like.parent.stat())
        schema = schema_of(layout)
        self._sink = _Summed(self._new)
        self._parquet = pq.ParquetWriter(
            self._sink,
            schema,
            compression="zstd",
            # no dictionary of floats: it would merge 0.0 with -0.0, and every NaN with every other
            use_dictionary=[field.name for field in schema if not holds_floats(field.type)],
            write_statistics=["predicted_at", "seq"],
        )

    def add(self, chunk: Located, n_bytes: int) -> None:
        """One more, of so many bytes."""
        self._page.append(chunk)
        self._n_bytes += n_bytes
        if self._n_bytes >= GROUP_BYTES:
            self._write_group()

    def finish(self) -> bytes:
        """Give the file its name; returns the checksum of its footer, as it was written."""
        self._write_group()
        self._parquet.add_key_value_metadata({_GROUPS: msgspec.json.encode(self._groups)})
        self._parquet.close()
        self._sink.close()
        _give(self._new, self._like)
        self._new.replace(self._path)
        for folder in self._path.parents[:_DEPTH]:  # each may be new
            opened = os.open(folder, os.O_RDONLY)
            os.fsync(opened)
            os.close(opened)
        return _sum_of(self._sink.footer)

    def give_up(self) -> None:
        """Leave nothing of it."""
        self._new.unlink(missing_ok=True)  # first, as closing may be refused, too
        with suppress(OSError, pa.ArrowException):
            self._parquet.close()
        with suppress(OSError):
            self._sink.close()

    def _write_group(self) -> None:
        if self._page:
            table = table_of(self._page, self._layout)
            self._parquet.write_table(table, row_group_size=table.num_rows)
            self._groups.append((self._sink.tell(), self._sink.end_group()))
        self._page, self._n_bytes = [], 0

    def _make_folders(self, like: os.stat_result) -> None:
        for folder in reversed(self._path.parents[: _DEPTH - 1]):
            if not folder.exists():
                folder.mkdir()
                _give(folder, like)


_DEPTH = 4
"""The folders of a file: of the day, of the model, `cold`, and the store."""


def _give(path: Path, like: os.stat_result) -> None:
    """Have a file be read by whoever reads another, where that can be done."""
    if os.geteuid() == 0:
        os.chown(path, like.st_uid, like.st_gid)
    path.chmod(stat.S_IMODE(like.st_mode))


class _Summed(io.RawIOBase):
    """A new file, with a checksum of each group that was written, and all that came after the last one."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=0)
        self._sum = 0
        self.footer = bytearray()
        """What Parquet has written last: the footer, and what says how long it is."""

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def write(self, data: Any) -> int:
        left = memoryview(data).cast("B")
        self._sum = zlib.crc32(left, self._sum)
        self.footer += left
        n_bytes = len(left)
        while left:  # a full disk takes a part, and refuses the next
            left = left[self._file.write(left) :]
        return n_bytes

    def close(self) -> None:
        if not self.closed and not self._file.closed:
            os.fsync(self._file.fileno())
            self._file.close()
        super().close()

    def end_group(self) -> int:
        """The checksum of what was written since the last one ended."""
        ended, self._sum = self._sum, 0
        self.footer.clear()
        return ended
