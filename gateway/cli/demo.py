"""`understudy demo`: half a year of real departures, answered, mirrored, scored and decided on, in a few minutes.

Three models predict whether a flight arrives more than 15 minutes late. The champion was trained on January and
February, one challenger on January to May, the other on May alone, as blind retraining on the latest month would have
it. From June on, a fixed quarter of the departures is sent over HTTP in order; each outcome follows when it was known.
Nothing is scripted: what is printed was measured, and a challenger that is not better is not promoted.
"""

from __future__ import annotations

import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import rich_click as click

from gateway.cli import flights
from gateway.cli.options import Failed, failing_in_one_line, json_option
from gateway.cli.progress import Progress
from gateway.cli.sender import Sender
from gateway.cli.serve import announce
from gateway.cli.traffic import IN_FLIGHT, Row, Tally, Traffic
from gateway.client import Client
from gateway.config import Settings, load
from gateway.logs import set_up
from gateway.supervisor import Supervisor, listening_socket, stop_on_signals
from registry.store import Registry
from registry.types import Policy, Principal

if TYPE_CHECKING:
    import pandas as pd

MODEL = "late-flights"
READY_TIMEOUT_S = 30.0


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


def _story(store: Path, port: int, *, ends: bool, as_json: bool, stop: threading.Event, progress: Progress) -> None:
    settings = load(None, _overrides(store, port), {})
    set_up(settings.logs, "demo")
    with progress.task("reading a year of departures"):
        frame = flights.departures()
        live = flights.quarter(flights.during(frame, 6, 12))
    _train(settings, frame, live["scheduled_at"].iloc[0].to_pydatetime(), progress)
    rows = _rows(live)
    del frame, live
    with failing_in_one_line(), listening_socket(settings, has_keys=False) as bound, _serving(settings, bound) as url:
        announce(settings, *bound.getsockname()[:2], has_keys=False, as_json=as_json)
        tally = _send(url, rows, stop, progress)
        with Client(url) as client:
            summary = _summary(client, tally)
        _print(summary, as_json=as_json)
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


def _overrides(store: Path, port: int) -> dict[str, Any]:
    """A year in minutes: the caller's clock, and workers that look often."""
    return {
        "store": str(store),
        "server.port": port,
        "clock.source": "caller",
        "shadow.poll_s": 0.03,
        "retrain.poll_s": 0.02,
        "logs.level": "warning",
    }


def _train(settings: Settings, frame: pd.DataFrame, start: datetime, progress: Progress) -> None:
    """The model, its champion and its two challengers, registered before the first request."""
    from retrain.train import train_and_register  # as slow as scikit-learn

    by = Principal.local_operator()
    with Registry.open(settings.folder, now=lambda: start) as registry:
        registry.set_clock(start, by=by)
        registry.create_model(MODEL, flights.SCHEMA, "binary", Policy(), by=by)
        for role, first_month, last_month, reason in (
            ("champion", 1, 2, "trained on January and February"),
            ("challenger", 1, 5, "trained on January to May"),
            ("challenger", 5, 5, "trained on May only"),
        ):
            past = flights.trainable(flights.during(frame, first_month, last_month))
            with progress.task(f"training the {role} of {len(past):,} departures: {reason}"):
                train_and_register(
                    registry, MODEL, flights.features(past), past["late"].to_numpy(), role,  # type: ignore[arg-type]
                    by=by, reason=reason, at=flights.moments(past),
                )  # fmt: skip


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


@contextmanager
def _serving(settings: Settings, bound: socket.socket) -> Iterator[str]:
    """A real `serve`: gateway, shadow and retrain workers, each in a process of its own."""
    host, port = bound.getsockname()[:2]
    url = f"http://{host}:{port}"
    stop = threading.Event()
    supervisor = Supervisor(settings, bound, lambda _: None)
    thread = threading.Thread(target=supervisor.run, args=(stop,), name="supervisor")
    thread.start()
    try:
        _wait_ready(url)
        yield url
    finally:
        stop.set()
        thread.join()


