"""What is counted a request, and added up over processes of which one is killed."""

from __future__ import annotations

import ast
import asyncio
import inspect
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from prometheus_client import Metric

from gateway.metrics import Tally, TallyPool
from gateway.metrics import tally as tally_module
from gateway.metrics.exposition import counted
from gateway.metrics.pool import tallies_folder
from gateway.metrics.tally import BOUNDS_S
from gateway.records import Receipt

Samples = dict[str, dict[tuple[tuple[str, str], ...], float]]

COUNTING = """
import asyncio, sys
from pathlib import Path
from gateway.metrics import Tally, TallyPool

tally = Tally()
pool = TallyPool(tally, Path(sys.argv[1]), int(sys.argv[2]), n_in_flight=lambda: 2)
for line in sys.stdin:  # so many requests are counted, and poured
    for _ in range(int(line)):
        tally.count("m", 1, 200, 0.25, 3)
    asyncio.run(pool.pour())
    print("poured", flush=True)
pool.close()
"""


class Counting:
    """A worker in a process of its own that counts what it is told to."""

    def __init__(self, folder: Path, writer: int) -> None:
        command = [sys.executable, "-c", COUNTING, str(folder), str(writer)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def count(self, n: int) -> None:
        """Count so many requests; returns when they are poured."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{n}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "poured\n"

    def kill(self) -> None:
        """Kill -9."""
        self.process.kill()
        self.process.communicate()

    def end(self) -> None:
        """End as it should."""
        self.process.communicate()
        assert self.process.returncode == 0


def samples(families: Iterable[Metric]) -> Samples:
    """Name → labels → value."""
    found: Samples = {}
    for family in families:
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def of(found: Samples, name: str, **labels: str) -> float:
    return found[name][tuple(sorted(labels.items()))]


def total(pool: TallyPool) -> Tally:
    return asyncio.run(pool.total())


# --- counting


def test_every_request_is_counted_once_under_what_it_was() -> None:
    tally = Tally()
    for _ in range(3):
        tally.count("m", 1, 200, 0.5, 2)
    tally.count("m", 2, 200, 0.25, 1)
    tally.count("m", 1, 422, 0.125, 0)
    tally.count("", 0, 404, 0.125, 0)
    found = samples(counted(tally))
    assert found["understudy_requests_total"] == {
        (("code", "404"), ("model", ""), ("version", "")): 1,
        (("code", "200"), ("model", "m"), ("version", "1")): 3,
        (("code", "422"), ("model", "m"), ("version", "1")): 1,
        (("code", "200"), ("model", "m"), ("version", "2")): 1,
    }
    assert found["understudy_rows_total"] == {
        (("model", "m"), ("version", "1")): 6,
        (("model", "m"), ("version", "2")): 1,
    }
    assert of(found, "understudy_request_duration_seconds_count", model="m") == 5
    assert of(found, "understudy_request_duration_seconds_sum", model="m") == 3 * 0.5 + 0.25 + 0.125


@pytest.mark.parametrize(
    ("took_s", "first"), [(0.0, "5e-05"), (50e-6, "5e-05"), (51e-6, "0.0001"), (10.0, "10.0"), (11.0, "+Inf")]
)
def test_a_duration_is_in_every_bucket_from_the_first_that_holds_it(took_s: float, first: str) -> None:
    tally = Tally()
    tally.count("m", 1, 200, took_s, 1)
    buckets = samples(counted(tally))["understudy_request_duration_seconds_bucket"]
    names = [*map(repr, BOUNDS_S), "+Inf"]
    held = {name: buckets[("le", name), ("model", "m")] for name in names}
    assert held == {name: float(names.index(name) >= names.index(first)) for name in names}


def test_outcomes_refusals_and_unlogged_rows_are_counted_by_what_became_of_them() -> None:
    tally = Tally()
    receipt = Receipt(accepted=5, duplicate=1, early=2, rejected=[{"index": 0, "reason": "x"}])
    tally.count_outcomes("m", receipt)
    tally.count_outcomes("m", Receipt(accepted=1, rejected=[]))
    tally.count_refused("unauthenticated")
    tally.count_unlogged("m", 4)
    found = samples(counted(tally))
    statuses = {dict(labels)["status"]: n for labels, n in found["understudy_outcomes_total"].items()}
    assert statuses == {"accepted": 6, "duplicate": 1, "early": 2, "rejected": 1}
    assert of(found, "understudy_refused_total", reason="unauthenticated") == 1
    assert of(found, "understudy_unlogged_total", model="m") == 4


def test_counting_touches_no_object_of_a_metrics_library() -> None:
    tree = ast.parse(inspect.getsource(tally_module))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported == {"__future__", "bisect", "msgspec", "gateway.records"}
    script = "import gateway.metrics, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert "gateway.metrics.tally" in loaded.split()
    assert "prometheus_client" not in loaded.split()


# --- adding up


def test_two_workers_add_up_exactly_with_one_killed_and_replaced(tmp_path: Path) -> None:
    tally = Tally()
    with tallies_folder(tmp_path) as folder:
        asked = TallyPool(tally, folder, 1, n_in_flight=lambda: 5)
        second, third = Counting(folder, 2), Counting(folder, 3)
        second.count(100)
        third.count(10)
        tally.count("m", 1, 200, 0.25, 3)
        seen = total(asked)
        assert (seen.requests["m", 1, 200].n, seen.requests["m", 1, 200].n_rows) == (111, 333)
        assert seen.requests["m", 1, 200].sum_s == 111 * 0.25
        assert seen.n_in_flight == 5 + 2 + 2
        second.kill()
        after = total(asked)
        assert after.requests == seen.requests  # what it had poured stays
        assert after.n_in_flight == 5 + 2  # what it had in flight does not
        fourth = Counting(folder, 4)
        fourth.count(1_000)
        third.count(10)
        assert total(asked).requests["m", 1, 200].n == 111 + 1_000 + 10
        third.end()
        fourth.end()
        last = total(asked)
        assert (last.requests["m", 1, 200].n, last.n_in_flight) == (1_121, 5)
        asked.close()
    assert not folder.exists()


def test_a_scrape_of_another_worker_never_tells_less_than_the_one_before(tmp_path: Path) -> None:
    one, other = Tally(), Tally()
    with tallies_folder(tmp_path) as folder:
        pools = [TallyPool(tally, folder, i, n_in_flight=lambda: 0) for i, tally in enumerate((one, other), 1)]
        one.count("m", 1, 200, 0.5, 1)
        assert total(pools[0]).requests["m", 1, 200].n == 1  # never poured but by this
        assert total(pools[1]).requests["m", 1, 200].n == 1
        for pool in pools:
            pool.close()


def test_a_worker_whose_folder_is_gone_still_tells_what_it_has_counted_itself(tmp_path: Path) -> None:
    tally = Tally()
    with tallies_folder(tmp_path) as folder:
        pool = TallyPool(tally, folder, 1, n_in_flight=lambda: 0)
    tally.count("m", 1, 200, 0.5, 1)
    assert total(pool).requests["m", 1, 200].n == 1
    pool.close()


def test_the_folder_of_a_killed_run_is_swept_away_and_that_of_a_living_one_is_not(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib; from gateway.metrics.pool import tallies_folder\n"
        "with tallies_folder(pathlib.Path(sys.argv[1])) as folder: print(folder, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        theirs = Path(run.stdout.readline().strip())
        with tallies_folder(tmp_path) as ours:
            assert theirs.is_dir()
            assert theirs != ours
        run.kill()
    assert theirs.is_dir()
    with tallies_folder(tmp_path):
        assert not theirs.exists()
    assert not list(tmp_path.iterdir())
