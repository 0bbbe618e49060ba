"""A byte that is not what was written, anywhere in the journal: found, said, and never believed."""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import apsw
import pyarrow.parquet as pq
import pytest

from gateway.chunk import encode
from gateway.errors import JournalDamaged, JournalUnavailable, NotFound
from gateway.journal import writer as writing
from gateway.journal.compaction import compact
from gateway.journal.ledger import SCHEMA as LEDGER_SCHEMA
from gateway.journal.sqlite import checkpoint
from gateway.journal.survey import survey
from gateway.records import Address
from tests.faults import Faults
from tests.journals import LAYOUT, draft, journal_in, mirrored, record

COLD = f"cold/loans/day=1970-01-01/1.1.{LAYOUT.digest[:8].hex()}.parquet"
LATER_US = 2**60
FILES = {
    "predictions/1.1.db": "closed",
    "predictions/1.1.db-wal": "store",
    "journal.db": "closed",
    "journal.db-wal": "store",
    COLD: "compacted",
}
"""In which of the stores of `lived_in` each is whole."""


def lived_in(store: Path) -> None:
    """A store as a killed process leaves it, the last of each file in its log; beside it a closed, a compacted one."""
    with journal_in(store.with_name("closed")) as journal:
        writer, ledger = journal.writer(checkpoint_s=3_600), journal.ledger()
        for n in range(1, 46):
            writer.append([draft(2, at_us=n, associations=[f"a{n}", None], city="x" * 300)])
            ledger.append_outcomes(1, n, [record(n, n, to=Address(1, n, 0)), record(n, n, to=f"a{n}")])
            ledger.store_shadow("loans", 2, [mirrored(1, n, ["scored", "lag"])], LAYOUT, before(n), {1: n})
            if n == 42:
                for path in (journal.predictions / "1.1.db", ledger.path):
                    checkpoint(path, max_wal_bytes=0)
        shutil.copytree(journal.store, store, ignore=shutil.ignore_patterns("*-shm"))
    shutil.copytree(store.with_name("closed"), store.with_name("compacted"))
    assert compact(store.with_name("compacted"), LATER_US, least_bytes=0).n_chunks == 45
    assert everything(store.with_name("compacted")) == everything(store.with_name("closed"))


def before(n: int) -> dict[int, int]:
    return {1: n - 1} if n > 1 else {}


def everything(store: Path) -> list[Any]:
    """What readers are told of a store, in the order in which it was written."""
    told: list[Any] = []
    with journal_in(store) as journal:
        reader, ledger = journal.reader(), journal.ledger()
        for n in range(1, 46):
            told += [reader.heads(1, n - 1, 1), reader.chunk(1, n), reader.associated("loans", f"a{n}")]
            told += [ledger.outcomes_of_chunk(1, n), ledger.outcomes_of_association("loans", f"a{n}")]
            told.append(ledger.shadow_chunk(1, n, 2))
        told += [ledger.cursor("loans", 2), ledger.mirror_count("loans", 2, range(1, 9)), reader.writers()[0].last_seq]
    return told


@contextmanager
def flipped(store: Path, name: str, chance: random.Random) -> Iterator[int]:
    """One bit is another until the end of the block; readers leave nothing behind. Yields the offset."""
    whole = {path: path.read_bytes() for path in store.rglob("*") if path.is_file() and not path.name.endswith("-shm")}
    content = bytearray(whole[store / name])
    offset = chance.randrange(len(content))
    content[offset] ^= 1 << chance.randrange(8)
    (store / name).write_bytes(content)
    try:
        yield offset
    finally:
        for path in store.rglob("*-shm"):
            path.unlink()
        for path, content_before in whole.items():
            path.write_bytes(content_before)


def fate(store: Path, name: str, chance: random.Random, told: list[Any]) -> str:
    """What becomes of one flipped bit: it is `found`, `harmless`, or a whole `prefix` is left; or it is `SILENT`."""
    with flipped(store, name, chance):
        now: list[Any] | None = None
        try:
            now = everything(store)
        except (JournalDamaged, JournalUnavailable):
            return "found" if survey(store).faults else "not told"
        except NotFound:  # a chunk that stood in the log, after the damage
            pass
        found = survey(store)
        if found.faults:
            return "found"
        if now == told:
            return "harmless"  # nobody reads that byte, as a newer page is in the log
        whole = found.n_chunks >= 40 and found.n_outcomes >= 80
        return "prefix" if whole and name.endswith("-wal") else "SILENT"


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("lived") / "store"
    lived_in(store)
    return store


