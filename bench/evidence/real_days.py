"""Days of real models: the mean difference between two of them on each day of flights and of electricity."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from bench.evidence.pools import Floats
from gateway.cli import flights
from retrain.evidence import Pairs, Rule
from retrain.evidence.losses import paired_losses
from retrain.training.estimators import boosted_trees

ELEC2 = "elec2.csv.gz"
PERIODS_A_DAY = 48


@cache
def flight_days() -> Floats:
    """Departures of June to December: a model of January and February against one of January to May.

    Raises:
        FlightsMissing: the package with the flights is not installed.
    """
    frame = flights.trainable(flights.departures())
    columns = flights.features(frame)
    matrix = np.column_stack([_numbers(column) for column in columns.values()])
    late, month = frame["late"].to_numpy(), frame["month"].to_numpy()
    day = np.unique(flights.moments(frame).astype("datetime64[D]"), return_inverse=True)[1]
    return _means_by_day(matrix, late, day, month <= 2, month <= 5, month >= 6)


@cache
def elec2_days(folder: Path, champion_days: int, challenger_days: int) -> Floats:
    """Half-hours of New South Wales after `challenger_days`: a model of the first days against one of more of them.

    Args:
        folder: holds `elec2.csv.gz`: `seq`, features, and `price_up` as its last column.
        champion_days: days that the champion was trained on, from the first.
        challenger_days: the same of the challenger.

    Raises:
        FileNotFoundError: the file is not there.
    """
    table = np.genfromtxt(folder / ELEC2, delimiter=",", skip_header=1)
    day = np.arange(len(table)) // PERIODS_A_DAY
    return _means_by_day(
        table[:, 1:-1], table[:, -1], day, day < champion_days, day < challenger_days, day >= challenger_days
    )


def _means_by_day(
    matrix: Floats,
    outcome: Floats,
    day: NDArray[np.int64],
    seen_by_champion: NDArray[np.bool_],
    seen_by_challenger: NDArray[np.bool_],
    live: NDArray[np.bool_],
) -> Floats:
    with threadpool_limits(limits=1):  # beside busy neighbours the threads of one fit wait for each other
        champion, challenger = (
            boosted_trees("binary", int(seen.sum())).fit(matrix[seen], outcome[seen]).predict_proba(matrix[live])[:, 1]
            for seen in (seen_by_champion, seen_by_challenger)
        )
    rule = Rule(base_rate=float(outcome[seen_by_champion].mean()))
    d = paired_losses(Pairs(outcome[live], champion, challenger, day[live]), rule).difference
    _, of_day, n = np.unique(day[live], return_inverse=True, return_counts=True)
    return np.bincount(of_day, weights=d) / n


def _numbers(column: NDArray[np.generic]) -> Floats:
    if column.dtype.kind == "O":
        return np.unique(column.astype(str), return_inverse=True)[1].astype(np.float64)
    return column.astype(np.float64)
