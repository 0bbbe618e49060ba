"""A store that trains for itself: from closed cohorts to a challenger, in a process that may end at any moment."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from registry.recipe import Recipe, Triggers, Window
from registry.trainings import Training, TriggerKind
from registry.types import Policy, Principal, TrainingReport
from retrain.cycle import run_retrain
from retrain.training.watch import TrainingWatch
from tests.actors import logistic
from tests.journals import until
from tests.seasons import TRUTH, WEAK, lives, rows_of
from tests.stage import DAY, ME, Stage, at, staged

EVERY_WEEK = Recipe(triggers=Triggers(every_days=7, cool_down_days=1, min_outcomes=300))


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with staged(tmp_path / "store") as made:
        made.declare(Policy(maturity_s=float(DAY), n_slots=5))
        made.champion(logistic(WEAK))
        yield made


def settle(stage: Stage, watch: TrainingWatch) -> None:
    """Step until no training is under way, nor asked for."""

    def stepped() -> bool:
        return not watch.step() and all(training.is_over for training in stage.registry.trainings.all("m"))

    until(stepped, "a training is not over")


def begun(watch: TrainingWatch) -> int:
    """Step until a process trains; its number."""
    until(lambda: watch.step() and watch.runner.pid is not None, "no training has begun")
    assert watch.runner.pid is not None
    return watch.runner.pid


def closing(stage: Stage, watch: TrainingWatch) -> Callable[[int], None]:
    """What a retrain worker does each midnight: close what is due, and then train until nothing is under way."""
    cycle = stage.cycle()

    def each_day(_day: int) -> None:
        stage.close_all(cycle)
        watch.look_again()
        settle(stage, watch)
        stage.close_all(cycle)

    return each_day


def told(stage: Stage) -> list[tuple[int, str, int | None]]:
    return [(training.number, training.state, training.version) for training in stage.registry.trainings.all("m")]


def asked(stage: Stage, *, recipe: Recipe = EVERY_WEEK, days: int = 9) -> Training:
    """A training that somebody asks for after some days."""
    stage.registry.trainings.set_recipe("m", recipe, by=ME)
    lives(stage, range(days), {}, each_day=lambda _: stage.close_all())
    return stage.registry.trainings.ask("m", "person:1", "person", "it is time", by=ME)


def test_a_week_of_outcomes_becomes_a_challenger_without_a_person(stage: Stage) -> None:
    stage.registry.trainings.set_recipe("m", EVERY_WEEK, by=ME)
    with stage.training() as watch:
        lives(stage, range(10), {}, each_day=closing(stage, watch))
    (training,) = stage.registry.trainings.all("m")
    assert (training.state, training.kind, training.by, training.version) == ("registered", "calendar", "rule", 2)
    assert training.reason.startswith("7 days have passed since")
    version = stage.registry.version("m", 2)
    assert stage.registry.lineup("m").challengers == (2,)
    assert version.created_by == "rule"
    assert version.training is not None
    assert version.training.trained_until is not None
    assert version.training.trained_until < training.at  # all of it had matured by then
    assert stage.registry.drift.reference("m", 2) is not None
    outlook = stage.registry.trainings.outlook("m")
    assert outlook is not None
    assert outlook["sentence"].startswith("the next training is asked for on")
    assert not list((stage.folder / "trainings").iterdir())  # nothing is left lying about
    assert stage.registry.verified().faults == []


def test_the_same_days_give_the_same_trainings_and_the_same_bytes(stage: Stage, tmp_path: Path) -> None:
    with staged(tmp_path / "other") as other:
        other.declare(Policy(maturity_s=float(DAY), n_slots=5))
        other.champion(logistic(WEAK))
        for each in (stage, other):
            each.registry.trainings.set_recipe("m", EVERY_WEEK, by=ME)
            with each.training() as watch:
                lives(each, range(10), {}, each_day=closing(each, watch))
        assert told(stage) == told(other)
        assert stage.registry.version("m", 2).digest == other.registry.version("m", 2).digest


def test_a_cohort_is_judged_by_the_drift_of_every_day_that_had_ended_by_then(stage: Stage) -> None:
    """Whoever looks before the end of such a day is promised by its writer looks again."""
    by_drift = Triggers(every_days=7, min_outcomes=300, drift=True)
    stage.registry.trainings.set_recipe("m", Recipe(triggers=by_drift), by=ME)
    lives(stage, range(3), {}, each_day=lambda _: stage.close_all())
    stage.predict(3.5, rows_of(3)[0])
    stage.clock(4)
    stage.close_all()
    with stage.training() as watch:
        watch.step()
        assert stage.registry.trainings.outlook("m") is None
        stage.beat(4)
        watch.step()
        outlook = stage.registry.trainings.outlook("m")
    assert outlook is not None
    assert outlook["through"] == at(3).isoformat()


def test_rows_of_after_the_asking_are_not_learned_from(stage: Stage) -> None:
    training = asked(stage)
    lives(stage, range(9, 12), {}, each_day=lambda _: stage.close_all())
    with stage.training() as watch:
        settle(stage, watch)
    report = stage.registry.version("m", 2).training
    assert report is not None
    assert report.trained_until is not None
    assert report.trained_until <= training.at
    assert report.n_rows == 60 * 8  # of nine days the last had not matured


@pytest.mark.parametrize("attempts", [1, 3])
def test_a_training_that_is_killed_is_done_again_and_given_up_after_three(stage: Stage, attempts: int) -> None:
    asked(stage)
    with stage.training() as watch:
        for _ in range(attempts):
            os.kill(begun(watch), signal.SIGKILL)
            until(lambda: not watch.step(), "nobody has seen that it ended")
        settle(stage, watch)
    training = stage.registry.trainings.one("m", 1)
    if attempts == 1:
        assert (training.state, training.version, training.n_attempts) == ("registered", 2, 2)
    else:
        assert training.sentence == "its process was killed by SIGKILL, 3 times"
        assert len(stage.registry.versions("m")) == 1


def test_a_worker_that_ends_leaves_its_training_to_the_next(stage: Stage) -> None:
    asked(stage)
    with stage.training() as watch:
        pid = begun(watch)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert stage.registry.trainings.one("m", 1).state == "asked"
    with stage.training() as watch:
        settle(stage, watch)
    assert told(stage) == [(1, "registered", 2)]


@pytest.mark.parametrize(
    ("recipe", "retrain", "sentence"),
    [
        (replace(EVERY_WEEK, window=Window(days=4)), {}, "rows with an outcome: expected at least 300, got 240"),
        (EVERY_WEEK, {"training_limit_s": 0.01}, "it took longer than 0.01 s (retrain.training_limit_s)"),
        (EVERY_WEEK, {"training_memory_bytes": 268_435_456}, "memory"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_one_sentence_and_the_champion_answers_on(
    tmp_path: Path, recipe: Recipe, retrain: dict[str, float], sentence: str
) -> None:
    with staged(tmp_path / "store", retrain=retrain) as stage:
        stage.declare(Policy(maturity_s=float(DAY)))
        stage.champion(logistic(WEAK))
        asked(stage, recipe=recipe)
        with stage.training() as watch:
            settle(stage, watch)
        training, lineup = stage.registry.trainings.one("m", 1), stage.registry.lineup("m")
        assert training.state == "failed"
        assert training.sentence is not None
        assert sentence in training.sentence
        assert (lineup.champion, lineup.challengers, lineup.generation) == (1, (), 1)
        assert not list((stage.folder / "trainings").iterdir())


def test_as_many_of_the_futile_leave_as_must_in_one_step_with_the_one_that_comes(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person has enlisted one more than the recipe allows."""
    first, second = (stage.challenger(logistic(weights)) for weights in ((0.1, 0.1), (0.2, 0.1)))
    monkeypatch.setattr("retrain.training.runner.standings_of", lambda *_: {first: "no_difference", second: "worse"})
    asked(stage, recipe=replace(EVERY_WEEK, triggers=replace(EVERY_WEEK.triggers, max_challengers=1)))
    with stage.training() as watch:
        settle(stage, watch)
    assert stage.registry.trainings.one("m", 1).state == "registered"
    assert stage.registry.lineup("m").challengers == (4,)
    left = [(line.version, line.reason) for line in stage.registry.decisions("m") if line.kind == "retire"]
    assert left == [
        (second, "it is worse than the champion: it makes room for training 1"),
        (first, "it makes no difference worth having: it makes room for training 1"),
    ]