def fates(lived: Path, name: str, n: int) -> Counter[str]:
    chance = random.Random(name)
    store = lived.with_name(FILES[name])
    told = everything(lived.with_name("closed"))
    return Counter(fate(store, name, chance, told) for _ in range(n))


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_found_or_a_whole_prefix_is_left(lived: Path, name: str) -> None:
    counted = fates(lived, name, 12)
    assert not counted.keys() & {"SILENT", "not told"}, counted
    assert counted["found"] + counted["prefix"] > 0, counted


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_a_bit_flipped_anywhere_is_found_or_a_whole_prefix_is_left(
    lived: Path, name: str, chaos_times: int, kept: Faults
) -> None:
    n = 20 * chaos_times
    counted = fates(lived, name, n)
    assert not counted.keys() & {"SILENT", "not told"}, counted
    shown = {"found": "found and told", "prefix": "a whole prefix left", "harmless": "harmless, as nobody reads it"}
    kept.record(
        f"a flipped bit in {in_table(name)}",
        n,
        "; ".join(f"{counted[fate]:,} {said}" for fate, said in shown.items() if counted[fate]) + "; 0 believed",
        "the next line" if name == COLD else "without page checksums an outcome that was never written was believed",
    )


@pytest.mark.slow
def test_the_control_parquet_by_itself_believes_or_dies(lived: Path, chaos_times: int, kept: Faults) -> None:
    """Its page checksums cover neither headers nor footer: what was never written is read, or the process ends."""
    file = lived.with_name("compacted") / COLD
    plain = lived.with_name("plain.parquet")
    pq.write_table(pq.read_table(file), plain, write_page_checksum=True)
    whole, chance, counted = plain.read_bytes(), random.Random(1), Counter[str]()
    n = 20 * chaos_times
    for _ in range(n):
        content = bytearray(whole)
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        plain.write_bytes(content)
        counted[what_parquet_makes_of(plain, file)] += 1
    assert counted["believed"] + counted["died"] > 0, counted
    kept.record(
        f"a flipped bit in {in_table(COLD)}, read as any Parquet",
        n,
        f"{counted['refused']:,} refused; {counted['believed']:,} believed; {counted['died']:,} ended the process; "
        f"{counted['harmless']:,} harmless",
        "is this line: checksums of pages cover neither their heads nor the footer",
    )


def what_parquet_makes_of(damaged: Path, file: Path) -> str:
    """In a process of its own, as it may be the last thing that it does."""
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        try:
            read = pq.ParquetFile(damaged, page_checksum_verification=True).read(use_threads=False)
            os._exit(0 if read.equals(pq.read_table(file, use_threads=False)) else 1)
        except BaseException:  # noqa: BLE001  # whatever it is, it is told by the exit code
            os._exit(2)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return {0: "harmless", 1: "believed", 2: "refused"}.get(code, "died")


def in_table(name: str) -> str:
    """As the table of faults has it."""
    return "cold/…/*.parquet" if name == COLD else name.replace("1.1", "*")


def test_the_control_without_checksums_answers_what_was_never_written(tmp_path: Path) -> None:
    """An outcome of a store as it was made before: the reader believes the byte, and only the survey finds it."""
    old_store(tmp_path)
    flip(tmp_path / "journal.db", b'"seventeen"', b'"seventy"  ')
    with journal_in(tmp_path) as journal:
        (believed,) = journal.ledger().outcomes_of_chunk(1, 1)
        assert believed.outcome == "seventy"
        assert survey(tmp_path).faults == ["journal.db: outcome 1 does not match its digest"]


def old_store(store: Path) -> None:
    """Files without page checksums, as they were made before there were any."""
    (store / "predictions").mkdir()
    for name, schema in (("journal.db", LEDGER_SCHEMA), ("predictions/1.1.db", writing.SCHEMA)):
        with closing(apsw.Connection(str(store / name))) as db:
            db.pragma("journal_mode", "wal")
            db.execute(f"BEGIN IMMEDIATE; {schema} PRAGMA user_version = 1; COMMIT")
    with journal_in(store) as journal:
        writer, ledger = journal.writer(), journal.ledger()
        writer.append([draft(associations=["a"]), draft(at_us=2, city="x" * 50)])
        ledger.append_outcomes(1, 1, [record("seventeen", to=Address(1, 1, 0))])
        ledger.store_shadow("loans", 2, [mirrored(1, 1, ["scored"])], LAYOUT, {}, {1: 1})


