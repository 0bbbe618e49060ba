"""Whose time it is, and that stamps never decrease."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.clock import JournalClock, server_now_us
from gateway.config import ClockSettings
from gateway.errors import InvalidInput
from gateway.records import micros, moment
from registry.errors import ClockRefused
from registry.store import Registry
from registry.types import Principal

DAY_S = 86_400
START = datetime(2026, 1, 1, tzinfo=UTC)
CALLER = ClockSettings("caller")


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 10_000)), min_size=1))
def test_stamps_never_decrease_even_when_the_machines_clock_jumps_back(steps: list[tuple[bool, int]]) -> None:
    now = 0
    clock = JournalClock(ClockSettings(), DAY_S, now_us=lambda: now)
    stamps = []
    for idle, at_us in steps:
        now = at_us
        stamp = clock.idle_stamp() if idle else clock.stamp(None)
        assert stamp is not None
        assert stamp >= now
        stamps.append(stamp)
    assert stamps == sorted(stamps)


@given(st.lists(st.integers(0, 10_000), min_size=1))
def test_under_the_callers_clock_a_stamp_is_never_before_the_predictions_own_time(times: list[int]) -> None:
    clock = JournalClock(CALLER, DAY_S)
    stamps = [clock.stamp(at_us) for at_us in times]
    assert stamps == sorted(stamps)
    assert all(stamp >= at_us for stamp, at_us in zip(stamps, times, strict=True))
    assert stamps[-1] == max(times)


def test_under_the_servers_clock_time_is_the_machines() -> None:
    clock = JournalClock(ClockSettings(), DAY_S)
    before = server_now_us()
    now_us = clock.now_us()
    assert now_us is not None
    assert before <= now_us <= clock.stamp(None) <= server_now_us()
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=10)
    assert not clock.of_caller


def test_a_callers_clock_that_was_never_set_promises_nothing_and_stamps_nothing_by_itself() -> None:
    clock = JournalClock(CALLER, DAY_S, now_us=lambda: micros(START))
    assert clock.of_caller
    assert clock.now_us() is None
    assert clock.idle_stamp() is None
    with pytest.raises(InvalidInput, match="predicted_at: expected a time"):
        clock.stamp(None)
    assert clock.stamp(5) == 5
    assert clock.now() == START  # decisions are dated by the machine until then


def test_the_callers_clock_is_the_registrys_and_moves_on_only(tmp_path: Path) -> None:
    me = Principal.local_operator()
    clock, other = JournalClock(CALLER, DAY_S), JournalClock(ClockSettings(), DAY_S, now_us=lambda: 7)
    with Registry.open(tmp_path / "store", now=lambda: START) as registry:
        clock.refresh(registry)
        assert clock.now_us() is None
        for day in (1, 2, 30):
            registry.set_clock(START + timedelta(days=day), by=me)
            clock.refresh(registry)
            assert clock.now() == START + timedelta(days=day)
            assert clock.now_us() == clock.idle_stamp() == clock.stamp(None) == micros(clock.now())
        with pytest.raises(ClockRefused):
            registry.set_clock(START, by=me)
        assert clock.stamp(micros(START)) == micros(START + timedelta(days=30))
        other.refresh(registry)
    assert other.now_us() == 7


def test_a_bucket_is_whole_periods_since_1970() -> None:
    clock = JournalClock(ClockSettings(), DAY_S)
    day = clock.bucket_of(micros(START))
    assert moment(day * DAY_S * 1_000_000) == START
    assert clock.bucket_of(micros(START) - 1) == day - 1
    assert clock.bucket_of(micros(START + timedelta(days=1)) - 1) == day
    assert clock.bucket_of(-1) == -1
