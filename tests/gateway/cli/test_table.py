"""Files as people have them, read to typed columns: checked against Python's own csv module and parsers."""

from __future__ import annotations

import csv
import gzip
import io
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from gateway.cli.moments import DAY_US, MONTH_US, moments_of, spread
from gateway.cli.table import Table, read
from gateway.cli.typed import MISSING, Column, TableRefused, Text, as_moments
from gateway.records import micros

CELLS = st.one_of(
    st.integers(-10_000, 10_000).map(str),
    st.floats(-1e6, 1e6).map(repr),
    st.sampled_from(["", "NA", "?", "n/a", "null", "true", "False", "00501", "1,234", "$5", "2013-06-30", " x "]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12),
)

EARLY, LATE = datetime(1900, 1, 1), datetime(2100, 1, 1)  # noqa: DTZ001  # Hypothesis wants them without a zone


def written(path: Path, header: list[str], rows: list[list[str]], **more: Any) -> Path:
    text = io.StringIO()
    csv.writer(text, **more).writerows([header, *rows])
    path.write_text(text.getvalue(), encoding="utf-8", newline="")
    return path


def column_of(values: list[str]) -> Column:
    distinct = sorted(set(values))
    return Text(distinct, np.array([distinct.index(value) for value in values], np.int64)).typed()


def texts(table: Table, name: str) -> list[str]:
    column = table.columns[name]
    assert isinstance(column, Text)
    found: list[str] = column.rows().tolist()
    return found


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=20),
    delimiter=st.sampled_from(",;\t|"),
    ending=st.sampled_from(["\n", "\r\n"]),
    zipped=st.booleans(),
    marked=st.booleans(),
)
def test_a_messy_csv_has_the_cells_that_pythons_reader_finds(
    tmp_path: Path, rows: list[tuple[str, str, str]], delimiter: str, ending: str, zipped: bool, marked: bool
) -> None:
    path = tmp_path / "messy"
    quoting = csv.QUOTE_ALL
    kept = [[cell.replace("\r", " ") for cell in row] for row in rows]
    written(path, ["a", "b b", "c"], kept, delimiter=delimiter, lineterminator=ending, quoting=quoting)
    content = (b"\xef\xbb\xbf" if marked else b"") + path.read_bytes()
    path.write_bytes(gzip.compress(content) if zipped else content)
    table = read(path)
    assert list(table.columns) == ["a", "b b", "c"]
    for place, name in enumerate(table.columns):
        # blanks around a value are nobody's meaning; which characters are blank is pyarrow's and Python's to agree on
        assert [cell.strip() for cell in texts(table, name)] == [row[place].strip() for row in kept]


@settings(max_examples=60, deadline=None)
@given(st.lists(CELLS, min_size=1, max_size=30))
def test_a_column_is_of_one_kind_and_as_long_as_it_was_whatever_stands_in_it(cells: list[str]) -> None:
    values = [cell.strip() for cell in cells]
    column = column_of(values)
    assert len(column.values) == len(column.missing) == len(values)
    for value, typed, missing in zip(values, column.values.tolist(), column.missing.tolist(), strict=True):
        match column.kind:
            case "whole":
                assert missing or typed == int(value)
            case "number":
                plain = value.replace("$", "").replace(",", "")
                assert missing or typed == float(plain)
                assert missing or math.isfinite(typed)
            case "bool":
                assert missing or typed == (value.lower() == "true")
            case "text":
                assert typed == value
                assert missing == (value == "")
    if column.kind != "text" and column.strange is None:
        assert column.missing.tolist() == [value.lower() in MISSING for value in values]


@pytest.mark.parametrize(
    ("values", "kind", "n_missing"),
    [
        (["1", "2", "", "-7"], "whole", 1),
        (["1", "2.5", "NA", "1e3"], "number", 1),
        (["1,234", "$5.50", "7"], "number", 0),
        (["true", "FALSE", ""], "bool", 1),
        (["00501", "10001"], "text", 0),
        (["0", "10001"], "whole", 0),
        (["yes", "no", "NA", ""], "text", 1),
        (["2013-06-30", "2013-07-01"], "moment", 0),
        (["", "", "NULL"], "text", 2),
        (["1234567890123456789012", "1"], "number", 0),
        (["inf", "1", "2"], "whole", 1),
    ],
)
def test_what_the_whole_column_says_decides(values: list[str], kind: str, n_missing: int) -> None:
    column = column_of(values)
    assert (column.kind, int(column.missing.sum())) == (kind, n_missing)


def test_nine_numbers_in_ten_make_a_column_of_numbers_and_the_odd_ones_are_told() -> None:
    column = column_of([str(n) for n in range(18)] + ["closed", "closed"])
    assert column.kind == "whole"
    assert column.strange == ("closed", 2)
    assert column_of([str(n) for n in range(17)] + ["closed", "closed"]).kind == "text"