def flip(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))


def test_a_store_from_before_pages_had_checksums_is_read_written_and_surveyed(tmp_path: Path) -> None:
    old_store(tmp_path)
    found = survey(tmp_path)
    assert (found.faults, found.n_chunks, found.n_outcomes) == ([], 2, 1)
    assert found.unprotected == ["1.1.db", "journal.db"]
    with journal_in(tmp_path) as journal:
        assert [head.at_us for head in journal.reader().heads(1, 0, 9)] == [0, 2]
        writer = journal.writer()
        assert writer.append([draft()]) == range(1, 2)
    assert survey(tmp_path).unprotected == ["1.1.db", "journal.db"]  # the new writer's file has them


def test_the_survey_finds_each_kind_of_row_that_is_not_what_was_written(tmp_path: Path) -> None:
    old_store(tmp_path)
    with apsw.Connection(str(tmp_path / "predictions/1.1.db")) as db:
        db.execute("UPDATE chunk SET generation = 9 WHERE seq = 1; DELETE FROM association")
        db.execute("UPDATE layout SET document = CAST(replace(document, 'city', 'town') AS BLOB)")
    with apsw.Connection(str(tmp_path / "journal.db")) as db:
        db.execute("UPDATE cursor SET seq = 40; UPDATE outcome SET source = 'me'")
        db.execute("UPDATE shadow_chunk SET body = substr(body, 1, 30)")
    faults = "\n".join(survey(tmp_path).faults)
    for said in (
        "1.1.db: chunk 1: its head does not say what the chunk says",
        "1.1.db: row 0 of chunk 1: its association id is not as the index has it",
        "does not match its digest",
        "journal.db: outcome 1 does not match its digest",
        "journal.db: version 2 on chunk 1 of writer 1: a chunk of",
        "version 2 of 'loans' has come to chunk 40 of writer 1, of which nothing is left after chunk 2",
    ):
        assert said in faults, faults
    assert len(faults.splitlines()) == 6


def test_a_chunk_in_the_middle_that_is_gone_and_a_file_that_is_cut_are_told(tmp_path: Path) -> None:
    with journal_in(tmp_path / "one") as journal:
        writer = journal.writer()
        writer.append([draft(at_us=n) for n in range(9)])
        journal.close()
        with apsw.Connection(str(journal.predictions / "1.1.db")) as db:
            db.execute("DELETE FROM chunk WHERE seq = 4")
        with pytest.raises(JournalDamaged, match="of the chunks 1 to 9 some are missing"):
            journal.reader().heads(1, 0, 100)
        assert any("chunk 4 is missing" in fault for fault in survey(journal.store).faults)
    with journal_in(tmp_path / "two") as journal:
        writer = journal.writer()
        writer.append([draft(at_us=n, city="x" * 3_000) for n in range(9)])
        journal.close()
        path = journal.predictions / "1.1.db"
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        assert survey(journal.store).faults
        with pytest.raises(JournalDamaged):
            journal.reader().heads(1, 0, 100)
        path.write_bytes(b"")  # as if it had never been made: cursors still tell
        journal.ledger().store_shadow("loans", 2, [], LAYOUT, {}, {1: 9})
        assert "nothing is left after chunk 0" in survey(journal.store).faults[0]


def test_of_a_damaged_page_only_the_damaged_chunk_is_lost(tmp_path: Path) -> None:
    with journal_in(tmp_path) as journal:
        writer = journal.writer()
        drafts = [draft(at_us=n, city="x" * 50) for n in (1, 2, 3)]
        writer.append(drafts)
        journal.close()
        path = journal.predictions / "1.1.db"
        content = bytearray(path.read_bytes())
        stored = encode(drafts[1].chunk)
        content[content.index(stored) + len(stored) // 2] ^= 1
        path.write_bytes(content)
        reader = journal.reader()
        assert [head.at_us for head in reader.heads(1, 0, 9)] == [1, 2, 3]
        assert [reader.chunk(1, seq).at_us for seq in (1, 3)] == [1, 3]
        with pytest.raises(JournalDamaged, match="checksum"):
            reader.chunk(1, 2)
        (state,) = reader.writers()
        assert (state.last_seq, state.watermark_us, state.is_unreadable) == (3, None, False)
        assert "checksum" in (state.problem or "")
