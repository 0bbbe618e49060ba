"""What asks for a training, and what holds it back: a table of facts and of what is said."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from registry.recipe import Recipe, Triggers
from retrain.training.brakes import FUTILE, Alarm, Facts, leaving, outlook

DAY_0 = datetime(2026, 3, 1, tzinfo=UTC)
MONTHLY = Recipe(triggers=Triggers(every_days=30, cool_down_days=7, min_outcomes=1_000))
DUE = Facts(at=DAY_0 + timedelta(days=30), champion=1, n_matured=5_000, n_matured_before=0, begun_at=DAY_0)
PASSED = "30 days have passed since 1 March 2026"


def said(recipe: Recipe | None, facts: Facts) -> str:
    found = outlook(recipe, facts)
    return found.sentence if found.ask is None else f"{found.ask.kind}: {found.sentence}"


def test_a_month_that_has_passed_asks_once() -> None:
    found = outlook(MONTHLY, DUE)
    assert found.ask is not None
    assert found.ask.id == "calendar:2026-03-31T00:00:00+00:00"
    assert said(MONTHLY, DUE) == "calendar: 30 days have passed since 1 March 2026"
    served = replace(DUE, served=frozenset({found.ask.id}))
    assert said(MONTHLY, served) == "the next training is asked for on 31 March 2026"


@pytest.mark.parametrize(
    ("recipe", "facts", "sentence"),
    [
        (None, DUE, "there is no recipe: only people bring versions"),
        (Recipe(), DUE, "only people ask for a training"),
        (MONTHLY, replace(DUE, at=DAY_0 + timedelta(days=29.9)), "the next training is asked for on 31 March 2026"),
        (MONTHLY, replace(DUE, under_way=4), "training 4 is under way"),
        (
            MONTHLY, replace(DUE, n_matured=999),
            f"{PASSED}; held back: 999 rows have matured, and a training needs 1,000",
        ),
        (
            MONTHLY, replace(DUE, standings={2: "leading", 3: "collecting"}),
            f"{PASSED}; held back: 2 challengers may still win, and the recipe allows 2 to play",
        ),
        (MONTHLY, replace(DUE, standings={2: "leading", 3: "worse"}), f"calendar: {PASSED}"),
        (
            MONTHLY, replace(DUE, n_slots_left=0),
            f"{PASSED}; held back: every slot of this reign is taken: the next version waits for the next reign",
        ),
        (
            Recipe(triggers=Triggers(n_outcomes=4_000, drift=True)), replace(DUE, n_matured_before=1_001),
            "the next training is asked for when 1 more rows have matured, or when drift alarms",
        ),
        (
            Recipe(triggers=Triggers(n_outcomes=4_000)), replace(DUE, n_matured_before=1_000),
            "outcomes: 4,000 rows have matured since the last one, and 4,000 ask for a training",
        ),
    ],
)  # fmt: skip
def test_each_brake_says_why(recipe: Recipe | None, facts: Facts, sentence: str) -> None:
    assert said(recipe, facts) == sentence


def test_an_alarm_that_goes_on_is_the_same_alarm_and_another_one_cools_down() -> None:
    recipe = Recipe(triggers=Triggers(drift=True, performance=True, cool_down_days=7))
    alarmed = replace(DUE, drift=Alarm("2026-03-20", "alarm: traffic"))
    first = outlook(recipe, alarmed)
    assert first.ask is not None
    assert (first.ask.kind, first.ask.id) == ("drift", "drift:version 1:2026-03-20")
    later = replace(
        alarmed, at=DUE.at + timedelta(days=5), asked_at=DUE.at, begun_at=DUE.at, served=frozenset({first.ask.id})
    )
    assert outlook(recipe, later).ask is None
    worse = replace(later, performance=Alarm("2026-04-02", "alarm: loss"))
    assert said(recipe, worse) == "alarm: loss; held back: it cools down until 7 April 2026"
    assert said(recipe, replace(worse, at=DUE.at + timedelta(days=7))) == "performance: alarm: loss"
    promoted = replace(later, champion=2, at=DUE.at + timedelta(days=7))
    assert said(recipe, promoted) == "drift: alarm: traffic"  # of another champion it is another alarm


@pytest.mark.parametrize(
    ("standings", "most", "expected"),
    [
        ({}, 1, ()),
        ({2: "leading"}, 2, ()),
        ({2: "leading", 3: "collecting", 4: "better"}, 3, None),
        ({2: "no_difference", 3: "worse", 4: "worse"}, 3, (3,)),
        ({2: "leading", 5: "no_difference"}, 2, (5,)),
        ({2: "behind", 5: "no_difference", 6: "behind"}, 3, (5,)),
        ({2: "collecting", 6: "behind"}, 2, (6,)),
        # a person has enlisted more than the recipe allows
        ({2: "leading", 3: "collecting", 4: "worse"}, 2, None),
        ({2: "leading", 3: "behind", 4: "worse"}, 2, (4, 3)),
        ({2: "behind", 3: "behind", 4: "worse"}, 1, (4, 2, 3)),
    ],
)
def test_as_many_of_the_futile_leave_as_must_the_worse_before_the_equal(
    standings: dict[int, str], most: int, expected: tuple[int, ...] | None
) -> None:
    assert leaving(standings, most) == expected


standing = st.sampled_from([*FUTILE, "leading", "collecting", "better"])
facts = st.builds(
    Facts,
    at=st.integers(0, 90).map(lambda days: DAY_0 + timedelta(days=days)),
    champion=st.integers(1, 3),
    n_matured=st.integers(0, 5_000),
    n_matured_before=st.just(0),
    begun_at=st.just(DAY_0),
    asked_at=st.none() | st.integers(0, 60).map(lambda days: DAY_0 + timedelta(days=days)),
    under_way=st.none() | st.just(1),
    standings=st.dictionaries(st.integers(2, 9), standing, max_size=4),
    n_slots_left=st.integers(0, 2),
    drift=st.none() | st.just(Alarm("then", "alarm")),
)
recipes = st.builds(
    lambda days, n, drift: Recipe(triggers=Triggers(every_days=days, n_outcomes=n, drift=drift)),
    st.none() | st.just(30.0), st.none() | st.just(2_000), st.booleans(),
)  # fmt: skip


@given(recipes, facts)
def test_what_is_asked_for_has_passed_every_brake(recipe: Recipe, known: Facts) -> None:
    triggers, found = recipe.triggers, outlook(recipe, known)
    assert found.sentence
    if found.ask is None:
        return
    assert known.under_way is None
    assert known.asked_at is None or known.at >= known.asked_at + timedelta(days=triggers.cool_down_days)
    assert known.n_matured >= triggers.min_outcomes
    hopeful = [version for version, said in known.standings.items() if said not in FUTILE]
    assert len(hopeful) < triggers.max_challengers
    assert known.n_slots_left > 0
    asks_again = outlook(recipe, replace(known, served=frozenset({found.ask.id}))).ask
    assert asks_again is None or asks_again.id != found.ask.id