def test_a_parquet_file_has_the_types_that_it_says(tmp_path: Path) -> None:
    at = datetime(2013, 6, 30, 17, 45, tzinfo=UTC)
    table = pa.table(
        {
            "whole": pa.array([1, None, 3], pa.int32()),
            "number": pa.array([1.5, float("nan"), None]),
            "flag": pa.array([True, None, False]),
            "name": pa.array(["x", None, " y "]).dictionary_encode(),
            "at": pa.array([at, None, at + timedelta(days=1)], pa.timestamp("ms", "Europe/Paris")),
            "day": pa.array([at.date(), None, at.date()]),
            "list": pa.array([[1], [2], []]),
        }
    )
    path = tmp_path / "file.parquet"
    parquet.write_table(table, path)
    found = read(path)
    kinds = {name: column.kind for name, column in found.columns.items() if isinstance(column, Column)}
    assert kinds == {"whole": "whole", "number": "number", "flag": "bool", "at": "moment", "day": "moment"}
    missing = [c.missing.tolist() for c in found.columns.values() if isinstance(c, Column)]
    assert missing == [[False, True, False], [False, True, True], *[[False, True, False]] * 3]
    assert texts(found, "name") == ["x", "", "y"]
    when = found.columns["at"]
    assert isinstance(when, Column)
    assert when.values[0] == micros(at)
    assert list(found.n_unreadable) == ["list"]


def test_the_digest_names_the_bytes(tmp_path: Path) -> None:
    one = written(tmp_path / "one.csv", ["a"], [["1"], ["2"]])
    same = written(tmp_path / "two.csv", ["a"], [["1"], ["2"]])
    other = written(tmp_path / "three.csv", ["a"], [["1"], ["3"]])
    assert read(one).digest == read(same).digest != read(other).digest


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "expected a first line of column names, got an empty one"),
        (b"a,b\n", "expected rows, got none"),
        (b"a,b\n1,2\n1,2,3\n", "row 3: expected 2 values, got 3"),
        (b"a,a\n1,2\n", "expected columns of different names, got 'a' twice"),
        (b"a\n\xff\xfe\xfa\n", "expected text in UTF-8"),
        ("a\n1\n".encode("utf-16"), "expected text in UTF-8, got UTF-16"),
        (gzip.compress(b"a\n1\n" * 1000, mtime=0)[:-9], "not a whole gzip file"),
        (b"\x7fELF\0\0\n\0\0", "expected a CSV or a Parquet file, got neither"),
        (b"PAR1 and then nothing of it", ""),
    ],
)
def test_an_unreadable_file_is_one_sentence(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "file.csv"
    path.write_bytes(content)
    with pytest.raises(TableRefused) as refused:
        read(path)
    said = str(refused.value)
    assert said.startswith(f"{path}: ")
    assert sentence in said
    assert "\n" not in said


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(TableRefused, match=r"nowhere\.csv: no such file or directory$"):
        read(tmp_path / "nowhere.csv")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.datetimes(min_value=EARLY, max_value=LATE), min_size=1, max_size=8), st.data())
def test_moments_are_those_of_pythons_own_parser(times: list[datetime], data: st.DataObject) -> None:
    separator = data.draw(st.sampled_from(["T", " "]))
    zone, shift = data.draw(st.sampled_from([("", 0), ("Z", 0), ("+02:00", 2), ("-0530", -5.5), (" UTC", 0)]))
    read_back = moments_of([time.isoformat(separator) + zone for time in times])
    expected = [micros(time.replace(tzinfo=UTC)) - round(shift * 3600 * 10**6) for time in times]
    assert not read_back.unclear.any()
    assert read_back.at_us.tolist() == expected


@pytest.mark.parametrize(
    ("spelled", "expected", "unit_us"),
    [
        (["30.06.2013"], ["2013-06-30"], DAY_US),
        (["06/30/2013", "06/07/2013"], ["2013-06-30", "2013-06-07"], DAY_US),
        (["30/06/2013", "06/07/2013"], ["2013-06-30", "2013-07-06"], DAY_US),
        (["2013/6/3"], ["2013-06-03"], DAY_US),
        (["2008-05"], ["2008-05-01"], MONTH_US),
        (["06/30/2013 11:05 PM"], ["2013-06-30T23:05"], 0),
        (["2013-06-30 12:00:00 AM"], ["2013-06-30T00:00"], 0),
    ],
)
def test_days_are_spelled_in_many_ways(spelled: list[str], expected: list[str], unit_us: int) -> None:
    read_back = moments_of(spelled)
    assert read_back.at_us.tolist() == [micros(datetime.fromisoformat(text).replace(tzinfo=UTC)) for text in expected]
    assert read_back.unit_us == unit_us


@pytest.mark.parametrize("text", ["06/07/2013", "2013-02-30", "2013-06-30 25:00", "soon", "2013", "1/2/13"])
def test_what_nobody_can_know_is_unclear(text: str) -> None:
    assert moments_of([text]).unclear.tolist() == [True]


@pytest.mark.parametrize("text", ["20130630", "1372550400", "1372550400000"])
def test_a_time_may_be_a_whole_number(text: str) -> None:
    column = as_moments(Text([text], np.zeros(1, np.int64)), "--time t")
    assert column.values.tolist() == [micros(datetime(2013, 6, 30, tzinfo=UTC))]


def test_an_unparsable_time_is_one_sentence() -> None:
    with pytest.raises(TableRefused, match=r"^--time t: expected a time, such as .*; got 'soon' in row 2$"):
        as_moments(Text(["2013-06-30", "soon"], np.array([0, 1])), "--time t")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=60).map(sorted), st.sampled_from([DAY_US, MONTH_US]))
def test_rows_of_a_day_or_month_are_spread_over_it_in_order(units: list[int], unit_us: int) -> None:
    kind = "D" if unit_us == DAY_US else "M"
    starts = np.array(units).astype(f"datetime64[{kind}]")
    at_us = spread(starts.astype("datetime64[us]").astype(np.int64), unit_us)
    assert (np.diff(at_us) >= 0).all()
    assert (at_us.astype("datetime64[us]").astype(f"datetime64[{kind}]") == starts).all()
    assert len(set(at_us.tolist())) == len(units)
