"""Recipes and trainings in the registry: asked once a trigger, done by one, ended with what came of it."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from registry.errors import LeaseLost, NoChampion, SchemaRefused, UnknownModel, UnknownTraining
from registry.recipe import Recipe, Triggers, Window
from registry.store import Registry
from registry.trainings import MOST_ATTEMPTS, Training
from registry.types import InputSchema, Policy, Principal

ANN, RULE = Principal("ann"), Principal.the_rule()
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SOON, LATER = NOW + timedelta(seconds=15), NOW + timedelta(seconds=16)


@pytest.fixture
def loans(registry: Registry, schema: InputSchema, trained: Mapping[str, bytes]) -> Registry:
    registry.create_model("loans", schema, "binary", by=ANN)
    registry.register("loans", trained["linear"], "champion", by=ANN, score="probabilities:1")
    return registry


def asked(registry: Registry, trigger: str = "calendar:1") -> Training:
    return registry.trainings.ask("loans", trigger, "calendar", "a month has passed", by=RULE)


def claimed(registry: Registry, holder: str = "one", now: datetime = NOW, until: datetime = SOON) -> Training:
    training = registry.trainings.claim(holder, now=now, until=until)
    assert training is not None
    return training


def test_a_recipe_is_given_taken_back_and_told_of(loans: Registry) -> None:
    assert loans.trainings.recipe("loans") is None
    recipe = Recipe(estimator="random_forest", triggers=Triggers(every_days=30))
    loans.trainings.set_recipe("loans", recipe, by=ANN)
    assert loans.trainings.recipe("loans") == recipe
    n_lines = len(loans.audit())
    loans.trainings.set_recipe("loans", recipe, by=ANN)
    assert len(loans.audit()) == n_lines  # nothing was changed
    loans.trainings.set_recipe("loans", None, by=ANN, reason="by hand again")
    assert loans.trainings.recipe("loans") is None
    assert loans.verified().faults == []


def test_a_function_stands_beside_its_estimator_and_no_other(loans: Registry) -> None:
    for recipe in (Recipe(estimator="function"), Recipe(function="late.py:fit")):
        with pytest.raises(SchemaRefused, match="beside the estimator `function`"):
            loans.trainings.set_recipe("loans", recipe, by=ANN)


def test_a_window_of_fewer_rows_than_a_training_needs_is_refused(loans: Registry) -> None:
    with pytest.raises(SchemaRefused, match=r"window.n_rows: expected 1,000 or more, as triggers.min_outcomes has it"):
        loans.trainings.set_recipe("loans", Recipe(window=Window(n_rows=999)), by=ANN)
    loans.trainings.set_recipe("loans", Recipe(window=Window(n_rows=1_000)), by=ANN)


@pytest.mark.parametrize(
    ("kind", "document"),
    [
        (Recipe, "[triggers]\nevery_days = 1e12"),
        (Recipe, "[triggers]\ncool_down_days = inf"),
        (Recipe, "[window]\ndays = nan"),
        (Policy, "maturity_s = 1e15"),
        (Policy, "cool_down_s = inf"),
        (Policy, "min_span_days = 36526"),
    ],
)
def test_a_time_for_which_no_calendar_has_room_is_refused_where_it_is_said(kind: type, document: str) -> None:
    """A worker that adds it to a date would end with an error, at every start."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.toml.decode(document, type=kind)


def test_nothing_is_trained_that_has_nobody_to_challenge(registry: Registry, schema: InputSchema) -> None:
    with pytest.raises(UnknownModel):
        asked(registry)
    registry.create_model("loans", schema, "binary", by=ANN)
    with pytest.raises(NoChampion):
        asked(registry)


def test_a_trigger_asks_once(loans: Registry) -> None:
    first = asked(loans)
    assert asked(loans) == first
    assert asked(loans, "calendar:2").number == 2
    assert [training.number for training in loans.trainings.all("loans")] == [1, 2]
    with pytest.raises(UnknownTraining, match="has no training 3"):
        loans.trainings.one("loans", 3)


def test_one_training_is_done_at_a_time_by_one(loans: Registry, tmp_path: Path, now: Callable[[], datetime]) -> None:
    asked(loans), asked(loans, "calendar:2")
    mine = claimed(loans)
    with Registry.open(tmp_path / "store", now=now) as another:
        assert another.trainings.claim("two", now=NOW, until=SOON) is None
        loans.trainings.fail(mine, "too few rows")
        assert claimed(another, "two").number == 2


def test_a_lease_of_a_clock_that_was_ahead_keeps_nobody_waiting(loans: Registry) -> None:
    asked(loans)
    ahead = NOW + timedelta(days=400)
    claimed(loans, now=ahead, until=ahead + timedelta(seconds=15))
    assert claimed(loans, "two").holder == "two"
    assert loans.trainings.claim("three", now=NOW - timedelta(seconds=14), until=SOON - timedelta(seconds=14)) is None


