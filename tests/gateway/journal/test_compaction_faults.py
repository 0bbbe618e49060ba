"""Compaction that is killed, refused or damaged: nothing is lost, and nothing is believed that was not written."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from gateway.errors import JournalDamaged, JournalUnavailable
from gateway.journal import compaction
from gateway.journal.cold import is_stub
from gateway.journal.compaction import compact
from gateway.journal.sqlite import opened
from gateway.journal.survey import survey
from tests.cold import DAY_US, LATER_US, bodies, read
from tests.faults import Faults
from tests.journals import Journal, draft, journal_in
from tests.killing import killed_copies

# --- killed


def compact_all(store: Path) -> None:
    compact(store, LATER_US, least_bytes=0)


def killed_at_every(nth: int, folder: Path) -> int:
    """Compact a store again and again, killed at every n-th step; nothing may be lost. Returns how often it was."""
    template, stores = folder / "template", folder / "killed"
    with journal_in(template) as journal:
        for _ in range(2):
            with closing(journal.writer()) as writer:
                for n in range(6):
                    names = [f"a{n}", *[None] * 8]
                    writer.append([draft(9, at_us=n * DAY_US // 2, associations=names, city="x" * 500)])
    before = read(template)
    n_partly = 0
    left = killed_copies(compact_all, template, stores, nth)
    for store in left:
        assert read(store) == before
        with journal_in(store) as journal:
            stubs = [is_stub(body) for name in ("1.1.db", "2.1.db") for body in bodies(journal, name)]
            n_partly += any(stubs) and not all(stubs)
        made = compact(store, LATER_US, least_bytes=0)
        assert (made.n_left, sum(stubs) + made.n_chunks) == (0, 12)
        assert read(store) == before
        assert survey(store).faults == []
        assert not list(store.rglob("*.new"))
    assert n_partly > 0
    return len(left) - 1  # in the last it was not killed


def test_killed_at_some_step_nothing_is_lost_and_the_next_run_goes_on(tmp_path: Path) -> None:
    assert killed_at_every(11, tmp_path) > 9


@pytest.mark.slow
def test_killed_at_any_step_nothing_is_lost_and_the_next_run_goes_on(tmp_path: Path, kept: Faults) -> None:
    n = killed_at_every(1, tmp_path)
    kept.record(
        "kill -9 of a compaction, at each of its writes",
        n,
        f"{n:,} times everything was read as before, and the next run finished it",
        "a stub without its proof: a chunk that cannot be read any more",
    )


# --- refused, and damaged


FULL = """
import resource, signal, sys
from pathlib import Path
from gateway.errors import JournalUnavailable
from gateway.journal.compaction import compact

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:  # to SQLite a file that may not grow is an error of the disk, and not that it is full
    print(compact(Path(sys.argv[1]), 2**60, least_bytes=0).faults)
except JournalUnavailable as error:
    print(error)
"""


def test_a_file_that_cannot_be_reached_holds_up_no_other(journal: Journal) -> None:
    for n in range(3):
        with closing(journal.writer()) as writer:
            writer.append([draft(at_us=n)])
    unreachable, aside = journal.predictions / "2.1.db", journal.store / "aside"
    unreachable.rename(aside)
    unreachable.symlink_to(unreachable)  # no permission stops root: a loop of links stops everybody
    made = compact(journal.store, LATER_US, least_bytes=0)
    assert (made.n_files, made.n_chunks) == (2, 2)
    assert [fault.split(": ")[:2] for fault in made.faults] == [["journal_unavailable", "2.1.db"]]
    unreachable.unlink()
    aside.rename(unreachable)
    assert compact(journal.store, LATER_US, least_bytes=0).n_chunks == 1


def test_what_a_run_that_was_killed_has_left_is_not_believed(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows a checksum of it: Arrow, which a flipped bit can bring down, must not see it."""
    with closing(journal.writer()) as writer:
        for n in range(40):
            writer.append([draft(2, at_us=n)])
    before = read(journal.store)
    with monkeypatch.context() as patch:
        patch.setattr("gateway.journal.compaction._File._prove", lambda *_: _raise(OSError(errno.ENOSPC, "no room")))
        with pytest.raises(JournalUnavailable, match="no room"):
            compact(journal.store, LATER_US, least_bytes=0)
    (left,) = journal.store.rglob("*.parquet")
    left.write_bytes(bytes([each ^ 255 for each in left.read_bytes()]))
    assert read(journal.store) == before
    made = compact(journal.store, LATER_US, least_bytes=0)
    assert (made.n_chunks, made.faults) == (40, [])
    assert read(journal.store) == before
    assert list(journal.store.rglob("*.parquet")) == [left]


