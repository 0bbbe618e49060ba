"""The mirror: every eligible row of every challenger is scored or has a reason, exactly once, whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace

from gateway.chunk import unpack_outputs
from gateway.columns import Array
from gateway.journal import open_ledger
from gateway.records import MirrorCount
from gateway.shadow import Mirror
from registry.onnx_model import OnnxModel
from registry.types import Feature, InputSchema
from tests.actors import POISON, SCHEMA, hostile, logistic, signature
from tests.scenarios.checks import counted, kept_account
from tests.seasons import LEFT, RIGHT, TRUTH, WEAK, rows_of
from tests.serving import PATIENCE_S, until
from tests.stage import DAY, ME, PATIENT, Stage, staged


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A champion, nobody else yet."""
    with staged(tmp_path / "store") as made:
        made.declare()
        made.champion(logistic(WEAK))
        yield made


def poisoned(n: int, *guilty: int) -> Array:
    rows, _ = rows_of(0, n)
    rows[list(guilty), 1] = POISON
    return rows


def finish(mirror: Mirror) -> None:
    """Step until nothing is left, also past a pause."""
    deadline_s = time.monotonic() + PATIENCE_S
    while mirror.step():
        assert time.monotonic() < deadline_s


def finish_when(mirror: Mirror, holds: Callable[[], bool]) -> None:
    """Step until it holds, also past what is tried again later."""

    def stepped() -> bool:
        mirror.step()
        return holds()

    until(stepped, "the mirror has come so far")


def test_what_is_stored_is_what_the_version_answers_row_by_row(stage: Stage) -> None:
    number = stage.challenger(logistic(TRUTH))
    rows, _ = rows_of(0)
    stage.predict(0.1, rows[:7])
    stage.predict(0.2, rows[7:])
    stage.mirrored()
    version = stage.registry.version("m", number)
    expected = OnnxModel(stage.registry.artifact(version), version.signature).run({"a": rows[:, 0], "b": rows[:, 1]})
    found = []
    for head, _ in stage.chunks():
        shadow = stage.ledger.shadow_chunk(head.writer, head.seq, number)
        assert shadow is not None
        assert shadow.outputs is not None
        found.append(unpack_outputs(shadow.outputs, stage.ledger.layout(shadow.layout).outputs))
    together = np.concatenate([part["probabilities"] for part in found])
    np.testing.assert_allclose(together, expected["probabilities"].astype(np.float64), rtol=1e-5)
    assert np.concatenate([part["label"] for part in found]).tolist() == expected["label"].tolist()


def test_the_account_is_that_of_the_chunks_with_every_reason(stage: Stage) -> None:
    number = stage.challenger(hostile("raises"))
    stage.predict(0.1, poisoned(10, 3))
    stage.predict(0.2, poisoned(5), purpose="test")
    stage.predict(0.3, poisoned(8, 0, 7))
    stage.mirrored()
    assert kept_account(stage, number) == counted(stage, number) == MirrorCount(18, 15, 3, 0, {"error": 3})


def test_a_cursor_resumes_and_stores_nothing_twice(stage: Stage) -> None:
    number = stage.challenger(logistic(TRUTH))
    rows, _ = rows_of(0)
    for i in range(6):
        stage.predict(0.1 + i / 100, rows[i : i + 4])
    with stage.mirror(batch_rows=4) as mirror:
        finish_when(mirror, lambda: kept_account(stage, number).eligible >= 8)
    first = stage.statuses(number)
    assert 0 < len(first) < 24
    with stage.mirror(batch_rows=4) as mirror:
        finish(mirror)
    assert kept_account(stage, number) == counted(stage, number) == MirrorCount(24, 24, 0, 0, {})


def test_one_that_is_registered_later_is_eligible_from_its_generation_on(stage: Stage) -> None:
    rows, _ = rows_of(0)
    first = stage.challenger(logistic(LEFT))
    stage.predict(0.1, rows[:10])
    with stage.mirror() as mirror:
        finish(mirror)
        stage.predict(0.2, rows[:10])
        second = stage.challenger(logistic(RIGHT))
        stage.predict(0.3, rows[:7])
        finish(mirror)
    assert kept_account(stage, first) == counted(stage, first) == MirrorCount(27, 27, 0, 0, {})
    assert kept_account(stage, second) == counted(stage, second) == MirrorCount(7, 7, 0, 0, {})


def test_a_generation_that_the_mirror_has_not_heard_of_is_not_passed_over(stage: Stage) -> None:
    """A challenger comes and is served while the mirror is in the middle of a step, with the old lineup in its head."""
    rows, _ = rows_of(0)
    first = stage.challenger(logistic(LEFT))
    stage.predict(0.1, rows[:5])
    with stage.mirror() as mirror:
        mirror._refresh()
        late = stage.challenger(logistic(RIGHT))
        stage.predict(0.2, rows[:6])
        for seat in mirror._seats.values():
            mirror._served(seat, stage.reader.writers())  # the rest of that step
        finish(mirror)
    assert kept_account(stage, first) == counted(stage, first) == MirrorCount(11, 11, 0, 0, {})
    assert kept_account(stage, late) == counted(stage, late) == MirrorCount(6, 6, 0, 0, {})


