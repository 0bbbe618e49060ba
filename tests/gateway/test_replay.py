"""Replays at the mirror: past rows scored once, beside what is live, which goes first and never learns of them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from gateway.chunk import STATUSES, encode, unpack_outputs
from gateway.errors import Conflict, JournalDamaged
from gateway.journal import open_ledger, open_reader
from gateway.journal.sqlite import opened
from gateway.journal.survey import survey
from gateway.records import MirrorCount
from gateway.shadow import Mirror
from registry.onnx_model import OnnxModel
from registry.types import Replay, TrainingReport
from tests.actors import hostile, logistic
from tests.gateway.test_shadow import finish, finish_when, poisoned, worker
from tests.replays import asked
from tests.scenarios.checks import counted, kept_account
from tests.seasons import LEFT, RIGHT, TRUTH, WEAK, rows_of
from tests.serving import until
from tests.stage import ME, PATIENT, Stage, at, staged


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A champion, and ten days of its answers to six rows each."""
    with staged(tmp_path / "store") as made:
        made.declare()
        made.champion(logistic(WEAK))
        made.clock(0)
        for day in range(10):
            made.predict(day + 0.5, rows_of(day)[0][:6])
        yield made


def said(stage: Stage, replay: Replay) -> dict[int, list[str]]:
    """Seq → what became of each row of the chunk."""
    found = {}
    for head, _ in stage.chunks():
        shadow = stage.ledger.replayed.chunk(replay, head.writer, head.seq)
        if shadow is not None:
            found[head.seq] = [STATUSES[code] for code in shadow.status]
    return found


def test_the_rows_of_a_span_are_scored_as_the_version_answers_them_and_no_others(stage: Stage) -> None:
    number = stage.version(logistic(TRUTH))
    replay = asked(stage, number, 3, 7)
    stage.mirrored()
    assert stage.ledger.replayed.is_over(replay)
    assert said(stage, replay) == {seq: ["scored"] * 6 for seq in (4, 5, 6, 7)}
    assert stage.ledger.replayed.n_rows(replay) == {"scored": 24}
    version = stage.registry.version("m", number)
    model = OnnxModel(stage.registry.artifact(version), version.signature)
    for seq in (4, 5, 6, 7):
        rows = rows_of(seq - 1)[0][:6]
        shadow = stage.ledger.replayed.chunk(replay, 1, seq)
        assert shadow is not None
        assert shadow.outputs is not None
        found = unpack_outputs(shadow.outputs, stage.ledger.layout(shadow.layout).outputs)
        expected = model.run({"a": rows[:, 0], "b": rows[:, 1]})
        np.testing.assert_allclose(found["probabilities"], expected["probabilities"].astype(np.float64), rtol=1e-5)
    assert stage.statuses(number) == []  # nothing stands where live challengers' answers do


def test_a_span_ends_where_its_rows_do_and_not_where_chunks_or_buckets_do(stage: Stage) -> None:
    number = stage.version(logistic(TRUTH))
    replay = asked(stage, number, 3.5, 6.5)  # its bounds are rows' own times: the first is in it, the last is not
    stage.mirrored()
    assert said(stage, replay) == {4: ["scored"] * 6, 5: ["scored"] * 6, 6: ["scored"] * 6, 7: ["not_asked"] * 6}


def test_rows_of_the_training_window_are_not_scored_also_within_a_chunk(stage: Stage) -> None:
    report = TrainingReport(n_rows=1, trained_from=at(2.55), trained_until=at(5.5))
    number = stage.version(logistic(TRUTH), training=report)
    stage.predict(2.5, rows_of(50)[0][:3], stamped=9.9)  # predicted on day 2, recorded on day 9
    replay = asked(stage, number, 0, 10, trained_until=None)
    stage.mirrored()
    became = said(stage, replay)
    assert became[3] == ["scored"] * 6  # day 2.5: before what it learned from
    assert became[4] == became[5] == became[6] == ["in_training"] * 6
    assert became[7] == ["scored"] * 6
    assert became[11] == ["scored"] * 3
    assert stage.ledger.replayed.n_rows(replay) == {"scored": 45, "in_training": 18}


