"""The process of a training: somebody else's code, which may write without end, hang, or outlive who started it."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from msgspec.structs import replace

from registry.recipe import Recipe, Triggers
from registry.types import Policy
from retrain.training.process import LAST_WORDS, LONGEST_LINE, READ_BYTES, READS_AT_ONCE, TrainingProcess, _read
from retrain.training.run import RESULT, Assignment, Refused, left_in
from retrain.training.runner import LEASE_S, Runner
from tests.actors import logistic
from tests.journals import until
from tests.retrain.training.tables import fitted, function
from tests.seasons import WEAK, lives
from tests.stage import DAY, ME, Stage, staged

LOGISTIC = fitted("sklearn.linear_model import LogisticRegression", "LogisticRegression()")
PROCESSES = multiprocessing.get_context("forkserver")


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Nine days of a model whose recipe's function is still to be written."""
    with staged(tmp_path / "store", retrain={"functions": str(tmp_path / "functions")}) as made:
        made.declare(Policy(maturity_s=float(DAY), n_slots=5))
        made.champion(logistic(WEAK))
        lives(made, range(9), {}, each_day=lambda _: made.close_all())
        yield made


def asked(stage: Stage, body: str) -> None:
    """Ask for a training by a function of this body."""
    recipe: Recipe = function(Path(stage.settings.retrain.functions or ""), body)["recipe"]
    stage.registry.trainings.set_recipe("m", replace(recipe, triggers=Triggers(min_outcomes=300)), by=ME)
    stage.registry.trainings.ask("m", "person:1", "person", "it is time", by=ME)


def begun(stage: Stage, folder: Path) -> TrainingProcess:
    """An attempt at the training that was asked for, by nobody in particular."""
    (training,) = stage.registry.trainings.all("m")
    return TrainingProcess(Assignment(stage.settings, training), folder)


FLOODS = """import os
while True:
    os.write({pipe}, b"x" * 65_536)
"""


@pytest.mark.parametrize("pipe", [1, 2])
def test_what_is_written_without_end_is_not_waited_for_nor_kept(stage: Stage, tmp_path: Path, pipe: int) -> None:
    asked(stage, FLOODS.format(pipe=pipe))
    process = begun(stage, tmp_path / "attempt")
    try:
        until(lambda: not process.listen() and len(process._last_words) == LAST_WORDS, "it has not written")
        for _ in range(50):
            process.listen()
        assert process.progress.startswith("fitting on the first")  # what it writes is not how far it is
        assert len(process._unread) <= LONGEST_LINE
        assert len(process._last_words) == LAST_WORDS
        assert not process.has_ended
    finally:
        process.end()


def test_no_more_is_read_at_once_than_a_look_may_take(tmp_path: Path) -> None:
    (tmp_path / "said").write_bytes(bytes(3 * READ_BYTES * READS_AT_ONCE))
    with (tmp_path / "said").open("rb", buffering=0) as pipe:
        assert len(_read(pipe)) == READ_BYTES * READS_AT_ONCE


def test_it_fails_at_its_limit_of_time_whatever_it_writes(stage: Stage) -> None:
    asked(stage, FLOODS.format(pipe=1))
    stage.settings = replace(stage.settings, retrain=replace(stage.settings.retrain, training_limit_s=3.0))
    with stage.training() as watch:
        until(lambda: not watch.step() and stage.registry.trainings.one("m", 1).is_over, "it is not over")
    sentence = stage.registry.trainings.one("m", 1).sentence
    assert sentence == "it took longer than 3 s (retrain.training_limit_s)"


