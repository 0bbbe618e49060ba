"""Both kinds of metrics as text that Prometheus reads: base units, `_total` on what only grows, few labels.

The families are made anew at each scrape from what was counted and read; no object of prometheus_client lives longer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate

from msgspec import Struct
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from gateway.metrics.facts import FactFinder, JournalPart, Played, StoreFacts
from gateway.metrics.pool import TallyPool
from gateway.metrics.tally import BOUNDS_S, Requests, Tally

OPENMETRICS = "application/openmetrics-text"
Labelled = tuple[Sequence[str | int], float]
"""Label values, and what is measured there."""


class OfWorker(Struct, frozen=True):
    """What only the worker that is asked can say."""

    ready: bool
    release: str
    wal_limit_bytes: int


class Exposition:
    """The metrics of one worker and of all that it can see."""

    def __init__(
        self, pool: TallyPool, facts: FactFinder, *, ready: Callable[[], bool], release: str, wal_limit_bytes: int
    ) -> None:
        """`ready`: whether `/readyz` would say so. `wal_limit_bytes`: above it a log is cut back."""
        self._pool, self._facts, self._ready = pool, facts, ready
        self._release, self._wal_limit_bytes = release, wal_limit_bytes

    async def text(self, accept: str) -> tuple[bytes, str]:
        """The metrics now and their content type: OpenMetrics where `accept` names it, else Prometheus' own format.

        Never fails by a store that cannot be read: then it tells less, and `understudy_ready 0`.
        """
        total, found = await asyncio.gather(self._pool.total(), self._facts.read())
        said = OfWorker(self._ready() and found.readable, self._release, self._wal_limit_bytes)
        families = [*counted(total), *stored(found), *of_worker(said)]
        return await asyncio.to_thread(_rendered, families, OPENMETRICS in accept.lower())


class _Collected(Collector):
    """What prometheus_client renders: anything that can be asked for families."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """The families that were given."""
        return self._families


def _rendered(families: Sequence[Metric], as_openmetrics: bool) -> tuple[bytes, str]:
    # Their own choice of a format reads versions and escapings from the header, and raises where they are none;
    # our names need no escaping, so there are two formats to choose from.
    if as_openmetrics:
        text: bytes = openmetrics.generate_latest(_Collected(families))  # type: ignore[no-untyped-call]  # it has none
        return text, openmetrics.CONTENT_TYPE_LATEST
    return generate_latest(_Collected(families)), CONTENT_TYPE_PLAIN_0_0_4


def counted(tally: Tally) -> Iterator[Metric]:
    """What workers have counted."""
    requests = sorted(tally.requests.items())
    yield _counter(
        "understudy_requests_total", "Requests answered.", ("model", "version", "code"),
        (((model, version or "", code), of.n) for (model, version, code), of in requests),
    )  # fmt: skip
    yield _durations(requests)
    rows: dict[tuple[str, int], int] = {}
    for (model, version, _), of in requests:
        rows[model, version] = rows.get((model, version), 0) + of.n_rows
    yield _counter(
        "understudy_rows_total", "Rows predicted.", ("model", "version"), (item for item in rows.items() if item[1])
    )
    yield _gauge(
        "understudy_requests_in_flight", "Predictions taken and not answered yet.", (), [((), tally.n_in_flight)]
    )
    yield _counter(
        "understudy_unlogged_total", "Rows answered without a record, as the model's policy allows.", ("model",),
        (((model,), n) for model, n in sorted(tally.unlogged.items())),
    )  # fmt: skip
    yield _counter(
        "understudy_outcomes_total", "Outcomes received, by what became of them.", ("model", "status"),
        sorted(tally.outcomes.items()),
    )  # fmt: skip
    yield _counter(
        "understudy_refused_total", "Requests refused, by the error they were answered with.", ("reason",),
        (((reason,), n) for reason, n in sorted(tally.refused.items())),
    )  # fmt: skip


def _durations(requests: Iterable[tuple[tuple[str, int, int], Requests]]) -> Metric:
    of_model: dict[str, Requests] = {}
    for (model, _, _), of in requests:
        known = of_model.setdefault(model, Requests())
        known.sum_s += of.sum_s
        known.n_within = [a + b for a, b in zip(known.n_within, of.n_within, strict=True)]
    family = HistogramMetricFamily(
        "understudy_request_duration_seconds", "From the arrival of a request to its answer.", labels=["model"]
    )
    names = [*map(repr, BOUNDS_S), "+Inf"]
    for model, of in of_model.items():
        family.add_metric([model], list(zip(names, accumulate(of.n_within), strict=True)), of.sum_s)
    return family


def stored(found: StoreFacts) -> Iterator[Metric]:
    """What the stores say."""
    yield from _of_lineups(found.played)
    yield from _of_mirrors(found)
    yield from _of_evidence(found.played)
    yield from _of_journal(found.journal)


def _of_lineups(played: Sequence[Played]) -> Iterator[Metric]:
    champion = InfoMetricFamily("understudy_champion", "The version that answers.", labels=["model"])
    for one in played:
        champion.add_metric([one.lineup.model], {"version": str(one.lineup.champion)})
    yield champion
    yield _gauge(
        "understudy_generation", "The number of the lineup.", ("model",),
        (((one.lineup.model,), one.lineup.generation) for one in played),
    )  # fmt: skip
    yield _counter(
        "understudy_decisions_total", "Decisions about versions, by kind.", ("model", "kind"),
        (((one.lineup.model, kind), n) for one in played for kind, n in sorted(one.n_decisions.items())),
    )  # fmt: skip


def _of_mirrors(found: StoreFacts) -> Iterator[Metric]:
    entries = [((model, entry["version"]), entry) for model, entries in found.mirrors.items() for entry in entries]
    who = ("model", "version")
    yield _counter(
        "understudy_mirror_eligible_rows_total",
        "Rows of this reign that a challenger was given: as many as are scored, failed and skipped.", who,
        ((key, entry["mirror"]["eligible"]) for key, entry in entries),
    )  # fmt: skip
    yield _counter(
        "understudy_mirror_rows_total", "What became of the rows that a challenger was given.", (*who, "status"),
        (
            ((*key, status), entry["mirror"][status])
            for key, entry in entries
            for status in ("scored", "failed", "skipped")
        ),
    )  # fmt: skip
    yield _counter(
        "understudy_mirror_reasons_total", "Rows that were not scored, by reason.", (*who, "reason"),
        ((((*key, reason)), n) for key, entry in entries for reason, n in sorted(entry["mirror"]["reasons"].items())),
    )  # fmt: skip
    yield _gauge(
        "understudy_mirror_lag_seconds", "Age of the oldest prediction that a challenger was not given yet.", who,
        ((key, entry["lag_s"]) for key, entry in entries),
    )  # fmt: skip
    yield _gauge(
        "understudy_mirror_waiting_chunks", "Chunks that a challenger was not given yet.", who,
        ((key, entry["n_chunks_waiting"]) for key, entry in entries),
    )  # fmt: skip


EVIDENCE = (
    ("understudy_evidence_log_e", "log_e", "Evidence that the challenger is better: the logarithm of its e-value."),
    ("understudy_evidence_log_e_threshold", "log_e_threshold", "The logarithm of the e-value that promotes."),
    ("understudy_evidence_lower_bound", "low", "Least gain over the champion that is still believable."),
    ("understudy_evidence_upper_bound", "high", "Largest gain over the champion that is still believable."),
    ("understudy_evidence_outcomes", "n_matured", "Matured outcomes that the evidence rests on."),
    (
        "understudy_evidence_corrected_outcomes",
        "n_corrected",
        "Outcomes corrected after their cohort closed.",
    ),
    ("understudy_evidence_waiting_outcomes", "n_waiting", "Predictions whose outcome is not due yet."),
)
"""Gauges: a new reign starts all of them from nothing."""


def _of_evidence(played: Sequence[Played]) -> Iterator[Metric]:
    entries = [((one.lineup.model, entry["version"]), entry) for one in played for entry in one.judged]
    for name, member, meaning in EVIDENCE:
        samples = ((key, entry[member]) for key, entry in entries if entry.get(member) is not None)
        yield _gauge(name, meaning, ("model", "version"), samples)


def _of_journal(parts: Sequence[JournalPart]) -> Iterator[Metric]:
    yield _gauge(
        "understudy_journal_bytes", "Size of the journal's files with their write-ahead logs.", ("part",),
        (((part.name,), part.n_bytes) for part in parts),
    )  # fmt: skip
    yield _gauge(
        "understudy_journal_wal_bytes", "Size of the largest write-ahead log.", ("part",),
        (((part.name,), part.largest_wal_bytes) for part in parts),
    )  # fmt: skip
    yield _gauge(
        "understudy_journal_files", "Files of the journal.", ("part",), (((p.name,), p.n_files) for p in parts)
    )


def of_worker(said: OfWorker) -> Iterator[Metric]:
    """What is true of the worker that answers."""
    yield _gauge(
        "understudy_journal_wal_limit_bytes", "A write-ahead log above this size is cut back.", (),
        [((), said.wal_limit_bytes)],
    )  # fmt: skip
    yield _gauge(
        "understudy_ready", "1 where this worker would answer predictions and every store can be read.", (),
        [((), int(said.ready))],
    )  # fmt: skip
    yield InfoMetricFamily("understudy_build", "The release that runs.", {"version": said.release})


def _counter(name: str, meaning: str, labels: Sequence[str], samples: Iterable[Labelled]) -> Metric:
    family = CounterMetricFamily(name, meaning, labels=labels)
    for values, n in samples:
        family.add_metric([str(value) for value in values], n)
    return family


def _gauge(name: str, meaning: str, labels: Sequence[str], samples: Iterable[Labelled]) -> Metric:
    family = GaugeMetricFamily(name, meaning, labels=labels)
    for values, measured in samples:
        family.add_metric([str(value) for value in values], measured)
    return family
