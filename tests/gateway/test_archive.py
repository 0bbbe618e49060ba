"""A file a day: whole days only, each written once, and what changed since is told."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from gateway.archive import archived, is_same
from gateway.chunk import encode
from gateway.cli.commands import main
from gateway.errors import Unreachable
from gateway.export import Wanted, days_of
from gateway.records import Address
from registry.types import Policy
from tests.actors import logistic
from tests.models import Made, loan
from tests.servers import Running, publish
from tests.stage import DAY, Stage, at, staged

DAYS = ("2024-10-04", "2024-10-05", "2024-10-06")


def rows(day: int) -> Any:
    return np.random.default_rng(day).normal(size=(6, 2))


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Three days with predictions at their very ends too, the third of which has not matured; none on the fourth."""
    with staged(tmp_path / "store") as made:
        made.declare(Policy(maturity_s=float(DAY)))
        made.champion(logistic((1.0, 0.0)))
        for day in range(3):
            first = made.predict(float(day), rows(day))
            made.predict(day + 0.9999, rows(day + 10))
            made.outcomes(first, [0, 1] * 3, day + 0.5)
        made.clock(3.5)
        yield made


def export(stage: Stage, *more: str) -> dict[str, Any]:
    config = stage.folder.parent / "settings.toml"
    config.write_text(f'store = "{stage.folder}"\n[clock]\nsource = "caller"\n')
    options = ["export", "m", "--by-day", str(stage.folder.parent / "cold"), "--json", *more, "--config", str(config)]
    ran = CliRunner().invoke(main, options)
    assert ran.exit_code == 0, ran.output
    told: dict[str, Any] = json.loads(ran.stdout)
    return told


def cold(stage: Stage) -> Path:
    return stage.folder.parent / "cold" / "m"


def test_each_day_that_matured_whole_is_written_once(stage: Stage) -> None:
    first = export(stage)
    assert (first["written"], first["n_rows"], first["n_with_outcome"]) == ([*DAYS[:2]], 24, 12)
    files = {path.name: path.stat().st_mtime_ns for path in cold(stage).iterdir()}
    assert sorted(files) == [f"day={day}.parquet" for day in DAYS[:2]]
    stage.clock(9)
    second = export(stage)
    assert (second["written"], second["unchanged"], second["changed"]) == ([DAYS[2]], [*DAYS[:2]], [])
    assert {name: (cold(stage) / name).stat().st_mtime_ns for name in files} == files
    assert export(stage)["written"] == []
    table = ds.dataset(cold(stage), format="parquet").to_table()
    assert len(table) == 36
    assert {str(moment.date()) for moment in table["predicted_at"].to_pylist()} == {*DAYS}
    whole = stage.folder.parent / "whole.parquet"
    CliRunner().invoke(main, ["export", "m", "-o", str(whole), "--config", str(stage.folder.parent / "settings.toml")])
    assert table.sort_by("seq").equals(pq.read_table(whole).sort_by("seq"))


def test_what_changed_since_is_told_and_replaced_only_where_that_is_asked_for(stage: Stage) -> None:
    export(stage)
    before = pq.read_table(cold(stage) / f"day={DAYS[0]}.parquet")
    (head, chunk), *_ = stage.chunks()
    addresses = [Address(head.writer, head.seq, row) for row in range(6)]
    stage.outcomes(addresses, [1] * 6, 3.2)  # corrections, after their time
    left = export(stage)
    assert (left["changed"], left["rewritten"], left["unchanged"]) == ([DAYS[0]], [], [DAYS[1]])
    assert pq.read_table(cold(stage) / f"day={DAYS[0]}.parquet").equals(before)
    again = export(stage, "--again")
    assert (again["changed"], again["rewritten"]) == ([], [DAYS[0]])
    assert pq.read_table(cold(stage) / f"day={DAYS[0]}.parquet")["outcome"].to_pylist()[:6] == [1] * 6

    gone = encode(replace(chunk, inputs=None, erased=True))
    (file,) = (stage.folder / "predictions").glob("*.db")
    with closing(apsw.Connection(str(file))) as db:
        db.execute("UPDATE chunk SET body = ? WHERE seq = ?", (gone, head.seq))
    erased = export(stage, "--again", "--until", at(1).isoformat())
    assert (erased["rewritten"], erased["unchanged"], erased["n_erased"]) == ([DAYS[0]], [], 6)
    assert len(pq.read_table(cold(stage) / f"day={DAYS[0]}.parquet")) == 6
    text = CliRunner().invoke(main, ["export", "m", "--by-day", "x", "-o", "y"])
    assert (text.exit_code, "either --output or --by-day" in text.stderr) == (2, True)


