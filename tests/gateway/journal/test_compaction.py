"""Compaction: chunks that became Parquet are the bytes that they were, whoever reads them."""

from __future__ import annotations

import os
import shutil
import threading
from contextlib import closing
from typing import Any

import numpy as np
import pyarrow.dataset as ds
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.chunk import Chunk, Layout, encode, pack_columns, pack_outputs
from gateway.columns import NUMPY, Columns, fill_of
from gateway.errors import JournalDamaged
from gateway.journal import Draft, PredictionReader
from gateway.journal.cold import Bodies, is_stub
from gateway.journal.cold_file import ColdWriter
from gateway.journal.compaction import Compacted, compact
from gateway.journal.sets import Located
from gateway.journal.sqlite import CLEAN, opened
from gateway.journal.survey import survey
from registry.types import Dtype, Feature, InputSchema, OutputTensor
from tests.chunks import arrays, columns_of, layouts, requests_of
from tests.cold import DAY_US, LATER_US, bodies, everything, read
from tests.journals import Journal, draft, journal_in

ODD = Columns(1, {"float64": np.array([[7.0]]), "string": np.array([["x"]], object)}, {"float64": np.array([[True]])})
"""A value where nothing was sent: none that gateways put there."""


# --- a chunk is what it was


@st.composite
def regular(draw: st.DrawFn) -> Draft:
    """A chunk as writers make them: of the values that were not sent it holds what stands for them."""
    layout, n_rows = draw(layouts()), draw(st.integers(1, 9))
    columns = filled(draw(columns_of(layout, n_rows)), layout)
    outputs = {tensor.name: arrays(draw, tensor.dtype, n_rows, tensor.width or 1) for tensor in layout.outputs}
    chunk = Chunk(
        layout=layout.digest,
        model=draw(st.sampled_from(["loans", "a-1"])),
        version=draw(st.integers(1, 2**31 - 1)),
        generation=draw(st.integers(1, 2**31 - 1)),
        purpose=draw(st.sampled_from(["live", "test", "pinned"])),
        bucket=draw(st.integers(-(2**63), 2**63 - 1)),
        at_us=draw(st.integers(0, 3 * DAY_US)),
        n_rows=n_rows,
        runs=(0, *sorted(draw(st.sets(st.integers(1, 9)).map(lambda places: {p for p in places if p < n_rows})))),
        secret=draw(st.binary(min_size=16, max_size=16)),
        inputs=pack_columns(columns),
        outputs=pack_outputs(outputs, layout.outputs),
        requests=draw(requests_of(n_rows)),
    )
    return Draft(chunk, layout)


def filled(columns: Columns, layout: Layout) -> Columns:
    """As gateways have it: what was not sent becomes what stands for it; what nothing stands for is always sent."""
    features = {feature.name: feature for feature in layout.schema.features}
    for dtype, mask in columns.missing.items():
        for k, name in enumerate(layout.groups[dtype]):
            stands = fill_of(features[name])
            if stands is None:
                mask[:, k] = False
            else:
                columns.blocks[dtype][mask[:, k], k] = stands
    return columns


@settings(max_examples=80, deadline=None)
@given(drafts=st.lists(regular(), min_size=1, max_size=5))
def test_every_chunk_that_can_be_comes_back_byte_for_byte(
    drafts: list[Draft], tmp_path_factory: pytest.TempPathFactory
) -> None:
    drafts.sort(key=lambda each: each.chunk.at_us)
    store = tmp_path_factory.mktemp("cold") / "store"
    with journal_in(store) as journal:
        with closing(journal.writer()) as writer:
            writer.append(drafts)
        before = everything(journal.reader())
        made = compact(store, LATER_US, least_bytes=0)
        assert (made.n_chunks, made.n_left, made.faults) == (len(drafts), 0, [])
        assert all(map(is_stub, bodies(journal)))
        assert everything(journal.reader()) == before
        assert survey(store).faults == []
    shutil.rmtree(store)


