"""A challenger in its child: whatever it does becomes an answer or a reason, for exactly the rows that deserve it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import numpy as np
import pytest
from msgspec.structs import replace

from gateway.challenger import Challenger
from gateway.chunk import STATUSES
from gateway.columns import Array
from registry.errors import ArtifactMissing
from registry.types import Signature, Version
from tests.actors import POISON, Quirk, hostile, logistic, signature

Make = Callable[..., Challenger]


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes challengers, and ends their children."""
    made: list[Challenger] = []

    def making(
        model_bytes: bytes, *, said: Signature | None = None, timeout_s: float = 20.0, memory_bytes: int = 2**30
    ) -> Challenger:
        number = Version("m", 2, "sha256:0", 0, said or signature(model_bytes), datetime(2024, 1, 1, tzinfo=UTC), "me")
        made.append(Challenger(number, lambda: model_bytes, memory_bytes=memory_bytes, timeout_s=timeout_s))
        return made[-1]

    yield making
    for challenger in made:
        challenger.close()


def rows(n: int, poisoned: tuple[int, ...] = ()) -> dict[str, Array]:
    b = np.zeros(n)
    b[list(poisoned)] = POISON
    return {"a": np.linspace(-2, 2, n), "b": b}


def reasons(status: Array) -> list[str]:
    return [STATUSES[code] for code in status]


def test_it_scores_every_row_and_starts_its_child_when_it_is_needed(make: Make) -> None:
    challenger = make(logistic((1.0, 0.0)))
    pids = [challenger.pid]
    scores = challenger.score(rows(5))
    pids.append(challenger.pid)
    assert [pid is None for pid in pids] == [True, False]
    assert reasons(scores.status) == ["scored"] * 5
    expected = 1 / (1 + np.exp(-np.linspace(-2, 2, 5)))
    np.testing.assert_allclose(scores.outputs["probabilities"][:, 1], expected, rtol=1e-5)
    assert scores.outputs["label"].dtype == np.int64


@pytest.mark.parametrize(
    ("quirk", "reason"),
    [
        ("hoards", "crashed"),
        ("answers nan", "invalid_answer"),
        ("answers too few", "invalid_answer"),
        ("raises", "error"),
    ],
)
def test_a_batch_is_halved_down_to_the_guilty_rows(make: Make, quirk: Quirk, reason: str) -> None:
    challenger = make(hostile(quirk))
    scores = challenger.score(rows(9, poisoned=(2, 7)))
    assert reasons(scores.status) == [reason if i in (2, 7) else "scored" for i in range(9)]
    answered = np.isfinite(scores.outputs["probabilities"]).all(axis=1)
    assert answered.tolist() == [i not in (2, 7) for i in range(9)]
    assert not challenger.pausing


def test_one_that_never_answers_costs_a_bounded_time_and_is_given_a_rest(make: Make) -> None:
    challenger = make(hostile("loops"), timeout_s=0.2)
    began_s = time.monotonic()
    scores = challenger.score(rows(64, poisoned=tuple(range(64))))
    assert reasons(scores.status) == ["timeout"] * 64
    assert time.monotonic() - began_s < 30  # not 127 timeouts and 127 starts
    assert challenger.pausing


def test_a_looping_row_fails_and_the_others_are_scored(make: Make) -> None:
    challenger = make(hostile("loops"), timeout_s=0.5)
    scores = challenger.score(rows(2, poisoned=(0,)))
    assert reasons(scores.status) == ["timeout", "scored"]


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
def test_a_killed_child_is_started_again_and_loses_no_row(make: Make, number: signal.Signals) -> None:
    challenger = make(logistic((1.0, 0.0)))
    challenger.score(rows(3))
    assert challenger.pid is not None
    os.kill(challenger.pid, number)
    killed = challenger.pid
    assert reasons(challenger.score(rows(8)).status) == ["scored"] * 8
    assert challenger.pid != killed


def test_one_that_cannot_be_loaded_fails_every_row_at_once_and_always_for_the_same_reason(make: Make) -> None:
    challenger = make(b"not a model", said=signature(logistic((1.0, 0.0))))
    for _ in range(2):
        began_s = time.monotonic()
        assert reasons(challenger.score(rows(512)).status) == ["crashed"] * 512
        assert time.monotonic() - began_s < 10  # one start, not a thousand
    assert challenger.pid is None
    assert challenger.pausing


def test_an_artifact_that_is_not_there_is_no_fault_of_the_challenger() -> None:
    def gone() -> bytes:
        raise ArtifactMissing("sha256:0")

    number = Version("m", 2, "sha256:0", 0, signature(logistic((1.0, 0.0))), datetime(2024, 1, 1, tzinfo=UTC), "me")
    challenger = Challenger(number, gone, memory_bytes=2**30, timeout_s=5)
    with pytest.raises(ArtifactMissing):
        challenger.score(rows(3))
    assert not challenger.pausing


def test_rest_doubles_and_ends_with_the_first_good_row(make: Make) -> None:
    challenger = make(hostile("hoards"))
    assert reasons(challenger.score(rows(1, poisoned=(0,))).status) == ["crashed"]
    assert challenger.pausing
    assert reasons(challenger.score(rows(1)).status) == ["scored"]
    assert challenger.score(rows(2, poisoned=(0,))).status.tolist() == [STATUSES.index("crashed"), 0]


def test_one_that_takes_a_row_at_a_time_is_run_row_by_row(make: Make) -> None:
    model_bytes = logistic((1.0, 0.0))
    challenger = make(model_bytes, said=replace(signature(model_bytes), batchable=False))
    assert reasons(challenger.score(rows(4)).status) == ["scored"] * 4