def test_a_lease_that_was_not_renewed_is_anybodys_and_only_theirs(loans: Registry) -> None:
    asked(loans)
    mine = claimed(loans)
    loans.trainings.renew(mine, until=SOON, progress="fitting")
    theirs = claimed(loans, "two", now=LATER, until=LATER + timedelta(seconds=15))
    assert (theirs.number, theirs.n_attempts, theirs.progress) == (1, 2, "fitting")
    said: list[Callable[[], None]] = [
        lambda: loans.trainings.renew(mine, until=LATER, progress=""),
        lambda: loans.trainings.fail(mine, "no"),
        lambda: loans.trainings.give_back(mine, "killed"),
        lambda: loans.trainings.release(mine),
    ]
    for say in said:
        with pytest.raises(LeaseLost, match="training 1 of 'loans' is not, or no longer, done by one"):
            say()


def test_a_process_that_ends_without_a_word_is_tried_again_and_then_no_more(loans: Registry) -> None:
    asked(loans)
    for attempt in range(1, MOST_ATTEMPTS + 1):
        training = claimed(loans)
        assert training.n_attempts == attempt
        loans.trainings.give_back(training, "killed by SIGKILL")
    assert loans.trainings.claim("one", now=NOW, until=SOON) is None
    over = loans.trainings.one("loans", 1)
    assert (over.state, over.sentence) == ("failed", "killed by SIGKILL, 3 times")


def test_a_worker_that_ends_again_and_again_does_not_begin_for_ever(loans: Registry) -> None:
    asked(loans)
    at = NOW
    for _ in range(MOST_ATTEMPTS):
        claimed(loans, now=at, until=at + timedelta(seconds=15))
        at += timedelta(seconds=16)
    assert loans.trainings.claim("one", now=at, until=at) is None
    sentence = loans.trainings.one("loans", 1).sentence
    assert sentence == "whoever did it has ended before it was done, 3 times"


def test_a_worker_that_is_told_to_end_has_not_tried(loans: Registry) -> None:
    asked(loans)
    for _ in range(2 * MOST_ATTEMPTS):
        training = claimed(loans)
        assert training.n_attempts == 1
        loans.trainings.release(training)


def test_a_version_and_the_end_of_its_training_are_one_transaction(
    loans: Registry, trained: Mapping[str, bytes]
) -> None:
    loans.register("loans", trained["other"], "challenger", by=ANN, score="probabilities:1")
    asked(loans)
    mine = claimed(loans)
    theirs = claimed(loans, "two", now=LATER, until=LATER)
    with pytest.raises(LeaseLost):
        loans.register(
            "loans", trained["forest"], "challenger", by=RULE, score="probabilities:1", of=mine, leaving={2: "it loses"}
        )
    assert len(loans.versions("loans")) == 2
    assert loans.lineup("loans").challengers == (2,)  # it has not left for what never came
    version = loans.register(
        "loans", trained["forest"], "challenger", by=RULE, reason="training 1", score="probabilities:1", reference=b"r",
        of=theirs, leaving={1: "it reigns, and stays", 2: "it loses"},
    )  # fmt: skip
    over = loans.trainings.one("loans", 1)
    assert (over.state, over.version, over.sentence, over.is_over) == ("registered", version.number, "training 1", True)
    lineup = loans.lineup("loans")
    assert (lineup.champion, lineup.challengers) == (1, (version.number,))
    assert [decision.reason for decision in loans.decisions("loans") if decision.kind == "retire"] == ["it loses"]
    assert loans.drift.reference("loans", version.number) == b"r"
    assert loans.verified().faults == []


def test_what_could_not_win_is_over_and_nothing_has_failed(loans: Registry) -> None:
    asked(loans)
    loans.trainings.decline(claimed(loans), "it loses more")
    over = loans.trainings.one("loans", 1)
    assert (over.state, over.version, over.sentence, over.is_over) == ("declined", None, "it loses more", True)
    assert loans.verified().faults == []


def test_an_outlook_takes_the_place_of_the_one_before(loans: Registry) -> None:
    assert loans.trainings.outlook("loans") is None
    for sentence in ("nothing asks", "a month has passed"):
        loans.trainings.save_outlook("loans", {"sentence": sentence})
    assert loans.trainings.outlook("loans") == {"sentence": "a month has passed"}
    asked(loans)
    training = claimed(loans)
    loans.trainings.save_outlook("loans", {"sentence": "training 1 is under way"})
    loans.trainings.fail(training, "no")
    assert loans.trainings.outlook("loans") is None  # it is over, and nobody has looked since


def test_what_nobody_answered_for_takes_its_recipe_along(registry: Registry, schema: InputSchema) -> None:
    registry.create_model("typo", schema, "binary", by=ANN)
    registry.trainings.set_recipe("typo", Recipe(), by=ANN)
    registry.delete_model("typo", reason="a typing error", by=ANN)
    assert registry.verified().faults == []