def _wait_ready(url: str) -> None:
    deadline_s = time.monotonic() + READY_TIMEOUT_S
    with Client(url, timeout_s=READY_TIMEOUT_S) as client:
        while MODEL not in client.ready()["models"]:
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"the server was not ready within {READY_TIMEOUT_S:g} s")
            time.sleep(0.05)


def _send(url: str, rows: list[Row], stop: threading.Event, progress: Progress) -> Tally:
    """Send every departure, showing after each day how things stand."""
    maturity = timedelta(seconds=Policy().maturity_s)
    with Sender(url, connections=IN_FLIGHT) as sender:
        traffic = Traffic(sender, MODEL, maturity=maturity)
        with progress.bar("departures", total=len(rows)) as bar:

            def each_day(day: datetime, tally: Tally, evidence: dict[str, Any]) -> None:
                if stop.is_set():
                    raise Failed("stopped")
                bar.update(tally.n_predictions, _standing(day, evidence))

            return traffic.run(rows, each_day)


def _standing(day: datetime, evidence: dict[str, Any]) -> str:
    """One line: the day, who is champion, and how far the challengers are."""
    rivals = "".join(
        f"; version {entry['version']} {entry['verdict']}, ln E {entry['log_e']:.1f}"
        for entry in evidence["challengers"]
    )
    return f"{day:%d %b}: version {evidence['champion']} answers{rivals}"


def _summary(client: Client, tally: Tally) -> dict[str, Any]:
    """What happened, as the server tells it."""
    status, evidence = client.model(MODEL), client.evidence(MODEL)
    decisions = [d for d in client.decisions(MODEL) if d["kind"] in ("promote", "rollback")]
    latencies_s = sorted(tally.latencies_s)
    return {
        "n_requests": tally.n_predictions,
        "requests_per_s": tally.n_predictions / tally.took_s,
        "took_s": tally.took_s,
        "p50_ms": 1e3 * latencies_s[len(latencies_s) // 2],
        "p99_ms": 1e3 * latencies_s[len(latencies_s) * 99 // 100],
        "outcomes": tally.receipts,
        "lineup": status["lineup"],
        "mirror": status["mirror"],
        "evidence": evidence,
        "decisions": decisions,
    }


def _print(summary: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(summary), indent=2).decode() + "\n")
        return
    click.echo(summary_text(summary))


def summary_text(summary: dict[str, Any]) -> str:
    """The summary for people."""
    lines = [
        "",
        f"requests   {summary['n_requests']:,} in {summary['took_s']:.0f} s, {summary['requests_per_s']:,.0f} a second",
        f"latency    p50 {summary['p50_ms']:.1f} ms, p99 {summary['p99_ms']:.1f} ms with {IN_FLIGHT} in flight",
        "outcomes   " + ", ".join(f"{n:,} {fate}" for fate, n in summary["outcomes"].items()),
    ]
    for entry in summary["mirror"]:
        account = entry["mirror"]
        lines.append(
            f"mirrored   version {entry['version']} ({entry['role']}, this reign): {account['eligible']:,} eligible = "
            f"{account['scored']:,} scored + {account['failed']:,} failed + {account['skipped']:,} skipped"
        )
    for decision in summary["decisions"]:
        lines.append(
            f"decision   {_date(decision['at'])}: {decision['kind']} version {decision['version']} by {decision['by']}"
        )
        lines.append(f"           {decision['reason']}")
    for entry in summary["evidence"]["challengers"]:
        lines.append(f"evidence   version {entry['version']}: {entry['verdict']}, ln E {entry['log_e']:.1f}")
        lines.append(f"           {entry['sentence']}")
    lineup = summary["lineup"]
    lines.append(f"champion   version {lineup['champion']} since {_date(lineup['since'])}, {_why(summary)}")
    return "\n".join(lines)


def _why(summary: dict[str, Any]) -> str:
    promoted = [d for d in summary["decisions"] if d["version"] == summary["lineup"]["champion"]]
    return f"promoted by {promoted[-1]['by']}" if promoted else "from the start: no challenger was shown to be better"


def _date(text: str) -> str:
    return f"{datetime.fromisoformat(text).astimezone(UTC):%d %B %Y %H:%M} UTC"