def test_values_of_one_kind_that_are_equal_and_not_the_same_are_told_apart(journal: Journal) -> None:
    """0.0 and -0.0, and NaN of several bits: a dictionary of Parquet's would make one of them."""
    layout = Layout(InputSchema((Feature("x", "float64"),)), (OutputTensor("y", "float32", 2),))
    x = np.array([0, 1 << 63, 0x7FF8 << 48, 0x7FF8 << 48 | 5, 0x7FF0 << 48 | 1] * 40, "<u8").view("<f8").reshape(-1, 1)
    y = np.resize(np.array([0, 1 << 31, 0x7FC00000, 0x7FC00005], "<u4").view("<f4"), 400).reshape(-1, 2)
    chunk = replace(
        draft(200, layout=layout).chunk,
        inputs=pack_columns(Columns(200, {"float64": x}, {})),
        outputs=pack_outputs({"y": y}, layout.outputs),
    )
    with closing(journal.writer()) as writer:
        writer.append([Draft(chunk, layout)])
    assert compact(journal.store, LATER_US, least_bytes=0).n_chunks == 1
    assert encode(journal.reader().chunk(1, 1)) == encode(chunk)


@pytest.mark.parametrize(
    ("dtype", "default"),
    [("float32", 0.1), ("float32", 16_777_217), ("float64", 2**53 + 1), ("int64", -(2**62) - 1), ("bool", True),
     ("string", "none"), ("float32", None), ("string", None)],
)  # fmt: skip
def test_what_stands_for_a_missing_value_is_what_its_column_holds(journal: Journal, dtype: Dtype, default: Any) -> None:
    feature = Feature("x", dtype, required=False, default=default)
    layout = Layout(InputSchema((feature,)), (OutputTensor("y", "float32"),))
    x, missing = np.array([[fill_of(feature)]], NUMPY[dtype]), np.array([[True]])
    chunk = replace(draft(layout=layout).chunk, inputs=pack_columns(Columns(1, {dtype: x}, {dtype: missing})))
    with closing(journal.writer()) as writer:
        writer.append([Draft(chunk, layout)])
    made = compact(journal.store, LATER_US, least_bytes=0)
    assert (made.n_chunks, made.faults) == (1, [])
    assert journal.reader().chunk(1, 1) == chunk


def test_what_would_not_come_back_the_same_stays_where_it_is(journal: Journal) -> None:
    """An odd one; one that was erased; one that is damaged."""
    chunks = [
        replace(draft().chunk, inputs=pack_columns(ODD)),
        replace(draft().chunk, inputs=None, erased=True),
        draft(city="Oslo").chunk,
    ]
    with closing(journal.writer()) as writer:
        writer.append([Draft(chunk, draft().layout) for chunk in [*chunks, draft(city="Bern").chunk]])
    with closing(opened(journal.predictions / "1.1.db")) as db:
        db.execute("UPDATE chunk SET body = ? WHERE seq = 3", (encode(chunks[2]).replace(b"Oslo", b"Rome"),))
    before = bodies(journal)
    made = compact(journal.store, LATER_US, least_bytes=0)
    assert (made.n_chunks, made.n_left) == (1, 3)
    assert len(made.faults) == 1
    assert made.faults[0].startswith("1.1.db: chunk 1 stays there: what cold/loans/day=1970-01-01/1.1.")
    assert bodies(journal)[:3] == before[:3]
    assert journal.reader().chunk(1, 4) == draft(city="Bern").chunk
    again = compact(journal.store, LATER_US, least_bytes=0)
    assert (again.n_chunks, again.n_left) == (0, 3)


