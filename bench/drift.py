"""`python -m bench.drift FOLDER`: alarms of drift on real data that moves, and on the same data shuffled.

FOLDER holds gzip CSV files with the target in the last column. The first fifth of a file is the reference, and what
the champion is trained on; the rest comes in days of 500 rows. Beside ours: PSI of any feature above the usual
thresholds, and river's ADWIN, Page-Hinkley and KSWIN with their defaults on the champion's loss, row by row, as if
every outcome were known at once. Writes bench/results/drift.md; `python -m bench.readme README.md` puts it into README.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from msgspec import Struct
from river import drift as river
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.preprocessing import OrdinalEncoder
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from registry.types import Feature
from retrain.drift import measures
from retrain.drift.bets import ALARM_DAYS, N_BETS, Detector, Guesser, loss_factor
from retrain.drift.reference import codes_of, reference_of
from retrain.drift.sketch import Sketch

DAY_ROWS = 500
REFERENCE = 0.2
N_SHUFFLES = 3
RESULTS = Path(__file__).with_name("results")
MOVING = ("bank_marketing", "elec2", "sba_loans")
QUIET = "hillstrom_email"
NOT_FEATURES = {
    "seq", "year_month", "approval_date", "disbursement_date", "chargeoff_date", "propensity", "spend", "conversion",
}  # fmt: skip
RIVER: dict[str, Callable[[], Any]] = {
    "ADWIN": river.ADWIN,
    "Page-Hinkley": river.PageHinkley,
    "KSWIN": lambda: river.KSWIN(seed=42),
}
METHODS = ("bets on traffic", "PSI > 0.1", "PSI > 0.25", "bets on losses", *RIVER)


class Stream(Struct, frozen=True):
    """Rows in order: features as columns, and the target, 0 or 1."""

    columns: dict[str, Any]
    target: Any

    @classmethod
    def read(cls, file: Path) -> Stream:
        """The rows of a file."""
        frame = pd.read_csv(file)
        columns: dict[str, Any] = {}
        for name in frame.columns[:-1]:
            if name not in NOT_FEATURES:
                values = frame[name]
                is_number = pd.api.types.is_numeric_dtype(values)
                columns[name] = values.to_numpy(float) if is_number else values.fillna("").astype(object).to_numpy()
        return cls(columns, frame.iloc[:, -1].to_numpy(int))

    def rows(self, which: Any) -> Stream:
        """Some of them."""
        return Stream({name: values[which] for name, values in self.columns.items()}, self.target[which])

    @property
    def features(self) -> list[Feature]:
        """The features, by the kind of their values."""
        return [Feature(n, "string" if v.dtype == object else "float64") for n, v in self.columns.items()]

    def __len__(self) -> int:
        return len(self.target)


class Alarms(Struct):
    """Of each method the days on which it alarmed, counted from the end of the reference."""

    n_days: int
    days: dict[str, list[int]]


def watched(stream: Stream, day_rows: int = DAY_ROWS) -> Alarms:
    """Run every method over one stream."""
    n = int(REFERENCE * len(stream))
    days = [slice(start, start + day_rows) for start in range(n, len(stream) - day_rows + 1, day_rows)]
    found: dict[str, list[int]] = {method: [] for method in METHODS}
    _traffic(stream, n, days, found)
    losses, reference_loss = _losses(stream, n)
    detector = Detector()
    for number, day in enumerate(days):
        detector.see(number, loss_factor(float(losses[day.start - n : day.stop - n].mean()), reference_loss))
    found["bets on losses"] = list(detector.alarms)
    for name, make in RIVER.items():
        judge = make()
        for row, loss in enumerate(losses.tolist()):
            judge.update(loss)
            if judge.drift_detected:
                found[name].append(row // day_rows)
    return Alarms(len(days), found)


def _traffic(stream: Stream, n: int, days: Sequence[slice], found: dict[str, list[int]]) -> None:
    reference = reference_of(stream.rows(slice(0, n)).columns, stream.features, "training")
    guesser, detector = Guesser(reference), Detector()
    for number, day in enumerate(days):
        codes = [codes_of(bins, stream.columns[bins.name][day]) for bins in reference.bins]
        counts = tuple(
            tuple(np.bincount(of, minlength=bins.n_bins).tolist())
            for of, bins in zip(codes, reference.bins, strict=True)
        )
        n_rows = day.stop - day.start
        which = np.unique(np.linspace(0, n_rows - 1, N_BETS).astype(int))
        detector.see(number, guesser.signs(np.stack(codes, axis=1)[which]).log_factor())
        zeros = (0.0,) * len(counts)
        guesser.learn(Sketch(n_rows, counts, zeros, zeros))
        largest = max(
            float(measures.psi(np.array(bins.counts), np.array(of)))
            for bins, of in zip(reference.bins, counts, strict=True)
        )
        for threshold in (0.1, 0.25):
            if largest > threshold:
                found[f"PSI > {threshold}"].append(number)
    found["bets on traffic"] = list(detector.alarms)


def _losses(stream: Stream, n: int) -> tuple[Any, float]:
    """The champion's log loss of each row after the reference, and on the held-out last fifth of the reference."""
    names = [name for name, values in stream.columns.items() if values.dtype == object]
    table = pd.DataFrame(stream.columns)
    if names:
        encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan).fit(table[names][:n])
        table[names] = encoder.transform(table[names])
    matrix = table.to_numpy(float)
    learned = int(0.8 * n)
    model = HistGradientBoostingClassifier(early_stopping=False, max_iter=60, random_state=0)
    with threadpool_limits(limits=1):  # as training does: beside busy neighbours OpenMP threads wait for each other
        p = model.fit(matrix[:learned], stream.target[:learned]).predict_proba(matrix[learned:])[:, 1]
    p = np.clip(p, 1e-3, 1 - 1e-3)
    losses = -np.log(np.where(stream.target[learned:] == 1, p, 1 - p))
    return losses[n - learned :], float(losses[: n - learned].mean())


