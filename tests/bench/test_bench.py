"""What figures are made by: arrivals, answers of an open loop, gates, medians, and the part of README."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from bench.gates import Gate, judged
from bench.load_wrk import WrkFailed, read
from bench.open_loop import answer_bytes, arrivals, drive
from bench.readme import with_figures
from bench.rounds import rotated
from bench.systems import SYSTEMS

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


@contextmanager
def answering(answers: list[bytes]) -> Iterator[tuple[str, int]]:
    """A server of one connection that gives these answers, one a request."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            caller, _ = listener.accept()
            with caller:
                for answer in answers:
                    caller.recv(65_536)
                    caller.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[:2]
        thread.join(10)
        assert not thread.is_alive()


def test_arrivals_come_at_their_rate_and_a_seed_gives_the_same_again() -> None:
    poisson = arrivals(1_000, 5, "poisson", seed=3)
    assert len(poisson) == 5_000
    assert poisson[-1] == pytest.approx(5, rel=0.1)
    assert (np.diff(poisson) >= 0).all()
    np.testing.assert_array_equal(poisson, arrivals(1_000, 5, "poisson", seed=3))
    np.testing.assert_allclose(np.diff(arrivals(100, 1, "constant")), 0.01)


def test_every_request_of_an_open_loop_is_timed_from_when_it_was_due() -> None:
    with answering([ANSWER, ANSWER.replace(b"200 OK", b"503 No")]) as address:
        outcome = drive(address, [b"POST / HTTP/1.1\r\n\r\n"], 200, 0.01, n_connections=1, kind="constant")
    assert outcome.status.tolist() == [200, 503]
    assert (outcome.intended_s <= outcome.sent_s).all()
    assert (outcome.sent_s <= outcome.answered_s).all()
    assert outcome.n_errors == 1
    assert outcome.latency_us(50) == pytest.approx(1e6 * (outcome.answered_s[0] - outcome.intended_s[0]))


def test_an_answer_is_whole_when_its_body_is() -> None:
    assert answer_bytes(ANSWER[:20]) == 0
    assert answer_bytes(ANSWER[:-2]) == len(ANSWER)
    with pytest.raises(ValueError, match="Content-Length"):
        answer_bytes(b"HTTP/1.1 200 OK\r\n\r\n")


def test_a_gate_is_met_from_its_side_and_says_where_nothing_was_measured() -> None:
    more, less = Gate("a", "a", 9, 7, "x", more_is_better=True), Gate("b", "b", 1, 4, "ms")
    assert [each.judgement for each in judged({"a": 9, "b": 1}, (more, less))] == ["goal met", "goal met"]
    assert [each.judgement for each in judged({"a": 7, "b": 4}, (more, less))] == ["gate met", "gate met"]
    assert [each.judgement for each in judged({"a": 6.9}, (more, less))] == ["missed", "not measured"]


def test_what_wrk_prints_is_read_and_anything_else_is_refused() -> None:
    line = (
        '{"n_requests":10,"duration_us":2000000,"p50_us":1,"p99_us":2,"max_us":3,"n_bad_status":1,"n_socket_errors":2}'
    )
    load = read(f"tables for people\n{line}\n")
    assert (load.requests_per_s, load.n_errors) == (5.0, 3)
    with pytest.raises(WrkFailed):
        read("unable to connect")


def test_each_system_is_first_in_a_round_in_turn() -> None:
    orders = [rotated(SYSTEMS, number) for number in range(len(SYSTEMS))]
    assert [order[0].name for order in orders] == [system.name for system in SYSTEMS]
    assert all({each.name for each in order} == {each.name for each in SYSTEMS} for order in orders)


def test_the_figures_take_their_place_in_a_readme() -> None:
    before = "a\n<!-- figures: begin -->\nold\n<!-- figures: end -->\nb\n"
    assert with_figures(before, "new\n") == before.replace("old", "new")