def test_a_checksum_that_is_right_by_chance_is_not_enough(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(journal.writer()) as writer:
        writer.append([draft(city="Oslo")])
    monkeypatch.setattr(Bodies, "chunk", lambda *_: draft(city="Rome").chunk)
    made = compact(journal.store, LATER_US, least_bytes=0)
    assert (made.n_chunks, made.n_left) == (0, 1)
    assert made.faults == ["1.1.db: chunk 1 stays there: it is not the same when it is read back"]


def test_the_control_without_a_proof_loses_what_parquet_does_not_have(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(journal.writer()) as writer:
        writer.append([Draft(replace(draft().chunk, inputs=pack_columns(ODD)), draft().layout)])
    with monkeypatch.context() as patch:
        patch.setattr(Bodies, "chunk", lambda *_: replace(draft().chunk, inputs=pack_columns(ODD)))
        assert compact(journal.store, LATER_US, least_bytes=0).n_chunks == 1
    with pytest.raises(JournalDamaged):
        journal.reader().chunk(1, 1)


# --- which files


def test_only_what_nobody_writes_to_and_is_old_is_compacted(journal: Journal) -> None:
    dead, day = journal.writer(), [0]
    dead.append([draft(at_us=5)])
    dead.close()
    alive = journal.writer(checkpoint_s=0.001)
    alive._today = lambda: day[0]
    alive.append([draft(at_us=6)])
    day[0] = 1
    while alive._path.name == "2.1.db":  # until its checkpointer has seen that the day is another
        alive.append([draft(at_us=7)])
    young = journal.writer()
    young.append([draft(at_us=LATER_US)])
    young.close()
    compact(journal.store, 6, least_bytes=0)
    assert [is_stub(body) for name in ("1.1.db", "2.1.db", "3.1.db") for body in bodies(journal, name)[:1]] == [
        True, False, False,
    ]  # fmt: skip
    made = compact(journal.store, LATER_US, least_bytes=0)
    assert made.n_files == 1
    assert all(map(is_stub, bodies(journal, "2.1.db")))
    assert not any(map(is_stub, bodies(journal, alive._path.name)))
    assert not any(map(is_stub, bodies(journal, "3.1.db")))
    assert compact(journal.store, LATER_US, least_bytes=0) == Compacted()


def test_a_file_that_was_never_made_and_a_store_without_any_are_nothing_to_do(journal: Journal) -> None:
    assert compact(journal.store, LATER_US, least_bytes=0) == Compacted()
    journal.predictions.mkdir(parents=True)
    (journal.predictions / "1.1.db").touch()
    assert compact(journal.store, LATER_US, least_bytes=0) == Compacted()


def test_the_files_are_one_a_model_and_day_as_tools_expect_them(journal: Journal) -> None:
    with closing(journal.writer()) as writer:
        for n in range(6):
            writer.append(
                [draft(2, model="loans" if n % 3 else "cards", at_us=n * DAY_US // 2, associations=[f"a{n}", None])]
            )
    compact(journal.store, LATER_US, least_bytes=0)
    names = sorted(path.relative_to(journal.store / "cold").parts[:2] for path in journal.store.rglob("*.parquet"))
    assert names == [
        ("cards", "day=1970-01-01"), ("cards", "day=1970-01-02"),
        ("loans", "day=1970-01-01"), ("loans", "day=1970-01-02"), ("loans", "day=1970-01-03"),
    ]  # fmt: skip
    table = ds.dataset(journal.store / "cold" / "loans", partitioning="hive").to_table().sort_by("seq")
    assert table["day"].to_pylist() == ["1970-01-01"] * 2 + ["1970-01-02"] * 2 + ["1970-01-03"] * 4
    assert table["inputs.x"].to_pylist() == [0.0, 1.0] * 4
    assert table["outputs.y"].to_pylist() == [0.0, 0.5] * 4
    assert table["association_id"].to_pylist() == ["a1", None, "a2", None, "a4", None, "a5", None]


def test_a_file_of_more_models_than_may_be_open_is_gone_through_again(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.journal.compaction.MODELS_AT_ONCE", 3)
    with closing(journal.writer()) as writer:
        writer.append([draft(2, model=f"m{n % 10}", at_us=n) for n in range(40)])
    before, n_open = read(journal.store), list[int]()
    add = ColdWriter.add

    def counted(self: ColdWriter, chunk: Located, n_bytes: int) -> None:
        n_open.append(len(list(journal.store.rglob("*.new"))))
        add(self, chunk, n_bytes)

    monkeypatch.setattr(ColdWriter, "add", counted)
    made = compact(journal.store, LATER_US, least_bytes=0)
    assert (made.n_files, made.n_chunks, made.n_predictions, max(n_open)) == (1, 40, 80, 3)
    assert made.n_bytes_after == sum(
        path.stat().st_size for path in journal.store.rglob("*") if path.name.startswith("1.1.")
    )
    assert read(journal.store) == before


def test_whoever_compacts_the_files_are_those_of_whoever_serves(journal: Journal) -> None:
    with closing(journal.writer()) as writer:
        writer.append([draft()])
    journal.predictions.chmod(0o750)
    (journal.predictions / "1.1.db").chmod(0o640)
    if os.geteuid() == 0:
        os.chown(journal.predictions / "1.1.db", 12, 34)
        os.chown(journal.predictions, 12, 34)
    umask = os.umask(0o077)
    try:
        assert compact(journal.store, LATER_US, least_bytes=0).n_chunks == 1
    finally:
        os.umask(umask)
    for path in (journal.store / "cold").rglob("*"):
        like = journal.predictions / "1.1.db" if path.is_file() else journal.predictions
        assert [getattr(path.stat(), fact) for fact in ("st_mode", "st_uid", "st_gid")] == [
            getattr(like.stat(), fact) for fact in ("st_mode", "st_uid", "st_gid")
        ]


def test_the_disk_has_room_again(journal: Journal) -> None:
    with closing(journal.writer()) as writer:
        for n in range(400):
            writer.append([draft(20, at_us=n, city="a long name of a city" * 5)])
    made = compact(journal.store, LATER_US, least_bytes=0)
    n_bytes = sum(path.stat().st_size for path in journal.store.rglob("*") if path.name.startswith("1.1."))
    assert made.n_bytes_after == n_bytes
    assert made.n_bytes_before > 5 * n_bytes
    with closing(opened(journal.predictions / "1.1.db")) as db:
        assert db.pragma("freelist_count") == 0
        assert db.pragma("application_id") == CLEAN


# --- while others read


def test_whoever_reads_meanwhile_is_told_the_same(journal: Journal) -> None:
    """One reader that came before, one that reads all the while, and one in the middle of a transaction of its own."""
    with closing(journal.writer()) as writer:
        for n in range(300):
            writer.append([draft(3, at_us=n * DAY_US // 100, associations=[f"a{n}", None, None])])
    before = read(journal.store)
    early, done, wrong = journal.reader(), threading.Event(), []
    assert everything(early) == before

    def reads() -> None:
        with closing(PredictionReader(journal.predictions)) as reader:
            while not done.is_set():
                wrong.extend([1] if everything(reader) != before else [])

    thread = threading.Thread(target=reads)
    thread.start()
    try:
        with closing(opened(journal.predictions / "1.1.db")) as slow:
            cursor = slow.execute("SELECT body FROM chunk ORDER BY seq")
            next(cursor)
            made = compact(journal.store, LATER_US, least_bytes=0)
            assert not any(is_stub(body) for (body,) in cursor)
    finally:
        done.set()
        thread.join()
    assert (made.n_chunks, wrong) == (300, [])
    assert everything(early) == before
    assert read(journal.store) == before
    compact(journal.store, LATER_US, least_bytes=0)  # now nobody holds the log any more
    assert not (journal.predictions / "1.1.db-wal").exists() or not (journal.predictions / "1.1.db-wal").stat().st_size
