"""What is appended is read again: in order, without gaps, from whichever file it is in."""

from __future__ import annotations

import os

import apsw
import msgspec
import pytest

from gateway.chunk import Layout
from gateway.errors import JournalUnavailable, NotFound
from gateway.journal import Draft, PredictionWriter
from gateway.records import Address, association_hash
from registry.types import OutputTensor
from tests.journals import LAYOUT, Journal, draft, seqs, until

OTHER_LAYOUT = Layout(LAYOUT.schema, (OutputTensor("y", "float32"), OutputTensor("z", "float32")))


def test_each_append_is_numbered_from_one_without_a_gap(journal: Journal) -> None:
    writer, reader = journal.writer(), journal.reader()
    assert writer.append([draft()]) == range(1, 2)
    assert writer.append([draft(), draft(2), draft()]) == range(2, 5)
    assert writer.append([]) == range(5, 5)
    assert writer.append([draft()]) == range(5, 6)
    assert seqs(reader, writer.writer) == [1, 2, 3, 4, 5]
    assert [state.last_seq for state in reader.writers()] == [5]


def test_a_chunk_can_be_read_by_anybody_as_soon_as_its_append_has_returned(journal: Journal) -> None:
    writer, reader = journal.writer(), journal.reader()
    for seq in range(1, 20):
        made = draft(seq, at_us=seq, bucket=seq // 3)
        writer.append([made])
        assert reader.chunk(writer.writer, seq) == made.chunk
        (head,) = reader.heads(writer.writer, seq - 1, 10)
        assert (head.seq, head.n_rows, head.at_us, head.bucket, head.model) == (seq, seq, seq, seq // 3, "loans")
        assert reader.writers()[0].last_seq == seq


def test_every_writer_counts_for_itself(journal: Journal) -> None:
    first, second, reader = journal.writer(), journal.writer(), journal.reader()
    assert second.writer > first.writer
    for n in (1, 2, 3):
        assert first.append([draft(at_us=n)]) == range(n, n + 1)
        assert second.append([draft(at_us=10 * n), draft(at_us=10 * n)]) == range(2 * n - 1, 2 * n + 1)
    assert {state.writer: state.last_seq for state in reader.writers()} == {first.writer: 3, second.writer: 6}
    assert reader.chunk(first.writer, 1).at_us == 1
    assert reader.chunk(second.writer, 1).at_us == 10


def test_heads_are_read_from_a_seq_up_to_a_limit(journal: Journal) -> None:
    writer, reader = journal.writer(), journal.reader()
    writer.append([draft(at_us=seq, model="cars" if seq % 3 == 0 else "loans") for seq in range(1, 13)])
    found = reader.heads(writer.writer, 2, 4)
    assert [(head.seq, head.at_us, head.model) for head in found] == [
        (3, 3, "cars"), (4, 4, "loans"), (5, 5, "loans"), (6, 6, "cars"),
    ]  # fmt: skip
    assert [head.seq for head in reader.heads(writer.writer, 10, 1)] == [11]
    assert reader.heads(writer.writer, 12, 10) == reader.heads(99, 0, 10) == []


def test_what_is_not_there_is_not_found(journal: Journal) -> None:
    writer, reader = journal.writer(), journal.reader()
    for key in ((1, 1), (writer.writer, 1), (0, 0), (2**40 - 1, 2**48 - 1)):
        with pytest.raises(NotFound):
            reader.chunk(*key)
    writer.append([draft()])
    with pytest.raises(NotFound):
        reader.chunk(writer.writer, 2)
    with pytest.raises(NotFound):
        reader.layout(writer.writer, bytes(16))


def test_a_chunk_is_read_with_the_layout_that_it_names(journal: Journal) -> None:
    writer, reader = journal.writer(), journal.reader()
    renamed = msgspec.structs.replace(draft().chunk, layout=OTHER_LAYOUT.digest)
    writer.append([draft(), Draft(renamed, OTHER_LAYOUT), draft()])
    writer.append([Draft(renamed, OTHER_LAYOUT)])
    layouts = [reader.layout(writer.writer, reader.chunk(writer.writer, seq).layout) for seq in (1, 2, 3, 4)]
    assert layouts == [LAYOUT, OTHER_LAYOUT, LAYOUT, OTHER_LAYOUT]


def test_a_chunk_that_cannot_be_encoded_leaves_nothing_behind(journal: Journal) -> None:
    writer, reader = journal.writer(), journal.reader()
    writer.append([draft()])
    impossible = msgspec.structs.replace(draft(associations=["a"]).chunk, bucket=2**70)
    for drafts in ([Draft(impossible, LAYOUT)], [draft(), Draft(impossible, LAYOUT)]):
        with pytest.raises(JournalUnavailable, match="cannot be encoded"):
            writer.append(drafts)
    assert writer.append([draft(associations=["a"])]) == range(2, 3)
    assert seqs(reader, writer.writer) == [1, 2]


@pytest.fixture
def rotated(journal: Journal) -> PredictionWriter:
    """A writer that has begun a new file several times, with chunks 1 to 12 stamped with their seq."""
    writer = journal.writer(max_file_bytes=4_096, checkpoint_s=0.001)
    for seq in range(1, 13):
        writer.append([draft(associations=[f"loan-{seq}"], at_us=seq, city="x" * 3_000)])
        if seq % 4 == 0:
            begin_a_file(journal, writer, seq)
    return writer


def begin_a_file(journal: Journal, writer: PredictionWriter, at_us: int) -> None:
    """Have heartbeats written until the checkpointer has seen that the file is large."""
    n_files = len(files(journal))

    def has_begun() -> bool:
        writer.heartbeat(at_us)
        return len(files(journal)) > n_files

    until(has_begun, "a new file")


def files(journal: Journal) -> list[str]:
    return sorted((path.name for path in journal.predictions.glob("*.db")), key=lambda name: int(name.split(".")[1]))


def test_a_large_file_is_followed_by_another_and_readers_see_one_sequence(
    journal: Journal, rotated: PredictionWriter
) -> None:
    number = rotated.writer
    assert files(journal)[0] == f"{number}.1.db"
    assert len(files(journal)) >= 4
    reader = journal.reader()
    assert seqs(reader, number) == list(range(1, 13))
    for after in range(13):
        assert [head.seq for head in reader.heads(number, after, 5)] == list(range(after + 1, min(after + 5, 12) + 1))
    for seq in range(1, 13):
        assert reader.chunk(number, seq).at_us == seq
        assert reader.associated("loans", f"loan-{seq}") == [(Address(number, seq, 0), seq)]
        assert reader.layout(number, LAYOUT.digest) == LAYOUT
    with pytest.raises(NotFound):
        reader.chunk(number, 13)


def test_a_writer_whose_newest_file_has_no_chunk_yet_is_known_by_those_before(
    journal: Journal, rotated: PredictionWriter
) -> None:
    reader = journal.reader()
    assert reader.heads(rotated.writer, 11, 1)
    newest = journal.predictions / files(journal)[-1]
    assert newest.name == f"{rotated.writer}.13.db"
    (state,) = reader.writers()
    assert (state.last_seq, state.watermark_us, state.alive) == (12, 12, True)
    assert rotated.append([draft(at_us=13)]) == range(13, 14)
    (state,) = reader.writers()
    assert (state.last_seq, state.watermark_us) == (13, 13)


def test_a_reader_that_was_there_before_follows_a_writer_into_its_next_file(journal: Journal) -> None:
    writer, reader = journal.writer(max_file_bytes=4_096, checkpoint_s=0.001), journal.reader()
    cursor = 0
    for seq in range(1, 16):
        writer.append([draft(at_us=seq, city="x" * 2_000)])
        for head in reader.heads(writer.writer, cursor, 100):
            assert head.seq == cursor + 1
            cursor = head.seq
        assert cursor == seq
        if seq % 5 == 0:
            begin_a_file(journal, writer, seq)
    assert len(files(journal)) >= 4


def test_a_file_made_within_one_tick_of_the_folders_time_is_found(journal: Journal) -> None:
    first, second, reader = journal.writer(), journal.writer(), journal.reader()
    first.append([draft()])
    assert seqs(reader, first.writer) == [1]
    listed = journal.predictions.stat()
    second.append([draft()])
    os.utime(journal.predictions, ns=(listed.st_atime_ns, listed.st_mtime_ns))  # as a coarse clock would have it
    assert seqs(reader, second.writer) == [1]


def test_association_ids_are_found_for_the_model_oldest_prediction_first(journal: Journal) -> None:
    first, second, reader = journal.writer(), journal.writer(), journal.reader()
    first.append([draft(3, associations=["a", None, "b"], at_us=50)])
    second.append([draft(2, associations=["b", "a"], predicted_at_us=[10, 90], at_us=90)])
    second.append([draft(2, associations=["a", "a"], at_us=60, starts=(0, 1)), draft(model="cars", associations=["a"])])
    one, two = first.writer, second.writer
    assert reader.associated("loans", "a") == [
        (Address(one, 1, 0), 50), (Address(two, 2, 0), 60), (Address(two, 2, 1), 60), (Address(two, 1, 1), 90),
    ]  # fmt: skip
    assert reader.associated("loans", "b") == [(Address(two, 1, 0), 10), (Address(one, 1, 2), 50)]
    assert reader.associated("cars", "a") == [(Address(two, 3, 0), 0)]
    assert reader.associated("cars", "b") == reader.associated("loans", "") == []


@pytest.mark.parametrize("name", ["", "\0", "a\0b", "süß", "'; DROP TABLE chunk; --", "x" * 500])
def test_any_text_can_be_an_association_id(journal: Journal, name: str) -> None:
    writer, reader = journal.writer(), journal.reader()
    writer.append([draft(associations=[name])])
    assert reader.associated("loans", name) == [(Address(writer.writer, 1, 0), 0)]
    assert not reader.associated("loans", name + "a")


def test_two_association_ids_of_one_hash_are_told_apart_by_their_value(journal: Journal) -> None:
    writer, reader = journal.writer(), journal.reader()
    writer.append([draft(2, associations=["mine", "yours"])])
    db = apsw.Connection(str(journal.predictions / files(journal)[0]))  # make the index say that both have one hash
    db.execute("INSERT INTO association VALUES ('loans', ?, 1, 1)", (association_hash("mine"),))
    db.execute("INSERT INTO association VALUES ('loans', ?, 1, 0)", (association_hash("yours"),))
    db.close()
    assert reader.associated("loans", "mine") == [(Address(writer.writer, 1, 0), 0)]
    assert reader.associated("loans", "yours") == [(Address(writer.writer, 1, 1), 0)]