def test_where_some_stubs_were_left_the_file_that_they_name_goes_on(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(journal.writer()) as writer:
        for n in range(40):
            writer.append([draft(2, at_us=n)])
    before = read(journal.store)
    monkeypatch.setattr("gateway.journal.compaction.CHUNKS_AT_ONCE", 8)
    leave, n_times = compaction._File._leave, [0]

    def dies(self: Any, *given: Any) -> None:
        n_times[0] += 1
        if n_times[0] > 2:
            raise OSError(errno.ENOSPC, "no room")
        leave(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr("gateway.journal.compaction._File._leave", dies)
        with pytest.raises(JournalUnavailable, match="no room"):
            compact(journal.store, LATER_US, least_bytes=0)
    (file,) = journal.store.rglob("*.parquet")
    content = file.read_bytes()
    assert sum(map(is_stub, bodies(journal))) == 16
    assert read(journal.store) == before
    file.write_bytes(content[:200] + bytes([content[200] ^ 1]) + content[201:])
    made = compact(journal.store, LATER_US, least_bytes=0)
    assert (made.n_chunks, made.n_left) == (0, 24)
    assert "row group 0 does not match its checksum" in made.faults[0]
    file.write_bytes(content)
    made = compact(journal.store, LATER_US, least_bytes=0)
    assert (made.n_chunks, made.n_left, made.faults) == (24, 0, [])
    assert file.read_bytes() == content
    assert read(journal.store) == before


def _raise(error: Exception) -> None:
    raise error


@pytest.mark.parametrize("n_bytes", [100, 4_000, 30_000])
def test_a_full_disk_is_told_and_loses_nothing(journal: Journal, n_bytes: int) -> None:
    with closing(journal.writer()) as writer:
        for n in range(60):
            writer.append([draft(40, at_us=n, city=os.urandom(200).hex())])
    before = read(journal.store)
    ran = subprocess.run(
        [sys.executable, "-c", FULL, journal.store, str(n_bytes)],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert "journal_unavailable" in ran.stdout, ran.stdout + ran.stderr
    assert read(journal.store) == before
    assert not list(journal.store.rglob("*.parquet")) or n_bytes > 4_000
    assert compact(journal.store, LATER_US, least_bytes=0).n_left == 0
    assert read(journal.store) == before


@pytest.fixture
def compacted(journal: Journal) -> Path:
    """Two days of one writer, compacted; the Parquet file of the first."""
    with closing(journal.writer()) as writer:
        for n in range(40):
            writer.append([draft(2, at_us=n * DAY_US // 20, associations=[f"a{n}", None])])
    assert compact(journal.store, LATER_US, least_bytes=0).n_chunks == 40
    return next((journal.store / "cold" / "loans" / "day=1970-01-01").iterdir())


def test_a_file_that_is_gone_is_told_and_the_others_are_read(journal: Journal, compacted: Path) -> None:
    compacted.unlink()
    reader = journal.reader()
    with pytest.raises(JournalDamaged, match=rf"loans/day=1970-01-01/{compacted.name} is not there"):
        reader.chunk(1, 3)
    assert reader.chunk(1, 30) == draft(2, at_us=29 * DAY_US // 20, associations=["a29", None]).chunk
    assert [fault.partition(": ")[0] for fault in survey(journal.store).faults[:20]] == ["1.1.db"] * 20


def test_a_disk_that_refuses_is_not_taken_for_damage(journal: Journal, compacted: Path) -> None:
    content = compacted.read_bytes()
    compacted.unlink()
    compacted.symlink_to(compacted)  # no permission stops root: a loop of links stops everybody
    with pytest.raises(JournalUnavailable, match="Too many levels"):
        journal.reader().chunk(1, 3)
    compacted.unlink()
    compacted.write_bytes(content)
    assert journal.reader().chunk(1, 3).n_rows == 2


def test_a_cold_file_that_cannot_be_reached_hides_no_other_chunk_from_doctor(journal: Journal, compacted: Path) -> None:
    compacted.unlink()
    compacted.symlink_to(compacted)
    found = survey(journal.store)
    assert found.n_chunks == 20
    assert found.last_seqs == {1: 40}
    assert len(found.faults) == 20 + 20  # each chunk, and its association id that nobody can compare
    assert all("Too many levels" in fault for fault in found.faults[:20])


def test_a_name_that_no_file_can_have_is_damage(journal: Journal, compacted: Path) -> None:
    with closing(opened(journal.predictions / "1.1.db")) as db:
        db.execute("UPDATE chunk SET model = ? WHERE seq = 3", ("x" * 300,))
        db.execute("UPDATE chunk SET model = ? WHERE seq = 4", (f"loans/day=1970-01-01/{compacted.name}",))
    for seq in (3, 4):
        with pytest.raises(JournalDamaged):
            journal.reader().chunk(1, seq)


def test_few_row_groups_and_footers_are_kept(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(journal.writer()) as writer:
        for n in range(12):
            writer.append([draft(2, at_us=n * DAY_US, city="x" * 1_000)])
    compact(journal.store, LATER_US, least_bytes=0)
    monkeypatch.setattr("gateway.journal.cold.KEPT_BYTES", 200_000)
    reader = journal.reader()
    for seq in (*range(1, 13), *range(12, 0, -1)):
        assert reader.chunk(1, seq, anew=True).n_rows == 2
        for kept in (reader._bodies._files, reader._bodies._groups):
            assert sum(each.n_bytes for each in kept.values()) <= 200_000
    assert 1 < len(reader._bodies._files) < 12


def test_neither_another_footer_nor_other_rows_are_believed(journal: Journal, compacted: Path) -> None:
    content = compacted.read_bytes()
    shutil.copy(next((journal.store / "cold" / "loans" / "day=1970-01-02").iterdir()), compacted)
    with pytest.raises(JournalDamaged, match="its footer does not match its checksum"):
        journal.reader().chunk(1, 3)
    compacted.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    with pytest.raises(JournalDamaged, match="row group 0 does not match its checksum"):
        journal.reader().chunk(1, 3)
    compacted.write_bytes(content)
    reader = journal.reader()
    assert reader.chunk(1, 3).n_rows == 2
    with closing(opened(journal.predictions / "1.1.db")) as db:
        db.execute("UPDATE chunk SET body = CAST(substr(body, 1, 20) || x'00000000' AS BLOB) WHERE seq = 4")
        db.execute(
            "UPDATE chunk SET body = CAST(substr(body, 1, 12) || zeroblob(8) || x'00000000' AS BLOB) WHERE seq = 5"
        )
    with pytest.raises(JournalDamaged, match="of chunk 4 does not match its checksum"):
        reader.chunk(1, 4)
    with pytest.raises(JournalDamaged, match="is not the file of this chunk any more"):
        reader.chunk(1, 5)


def test_every_byte_of_a_file_has_a_checksum(journal: Journal) -> None:
    """The row groups follow one another to the footer, and each holds all of its columns."""
    with closing(journal.writer()) as writer:
        for n in range(40):
            writer.append([draft(2_000, at_us=n, city=os.urandom(60).hex())])
    compact(journal.store, LATER_US, least_bytes=0)
    (path,) = journal.store.rglob("*.parquet")
    footer = pq.read_metadata(path)
    ends = [end for end, _ in json.loads(footer.metadata[b"understudy.groups"])]
    assert footer.num_row_groups == len(ends) > 2
    for i, (start, end) in enumerate(pairwise([4, *ends])):
        columns = [footer.row_group(i).column(k) for k in range(footer.num_columns)]
        firsts = [column.dictionary_page_offset or column.data_page_offset for column in columns]
        assert min(firsts) == start
        assert max(first + column.total_compressed_size for first, column in zip(firsts, columns, strict=True)) == end
    assert ends[-1] == path.stat().st_size - footer.serialized_size - 8