def test_the_deposed_champion_is_mirrored_after_a_promotion_and_the_new_one_no_more(stage: Stage) -> None:
    rows, _ = rows_of(0)
    better = stage.challenger(logistic(TRUTH))
    stage.predict(0.1, rows[:10])
    stage.registry.promote("m", better, reason="by hand", by=ME)
    stage.predict(0.2, rows[:20])
    stage.mirrored()
    assert kept_account(stage, better) == counted(stage, better) == MirrorCount(10, 10, 0, 0, {})
    assert kept_account(stage, 1) == counted(stage, 1) == MirrorCount(20, 20, 0, 0, {})
    stage.registry.rollback("m", reason="by hand", by=ME)
    stage.predict(0.3, rows[:5])
    stage.mirrored()
    assert kept_account(stage, better).eligible == 10  # it is retired: nobody rolls back to it
    assert kept_account(stage, 1).eligible == 20


def test_a_retired_challenger_finishes_its_own_generations_and_then_stops(stage: Stage) -> None:
    rows, _ = rows_of(0)
    number = stage.challenger(logistic(TRUTH))
    stage.predict(0.1, rows[:10])
    with stage.mirror() as mirror:
        finish(mirror)
        stage.predict(0.2, rows[:10])
        stage.registry.retire("m", number, reason="enough", by=ME)
        stage.predict(0.3, rows[:30])
        (seat,) = mirror._seats.values()
        finish(mirror)
        assert seat.challenger.pid is None
        assert kept_account(stage, number) == counted(stage, number) == MirrorCount(20, 20, 0, 0, {})
        stage.registry.enlist("m", number, reason="again", by=ME)
        stage.predict(0.4, rows[:5])
        finish(mirror)
        assert kept_account(stage, number) == counted(stage, number) == MirrorCount(25, 25, 0, 0, {})


def test_rows_past_the_lag_limit_fail_as_lag_and_later_ones_are_scored(stage: Stage) -> None:
    rows, _ = rows_of(0)
    number = stage.challenger(logistic(TRUTH))
    stage.clock(0)
    stage.predict(0.1, rows[:10])
    stage.predict(2.0, rows[:20])
    stage.clock(2.05)
    stage.predict(2.04, rows[:5])
    stage.mirrored(lag_limit_s=DAY)
    assert kept_account(stage, number) == counted(stage, number) == MirrorCount(35, 25, 10, 0, {"lag": 10})
    assert stage.statuses(number) == ["lag"] * 10 + ["scored"] * 25


def test_a_resting_challenger_is_not_tried_but_lags_in_the_end(stage: Stage) -> None:
    number = stage.challenger(hostile("hoards"))
    stage.clock(0)
    stage.predict(0.1, poisoned(1, 0))
    with stage.mirror() as mirror:
        finish(mirror)
        stage.predict(0.2, poisoned(3))
        assert not mirror.step()  # it rests
        stage.clock(3)
        finish(mirror)
    assert kept_account(stage, number) == MirrorCount(4, 0, 4, 0, {"crashed": 1, "lag": 3})


def test_one_that_hangs_keeps_no_other_one_waiting(stage: Stage) -> None:
    rows, _ = rows_of(0)
    hanging, well = stage.challenger(hostile("loops")), stage.challenger(logistic(TRUTH))
    stage.predict(0.1, poisoned(1, 0))
    with stage.mirror(timeout_s=600.0) as mirror:
        finish_when(mirror, lambda: kept_account(stage, well).eligible == 1)
        for i in range(5):
            stage.predict(0.2 + i / 100, rows[:10])
            finish_when(mirror, partial(_given, stage, well, 11 + 10 * i))
        assert kept_account(stage, hanging) == MirrorCount()  # it is at its first row all the while
        began_s = time.monotonic()
    assert time.monotonic() - began_s < 10  # nobody waits for it in the end
    with stage.mirror(timeout_s=3.0, batch_rows=1) as mirror:
        finish_when(mirror, partial(_given, stage, hanging, 51))
    assert kept_account(stage, hanging) == counted(stage, hanging) == MirrorCount(51, 50, 1, 0, {"timeout": 1})


def _given(stage: Stage, version: int, n_rows: int) -> bool:
    return kept_account(stage, version).eligible == n_rows


