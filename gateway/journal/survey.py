"""Everything that the journal holds, read once and compared with itself: whether it is what was written.

Pages have checksums, chunks and shadow chunks have their own, outcomes and layouts are named by digests of what they
say. What no checksum shows is shown by comparing: seqs count without gaps, heads repeat what chunks say, each
association id of a chunk is in the index, no cursor is ahead of what is there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import apsw
from msgspec import Struct

from gateway.chunk import decode_shadow
from gateway.errors import JournalDamaged, JournalUnavailable
from gateway.journal.cold import Bodies
from gateway.journal.ledger import COLUMNS, identity_of, outcome_of
from gateway.journal.reader import HEAD, files_in
from gateway.journal.sqlite import has_checksums, load_layout, named, opened, rows, scalar, unchecked
from gateway.records import association_hash

Unreadable = (JournalDamaged, JournalUnavailable)


class Surveyed(Struct):
    """What was found."""

    n_chunks: int = 0
    n_predictions: int = 0
    n_outcomes: int = 0
    faults: list[str] = []
    """One sentence each, with the file and the row."""
    unprotected: list[str] = []
    """Files from before pages had checksums."""
    last_seqs: dict[int, int] = {}
    """Writer → the last chunk of which anything is left."""


def survey(store: Path) -> Surveyed:
    """Read everything; what is damaged is told and does not keep the rest from being read."""
    found = Surveyed()
    bodies = Bodies(store)
    for writer, files in files_in(store / "predictions").items():
        for first, path in files.items():
            _tried(found, _predictions(found, bodies, path, writer, first))
        for (_, path), (following, _) in pairwise(files.items()):
            if found.last_seqs.get(writer, 0):
                _tried(found, _continued(path, following))
    if (store / "journal.db").exists():
        _tried(found, _ledger(found, store / "journal.db"))
    return found


def _tried(found: Surveyed, faults: Iterator[str]) -> None:
    try:
        found.faults.extend(faults)
    except Unreadable as error:
        found.faults.append(str(error))


def _pages(found: Surveyed, path: Path) -> Iterator[str]:
    """What SQLite itself finds, in pages, trees and indexes; it reads every page."""
    with closing(_opened(path)) as db:
        try:
            if not has_checksums(db):
                found.unprotected.append(path.name)
        except apsw.Error as error:  # of the first page, which says so
            raise named(path, error) from error
        try:
            said = [row[0] for row in rows(db, "PRAGMA integrity_check(20)")]
        except Unreadable as error:
            said = [str(error).removeprefix(f"{path.name}: ")]
    yield from (f"{path.name}: {line}" for line in said if line != "ok")


def _opened(path: Path) -> apsw.Connection:
    try:
        return opened(path)
    except apsw.Error as error:
        raise named(path, error) from error


def _predictions(found: Surveyed, bodies: Bodies, path: Path, writer: int, first: int) -> Iterator[str]:
    """One file of predictions: every chunk, its head, its place, its layout and its association ids."""
    yield from _pages(found, path)
    with unchecked(path) as db:
        if scalar(db, "PRAGMA user_version") == 0:
            return  # its writer was killed before it had made it, or it lost its beginning: then cursors tell
        db.execute("BEGIN")  # its writer may be alive: rows and index are those of one moment
        indexed = Counter(rows(db, "SELECT model, hash, seq, row FROM association"))
        layouts: set[bytes] = set()
        seq = first - 1
        for seq, row in enumerate(_each(db, f"SELECT {HEAD}, body FROM chunk ORDER BY seq"), first):
            if row[0] != seq:
                yield f"{path.name}: chunk {seq} is missing: chunk {row[0]} stands in its place"
                return
            _, model, _, _, _, at_us, _, body = row
            try:
                chunk = bodies.chunk(path.name, seq, model, at_us, body)
            except Unreadable as error:  # a cold file that cannot be reached now hides no other chunk
                yield f"{path.name}: chunk {seq}: {error}"
                continue
            if row[1:-1] != (chunk.model, chunk.generation, chunk.purpose, chunk.bucket, chunk.at_us, chunk.n_rows):
                yield f"{path.name}: chunk {seq}: its head does not say what the chunk says"
            for number, name in enumerate(chunk.requests.associations or ()):
                if name is not None:
                    indexed[chunk.model, association_hash(name), seq, number] -= 1
            layouts.add(chunk.layout)
            found.n_chunks += 1
            found.n_predictions += chunk.n_rows
        found.last_seqs[writer] = seq
        for (_, _, chunk_seq, number), left in indexed.items():
            if left:
                yield f"{path.name}: row {number} of chunk {chunk_seq}: its association id is not as the index has it"
        yield from _layouts(db, layouts)


def _each(db: apsw.Connection, sql: str) -> Iterator[tuple[Any, ...]]:
    try:
        yield from db.execute(sql)
    except (apsw.Error, UnicodeDecodeError) as error:
        raise named(Path(db.filename), error) from error


def _layouts(db: apsw.Connection, digests: set[bytes]) -> Iterator[str]:
    for digest in sorted(digests):
        try:
            load_layout(db, digest)
        except JournalDamaged as error:
            yield str(error)


def _continued(path: Path, following: int) -> Iterator[str]:
    """Whether a file goes as far as the next one of its writer begins."""
    with unchecked(path) as db:
        last = scalar(db, "SELECT max(seq) FROM chunk")
    if last != following - 1:
        yield f"{path.name}: it ends with chunk {last}, and the next file begins with {following}"


def _ledger(found: Surveyed, path: Path) -> Iterator[str]:
    """`journal.db`: outcomes, shadow chunks, accounts, and how far cursors say that challengers have come."""
    yield from _pages(found, path)
    with unchecked(path) as db:
        for number, digest, *row in _each(db, f"SELECT id, digest, {COLUMNS} FROM outcome ORDER BY id"):
            found.n_outcomes += 1
            try:
                whole = identity_of(outcome_of(tuple(row))) == digest
            except JournalDamaged:
                whole = False
            if not whole:
                yield f"{path.name}: outcome {number} does not match its digest"
        layouts: set[bytes] = set()
        for writer, seq, version, body in _each(db, "SELECT * FROM shadow_chunk"):
            try:
                layouts.add(decode_shadow(body).layout)
            except JournalDamaged as error:
                yield f"{path.name}: version {version} on chunk {seq} of writer {writer}: {error}"
        if scalar(db, "SELECT 1 FROM sqlite_schema WHERE name = 'replayed_chunk'"):
            for model, replay, writer, seq, body in _each(db, "SELECT * FROM replayed_chunk"):
                try:
                    layouts.add(decode_shadow(body).layout)
                except JournalDamaged as error:
                    yield f"{path.name}: replay {replay} of '{model}' on chunk {seq} of writer {writer}: {error}"
        yield from _layouts(db, layouts)
        if scalar(db, "SELECT 1 FROM sqlite_schema WHERE name = 'erasing'"):
            for model, n in _each(db, "SELECT model, count(*) FROM erasing GROUP BY model"):
                yield f"{path.name}: {n} erasures of '{model}' were begun and not finished: erase again"
        for model, version, writer, seq in _each(db, "SELECT model, version, writer, seq FROM cursor"):
            if seq > found.last_seqs.get(writer, 0):
                yield (
                    f"{path.name}: version {version} of '{model}' has come to chunk {seq} of writer {writer}, of which "
                    f"nothing is left after chunk {found.last_seqs.get(writer, 0)}"
                )
