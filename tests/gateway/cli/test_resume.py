"""How far an earlier run has come is found in the journal, wherever that run was killed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.cli.features import Inputs
from gateway.cli.file_rows import NEVER, FileRows
from gateway.cli.resume import HOUR_US, SentOtherwise, remaining
from gateway.cli.target import Outcomes
from gateway.cli.traffic import IN_FLIGHT
from gateway.records import moment
from registry.types import InputSchema

START_US = 1_370_044_800_000_000


def file_rows(at_us: list[int], waits_us: list[int | None]) -> FileRows:
    at = np.array(at_us, np.int64)
    known = np.array([NEVER if wait is None else when + wait for when, wait in zip(at_us, waits_us, strict=True)])
    n = len(at_us)
    values = np.array([i % 2 for i in range(n)], object)
    outcomes = Outcomes("binary", values, known == NEVER, "")
    return FileRows(Inputs(InputSchema(()), {}, {}), np.arange(n), "f", at, known, outcomes)


class Journal:
    """What a journal would hold after a run that was killed: exactly what the sender's order allows."""

    def __init__(self, rows: FileRows, sent: set[int], told: set[int]) -> None:
        self.rows, self.sent, self.told = rows, sent, told
        self.n_asked = 0

    def __call__(self, key: str) -> list[dict[str, Any]]:
        self.n_asked += 1
        index = int(key.partition(":")[2])
        if index not in self.sent:
            return []
        told = [{"observed_at": moment(int(self.rows.known_us[index])).isoformat()}] if index in self.told else []
        return [{"predicted_at": moment(int(self.rows.at_us[index])).isoformat(), "outcomes": told}]


@st.composite
def killed(draw: Callable[..., Any]) -> tuple[FileRows, range, set[int], set[int]]:
    """A run that was killed in some hour, with some of its requests answered and others never."""
    gaps = draw(st.lists(st.sampled_from([0, 0, 0, 0, 0, 1, 3, 9]), min_size=1, max_size=60))
    at_us = (START_US + np.cumsum(gaps) * (HOUR_US // 4)).tolist()
    waits = draw(st.lists(st.one_of(st.none(), st.integers(0, 9)), min_size=len(gaps), max_size=len(gaps)))
    rows = file_rows(at_us, [None if wait is None else wait * HOUR_US // 3 for wait in waits])
    live = range(draw(st.integers(0, len(gaps) - 1)), len(gaps))
    hours = rows.at_us // HOUR_US
    last_hour = hours[draw(st.integers(live.start, live.stop - 1))]
    before = {i for i in live if hours[i] < last_hour}
    hour = [i for i in live if hours[i] == last_hour]
    # the rows of one hour leave in order, by so many threads; each thread's last one may be in the journal or not
    taken: list[list[int]] = [[] for _ in range(IN_FLIGHT)]
    n_left = draw(st.integers(0, len(hour)))
    for place, i in enumerate(hour[:n_left]):
        taken[place if place < IN_FLIGHT else draw(st.integers(0, IN_FLIGHT - 1))].append(i)
    lost = {rows_of_thread[-1] for rows_of_thread in taken if rows_of_thread and draw(st.booleans())}
    sent = before | (set(hour[:n_left]) - lost)
    can_be_told = sorted((i for i in before if rows.known_us[i] != NEVER), key=lambda i: (rows.known_us[i], i))
    due = [i for i in can_be_told if not hour or rows.known_us[i] <= rows.at_us[hour[0]]]
    told = set(due if n_left else due[: draw(st.integers(0, len(due)))])
    return rows, live, sent, told


@settings(max_examples=300, deadline=None)
@given(killed())
def test_what_is_left_is_exactly_what_the_journal_has_not(run: tuple[FileRows, range, set[int], set[int]]) -> None:
    rows, live, sent, told = run
    journal = Journal(rows, sent, told)
    left = remaining(rows, live, journal)
    assert left.missing.tolist() == [i for i in live if i not in sent]
    assert left.untold.tolist() == [i for i in sorted(sent) if rows.known_us[i] != NEVER and i not in told]


def test_a_long_stream_is_found_by_few_questions() -> None:
    n = 100_000
    rows = file_rows([START_US + i * HOUR_US // 10 for i in range(n)], [HOUR_US] * n)
    journal = Journal(rows, set(range(60_003)), set(range(59_000)))
    left = remaining(rows, range(n), journal)
    assert left.missing[0] == 60_003
    assert left.untold[0] == 59_000
    assert journal.n_asked < 20 * IN_FLIGHT + 60


def test_a_row_that_was_sent_for_another_time_is_told() -> None:
    rows = file_rows([START_US, START_US + 1], [None, None])
    journal = Journal(file_rows([START_US, START_US + 2], [None, None]), {0, 1}, set())
    with pytest.raises(SentOtherwise, match=r"^row f:1 was sent for 2013-06-01T00:00:00\.000002\+00:00, and now"):
        remaining(rows, range(2), journal)
