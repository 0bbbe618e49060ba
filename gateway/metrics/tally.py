"""What one worker counts. A request costs it a dictionary look-up and three additions, some 0.3 µs.

No object of a metrics library is touched a request: theirs take a lock and some microseconds each, which is more than
the fast lane has.
"""

from __future__ import annotations

from bisect import bisect_left

from msgspec import Struct, field

from gateway.records import Receipt

BOUNDS_S = (
    50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
"""Inclusive upper bounds of the durations that are told apart; beyond the last there is one more bucket."""


class Requests(Struct):
    """The requests that one version of one model answered with one status code."""

    n_rows: int = 0
    sum_s: float = 0.0
    n_within: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    """How many took so long: those up to the first bound, up to the second, … and longer than the last."""

    @property
    def n(self) -> int:
        """How many there were."""
        return sum(self.n_within)


class Tally(Struct):
    """Everything that is counted; it can be written to a file, read again and added to another one.

    `model` must be a served model or empty, wherever it is asked for: each new name is a new series, for ever.
    """

    requests: dict[tuple[str, int, int], Requests] = {}
    """(model, version, status code) → its requests; version 0 where none answered."""
    unlogged: dict[str, int] = {}
    """Model → rows answered without a record."""
    outcomes: dict[tuple[str, str], int] = {}
    """(model, what became of it) → outcomes."""
    refused: dict[str, int] = {}
    """Reason → requests."""
    n_in_flight: int = 0
    """Predictions taken and not answered when the tally was poured: no sum of anything."""

    def count(self, model: str, version: int, code: int, seconds: float, n_rows: int) -> None:
        """One request that is answered."""
        key = model, version, code
        requests = self.requests.get(key)
        if requests is None:
            requests = self.requests[key] = Requests()
        requests.n_rows += n_rows
        requests.sum_s += seconds
        requests.n_within[bisect_left(BOUNDS_S, seconds)] += 1

    def count_unlogged(self, model: str, n_rows: int) -> None:
        """Rows that were answered without a record, as the model's policy allows."""
        self.unlogged[model] = self.unlogged.get(model, 0) + n_rows

    def count_outcomes(self, model: str, receipt: Receipt) -> None:
        """The outcomes of one request, by what became of each."""
        for status in ("accepted", "duplicate", "corrected", "early", "unknown"):
            self._add_outcomes((model, status), getattr(receipt, status))
        self._add_outcomes((model, "rejected"), len(receipt.rejected))

    def count_refused(self, reason: str) -> None:
        """A request that was refused; `reason` is one of our own error names, so that they are few."""
        self.refused[reason] = self.refused.get(reason, 0) + 1

    def add(self, other: Tally) -> None:
        """Count everything again that the other one has counted."""
        for key, theirs in other.requests.items():
            ours = self.requests.setdefault(key, Requests())
            ours.n_rows += theirs.n_rows
            ours.sum_s += theirs.sum_s
            ours.n_within = [a + b for a, b in zip(ours.n_within, theirs.n_within, strict=True)]
        for model, n_rows in other.unlogged.items():
            self.count_unlogged(model, n_rows)
        for target, n in other.outcomes.items():
            self._add_outcomes(target, n)
        for reason, n in other.refused.items():
            self.refused[reason] = self.refused.get(reason, 0) + n
        self.n_in_flight += other.n_in_flight

    def _add_outcomes(self, target: tuple[str, str], n: int) -> None:
        if n:
            self.outcomes[target] = self.outcomes.get(target, 0) + n