def test_what_a_function_prints_and_reads_is_nothing_of_ours(stage: Stage) -> None:
    """Only its last words are told, where it ends without a result; stdin is at its end."""
    asked(stage, "print('99 %')\nimport sys\nassert sys.stdin.read() == ''\nimport os\nprint('so long')\nos._exit(3)")
    with stage.training() as watch:
        told = set[str]()

        def over() -> bool:
            watch.step()
            training = stage.registry.trainings.one("m", 1)
            told.add(training.progress)
            return training.is_over

        until(over, "it is not over")
    assert not [said for said in told if said == "99 %"]
    assert stage.registry.trainings.one("m", 1).sentence == "its process ended with code 3 (so long), 3 times"


def test_whoever_loses_the_lease_leaves_the_work_of_whoever_has_it(stage: Stage) -> None:
    asked(stage, LOGISTIC)
    now = datetime(2026, 3, 1, tzinfo=UTC)
    slow = Runner(stage.registry, stage.settings, wall=lambda: now)
    quick = Runner(stage.registry, stage.settings, wall=lambda: now + timedelta(seconds=LEASE_S + 1))
    try:
        until(lambda: slow.step() and slow.pid is not None, "nothing has begun")
        until(lambda: quick.step() and quick.pid is not None, "nobody has taken it over")
        assert slow.pid is not None
        os.kill(slow.pid, signal.SIGSTOP)  # it neither says anything nor ends: only time tells
        until(lambda: not slow.step(), "nobody has noticed")
        assert [folder.name for folder in (stage.folder / "trainings" / "m-1").iterdir() if folder.is_dir()] != []
        until(lambda: not quick.step(), "it is not over")
    finally:
        slow.close()
        quick.close()
    training = stage.registry.trainings.one("m", 1)
    assert (training.state, training.version, training.n_attempts) == ("registered", 2, 2)
    assert not list((stage.folder / "trainings").iterdir())


def test_a_result_that_cannot_be_read_is_a_refusal(tmp_path: Path) -> None:
    assert left_in(tmp_path) is None
    (tmp_path / RESULT).write_bytes(b"rubbish")
    refused = left_in(tmp_path)
    assert isinstance(refused, Refused)
    assert refused.sentence.startswith("what its process has left cannot be read: ")


def test_where_no_process_can_be_started_it_fails_in_one_sentence(stage: Stage) -> None:
    asked(stage, LOGISTIC)
    (stage.folder / "trainings").write_text("a file where a folder should be")
    with stage.training() as watch:
        until(lambda: not watch.step() and stage.registry.trainings.one("m", 1).is_over, "it is not over")
    sentence = stage.registry.trainings.one("m", 1).sentence
    assert sentence is not None
    assert sentence.startswith("its process could not be started: ")


HOLDS_THE_GIL = """import ctypes, os, pathlib
pathlib.Path({at!r}).write_text(str(os.getpid()))
ctypes.PyDLL(None).sleep(600)
"""


def test_native_code_that_lets_no_thread_run_ends_with_the_worker_that_was_killed(stage: Stage, tmp_path: Path) -> None:
    asked(stage, HOLDS_THE_GIL.format(at=str(tmp_path / "pid")))
    there, here = PROCESSES.Pipe()
    worker = PROCESSES.Process(target=_begin_and_wait, args=(stage.folder, stage.settings.retrain.functions, here))
    worker.start()
    until((tmp_path / "pid").exists, "its function was not reached")
    until(lambda: (tmp_path / "pid").read_text() != "", "its function was not reached")
    pid = int((tmp_path / "pid").read_text())
    assert is_running(pid)
    os.kill(worker.pid or 0, signal.SIGKILL)
    worker.join()
    try:
        until(lambda: not is_running(pid), "it has outlived its worker")
    finally:
        if is_running(pid):
            os.kill(pid, signal.SIGKILL)
    there.close()
    here.close()


def _begin_and_wait(folder: Path, functions: str, never: Connection) -> None:
    with staged(folder, retrain={"functions": functions}) as stage, stage.training() as watch:
        while not never.poll(0.01):
            watch.step()


def is_running(pid: int) -> bool:
    """Whether it is there and no zombie, which waits for nothing but to be counted."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
