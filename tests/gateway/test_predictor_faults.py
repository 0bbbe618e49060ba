"""Whatever goes wrong in a tick, nobody waits for ever, and only the guilty fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.batch import Answered, Ask
from gateway.errors import InvalidInput, JournalUnavailable, ModelFailed, Overloaded
from gateway.journal import open_writer
from gateway.queue import Queue
from registry.errors import NoChampion, UnknownModel
from registry.types import Policy
from tests.actors import POISON, hostile, logistic
from tests.asking import answer, asked, chunks, predicting, ticket, together
from tests.stage import PATIENT, Stage, at_us, staged

SLOW = 4
"""Products of large matrices: some 30 ms."""


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with staged(tmp_path / "store", source="server") as made:
        made.declare()
        yield made


def test_one_poisonous_request_of_a_batch_fails_alone(stage: Stage) -> None:
    stage.champion(hostile("raises"))

    async def story() -> list[Any]:
        async with predicting(stage) as predictor:
            rows = [(0.0, 0.0), (1.0, POISON), (2.0, 0.0), (3.0, 0.0)]
            return await together(*(answer(predictor, row) for row in rows))

    found = asyncio.run(story())
    assert [type(each) for each in found] == [Answered, ModelFailed, Answered, Answered]
    assert "version 1 of 'm' could not answer" in str(found[1])
    assert chunks(stage) == [(3, (0, 1, 2), [0, 1, 2])]


def test_a_champion_that_cannot_get_the_memory_fails_that_request_only(stage: Stage) -> None:
    stage.champion(hostile("hoards"))

    async def story() -> list[Any]:
        async with predicting(stage) as predictor:
            limit = await asyncio.to_thread(_limited_memory)
            try:
                return await together(answer(predictor, (0.0, 0.0)), answer(predictor, (0.0, POISON)))
            finally:
                limit()

    found = asyncio.run(story())
    assert [type(each) for each in found] == [Answered, ModelFailed]


def _limited_memory() -> Callable[[], None]:
    """Have this process get no more than 4 GiB of addresses beyond what it has, until the answer is called."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**32, before[1]))
    return lambda: resource.setrlimit(resource.RLIMIT_AS, before)


def test_more_than_may_wait_is_refused_and_what_waits_is_answered(stage: Stage) -> None:
    stage.champion(hostile("is slow", n_slow=SLOW))

    async def story() -> list[Any]:
        async with predicting(stage, max_waiting_rows=3) as predictor:
            first = asyncio.create_task(answer(predictor, (0.0, 0.0)))
            await asyncio.sleep(0)
            await asyncio.sleep(0)  # it runs; nothing waits
            more = [asyncio.create_task(answer(predictor, (0.0, 0.0), (1.0, 0.0))) for _ in range(3)]
            return await together(first, *more)

    found = asyncio.run(story())
    assert [type(each) for each in found] == [Answered, Answered, Overloaded, Overloaded]
    assert found[2].n_waiting == 2


def test_what_would_wait_too_long_is_refused_with_how_long_that_would_be(stage: Stage) -> None:
    stage.champion(hostile("is slow", n_slow=SLOW))

    async def story() -> list[Any]:
        async with predicting(stage, max_wait_s=1e-6) as predictor:
            first = asyncio.create_task(answer(predictor, (0.0, 0.0)))
            await asyncio.sleep(0)
            await asyncio.sleep(0)  # it runs; nothing waits
            more = [asyncio.create_task(answer(predictor, (0.0, 0.0))) for _ in range(3)]
            return await together(first, *more)

    found = asyncio.run(story())
    assert [type(each) for each in found] == [Answered, Answered, Overloaded, Overloaded]
    assert 1e-6 < found[2].wait_s < 10
    assert found[2].retry_after_s >= found[2].wait_s


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=30), most_rows=st.integers(1, 40))
def test_a_queue_is_taken_in_order_in_runs_that_are_no_larger_than_they_may_be(
    sizes: list[int], most_rows: int
) -> None:
    queue, asks = Queue("m"), [Ask(asked(*[(0.0, 0.0)] * size), ticket(), lambda _: None) for size in sizes]
    for ask in asks:
        queue.put(ask)
    taken = []
    while queue.waiting:
        run = queue.take(most_rows)
        n_rows = sum(ask.asked.columns.n_rows for ask in run)
        assert n_rows == queue.n_running_rows
        assert n_rows <= most_rows or len(run) == 1
        following = queue.waiting[0].asked.columns.n_rows if queue.waiting else most_rows
        assert n_rows + following > most_rows  # no smaller than it has to be
        assert queue.n_rows == sum(ask.asked.columns.n_rows for ask in queue.waiting)
        taken += run
    assert [id(ask) for ask in taken] == [id(ask) for ask in asks]


def test_a_request_of_more_rows_than_may_wait_is_answered_where_nothing_waits(stage: Stage) -> None:
    stage.champion(logistic((1.0, 0.0)))

    async def story() -> Answered:
        async with predicting(stage, max_waiting_rows=2) as predictor:
            return await answer(predictor, *[(0.0, 0.0)] * 5)

    assert asyncio.run(story()).stop == 5


