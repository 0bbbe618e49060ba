"""The open-loop generator: what is due is sent, what stalls is charged to everybody who was due meanwhile."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from bench.bodies import requests
from bench.open_loop import NO_ANSWER, answer_bytes, arrivals, drive
from tests.bench.server import scripted

PREPARED = requests("/predict", [b"{}", b"[]"])


def test_every_request_is_sent_and_answered_after_it_was_due() -> None:
    with scripted() as server:
        outcome = drive(server.address, PREPARED, 500, 0.2, n_connections=8)
        assert server.n_requests == 100
    assert len(outcome.intended_s) == 100
    assert (outcome.status == 200).all()
    assert outcome.n_errors == 0
    assert (outcome.sent_s >= outcome.intended_s).all()
    assert (outcome.answered_s >= outcome.sent_s).all()


def test_a_stall_is_charged_to_every_request_that_was_due_during_it() -> None:
    """Seen from sending, the ones that could not be sent would look fast: coordinated omission."""
    released = threading.Event()
    threading.Timer(0.3, released.set).start()
    with scripted(stall=(10, released)) as server:
        outcome = drive(server.address, PREPARED, 200, 0.4, n_connections=1, kind="constant")
    assert outcome.n_errors == 0
    late = outcome.answered_s - outcome.intended_s
    assert (late > 0.05).sum() >= 20
    assert (outcome.answered_s - outcome.sent_s > 0.05).sum() == 1
    assert outcome.latency_us(99) > 100_000
    assert outcome.send_delay_us(99) > 100_000


def test_refusals_and_cut_connections_are_counted_and_the_others_go_on() -> None:
    with scripted({3: 503, 5: 0}) as server:
        outcome = drive(server.address, PREPARED, 200, 0.1, n_connections=1, patience_s=0.2)
    assert sorted(outcome.status.tolist()) == [NO_ANSWER, *[200] * 18, 503]
    assert outcome.n_errors == 2


def test_what_is_not_answered_in_time_has_no_answer() -> None:
    never = threading.Event()
    with scripted(stall=(0, never)) as server:
        outcome = drive(server.address, PREPARED, 100, 0.05, n_connections=2, patience_s=0.05)
        never.set()
    assert (outcome.status == NO_ANSWER).all()
    assert np.isnan(outcome.answered_s).all()
    assert np.isnan(outcome.latency_us(50))


def test_nobody_listening_is_an_error() -> None:
    with scripted() as server:
        address = server.address
    with pytest.raises(OSError, match="refused"):
        drive(address, PREPARED, 100, 0.1)


def test_arrivals_have_the_rate_that_was_asked_for() -> None:
    np.testing.assert_allclose(arrivals(100, 0.05, "constant"), [0, 0.01, 0.02, 0.03, 0.04])
    random = arrivals(1_000, 10, "poisson", seed=1)
    assert len(random) == 10_000
    gaps = np.diff(random)
    assert gaps.mean() == pytest.approx(1e-3, rel=0.05)
    assert gaps.std() == pytest.approx(1e-3, rel=0.05)  # of an exponential distribution, as its mean
    assert not np.array_equal(random, arrivals(1_000, 10, "poisson", seed=2))


@pytest.mark.parametrize(
    ("received", "n_bytes"),
    [
        (b"", 0),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n", 0),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", 43),
        (b"HTTP/1.1 200 OK\r\na: b\r\nContent-Length: 12\r\nc: d\r\n\r\n{}", 63),
    ],
)
def test_an_answer_ends_where_its_head_says(received: bytes, n_bytes: int) -> None:
    assert answer_bytes(received) == n_bytes


def test_an_answer_of_unknown_length_is_an_error() -> None:
    with pytest.raises(ValueError, match="Content-Length"):
        answer_bytes(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