def test_of_a_chunk_that_straddles_the_window_only_the_other_rows_are_asked(stage: Stage) -> None:
    """Poison lies in the window and outside of the span: whoever asked for those rows would be told of an error."""
    number = stage.version(hostile("raises"))
    rows = poisoned(6, 1, 2, 5)
    stage.predict(20.9, rows, spread=[20.5, 20.1, 20.2, 20.7, 20.8, 20.9])
    stage.predict(20.9, poisoned(2), spread=[20.2, 20.3])
    replay = asked(stage, number, 20.1, 20.85, trained_until=20.2)
    stage.mirrored()
    asked_of = ["scored", "in_training", "in_training", "scored", "scored", "not_asked"]
    assert said(stage, replay) == {11: asked_of, 12: ["in_training", "scored"]}
    shadow = stage.ledger.replayed.chunk(replay, 1, 11)
    assert shadow is not None
    assert shadow.outputs is not None
    found = unpack_outputs(shadow.outputs, stage.ledger.layout(shadow.layout).outputs)["probabilities"][:, 1]
    expected = 1 / (1 + np.exp(-rows[:, 0]))
    np.testing.assert_allclose(found[[0, 3, 4]], expected[[0, 3, 4]], rtol=1e-5)
    assert np.isnan(found[[1, 2, 5]]).all()


def test_generations_in_which_it_plays_are_its_evidence_and_not_replayed(stage: Stage) -> None:
    rows = rows_of(0)[0]
    number = stage.challenger(logistic(TRUTH))
    stage.predict(11, rows[:9])
    stage.registry.promote("m", number, reason="by hand", by=ME)
    stage.predict(12, rows[:8])
    stage.registry.rollback("m", reason="by hand", by=ME)
    stage.predict(13, rows[:7])
    stage.predict(13, rows[:5], purpose="test")
    replay = asked(stage, number, 0, 14)
    stage.mirrored()
    assert sorted(said(stage, replay)) == [*range(1, 11), 13]
    assert stage.ledger.replayed.n_rows(replay) == {"scored": 67}


def test_the_account_of_the_mirror_is_the_same_with_a_replay_and_without(stage: Stage) -> None:
    number = stage.challenger(hostile("raises"))
    stage.predict(11, poisoned(10, 3))
    replay = asked(stage, number, 0, 12)
    stage.mirrored()
    assert stage.ledger.replayed.n_rows(replay) == {"scored": 60}
    assert kept_account(stage, number) == counted(stage, number) == MirrorCount(10, 9, 1, 0, {"error": 1})
    again = asked(stage, stage.version(logistic(TRUTH)), 0, 12)  # also of somebody else, after the first
    stage.mirrored()
    assert stage.ledger.replayed.n_rows(again) == {"scored": 70}
    assert kept_account(stage, number) == counted(stage, number) == MirrorCount(10, 9, 1, 0, {"error": 1})


def test_what_a_version_fails_at_is_told_and_the_rest_is_scored(stage: Stage) -> None:
    number = stage.version(hostile("raises"))
    stage.predict(11, poisoned(10, 3))
    replay = asked(stage, number, 11, 12)
    stage.mirrored()
    assert stage.ledger.replayed.n_rows(replay) == {"scored": 9, "error": 1}


def test_the_past_is_never_too_old(stage: Stage) -> None:
    stage.clock(400)
    number = stage.challenger(logistic(TRUTH))
    stage.predict(0.7, rows_of(0)[0][:5], stamped=10)  # live, and lagging by a year
    replay = asked(stage, number, 0, 10)
    stage.mirrored()
    assert stage.ledger.replayed.n_rows(replay) == {"scored": 60}
    assert kept_account(stage, number) == MirrorCount(5, 0, 5, 0, {"lag": 5})


# --- what is live goes first


def first_come(stage: Stage, mirror: Mirror, *versions: Callable[[], int]) -> list[int]:
    """How many rows each had been given when the last of them was through."""
    finish_when(mirror, lambda: versions[-1]() == 60)
    return [n_rows() for n_rows in versions]


def test_a_replay_waits_while_anything_live_does(stage: Stage) -> None:
    live = stage.challenger(logistic(LEFT))
    for day in range(10, 20):
        stage.predict(day + 0.5, rows_of(day)[0][:6])
    replay = asked(stage, stage.version(logistic(RIGHT)), 0, 10)
    with stage.mirror(batch_rows=6) as mirror:
        replayed, given = first_come(
            stage,
            mirror,
            lambda: sum(stage.ledger.replayed.n_rows(replay).values()),
            lambda: kept_account(stage, live).eligible,
        )
        assert (replayed, given) == (0, 60)
        finish(mirror)
    assert stage.ledger.replayed.is_over(replay)


def test_control_one_more_live_challenger_would_have_had_its_turns(stage: Stage) -> None:
    """The same two versions, both live: the first is given batches before the other one is through."""
    live, other = stage.challenger(logistic(LEFT)), stage.challenger(logistic(RIGHT))
    with stage.mirror(batch_rows=2) as mirror:
        finish(mirror)  # by now there are processes of both
        for day in range(10, 20):
            stage.predict(day + 0.5, rows_of(day)[0][:6])
        beside, given = first_come(
            stage, mirror, lambda: kept_account(stage, other).eligible, lambda: kept_account(stage, live).eligible
        )
    assert given == 60
    assert beside > 0


