"""The tick: what arrives in one turn is one run and one chunk, answered after its commit."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.batch import Answered
from gateway.records import Address, address_of
from tests.actors import hostile, logistic
from tests.asking import answer, asked, chunks, predicting, ticket, together
from tests.stage import Stage, at_us, staged

SLOW = 4
"""Products of large matrices: some 30 ms."""


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with staged(tmp_path / "store", source="server") as made:
        made.declare()
        yield made


def test_requests_of_one_turn_are_one_run_one_chunk_and_answered_each_its_own(stage: Stage) -> None:
    stage.champion(logistic((1.0, 0.0)))

    async def story() -> list[Any]:
        async with predicting(stage) as predictor:
            return await together(*(answer(predictor, *[(float(i), 0.0)] * (i + 1)) for i in range(4)))

    answers = asyncio.run(story())
    assert chunks(stage) == [(10, (0,), [0, 1, 3, 6])]
    for i, found in enumerate(answers):
        p = found.outputs["probabilities"][found.start : found.stop, 1]
        np.testing.assert_allclose(p, [1 / (1 + np.exp(-i))] * (i + 1), rtol=1e-5)
    places = [address_of(found.prediction_id) for found in answers]
    assert [place and place[0] for place in places] == [Address(places_writer(stage), 1, row) for row in (0, 1, 3, 6)]


def places_writer(stage: Stage) -> int:
    return stage.chunks()[0][0].writer


def test_alone_a_request_waits_for_nobody(stage: Stage) -> None:
    stage.champion(logistic((1.0, 0.0)))

    async def story() -> None:
        async with predicting(stage) as predictor:
            for _ in range(3):
                await answer(predictor, (0.0, 0.0))

    asyncio.run(story())
    assert chunks(stage) == [(1, (0,), [0])] * 3


def test_a_slow_model_runs_in_a_thread_and_its_batch_grows_meanwhile(stage: Stage) -> None:
    stage.champion(hostile("is slow", n_slow=SLOW))

    async def story() -> int:
        async with predicting(stage) as predictor:
            first = asyncio.create_task(answer(predictor, (0.0, 0.0)))
            turns = 0
            while not stage.lineups["m"].champion.leaves_the_loop(1) or turns < 3:
                await asyncio.sleep(0)
                turns += 1
            assert not first.done()  # and the loop turns
            later = [asyncio.create_task(answer(predictor, (1.0, 0.0))) for _ in range(5)]
            await asyncio.sleep(0)
            assert not first.done()
            await together(first, *later)
            return turns

    assert asyncio.run(story()) >= 3
    assert chunks(stage) == [(1, (0,), [0]), (5, (0,), [0, 1, 2, 3, 4])]


def test_a_large_batch_of_a_quick_model_leaves_the_loop_too(stage: Stage) -> None:
    stage.champion(logistic((1.0, 0.0)))
    stage.lineups.refresh()
    champion = stage.lineups["m"].champion
    assert not champion.leaves_the_loop(1)
    assert champion.leaves_the_loop(10_000_000)


def test_load_tests_and_buckets_are_chunks_of_their_own(tmp_path: Path) -> None:
    with staged(tmp_path / "store") as stage:
        stage.declare()
        stage.champion(logistic((1.0, 0.0)))

        async def story() -> list[Any]:
            async with predicting(stage) as predictor:
                at = asked((0.0, 0.0), predicted_at_us=[at_us(1.5)])
                return await together(
                    answer(predictor, (0.0, 0.0), predicted_at_us=[at_us(2.5)]),
                    answer(predictor, (0.0, 0.0), predicted_at_us=[at_us(1.5)]),
                    predictor.predict("m", at, ticket("test")),
                    answer(predictor, (0.0, 0.0), predicted_at_us=[at_us(1.6)]),
                )

        assert all(isinstance(found, Answered) for found in asyncio.run(story()))
        heads = [(head.bucket - at_us(0) // at_us_day(), head.purpose, head.n_rows) for head, _ in stage.chunks()]
        assert heads == [(1, "live", 2), (1, "test", 1), (2, "live", 1)]
        assert len({head.at_us for head, _ in stage.chunks()}) == 1


def at_us_day() -> int:
    return at_us(1) - at_us(0)


def test_stamps_never_decrease_in_a_writer_when_a_quick_model_overtakes_a_slow_one(stage: Stage) -> None:
    stage.champion(hostile("is slow", n_slow=8 * SLOW))
    stage.name = "quick"
    stage.declare()
    stage.champion(logistic((1.0, 0.0)))

    async def story() -> None:
        async with predicting(stage) as predictor:
            slow = asyncio.create_task(answer(predictor, (0.0, 0.0)))
            await asyncio.sleep(0)
            await asyncio.sleep(0)  # it runs, and is stamped
            await answer(predictor, (0.0, 0.0), model="quick")
            await slow

    asyncio.run(story())
    heads = [head for head, _ in stage.chunks()]
    assert [head.model for head in heads] == ["quick", "m"]
    assert [head.at_us for head in heads] == sorted(head.at_us for head in heads)