def test_a_killed_child_loses_no_row(stage: Stage) -> None:
    number = stage.challenger(logistic(TRUTH))
    with stage.mirror() as mirror:
        for i in range(3):
            stage.predict(0.1 + i / 100, rows_of(i)[0])
            finish(mirror)
            (seat,) = mirror._seats.values()
            assert seat.challenger.pid is not None
            os.kill(seat.challenger.pid, signal.SIGSEGV)
    assert kept_account(stage, number) == counted(stage, number) == MirrorCount(180, 180, 0, 0, {})


def test_one_whose_artifact_is_damaged_waits_and_holds_nobody_up(stage: Stage) -> None:
    rows, _ = rows_of(0)
    broken, well = stage.challenger(logistic(LEFT)), stage.challenger(logistic(RIGHT))
    digest = stage.registry.version("m", broken).digest.removeprefix("sha256:")
    (file,) = stage.folder.glob(f"artifacts/**/{digest}")
    whole = file.read_bytes()
    file.write_bytes(b"x" + whole[1:])
    stage.clock(0)
    stage.predict(0.1, rows[:10])
    with stage.mirror() as mirror:
        finish(mirror)
        assert kept_account(stage, well) == MirrorCount(10, 10, 0, 0, {})
        assert kept_account(stage, broken).eligible == 0
        file.write_bytes(whole)
        finish_when(mirror, lambda: kept_account(stage, broken).eligible == 10)
        assert kept_account(stage, broken) == MirrorCount(10, 10, 0, 0, {})


def test_rows_from_before_a_feature_was_logged_lack_it_and_the_others_are_scored(stage: Stage) -> None:
    rows, _ = rows_of(0)
    stage.predict(0.1, rows[:4])
    longer = InputSchema((*SCHEMA.features, Feature("c", "float64", required=False, default=0.0)))
    model_bytes = logistic((1.0, 1.0))
    said = signature(model_bytes)
    takes = replace(said.inputs[0], features=("a", "c"))
    old = stage.lineups["m"]
    stage.registry.extend_schema("m", longer, by=ME)
    number = stage.challenger(model_bytes, said=replace(said, inputs=(takes,)))
    # a gateway that has heard of the lineup, but wrote by the old schema still
    stage.predict(0.2, rows[:3], serving=replace(old, lineup=stage.registry.lineup("m")))
    stage.predict(0.3, np.column_stack([rows[:5], np.zeros(5)]))
    stage.mirrored()
    assert kept_account(stage, number) == MirrorCount(8, 5, 3, 0, {"missing_feature": 3})


def test_several_challengers_have_cursors_of_their_own(stage: Stage) -> None:
    good, bad = stage.challenger(logistic(LEFT)), stage.challenger(hostile("answers nan"))
    stage.predict(0.1, poisoned(6, 2))
    stage.mirrored()
    assert kept_account(stage, good) == counted(stage, good) == MirrorCount(6, 6, 0, 0, {})
    assert kept_account(stage, bad) == counted(stage, bad) == MirrorCount(6, 5, 1, 0, {"invalid_answer": 1})
    assert stage.ledger.cursor("m", good) == stage.ledger.cursor("m", bad)


def test_chunks_of_several_writers_are_all_mirrored(stage: Stage) -> None:
    rows, _ = rows_of(0)
    number = stage.challenger(logistic(TRUTH))
    writers = [stage.another_writer() for _ in range(3)]
    for i in range(9):
        stage.predict(0.1 + i / 100, rows[:3], writer=writers[i % 3])
    writers[1].close()
    stage.mirrored()
    assert kept_account(stage, number) == counted(stage, number) == MirrorCount(27, 27, 0, 0, {})


def worker(stage: Stage) -> subprocess.Popen[bytes]:
    """A shadow worker in a process of its own, as `understudy shadow` runs it."""
    program = (
        "import sys, msgspec; from gateway.cli.role import run_role; from gateway.config import Settings; "
        "run_role('shadow', msgspec.json.decode(sys.argv[1], type=Settings))"
    )
    settings = msgspec.json.encode(stage.settings).decode()
    return subprocess.Popen([sys.executable, "-c", program, settings])


def test_a_second_worker_stands_by_and_takes_over_when_the_first_is_killed(stage: Stage) -> None:
    rows, _ = rows_of(0)
    number = stage.challenger(logistic(TRUTH))
    first = worker(stage)
    second = None
    try:
        stage.predict(0.1, rows[:5])
        with closing(open_ledger(stage.folder, PATIENT)) as ledger:
            until(lambda: bool(ledger.cursor("m", number)), "the first mirrors")
            second = worker(stage)
            first.kill()
            first.wait()
            stage.predict(0.2, rows[:6])
            until(lambda: kept_account(stage, number).eligible == 11, "the second has taken over")
        second.terminate()
        assert second.wait(20) == 0
    finally:
        for process in filter(None, (first, second)):
            process.kill()
            process.wait()
    assert kept_account(stage, number) == counted(stage, number) == MirrorCount(11, 11, 0, 0, {})