def table(folder: Path, say: Callable[[str], None]) -> Iterator[str]:
    """The lines of the table."""
    yield "| data | days | " + " | ".join(METHODS) + " |"
    yield "|---|---:|" + "---|" * len(METHODS)
    shuffled: dict[str, list[Alarms]] = {}
    for name in (*MOVING, QUIET):
        stream = Stream.read(folder / f"{name}.csv.gz")
        if name in MOVING:
            alarms = watched(stream)
            cells = [_first(alarms.days[method], alarms.n_days) for method in METHODS]
            yield f"| {name} | {alarms.n_days} | " + " | ".join(cells) + " |"
            say(f"{name}: {alarms.n_days} days")
        for seed in range(N_SHUFFLES):
            order = np.random.default_rng(seed).permutation(len(stream))
            shuffled.setdefault(name, []).append(watched(stream.rows(order)))
            say(f"{name}, shuffle {seed}")
    shuffled[f"{QUIET} in days of 50 rows"] = [
        watched(stream.rows(np.random.default_rng(0).permutation(len(stream))), 50)
    ]
    for name, runs in shuffled.items():
        n_days = sum(run.n_days for run in runs)
        cells = [_count(sum(len(run.days[method]) for run in runs)) for method in METHODS]
        yield (
            f"| {name}, shuffled {len(runs)} time{'' if len(runs) == 1 else 's'} | {n_days:,} | "
            + " | ".join(cells)
            + " |"
        )


def _first(days: Sequence[int], n_days: int) -> str:
    return f"day {days[0] + 1}, {len(set(days))} days" if days else f"never in {n_days} days"


def _count(n: int) -> str:
    return f"{n:,} alarm{'' if n == 1 else 's'}"


def main() -> None:
    """Measure, print, and write."""
    lines = list(table(Path(sys.argv[1]), lambda line: print(line, file=sys.stderr, flush=True)))
    told = (
        f"Days of {DAY_ROWS} rows after a reference of the first fifth. Data that moves: the first day with an alarm, "
        "and the number of days with one. The same rows shuffled, so that nothing moves: every alarm is false. Bets "
        f"are made for false alarms {ALARM_DAYS} days apart on average or more.\n\n"
    )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "drift.md").write_text(told + "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
