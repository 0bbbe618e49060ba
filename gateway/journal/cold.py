"""Where the body of a chunk is: in its row, or, once it is cold, in a Parquet file of its day.

    <store>/cold/<model>/day=2026-01-31/<writer>.<first seq>.<layout>.parquet      a file of predictions, and a layout

A cold chunk keeps its row with its head, and its association ids stay in the index; its body is a stub: the layout and
the checksum of the file that holds it now, and the checksum that it had itself. Whoever reads the chunk gets it rebuilt
and encoded again, and it must come to that: what is believed are the bytes that were once committed.

Nothing here needs pyarrow until a cold chunk is read.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.chunk import Chunk, decode, encode
from gateway.errors import JournalDamaged

if TYPE_CHECKING:
    from gateway.journal.cold_file import ColdFile
    from gateway.journal.cold_group import ColdGroup

STUB = b"cold"
"""No chunk begins so: its first byte is that of an array."""
LAYOUT_BYTES = 8
"""Of the digest of a layout, which suffice to tell the files of a day apart."""
KEPT_BYTES = 67_108_864
"""Of row groups, and of footers, that are kept in memory, as the next chunk is mostly in one of them."""
DAY_US = 86_400_000_000
_FIRST_DAY = date(1970, 1, 1)
CHECKSUM_BYTES = 4
"""At the end of a chunk (`encode`)."""
_SUMS = len(STUB) + LAYOUT_BYTES
"""Where the checksums of a stub begin."""


def is_stub(body: bytes | None) -> bool:
    """Whether the body is in a cold file."""
    return isinstance(body, bytes) and body.startswith(STUB)


def stub_of(layout: bytes, footer_sum: bytes, body: bytes) -> bytes:
    """What stays of a body in its row, now that it is in a cold file with that footer."""
    return STUB + layout[:LAYOUT_BYTES] + footer_sum + body[-CHECKSUM_BYTES:]


def cold_folder(store: Path) -> Path:
    """Where the cold files are."""
    return store / "cold"


def discard_unfinished(store: Path) -> None:
    """Remove what a compaction left that was killed; not beside one."""
    for left in cold_folder(store).rglob("*.new"):
        left.unlink()


@lru_cache(1_024)
def cold_path(store: Path, model: str, day: int, file: str, layout: bytes) -> Path:
    """The file for chunks of a model, stamped on that day since 1970, from that file of predictions.

    Raises:
        JournalDamaged: there is no such day.
    """
    try:
        of_day = f"day={(_FIRST_DAY + timedelta(day)).isoformat()}"
    except OverflowError:
        raise JournalDamaged(f"a chunk of no day that there is (the {day:,}th since 1970)") from None
    return cold_folder(store) / model / of_day / f"{Path(file).stem}.{layout[:LAYOUT_BYTES].hex()}.parquet"


class Bodies:
    """Makes chunks of what is in their rows, wherever the rest of them is. One thread each."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._files: OrderedDict[Path, ColdFile] = OrderedDict()
        self._groups: OrderedDict[tuple[Path, int], ColdGroup] = OrderedDict()

    def chunk(self, file: str, seq: int, model: str, at_us: int, body: bytes | None) -> Chunk:
        """The chunk in this row of that file of predictions.

        Raises:
            JournalDamaged: it is not what was written.
            JournalUnavailable: its cold file cannot be read now.
        """
        if body is None or not is_stub(body):
            return decode(body)
        if not isinstance(model, str) or not isinstance(at_us, int):  # of a page that does not match its checksum
            raise JournalDamaged(f"chunk {seq} is cold, and where cannot be read")
        path = cold_path(self._store, model, at_us // DAY_US, file, body[len(STUB) : _SUMS])
        footer_sum, checksum = body[_SUMS:-CHECKSUM_BYTES], body[-CHECKSUM_BYTES:]
        chunk = self._group(path, self._file(path, footer_sum), seq).chunk(seq, model)
        if chunk is None or encode(chunk)[-CHECKSUM_BYTES:] != checksum:
            raise JournalDamaged(f"what {path.relative_to(self._store)} has of chunk {seq} does not match its checksum")
        return chunk

    def _group(self, path: Path, file: ColdFile, seq: int) -> ColdGroup:
        key = path, file.group_of(seq)
        if key not in self._groups:
            self._groups[key] = file.group(key[1])
            _let_go(self._groups)
        self._groups.move_to_end(key)
        return self._groups[key]

    def _file(self, path: Path, footer_sum: bytes) -> ColdFile:
        if path not in self._files:
            from gateway.journal.cold_file import ColdFile  # 50 MB that only a cold chunk needs

            self._files[path] = ColdFile(path, footer_sum)
            _let_go(self._files)
        self._files.move_to_end(path)
        if footer_sum != self._files[path].footer_sum:
            raise JournalDamaged(f"{path.relative_to(self._store)} is not the file of this chunk any more")
        return self._files[path]


def _let_go(kept: OrderedDict[Any, Any]) -> None:
    """Of what has not been used for longest, until the rest is small enough."""
    while len(kept) > 1 and sum(each.n_bytes for each in kept.values()) > KEPT_BYTES:
        kept.popitem(last=False)