def test_a_version_that_hangs_in_a_replay_keeps_nothing_live_waiting(stage: Stage) -> None:
    well = stage.challenger(logistic(TRUTH))
    stage.predict(11, poisoned(1, 0))
    hanging = stage.version(hostile("loops"))
    replay = asked(stage, hanging, 11, 12)
    with stage.mirror(timeout_s=600.0) as mirror:
        finish_when(mirror, lambda: any(seat.is_asked for seat in mirror._replays.values()))
        for i in range(5):
            stage.predict(12 + i / 100, rows_of(i)[0][:10])
            finish_when(mirror, lambda n=11 + 10 * i: kept_account(stage, well).eligible == n)  # type: ignore[misc]
        assert stage.ledger.replayed.n_rows(replay) == {}  # it is at its first row all the while
        began_s = time.monotonic()
    assert time.monotonic() - began_s < 10


# --- what happens to it


def test_a_killed_worker_goes_on_at_its_cursor_and_nothing_is_stored_twice(stage: Stage) -> None:
    number = stage.version(logistic(TRUTH))
    for i in range(200):
        stage.predict(10 + i / 1000, rows_of(i)[0][:6])
    replay = asked(stage, number, 0, 11)
    stage.settings = replace(stage.settings, shadow=replace(stage.settings.shadow, batch_rows=6))
    first, n_rows = worker(stage), 0
    try:
        until(lambda: stage.ledger.replayed.n_rows(replay), "the first worker scores")
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        n_rows = stage.ledger.replayed.n_rows(replay)["scored"]
        assert n_rows == sum(map(len, said(stage, replay).values()))
    finally:
        first.kill()
        first.wait()
    assert 0 < n_rows < 1260
    stage.mirrored()
    assert stage.ledger.replayed.n_rows(replay) == {"scored": 1260}
    assert sum(map(len, said(stage, replay).values())) == 1260


def test_a_second_worker_finds_the_cursor_moved_and_stores_nothing(stage: Stage) -> None:
    replay = asked(stage, stage.version(logistic(TRUTH)), 0, 10)
    before = stage.ledger.replayed.cursor(replay)
    stage.mirrored()
    other = open_ledger(stage.folder, PATIENT)
    layout = stage.reader.layout(1, stage.chunks()[0][1].layout)
    with pytest.raises(Conflict, match=r"moved the cursor of replay 1 of 'm'"):
        other.replayed.store(replay, [], layout, before, before)
    other.close()
    assert stage.ledger.replayed.is_over(replay)


def test_its_child_ends_with_it_and_it_is_let_go_when_the_registry_ends_it(stage: Stage) -> None:
    replay = asked(stage, stage.version(logistic(TRUTH)), 0, 10)
    with stage.mirror() as mirror:
        finish(mirror)
        ((_, seat),) = mirror._replays.items()
        assert seat.challenger.pid is None
        stage.registry.replays.end(replay, "done", {})
        finish(mirror)
        assert mirror._replays == {}


def test_where_a_writer_cannot_be_read_nothing_is_replayed(stage: Stage) -> None:
    stage.writer.close()
    (file,) = stage.folder.glob("predictions/1.*.db")
    file.write_bytes(b"x" * 4096)
    for beside in stage.folder.glob("predictions/1.*.db-*"):
        beside.unlink()
    number = stage.version(logistic(TRUTH))
    with staged(stage.folder) as again, pytest.raises(JournalDamaged, match="nothing is replayed while"):
        asked(again, number, 0, 10)


def test_rows_whose_inputs_were_erased_are_skipped_and_the_others_scored(stage: Stage) -> None:
    chunk = stage.reader.chunk(1, 4)
    with closing(opened(stage.folder / "predictions" / "1.1.db")) as db:
        erased = encode(replace(chunk, inputs=None, erased=True))
        db.execute("UPDATE chunk SET body = ? WHERE seq = 4", (erased,))
    with closing(open_reader(stage.folder)) as reader:
        assert reader.chunk(1, 4).erased
    replay = asked(stage, stage.version(logistic(TRUTH)), 3, 5)
    with closing(open_reader(stage.folder)) as stage.reader:
        stage.mirrored()
        assert said(stage, replay) == {4: ["expired"] * 6, 5: ["scored"] * 6}


def test_a_replayed_chunk_that_is_damaged_is_told_by_the_survey(stage: Stage) -> None:
    asked(stage, stage.version(logistic(TRUTH)), 3, 5)
    stage.mirrored()
    assert survey(stage.folder).faults == []
    stage.ledger._db.execute("UPDATE replayed_chunk SET body = substr(body, 1, 30) WHERE seq = 4")
    (fault,) = survey(stage.folder).faults
    assert fault == (
        "journal.db: replay 1 of 'm' on chunk 4 of writer 1: a chunk of 30 bytes does not match its checksum"
    )
