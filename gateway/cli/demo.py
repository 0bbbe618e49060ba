"""`understudy demo`: half a year of real departures, answered, mirrored, scored and decided on, in a few minutes.

Three models predict whether a flight arrives more than 15 minutes late. The champion was trained on January and
February, one challenger on January to May, the other on May alone, as blind retraining on the latest month would have
it. From June on, a fixed quarter of the departures is sent over HTTP in order; each outcome follows when it was known.
Each month, and when something has moved, another challenger is trained from the journal, where there is room for one.
Nothing is scripted: what is printed was measured, and a challenger that is not better is not promoted.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import rich_click as click

from gateway.cli import flights
from gateway.cli.first_versions import FirstRole, Lesson, declare, learned, upload
from gateway.cli.local import callers_time, serving
from gateway.cli.midnight import Span, Stopped
from gateway.cli.options import Failed, failing_in_one_line, json_option
from gateway.cli.progress import Progress
from gateway.cli.sender import Sender
from gateway.cli.summary import show, standing, summary_of
from gateway.cli.traffic import IN_FLIGHT, Row, Tally, Traffic
from gateway.client import Client
from gateway.config import Settings, load
from gateway.logs import set_up
from gateway.supervisor import listening_socket, stop_on_signals
from registry.recipe import MONTHLY
from registry.types import Policy

if TYPE_CHECKING:
    import pandas as pd

MODEL = "late-flights"
LESSONS: tuple[tuple[FirstRole, int, int, str], ...] = (
    ("champion", 1, 2, "trained on January and February"),
    ("challenger", 1, 5, "trained on January to May"),
    ("challenger", 5, 5, "trained on May only"),
)

POLICY = Policy(n_slots=0)


@click.command()
@click.option("--exit", "ends", is_flag=True, help="End after the summary instead of serving on.")
@click.option("--port", type=int, default=0, help="Port to serve at; 0 takes any free one.  [default: 0]")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Keep the store here; must not exist yet.")
@json_option
def demo(ends: bool, port: int, data_dir: Path | None, as_json: bool) -> None:
    """The whole story on real data: serve, mirror, join outcomes, judge, promote."""
    stop = stop_on_signals()
    progress = Progress()
    try:
        with _store(data_dir) as store:
            _story(store, port, ends=ends, as_json=as_json, stop=stop, progress=progress)
    except flights.FlightsMissing as error:
        raise Failed(str(error)) from None
    except Stopped:
        raise Failed("stopped") from None


def _story(store: Path, port: int, *, ends: bool, as_json: bool, stop: threading.Event, progress: Progress) -> None:
    settings = load(None, {"store": str(store), **callers_time(port)}, {})
    set_up(settings.logs, "demo")
    with progress.task("reading a year of departures"):
        frame = flights.departures()
        live = flights.quarter(flights.during(frame, 6, 12))
    _publish(settings, frame, live["scheduled_at"].iloc[0].to_pydatetime(), progress)
    rows = _rows(live)
    del frame, live
    with (
        failing_in_one_line(),
        listening_socket(settings, has_keys=False) as bound,
        serving(settings, bound, MODEL, as_json=as_json) as url,
    ):
        tally = _send(url, rows, stop, progress)
        with Client(url) as client:
            show(summary_of(client, MODEL, tally), as_json=as_json)
        if not ends and not stop.is_set():
            click.echo(f"\nserving on at {url} until Ctrl-C; look: understudy evidence {MODEL} --url {url}")
            stop.wait()


@contextmanager
def _store(data_dir: Path | None) -> Iterator[Path]:
    """A new store: where it was asked for, and kept; else temporary."""
    if data_dir is not None:
        if data_dir.exists():
            raise click.UsageError(f"--data-dir {data_dir}: expected a folder that does not exist yet")
        yield data_dir
        return
    folder = Path(tempfile.mkdtemp(prefix="understudy-demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _publish(settings: Settings, frame: pd.DataFrame, start: datetime, progress: Progress) -> None:
    """The model, its champion and its two challengers, registered before the first request."""
    versions = []
    for role, first_month, last_month, reason in LESSONS:
        past = flights.trainable(flights.during(frame, first_month, last_month))
        lesson = Lesson(role, reason, flights.features(past), past["late"].to_numpy(), flights.moments(past))
        versions.append(learned(lesson, flights.SCHEMA, "binary", progress))
    with Client.on_store(settings) as client:
        client.set_clock(start)
        declare(client, MODEL, flights.SCHEMA, "binary", POLICY)
        for version in versions:
            upload(client, MODEL, version)
        client.set_recipe(MODEL, msgspec.to_builtins(MONTHLY))


def _rows(live: pd.DataFrame) -> list[Row]:
    """The departures as rows to send; what a weather station missed is null."""
    columns = {name: values.tolist() for name, values in flights.features(live).items()}
    names = list(columns)
    rows = zip(
        zip(*columns.values(), strict=True), live["flight_id"], live["scheduled_at"], live["known_at"], live["late"],
        strict=True,
    )  # fmt: skip
    return [
        Row(
            inputs={name: None if value != value else value for name, value in zip(names, values, strict=True)},
            association_id=flight,
            predicted_at=scheduled_at.to_pydatetime(),
            known_at=known_at.to_pydatetime(),
            outcome=None if late != late else int(late),
        )
        for values, flight, scheduled_at, known_at, late in rows
    ]


def _send(url: str, rows: list[Row], stop: threading.Event, progress: Progress) -> Tally:
    """Send every departure, showing after each day how things stand."""
    start, last = rows[0].predicted_at, max(row.known_at for row in rows if row.outcome is not None)
    with Sender(url, connections=IN_FLIGHT) as sender:
        traffic = Traffic(
            sender, MODEL, Span.over(start, last), clock_at=start, maturity=timedelta(seconds=POLICY.maturity_s),
            stop=stop,
        )  # fmt: skip
        with progress.bar("departures", total=len(rows)) as bar:

            def each_day(day: datetime, tally: Tally, evidence: dict[str, Any]) -> None:
                bar.update(tally.n_predictions, standing(day, evidence))

            return traffic.run(rows, each_day)