@pytest.mark.parametrize("policy", ["refuse", "answer_unlogged"])
def test_what_cannot_be_recorded_is_refused_or_answered_unlogged_as_the_policy_says(
    tmp_path: Path, policy: Any
) -> None:
    with staged(tmp_path / "store", source="server") as stage:
        stage.declare(Policy(unjournalled=policy))
        stage.champion(logistic((1.0, 0.0)))
        hasty = PATIENT.__class__(busy_s=0.001)
        writer = open_writer(stage.folder, hasty, stage.ledger, kind="gateway", now_us=0)
        with closing(writer):

            async def story() -> tuple[Answered, Any, Answered, dict[str, int]]:
                async with predicting(stage, writer=writer) as predictor:
                    before = await answer(predictor, (0.0, 0.0))
                    (file,) = stage.folder.glob(f"predictions/{writer.writer}.*.db")
                    with closing(apsw.Connection(str(file))) as other:
                        other.execute("BEGIN IMMEDIATE")
                        (during,) = await together(answer(predictor, (1.0, 0.0)))
                        other.execute("ROLLBACK")
                    return before, during, await answer(predictor, (2.0, 0.0)), predictor.tally.unlogged

            before, during, after, n_unlogged = asyncio.run(story())
        assert before.prediction_id is not None
        assert after.prediction_id is not None
        if policy == "refuse":
            assert isinstance(during, JournalUnavailable)
        else:
            assert during.prediction_id is None
            assert during.outputs["label"].tolist() == [1]
        assert n_unlogged == ({} if policy == "refuse" else {"m": 1})
        assert len(chunks(stage)) == 2


def test_a_caller_who_has_gone_breaks_no_tick_and_is_recorded(stage: Stage) -> None:
    stage.champion(logistic((1.0, 0.0)))

    async def story() -> list[Any]:
        async with predicting(stage) as predictor:
            tasks = [asyncio.create_task(answer(predictor, (0.0, 0.0))) for _ in range(3)]
            await asyncio.sleep(0)
            tasks[1].cancel()
            return await together(*tasks)

    found = asyncio.run(story())
    assert [type(each) for each in found] == [Answered, asyncio.CancelledError, Answered]
    assert chunks(stage) == [(3, (0,), [0, 1, 2])]


@pytest.mark.parametrize("power", [False, True])
@pytest.mark.parametrize("slow", [False, True])
def test_a_fault_of_ours_in_a_tick_fails_its_requests_and_the_next_tick_is_well(
    stage: Stage, power: bool, slow: bool
) -> None:
    """Columns of two widths cannot be one batch: what a request meets that was decoded before the schema grew."""
    stage.champion(hostile("is slow", n_slow=1) if slow else logistic((1.0, 0.0)))
    said: list[dict[str, Any]] = []

    async def story() -> tuple[list[Any], Answered]:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
        async with predicting(stage, power=power) as predictor:
            broken = await together(answer(predictor, (0.0, 0.0)), answer(predictor, (0.0, 0.0, 0.0)))
            assert predictor.n_unfinished == 0
            return broken, await answer(predictor, (0.0, 0.0))

    broken, well = asyncio.run(story())
    assert [type(each) for each in broken] == [ValueError, ValueError]
    assert well.prediction_id is not None
    assert [type(context["exception"]) for context in said] == [ValueError]  # it is told, once


def test_what_cannot_be_encoded_fails_its_requests_and_the_next_tick_is_well(stage: Stage) -> None:
    stage.champion(logistic((1.0, 0.0)))

    async def story() -> tuple[list[Any], Answered]:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        async with predicting(stage) as predictor:
            broken = await together(answer(predictor, (0.0, 0.0), associations=["\ud800"]))
            return broken, await answer(predictor, (0.0, 0.0))

    broken, well = asyncio.run(story())
    assert isinstance(broken[0], JournalUnavailable)
    assert well.prediction_id is not None


def test_who_is_not_there_and_when_it_cannot_have_been_are_refused_at_once(tmp_path: Path) -> None:
    with staged(tmp_path / "store") as stage:
        stage.declare()

        async def story() -> list[Any]:
            async with predicting(stage) as predictor:
                nobody = await together(answer(predictor, (0.0, 0.0)), answer(predictor, (0.0, 0.0), model="other"))
                stage.champion(logistic((1.0, 0.0)))
                stage.lineups.refresh()
                two = [at_us(0.5), at_us(1.5)]
                return nobody + await together(
                    answer(predictor, (0.0, 0.0)), answer(predictor, (0.0, 0.0), (1.0, 0.0), predicted_at_us=two)
                )

        found = asyncio.run(story())
        assert [type(each) for each in found] == [NoChampion, UnknownModel, InvalidInput, InvalidInput]
    with staged(tmp_path / "other", source="server") as stage:
        stage.declare()
        stage.champion(logistic((1.0, 0.0)))

        async def told() -> list[Any]:
            async with predicting(stage) as predictor:
                return await together(answer(predictor, (0.0, 0.0), predicted_at_us=[at_us(0)]))

        (refused,) = asyncio.run(told())
        assert isinstance(refused, InvalidInput)
        assert chunks(stage) == []


def test_power_durability_answers_after_its_commit_too(stage: Stage) -> None:
    stage.champion(logistic((1.0, 0.0)))

    async def story() -> list[Any]:
        async with predicting(stage, power=True) as predictor:
            return [await answer(predictor, (float(i), 0.0)) for i in range(3)]

    found = asyncio.run(story())
    assert all(each.prediction_id for each in found)
    assert [head.n_rows for head, _ in stage.chunks()] == [1, 1, 1]
