"""Nothing acknowledged is lost, nothing is counted twice: kill -9 of every process, again and again, under load.

The control acknowledges before it commits. It runs against the same check, which must find what it loses.
"""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psutil  # type: ignore[import-untyped]  # it ships no types
import pytest
from msgspec import Struct
from msgspec.structs import replace

from registry.types import Model
from retrain.bucket import AsOf, BucketReader
from retrain.cohorts import matured_us
from retrain.reign import contenders_of
from tests.actors import logistic
from tests.faults import Faults
from tests.scenarios.checks import Acknowledged, counted, gaps, kept_account, lost
from tests.seasons import QUICK, TRUTH, WEAK, rows_of
from tests.serving import Serve, gone, serving, until
from tests.stage import Stage, at, staged

HOUR_S = 3_600
VICTIMS = ("gateway", "shadow", "retrain", "challenger")
READY_WITHIN_S = 5.0
"""In the median: on a full machine a single start takes as long as it takes."""
SETTINGS: dict[str, Any] = {
    "clock__source": "caller",
    "cohorts__bucket_s": HOUR_S,
    "retrain__poll_s": 0.02,
    "journal__heartbeat_s": 0.1,
    "shadow__lag_limit_s": 1e9,
    "shadow__batch_rows": 8,
}


class Load:
    """Predictions, outcomes and an advancing clock, in a thread; it remembers whatever was acknowledged.

    What fails is not acknowledged: predictions are given up, outcomes and the clock are tried again.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.predictions: list[Acknowledged] = []
        self.outcomes: list[Acknowledged] = []
        self.hour = 0
        self.n_failed = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        """No more; what was acknowledged is final then."""
        self._stop.set()
        self._thread.join()

    def goes_on(self, n: int) -> None:
        """Wait for so many more answers."""
        before = len(self.predictions)
        until(lambda: len(self.predictions) >= before + n, "the load goes on")

    def _run(self) -> None:
        rows: list[list[float]] = rows_of(0, 500)[0].tolist()
        n = 0
        with httpx.Client(timeout=30, trust_env=False) as http:
            while not self._stop.is_set():
                fresh: list[Acknowledged] = []
                for minute in range(12):
                    a, b = rows[n % len(rows)]
                    n += 1
                    when = at(0) + timedelta(hours=self.hour, minutes=minute)
                    body: dict[str, Any] = {
                        "inputs": {"a": a, "b": b},
                        "predicted_at": when.isoformat(),
                        "association_id": f"n{n}",
                    }
                    said = self._said(http, "/models/m/predict", body)
                    if said is not None:
                        fresh.append(Acknowledged(said["prediction_id"], said["outputs"]))
                        self.predictions.append(fresh[-1])
                self._report(http, fresh)
                self.hour += 1
                self._insist(http, "/admin/clock", {"now": (at(0) + timedelta(hours=self.hour)).isoformat()})

    def _report(self, http: httpx.Client, fresh: list[Acknowledged]) -> None:
        when = (at(0) + timedelta(hours=self.hour + 1)).isoformat()
        known: list[dict[str, Any]] = [{"prediction_id": told.prediction_id, "outcome": i % 2, "observed_at": when}
                 for i, told in enumerate(fresh)]  # fmt: skip
        if known and self._insist(http, "/models/m/outcomes", known):
            self.outcomes.extend(Acknowledged(entry["prediction_id"], None, entry["outcome"]) for entry in known)

    def _insist(self, http: httpx.Client, path: str, body: Any) -> bool:
        while not self._stop.is_set():
            if self._said(http, path, body) is not None:
                return True
        return False

    def _said(self, http: httpx.Client, path: str, body: Any) -> Any:
        try:
            response = http.post(self.url + path, json=body)
        except httpx.TransportError:
            self.n_failed += 1
            return None
        if response.status_code != 200:
            assert response.status_code == 503, response.text
            self.n_failed += 1
            return None
        return response.json()


class Killed(Struct):
    """How long it took until all was well again, for each kill."""

    ready_s: list[float] = []
    """From the end of a gateway, or of everything, to an answer of /readyz."""
    gone_s: list[float] = []
    """From the end of a supervisor to the end of all that it had started; test_supervisor holds it to a second."""


def kill_each(serve: Serve, load: Load, chance: random.Random, killed: Killed) -> None:
    """Kill -9 of one process of each kind, in any order, each after some progress."""
    for victim in chance.sample(VICTIMS, len(VICTIMS)):
        load.goes_on(10)
        if victim == "challenger":
            with suppress(psutil.NoSuchProcess):  # its worker was killed, and it with it
                until(lambda: serve.worker("shadow").children(), "a challenger")[0].kill()
            continue
        serve.kill(victim)  # type: ignore[arg-type]  # the rest of them are roles
        if victim == "gateway":
            killed.ready_s.append(_seconds_until_ready(serve))


def kill_everything(serve: Serve, load: Load, killed: Killed) -> None:
    """Kill -9 of the supervisor: whoever it had started ends by itself."""
    load.goes_on(10)
    family = psutil.Process(serve.process.pid).children(recursive=True)
    serve.process.kill()
    killed_s = time.monotonic()
    until(lambda: all(gone(process) for process in family), "nobody is left")
    killed.gone_s.append(time.monotonic() - killed_s)


def _seconds_until_ready(serve: Serve) -> float:
    began_s = time.monotonic()
    serve.ready()
    return time.monotonic() - began_s


def lived_through(stage: Stage, n_rounds: int) -> tuple[Load, Killed]:
    """So many times: serve, kill one of each kind, kill everything. The last time it is left to finish."""
    chance, killed = random.Random(9), Killed()
    load: Load | None = None
    try:
        for left in range(n_rounds, 0, -1):
            began_s = time.monotonic()
            with serving(stage.folder, **SETTINGS) as serve:
                serve.ready()
                killed.ready_s.append(time.monotonic() - began_s)
                if load is None:
                    load = Load(serve.url)
                load.url = serve.url
                kill_each(serve, load, chance, killed)
                if left > 1:
                    kill_everything(serve, load, killed)
                    continue
                load.goes_on(1)
                load.stop()
                _let_everything_mature(serve, load)
                assert serve.stop() == 0
    finally:
        if load is not None:
            load.stop()
    assert load is not None
    return load, killed


def _a_life(folder: Path, n_rounds: int) -> tuple[Load, Killed]:
    with staged(folder, bucket_s=HOUR_S) as stage:
        stage.declare(replace(QUICK, maturity_s=float(HOUR_S), promotion="one"))
        stage.champion(logistic(WEAK))
        challenger = stage.challenger(logistic(TRUTH))
        stage.clock(0)
        load, killed = lived_through(stage, n_rounds)
        _everything_adds_up(stage, challenger, load)
    assert statistics.median(killed.ready_s) < READY_WITHIN_S, killed.ready_s
    return load, killed


def test_promise_2_an_acknowledged_prediction_or_outcome_is_never_lost(tmp_path: Path) -> None:
    """Two kills of a process of each kind, one of them all; at the end everything adds up, exactly."""
    _a_life(tmp_path / "store", 2)


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_by_any_number_of_kills(tmp_path: Path, chaos_times: int, kept: Faults) -> None:
    load, killed = _a_life(tmp_path / "store", chaos_times)
    told = acknowledged_and_lost(tmp_path / "control", 50)
    kept.record(
        "kill -9 of gateway, shadow worker, challenger, retrain worker; then of the supervisor",
        chaos_times * len(VICTIMS) + len(killed.gone_s),
        f"0 of {len(load.predictions):,} acknowledged predictions and 0 of {len(load.outcomes):,} outcomes lost; "
        f"eligible = scored + failed + skipped; ready again after {statistics.median(killed.ready_s):.1f} s (median), "
        f"{max(killed.ready_s):.1f} s (most); all gone {statistics.median(killed.gone_s):.2f} s after the supervisor "
        f"(median), {max(killed.gone_s):.2f} s (most)",
        f"acknowledging before the commit lost {told[1]} of {told[0]}, at 10 kills",
    )


def acknowledged_and_lost(folder: Path, n: int) -> tuple[int, int]:
    """What the control has acknowledged, and what of it is lost, in ten lives."""
    told, missing = 0, 0
    for life in range(10):
        with staged(folder / str(life), source="server") as stage:
            stage.declare()
            stage.champion(logistic(WEAK))
            acknowledged = acknowledged_before_the_kill(stage, "early", n // 10)
            told += len(acknowledged)
            missing += len(lost(stage.folder, stage.registry.model("m"), acknowledged))
    assert missing > 0
    return told, missing


def _let_everything_mature(serve: Serve, load: Load) -> None:
    end = at(0) + timedelta(hours=load.hour + 2)
    serve.post("/admin/clock", {"now": end.isoformat()})
    serve.caught_up(within_s=600)
    through = (end - timedelta(hours=1)).isoformat()
    until(
        lambda: (serve.get("/admin/models/m/evidence")["closed_through"] or "") >= through, "all hours are closed", 600
    )


def _everything_adds_up(stage: Stage, challenger: int, load: Load) -> None:
    model = stage.registry.model("m")
    assert len(load.predictions) > 100
    assert len(load.outcomes) > 50
    assert load.n_failed > 0  # it was disturbed
    assert lost(stage.folder, model, load.predictions) == []
    assert lost(stage.folder, model, load.outcomes) == []
    assert gaps(stage) == []
    assert kept_account(stage, challenger) == counted(stage, challenger)
    assert set(kept_account(stage, challenger).reasons) <= {"crashed"}  # a row that was shot with its challenger
    _closed_buckets_are_those_of_the_journal(stage, model, challenger)


def _closed_buckets_are_those_of_the_journal(stage: Stage, model: Model, challenger: int) -> None:
    reign = stage.registry.reign("m")
    buckets = stage.registry.closed_buckets("m", reign.number)
    numbers = [bucket.bucket for bucket in buckets]
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    versions = {version.number: version for version in stage.registry.versions("m")}
    contenders = contenders_of(stage.registry.lineups("m"), model, reign, versions, HOUR_S, [])
    heads = [head for head, _ in stage.chunks()]
    n_rows = 0
    for bucket in buckets:
        upto = {int(writer): seq for writer, seq in bucket.prediction_cursor.items()}
        outcomes = {int(writer): seq for writer, seq in bucket.outcome_cursor.items()}
        mine = [h for h in heads if h.bucket == bucket.bucket and h.seq <= upto.get(h.writer, 0)]
        n_rows += sum(head.n_rows for head in mine)
        matured = matured_us(bucket.bucket, HOUR_S * 1_000_000, reign.policy)
        champion = versions[reign.champion].signature
        rows = BucketReader(stage.reader, stage.ledger, champion, reign.policy, AsOf(upto, outcomes, matured))
        assert rows.sums(mine, contenders) == bucket.sums
    document = stage.registry.evidence("m")
    assert document is not None
    assert n_rows + document["n_late_rows"] == sum(head.n_rows for head in heads)


# --- the check itself


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with staged(tmp_path / "store", source="server") as made:
        made.declare()
        made.champion(logistic(WEAK))
        yield made


def acknowledged_before_the_kill(stage: Stage, kind: str, n: int) -> list[Acknowledged]:
    """What a worker of that kind has acknowledged when it is killed with -9, right after its last word."""
    command = [sys.executable, "-m", "tests.scenarios.bare_worker", str(stage.folder), kind]
    root = Path(__file__).parents[2]
    told = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        for row in rows_of(1, n)[0].tolist():
            worker.stdin.write(msgspec.json.encode(row) + b"\n")
            worker.stdin.flush()
            told.append(msgspec.json.decode(worker.stdout.readline(), type=Acknowledged))
        worker.kill()
    return told


@pytest.mark.parametrize("n", [1, 5])
def test_a_worker_that_is_killed_right_after_its_acknowledgement_has_lost_nothing(stage: Stage, n: int) -> None:
    told = acknowledged_before_the_kill(stage, "after", n)
    assert len(told) == n
    assert lost(stage.folder, stage.registry.model("m"), told) == []


@pytest.mark.parametrize("n", [1, 5])
def test_the_control_that_acknowledges_before_its_commit_is_found_out(stage: Stage, n: int) -> None:
    told = acknowledged_before_the_kill(stage, "early", n)
    assert lost(stage.folder, stage.registry.model("m"), told) == told[-1:]


def test_the_check_finds_an_outcome_that_was_not_kept_and_an_answer_that_was_another(stage: Stage) -> None:
    (told,) = acknowledged_before_the_kill(stage, "after", 1)
    model = stage.registry.model("m")
    never = replace(told, outputs=None, outcome=1)
    assert lost(stage.folder, model, [never]) == [never]
    other = replace(told, outputs={"label": 7})
    assert lost(stage.folder, model, [other]) == [other]