def test_challengers_scores_are_in_it_where_they_are_asked_for(stage: Stage) -> None:
    challenger = stage.challenger(logistic((0.0, 1.0)))
    stage.predict(3.25, rows(3))
    stage.shadow(challenger, lambda x: np.full(len(x), 0.25))
    stage.clock(9)
    assert export(stage, "--with-shadow-scores", "--since", at(3).isoformat())["written"] == ["2024-10-07"]
    table = pq.read_table(cold(stage) / "day=2024-10-07.parquet")
    assert table[f"shadow.{challenger}"].to_pylist() == [0.25] * 6


def test_a_day_that_breaks_off_leaves_no_file_and_those_before_it(tmp_path: Path) -> None:
    def exported(wanted: Wanted) -> Iterator[bytes]:
        if wanted.since is not None and wanted.since.day == 5:
            yield b"PAR1"
            raise Unreachable("the server ended the export")
        sink = pa.BufferOutputStream()
        table = pa.table({"x": [1.0]}).replace_schema_metadata({"understudy": json.dumps(dict.fromkeys(
            ("n_rows", "n_with_outcome", "n_erased", "n_damaged_chunks"), 1))})  # fmt: skip
        pq.write_table(table, sink)
        yield sink.getvalue().to_pybytes()

    with pytest.raises(Unreachable):
        archived([date.fromisoformat(day) for day in DAYS], exported, "m", tmp_path, Wanted(as_of=at(9)))
    assert [path.name for path in (tmp_path / "m").iterdir()] == [f"day={DAYS[0]}.parquet"]


@pytest.mark.parametrize(
    ("column", "other", "same"),
    [
        ([1.0, float("nan"), None], [1.0, float("nan"), None], True),
        ([1.0, float("nan"), None], [1.0, None, float("nan")], False),
        ([0.0], [-0.0], False),
        (["a", None], ["a", ""], False),
        ([True, False], [True, True], False),
        ([], [], True),
    ],
)
def test_what_is_the_same_is_the_same_bit_for_bit(tmp_path: Path, column: Any, other: Any, same: bool) -> None:
    for name, values, n_rows in (("a", column, 1), ("b", other, 2)):
        pq.write_table(pa.table({"x": values}), tmp_path / name, row_group_size=n_rows)
    assert is_same(tmp_path / "a", tmp_path / "b") is same


@pytest.mark.parametrize(
    ("bucket_s", "now", "n_days"),
    [(3_600, 2.0, 1), (3_600, 1.999, 0), (DAY, 2.0, 1), (2 * DAY, 2.0, 0), (2 * DAY, 3.0, 2), (5 * DAY, 6.0, 5)],
)
def test_a_day_is_whole_once_every_cohort_that_has_a_part_of_it_is(
    tmp_path: Path, bucket_s: int, now: float, n_days: int
) -> None:
    with staged(tmp_path / "store", bucket_s=bucket_s) as stage:  # the first day of the story begins a bucket of each
        stage.declare(Policy(maturity_s=float(DAY)))
        stage.champion(logistic((1.0, 0.0)))
        stage.predict(0.5, rows(0))
        stage.clock(now)
        clock = stage.new_clock()
        clock.refresh(stage.registry)
        assert len(days_of(stage.settings, stage.registry, clock, "m", None).days) == n_days


def test_a_server_sends_the_same_days(server: Running, models: Mapping[str, Made], tmp_path: Path) -> None:
    made = replace(loan(), name="archived")
    publish(server.http, made)
    server.predict("archived", made.rows[:3])
    ran = CliRunner().invoke(main, ["export", "archived", "--by-day", str(tmp_path), "--url", server.url])
    assert ran.exit_code == 0, ran.output
    assert "0 days written" in ran.stdout  # nothing of today has had its time
