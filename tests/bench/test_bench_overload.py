"""Overload: how it is measured; and in short, that a server which is asked too much refuses at once and recovers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.bodies import requests
from bench.open_loop import Outcome, drive, retry_after_s
from bench.overload import FACTORS, GOODPUT, Overload, goodput_per_s, markdown, recovered_s
from tests.actors import hostile
from tests.servers import running
from tests.stage import staged

NAN = float("nan")


def outcome(status: list[int], answered_s: list[float]) -> Outcome:
    due = np.arange(len(status)) / 10
    return Outcome(due, due, np.array(answered_s), np.array(status, np.int16), np.full(len(status), NAN))


def test_goodput_is_of_answers_within_the_time() -> None:
    assert goodput_per_s(outcome([200, 503, 200, 0, 200], [0.1, 0.11, 0.3, NAN, 0.9]), 0.5) == 4


def test_it_has_recovered_when_the_last_bad_answer_was_due() -> None:
    assert recovered_s(outcome([200] * 3, [0.05, 0.15, 0.25])) == 0
    assert recovered_s(outcome([200, 503, 200], [0.05, 0.11, 0.25])) == pytest.approx(0.1)
    assert recovered_s(outcome([200, 200, 200], [0.05, 0.11, 0.45])) == pytest.approx(0.2)


def test_retry_after_is_read_from_the_head_only() -> None:
    assert retry_after_s(b"HTTP/1.1 503 x\r\nRetry-After: 2\r\n\r\n") == 2
    assert np.isnan(retry_after_s(b"HTTP/1.1 503 x\r\na: b\r\n\r\n\r\nretry-after: 2\r\n"))


def test_every_factor_has_a_goal_and_a_line() -> None:
    found = [
        Overload(0, factor, 1e3, 960, 2_000, 500, 4e3, 0, 0, 3e5, 90, 0.1, 1e3, 1.1e3, 10**6) for factor in FACTORS
    ]
    assert set(GOODPUT) == set(FACTORS)
    table = [line for line in markdown(found, "then").splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(FACTORS)
    assert len({line.count("|") for line in table}) == 1
    assert "96% (>= 95%)" in table[2]


def test_asked_ten_times_too_much_it_answers_or_refuses_at_once_with_when_to_come_back(tmp_path: Path) -> None:
    """A champion of some 40 rows a second; the figures of a quiet machine are those of `python -m bench.overload`."""
    store = tmp_path / "store"
    with staged(store, source="server") as stage:
        stage.declare()
        stage.champion(hostile("is slow", n_slow=8))
    settings = {"server.max_wait_s": 0.05, "server.max_waiting_rows": 20}
    prepared = requests("/models/m/predict", [b'{"inputs":{"a":1.0,"b":2.0}}'])
    with running(store, settings, []) as served:
        drive(served.address, prepared, 20, 0.5)
        asked = drive(served.address, prepared, 1_000, 1.0, n_connections=200, patience_s=20)
        after = drive(served.address, prepared, 10, 0.5, n_connections=1, kind="constant", patience_s=20)
    refused = asked.status == 503
    assert refused.any()
    assert (asked.status == 200).any()
    assert set(asked.status.tolist()) == {200, 503}
    assert (asked.retry_after_s[refused] >= 1).all()
    assert after.status.tolist() == [200] * 5, "one caller, who waits for each answer, is refused nothing at any speed"
