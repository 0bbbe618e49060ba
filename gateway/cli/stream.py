"""`understudy stream`: a file of anyone's as live traffic, with its delayed outcomes, under the caller's clock.

The first rows train a champion where the model does not exist (and, where asked, challengers on later rows); the rest
is sent in order, each row once, each outcome when its time has come. What was sent is asked of the journal, so the same
command goes on wherever an earlier one ended, and changes nothing where there is nothing left to do.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import rich_click as click

from gateway.cli.file_rows import Told, matched_range
from gateway.cli.local import serving
from gateway.cli.midnight import Stopped, midnight_before
from gateway.cli.options import Failed, Target, failing_in_one_line, json_option
from gateway.cli.parameters import Duration, Start
from gateway.cli.place import Options, client_at, found_in, found_on, settings_at
from gateway.cli.plan import Plan, Shares, plan
from gateway.cli.progress import Progress
from gateway.cli.resume import Remaining, SentOtherwise, remaining
from gateway.cli.sender import Sender
from gateway.cli.summary import show, standing, summary_of
from gateway.cli.table import read
from gateway.cli.traffic import IN_FLIGHT, Tally, Traffic
from gateway.cli.trainings import recipe_of
from gateway.cli.typed import TableRefused
from gateway.client import Client
from gateway.config import key_of_environment
from gateway.errors import Conflict
from gateway.records import moment
from gateway.supervisor import listening_socket, stop_on_signals
from registry.recipe import MONTHLY
from registry.schemas import check_name
from retrain.errors import TrainingRefused


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--model", required=True, help="The model's name; it is made if there is none of that name.")
@click.option("--target", required=True, help="The column that says what happened.")
@click.option("--task", type=click.Choice(["binary", "multiclass", "regression"]), help="Default: by the target.")
@click.option("--time", help="The column with each row's time; UTC where it says no zone.")
@click.option("--rows-per-day", type=click.FloatRange(min=0, min_open=True), help="Without --time: so many a day.")
@click.option("--start", "start_us", type=Start(), help="Without --time: when the first row is.")
@click.option("--outcome-time", help="The column that says when the outcome became known.")
@click.option(
    "--outcome-delay", "delay_us", type=Duration(),
    help="How long after its prediction an outcome becomes known; beside --outcome-time, where that is empty.  "
    "[default: 1h without --outcome-time]",
)  # fmt: skip
@click.option(
    "--shorten-delays", "shorten", type=click.FloatRange(min=1), default=1.0,
    help="Make the waits of --outcome-time so many times shorter, so that years fit into a trial.",
)  # fmt: skip
@click.option("--maturity", "maturity_us", type=Duration(), help="Maturity window of a new model.  "
              "[default: what 99 % of the outcomes need, in whole days]")  # fmt: skip
@click.option("--drop", default="", help="Columns that are no features: a,b,c.")
@click.option("--association", help="The column with a key of its own in every row.  [default: file digest:row]")
@click.option(
    "--champion-rows", help="What the first champion learns from, in order of time: 20% or 5000.  [default: 20%]"
)
@click.option(
    "--challenger-rows", multiple=True,
    help="What a challenger learns from: 20%-40%. May be given several times. Rows are sent after the last that was "
    "learned from.",
)  # fmt: skip
@click.option(
    "--retrain", is_flag=True,
    help="Train more challengers from what was sent, each month and when something has moved.",
)  # fmt: skip
@click.option("--recipe", "recipe_file", type=click.Path(path_type=Path), help="Or as this recipe (TOML) says.")
@click.option(
    "--speed", type=click.FloatRange(min=0, min_open=True), help="So many times faster than real time.  "
    "[default: as fast as it goes]",
)  # fmt: skip
@click.option("--url", help="Stream to a running server, whose clock must be the caller's.")
@click.option("--key", help="The API key for it; better in UNDERSTUDY_KEY, where nobody sees it.")
@click.option("--data-dir", help="Else the store that is served here.  [default: ./understudy-data]")
@click.option("--port", type=int, default=0, help="Port to serve it at; 0 takes any free one.  [default: 0]")
@click.option("--exit", "ends", is_flag=True, help="End after the summary instead of serving on.")
@json_option
def stream(
    file: Path,
    model: str,
    target: str,
    task: str | None,
    time: str | None,
    rows_per_day: float | None,
    start_us: int | None,
    outcome_time: str | None,
    delay_us: int | None,
    shorten: float,
    maturity_us: int | None,
    drop: str,
    association: str | None,
    champion_rows: str | None,
    challenger_rows: tuple[str, ...],
    retrain: bool,
    recipe_file: Path | None,
    speed: float | None,
    url: str | None,
    key: str | None,
    data_dir: str | None,
    port: int,
    ends: bool,
    as_json: bool,
) -> None:
    """Send FILE (CSV, also gzipped, or Parquet) to MODEL as live traffic, row by row, with its outcomes.

    Where there is no such model, its schema is made from the file and a champion is trained on the first rows. Columns
    that cannot be features are left out, each in a sentence. Run the same command again to go on after an interruption.
    """
    if (time is None) == (rows_per_day is None):
        raise click.UsageError("expected either --time COLUMN, or --rows-per-day N with --start DATE")
    if (rows_per_day is None) != (start_us is None):
        raise click.UsageError("expected --rows-per-day and --start together")
    Target(None, data_dir, url, key, as_json).check()
    if shorten != 1.0 and outcome_time is None:
        raise click.UsageError("expected --shorten-delays beside --outcome-time only")
    if retrain and recipe_file is not None:
        raise click.UsageError("expected either --retrain or --recipe")
    recipe = recipe_of(recipe_file) if recipe_file is not None else MONTHLY if retrain else None
    dropped = tuple(name for part in drop.split(",") if (name := part.strip()))
    told = Told(
        target, task, time, rows_per_day, start_us, outcome_time, delay_us, shorten, association, dropped,
    )  # fmt: skip
    shares = Shares(champion_rows, challenger_rows, maturity_us, recipe)
    for text in (champion_rows or "0%", *challenger_rows):
        try:
            matched_range(text)
        except ValueError as error:
            raise click.UsageError(f"--champion-rows, --challenger-rows: {error}") from None
    options = Options(model, url, key or key_of_environment(), data_dir, port, speed, ends, as_json)
    stop = stop_on_signals()
    with _in_one_sentence():
        _story(file, told, shares, options, stop, Progress())


@contextmanager
def _in_one_sentence() -> Iterator[None]:
    """What cannot be done is said in one sentence, and the exit code is 1."""
    with failing_in_one_line():
        try:
            yield
        except (TableRefused, TrainingRefused, SentOtherwise) as error:
            raise Failed(str(error)) from None
        except Stopped:
            raise Failed("stopped; the same command goes on from there") from None


def _story(file: Path, told: Told, shares: Shares, options: Options, stop: threading.Event, progress: Progress) -> None:
    check_name(options.model)
    with progress.task(f"reading {file.name}"):
        table = read(file)
    if options.url is not None:
        with client_at(options.url, options) as client:
            planned = plan(file.name, table, told, shares, options.model, found_on(client, options), progress)
            _go_on(stop)
            planned.carry_out(client)
        _stream(options.url, planned, options, stop, progress)
        return
    settings = settings_at(options)
    planned = plan(file.name, table, told, shares, options.model, found_in(settings, options), progress)
    _go_on(stop)
    with Client.on_store(settings) as client:
        planned.carry_out(client)
    with (
        listening_socket(settings, has_keys=False) as bound,
        serving(settings, bound, options.model, as_json=options.as_json) as url,
    ):
        _stream(url, planned, options, stop, progress)
        if not options.ends and not stop.is_set():
            click.echo(f"\nserving on at {url} until Ctrl-C; look: understudy evidence {options.model} --url {url}")
            stop.wait()


def _go_on(stop: threading.Event) -> None:
    if stop.is_set():
        raise Failed("stopped; nothing was made")


def _stream(url: str, planned: Plan, options: Options, stop: threading.Event, progress: Progress) -> None:
    """Send what is left to send, and tell what became of it all."""
    with Sender(url, options.key, connections=IN_FLIGHT) as sender, client_at(url, options) as client:
        document = client.model(options.model)
        rows, n_strange = planned.rows.with_classes(_classes(document))
        if n_strange:
            progress.say(f"{n_strange:,} rows are of a class that the champion does not know: they get no outcome")
        now = datetime.fromisoformat(client.clock()["now"])
        maturity = timedelta(seconds=document["policy"]["maturity_s"])
        traffic = Traffic(
            sender, options.model, planned.span, clock_at=now, maturity=maturity, stop=stop, speed=options.speed
        )
        left = remaining(rows, planned.live, traffic.predictions)
        _check_clock(left, now)
        traffic.expect(left.to_tell())
        n_before = len(planned.live) - len(left.missing)
        tally = _sent(traffic, left, n_before, len(planned.live), progress)
        show(summary_of(client, options.model, tally, n_before), as_json=options.as_json)


def _sent(traffic: Traffic, left: Remaining, n_before: int, n_all: int, progress: Progress) -> Tally:
    try:
        with progress.bar("rows", total=n_all) as bar:

            def each_day(day: datetime, tally: Tally, evidence: dict[str, Any]) -> None:
                bar.update(n_before + tally.n_predictions, standing(day, evidence))

            return traffic.run(left.to_send(), each_day)
    except Stopped:
        n = n_before + traffic.tally.n_predictions
        raise Failed(f"stopped after {n:,} of {n_all:,} rows; the same command goes on from there") from None


def _check_clock(left: Remaining, now: datetime) -> None:
    """Raises Conflict where the next row is of a day that is over."""
    if len(left.missing):
        at = moment(int(left.rows.at_us[left.missing[0]]))
        if midnight_before(at) < midnight_before(now):
            raise Conflict(
                f"the next row is of {at:%Y-%m-%d %H:%M}, and the clock is at {now:%Y-%m-%d %H:%M} already and never "
                "goes back: something else has moved it; use another --data-dir"
            )


def _classes(document: dict[str, Any]) -> tuple[int | str, ...]:
    champion = document["lineup"]["champion"]
    return tuple(next(v for v in document["versions"] if v["number"] == champion)["signature"]["classes"])