def test_the_calendar_counts_from_the_first_row_where_the_champion_came_by_another_clock(tmp_path: Path) -> None:
    """Whoever sets the caller's clock to the past has appointed a champion of today before."""
    with staged(tmp_path / "store") as stage:
        stage.declare(Policy(maturity_s=float(DAY)))
        stage._shown = at(900)
        stage.champion(logistic(WEAK))
        stage._shown = None
        stage.registry.trainings.set_recipe("m", EVERY_WEEK, by=ME)
        with stage.training() as watch:
            lives(stage, range(10), {}, each_day=closing(stage, watch))
        (training,) = stage.registry.trainings.all("m")
        assert training.reason == "7 days have passed since 4 October 2024"


def test_a_training_goes_on_while_cohorts_are_closed_without_end(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they are for minutes after a week's absence; its lease would be over in seconds."""
    asked(stage)
    stop = threading.Event()
    monkeypatch.setattr("retrain.cycle.Cycle.step", lambda _: True)
    worker = threading.Thread(target=run_retrain, args=(stage.settings, stop))
    worker.start()
    try:
        until(lambda: stage.registry.trainings.one("m", 1).is_over, "the training is not over")
    finally:
        stop.set()
        worker.join()
    assert told(stage) == [(1, "registered", 2)]


def test_a_version_that_is_no_other_is_not_registered_again(stage: Stage) -> None:
    asked(stage)
    with stage.training() as watch:
        settle(stage, watch)
        stage.registry.retire("m", 2, reason="by hand", by=ME)
        stage.registry.trainings.ask(
            "m", "person:2", "person", "once more", by=ME, at=stage.registry.trainings.one("m", 1).at
        )
        settle(stage, watch)
    assert stage.registry.trainings.one("m", 2).sentence == "it has learned nothing new: version 2 has the same bytes"
    assert stage.registry.lineup("m").challengers == ()


def test_where_all_may_still_win_nobody_is_added(stage: Stage) -> None:
    for weights in (TRUTH, (0.9, 0.9)):
        stage.challenger(logistic(weights))
    asked(stage)
    with stage.training() as watch:
        settle(stage, watch)
    assert stage.registry.trainings.one("m", 1).sentence == (
        "the recipe allows 2 challengers, and so many may still win: retire one"
    )


@pytest.mark.parametrize("who", ["rule", "person"])
def test_a_version_that_loses_its_backtest_takes_no_place_unless_a_person_wants_it(tmp_path: Path, who: str) -> None:
    """The champion knows the truth, and says until when it learned; sixty rows a day teach nobody better."""
    with staged(tmp_path / "store") as stage:
        stage.declare(Policy(maturity_s=float(DAY)))
        stage.champion(logistic(TRUTH), training=TrainingReport(n_rows=10_000, trained_until=at(-1)))
        stage.registry.trainings.set_recipe("m", replace(EVERY_WEEK, window=Window(n_rows=1_200)), by=ME)
        lives(stage, range(22), {}, each_day=lambda _: stage.close_all())
        kind: TriggerKind = "person" if who == "person" else "calendar"
        stage.registry.trainings.ask("m", "1", kind, "it is time", by=Principal(who))
        with stage.training() as watch:
            settle(stage, watch)
        training = stage.registry.trainings.one("m", 1)
        if who == "person":
            assert (training.state, stage.registry.lineup("m").challengers) == ("registered", (2,))
        else:
            assert training.state == "declined"
            assert training.sentence is not None
            assert training.sentence.startswith("on the latest 240 rows, which neither has learned from, it loses 0.")
            assert len(stage.registry.versions("m")) == 1
