"""While the journal cannot be written predictions are refused, reads go on; a moment afterwards all is as before.

the disk is full         a small file system that is filled, and given its space back
the file is locked       by another process that does not end its transaction
the reader does not end  a snapshot that is held while the writer goes on
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest
from msgspec.structs import replace

from gateway.config import JournalSettings
from gateway.journal import PredictionWriter, predictions_folder
from registry.types import Policy
from tests.actors import logistic
from tests.faults import Faults
from tests.journals import Journal, draft, journal_in, seqs
from tests.journals import until as until_soon
from tests.scenarios.checks import Acknowledged, gaps, lost
from tests.seasons import WEAK, rows_of
from tests.serving import Serve, serving, until
from tests.stage import Stage, staged

AGAIN_WITHIN_S = 1.0
Fault = Callable[[Path], AbstractContextManager[None]]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 48 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["/bin/mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", folder], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["/bin/umount", "-l", folder], check=True)


@contextmanager
def full(store: Path) -> Iterator[None]:
    """No byte of the disk is free until the end of the block."""
    filler = store.parent / "filler"
    with filler.open("wb", buffering=0) as file:
        for n_bytes in (1_048_576, 4_096, 1):
            try:
                while file.write(b"x" * n_bytes) == n_bytes:
                    pass
            except OSError:
                continue
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def locked(store: Path) -> Iterator[None]:
    """Another connection writes to the newest file of predictions, and does not end."""
    newest = max((store / "predictions").glob("*.db"), key=lambda path: path.stat().st_mtime)
    db = apsw.Connection(str(newest))
    db.set_busy_timeout(10_000)
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        db.close(True)


def asked(serve: Serve, n: int) -> tuple[int, dict[str, Any]]:
    a, b = rows_of(0)[0][n % 60].tolist()
    answer = serve.http.post("/models/m/predict", json={"inputs": {"a": a, "b": b}, "association_id": f"n{n}"})
    return answer.status_code, answer.json()


def refused_for_a_while(stage: Stage, serve: Serve, fault: Fault) -> tuple[list[Acknowledged], int, float]:
    """What was acknowledged all the while; how many were refused; seconds until one was taken again."""
    serve.ready()
    told: list[Acknowledged] = []

    def ask(n: int) -> int:
        status, said = asked(serve, n)
        assert status in (200, 503), said
        if status == 200:
            told.append(Acknowledged(said["prediction_id"], said["outputs"]))
        else:
            assert "journal_unavailable" in said["error"]
        return status

    for n in range(30):
        assert ask(n) == 200
    worker, n_refused = serve.worker("gateway").pid, 0
    with fault(stage.folder):
        for n in range(30, 230):
            n_refused += ask(n) == 503
            if n_refused == 10:
                break
        first = serve.get(f"/models/m/predictions/{told[0].prediction_id}")
        assert first["outputs"] == told[0].outputs
        assert serve.get("/livez")
    freed_s = time.monotonic()
    until(lambda: ask(1_000) == 200, "writing again")
    again_s = time.monotonic() - freed_s
    assert ask(1_001) == 200
    assert serve.worker("gateway").pid == worker  # nobody was started again
    return told, n_refused, again_s


def _story(folder: Path, fault: Fault) -> tuple[int, int, float]:
    with staged(folder, source="server") as stage:
        stage.declare(Policy(promotion="one"))
        stage.champion(logistic(WEAK))
        with serving(folder) as serve:
            told, n_refused, again_s = refused_for_a_while(stage, serve, fault)
            assert serve.stop() == 0
        assert n_refused == 10
        assert lost(folder, stage.registry.model("m"), told) == []
        assert gaps(stage) == []
    return len(told), n_refused, again_s


def _linked(tmp_path: Path, small_disk: Path) -> Path:
    """A store on the small disk whose log is elsewhere."""
    (small_disk / "store").mkdir()
    (tmp_path / "store").symlink_to(small_disk / "store")
    return tmp_path / "store"


def on_small_disk(small_disk: Path) -> Fault:
    return lambda _: full(small_disk / "store")


def test_a_full_disk_refuses_reads_on_and_writes_again_when_there_is_space(tmp_path: Path, small_disk: Path) -> None:
    *_, again_s = _story(_linked(tmp_path, small_disk), on_small_disk(small_disk))
    assert again_s < AGAIN_WITHIN_S


def test_a_locked_file_refuses_reads_on_and_writes_again_when_it_is_let_go(tmp_path: Path) -> None:
    *_, again_s = _story(tmp_path / "store", locked)
    assert again_s < AGAIN_WITHIN_S


@pytest.mark.slow
def test_a_disk_that_is_full_again_and_again(tmp_path: Path, small_disk: Path, chaos_times: int, kept: Faults) -> None:
    store, n = _linked(tmp_path, small_disk), max(2, chaos_times // 10)
    told, refused = 0, 0
    again: list[float] = []
    for _ in range(n):
        for path in store.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        n_told, n_refused, again_s = _story(store, on_small_disk(small_disk))
        told, refused, again = told + n_told, refused + n_refused, [*again, again_s]
    kept.record(
        "disk full, and space again",
        n,
        f"{refused} predictions refused with 503 `journal_unavailable`, reads answered, 0 of {told} acknowledged "
        f"missing; writing again after {max(again):.2f} s at most, without a restart",
        "a policy of `answer_unlogged` gave answers without an id",
    )


def test_the_control_that_answers_although_nothing_is_kept_says_so(tmp_path: Path, small_disk: Path) -> None:
    store = _linked(tmp_path, small_disk)
    with staged(store, source="server") as stage:
        stage.declare(replace(Policy(), unjournalled="answer_unlogged"))
        stage.champion(logistic(WEAK))
        with serving(store) as serve:
            serve.ready()
            assert asked(serve, 0)[1]["prediction_id"]
            with full(small_disk / "store"):
                answers = [asked(serve, n) for n in range(1, 200)]
            assert {status for status, _ in answers} == {200}
            assert answers[-1][1]["prediction_id"] is None
            n_kept = sum(said["prediction_id"] is not None for _, said in answers)
            assert serve.stop() == 0
        assert sum(head.n_rows for head, _ in stage.chunks()) == 1 + n_kept < 200


def test_a_reader_that_does_not_end_is_left_behind_with_its_log(tmp_path: Path) -> None:
    with journal_in(tmp_path) as journal:
        writer = journal.writer(checkpoint_s=0.005, max_wal_bytes=50_000, busy_s=30.0)
        writer.append([draft()])
        held = apsw.Connection(str(journal.predictions / "1.1.db"))
        held.execute("BEGIN; SELECT count(*) FROM chunk").get  # noqa: B018 (holds a snapshot)
        log = journal.predictions / "1.1.db-wal"
        until_soon(lambda: bool(writer.append([draft(city="x" * 10_000)])) and _n_files(journal) > 1, "another file")
        n_bytes = log.stat().st_size
        assert n_bytes > 4 * 50_000
        last = [writer.append([draft(city="x" * 10_000)]) for _ in range(100)][-1]
        assert log.stat().st_size == n_bytes  # the control is what it did until there was another file: it grew
        assert seqs(journal.reader(), writer.writer) == list(range(1, last.stop))
        held.close(True)
        until_soon(lambda: not log.exists() or log.stat().st_size <= 50_000, "the log is cut back")


def _n_files(journal: Journal) -> int:
    return len(list(journal.predictions.glob("*.db")))


def test_each_day_has_a_file_of_its_own(tmp_path: Path) -> None:
    with journal_in(tmp_path) as journal:
        ledger, today = journal.ledger(), [100]
        number, lock = ledger.new_writer("gateway", 0, predictions_folder(tmp_path))
        settings = JournalSettings(checkpoint_s=0.005)
        with closing(PredictionWriter(journal.predictions, number, lock, settings, lambda: today[0])) as writer:
            writer.append([draft()])
            assert _n_files(journal) == 1
            today[0] = 101
            until_soon(lambda: bool(writer.append([draft()])) and _n_files(journal) == 2, "a file for the day")
