"""Replays in the registry: what is refused, what is kept, and what the audit says of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from registry.errors import NoChampion, ReplayRefused, UnknownModel, UnknownReplay, UnknownVersion
from registry.replay import Replay, Span, TrainingWindow
from registry.store import Registry
from registry.types import Feature, InputSchema, Principal, TrainingReport
from tests.actors import logistic, signature

ME = Principal("ann")
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def day(n: float) -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=n)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    """A model with version 1, which says that it was trained on the days 0 to 10, and version 2, which says nothing.

    Version 1 is its champion.
    """
    with Registry.open(tmp_path, now=lambda: NOW) as made:
        made.create_model("m", InputSchema((Feature("a", "float64"), Feature("b", "float64"))), "binary", by=ME)
        for weights, training in (
            ((1.0, 0.0), TrainingReport(n_rows=9, trained_from=day(0), trained_until=day(10))),
            ((0.0, 1.0), None),
        ):
            model_bytes = logistic(weights)
            made.add_version("m", model_bytes, signature(model_bytes), training, by=ME)
        made.appoint("m", 1, reason="first", by=ME)
        yield made


def ask(registry: Registry, version: int, since: float, until: float, stated: float | None = None) -> Replay:
    span = Span(day(since), day(until), NOW, {"1": 3}, {"1": 9}, {"1": 5})
    trained_until = None if stated is None else day(stated)
    return registry.replays.ask("m", version, span, trained_until=trained_until, reason="to see", by=ME)


def test_a_replay_is_kept_as_it_was_asked_for_with_a_line_in_the_audit(registry: Registry) -> None:
    before = registry.change_stamp()
    asked = ask(registry, 1, 5, 20)
    assert registry.change_stamp() > before  # the mirror notices
    assert asked == registry.replays.one("m", 1)
    assert registry.replays.waiting() == registry.replays.of("m") == [asked]
    assert asked.asked.window == TrainingWindow(day(0), day(10))
    assert (asked.asked.by, asked.asked.reason, asked.asked.at, asked.state) == ("ann", "to see", NOW, "asked")
    line = registry.audit()[-1]
    assert (line.action, line.model, line.principal) == ("ask_replay", "m", "ann")
    assert (line.detail["replay"], line.detail["version"], line.detail["reason"]) == (1, 1, "to see")
    assert registry.verified().faults == []


def test_it_is_asked_in_the_reign_of_that_moment_and_of_a_model_that_has_one(registry: Registry) -> None:
    assert ask(registry, 1, 5, 20).asked.reign == 1
    registry.create_model("n", InputSchema((Feature("a", "float64"), Feature("b", "float64"))), "binary", by=ME)
    model_bytes = logistic((1.0, 0.0))
    registry.add_version("n", model_bytes, signature(model_bytes), None, by=ME)
    with pytest.raises(NoChampion):
        registry.replays.ask(
            "n", 1, Span(day(5), day(20), NOW, {}, {}, {}), trained_until=day(1), reason="to see", by=ME
        )


def test_it_ends_once_and_stays_as_it_ended(registry: Registry) -> None:
    asked = ask(registry, 1, 5, 20)
    registry.replays.end(asked, "done", {"n_rows": 7})
    registry.replays.end(asked, "failed", {"n_rows": 8})
    ended = registry.replays.one("m", 1)
    assert (ended.state, ended.report, ended.ended_at, ended.ended_generation) == ("done", {"n_rows": 7}, NOW, 1)
    assert [line.action for line in registry.audit()][-2:] == ["ask_replay", "end_replay"]
    assert registry.audit()[-1].detail["ended_generation"] == 1
    assert registry.replays.waiting() == []
    assert ask(registry, 1, 5, 20).number == 2


def test_of_one_version_one_replay_is_under_way(registry: Registry) -> None:
    ask(registry, 1, 5, 20)
    with pytest.raises(ReplayRefused, match="replay 1 of version 1 of 'm' is under way: wait for it"):
        ask(registry, 1, 30, 40)
    assert ask(registry, 2, 30, 40, stated=25).number == 2
    assert len(registry.replays.of("m")) == 2


@pytest.mark.parametrize(
    ("version", "since", "until", "stated", "sentence"),
    [
        (1, 0, 10, None, "has learned from rows until 2026-01-11T00:00:00"),
        (1, 2, 9, None, "so from all of 2026-01-03"),
        (2, 2, 9, None, r"nobody knows until when version 2 of 'm' has learned.*state it \(trained_until\)"),
        (2, 2, 9, 9, "has learned from rows until 2026-01-10"),
        (2, -900, 9, 9, "has learned from rows until"),  # of a stated window nobody knows the beginning
        (1, 2, 19, 9, "expected nothing, as the training report of version 1 of 'm' says 2026-01-11"),
        (1, 12, 12, None, "expected a time after since"),
    ],
)
def test_what_would_say_nothing_is_refused_in_one_sentence(
    registry: Registry, version: int, since: float, until: float, stated: float | None, sentence: str
) -> None:
    n_lines = len(registry.audit())
    with pytest.raises(ReplayRefused, match=sentence):
        ask(registry, version, since, until, stated)
    assert registry.replays.of("m") == []
    assert len(registry.audit()) == n_lines


@pytest.mark.parametrize(("since", "until"), [(0, 10.1), (-0.1, 10), (10, 11), (-5, 0)])
def test_a_span_that_reaches_out_of_the_window_is_taken(registry: Registry, since: float, until: float) -> None:
    assert ask(registry, 1, since, until).state == "asked"


def test_a_stated_window_is_kept_as_stated(registry: Registry) -> None:
    assert ask(registry, 2, 5, 20, stated=9).asked.window == TrainingWindow(None, day(9), is_stated=True)
    assert registry.audit()[-1].detail["window"] == {"begin": None, "end": "2026-01-10T00:00:00Z", "is_stated": True}


def test_what_is_not_there_is_told(registry: Registry) -> None:
    with pytest.raises(UnknownVersion, match="model 'm' has no version 3"):
        ask(registry, 3, 5, 20)
    with pytest.raises(UnknownReplay, match="model 'm' has no replay 1"):
        registry.replays.one("m", 1)
    with pytest.raises(UnknownModel):
        registry.replays.of("n")
