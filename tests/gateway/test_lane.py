"""The fast lane answers what Litestar answers, byte for byte, and leaves the same records."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.conversations import Corpus, Sent
from tests.models import Made
from tests.twins import Twins, stored, twins, with_keys

LOAN = {"visits": 1, "weekday": "mon", "age": 40.0}
BODY = json.dumps({"inputs": LOAN}).encode()
PREDICT = b"POST /models/loan/predict HTTP/1.1\r\nHost: understudy\r\n"
PLAIN = PREDICT + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY


def framed(body: bytes) -> bytes:
    return b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


@pytest.fixture(scope="session")
def served(models: Mapping[str, Made], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that serves every model, to be copied."""
    return stored(tmp_path_factory.mktemp("lane") / "store", models.values())


@pytest.fixture
def store(served: Path, tmp_path: Path) -> Path:
    """A store of one's own."""
    return Path(shutil.copytree(served, tmp_path / "store"))


def n_answers(written: bytes) -> int:
    return written.count(b"HTTP/1.1 ") - written.count(b"HTTP/1.1 100 ")


async def compare(both: Twins, corpus: Corpus, n_requests: int) -> None:
    """Ask both the same, so many times: the lane takes what is for it, all of it and nothing else."""
    n_asked = n_plain = n_last = 0
    while n_asked < n_requests:
        sent = corpus.conversation()
        wait = n_asked % 2 == 0
        if wait:  # each twice, so that heads come again; but what ends the connection once
            sent = [again for request in sent for again in [request] * (1 if request.ends else 2)]
        whole = [request.whole for request in sent]
        written = await both.same(whole if wait else corpus.pieces(b"".join(whole)), wait=wait)
        assert n_answers(written) == len(sent), (b"".join(whole), written)
        n_asked += len(sent)
        n_plain += sum(request.plain for request in sent)
        n_last += sent[-1].ends
    both.same_records()
    # a last one that is never whole reaches Litestar only where it is not in line behind another request
    assert both.slow.n_to_litestar <= both.fast.n_to_litestar + n_plain <= both.slow.n_to_litestar + n_last
    assert n_plain > 0.5 * n_asked
    assert both.fast.known.n_found > 0.05 * n_asked  # of the plain ones, those whose head was known before


@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_is_asked_the_lane_answers_as_litestar_does(
    seed: int, store: Path, models: Mapping[str, Made]
) -> None:
    async def main() -> None:
        async with twins(store) as both:
            await compare(both, Corpus(models, seed), 1_500)

    asyncio.run(main())


def test_whoever_asks_the_lane_lets_in_whom_litestar_lets_in(store: Path, models: Mapping[str, Made]) -> None:
    keys = with_keys(store)

    async def main() -> None:
        async with twins(store) as both:
            await compare(both, Corpus(models, 3, keys), 1_500)
            codes = {code for _, _, code in both.fast.parts.predictor.tally.requests}
            assert codes >= {200, 401, 403, 404, 405, 400, 413, 415, 422, 431}

    asyncio.run(main())


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 130))
def test_however_much_is_asked_the_lane_answers_as_litestar_does(
    seed: int, store: Path, models: Mapping[str, Made]
) -> None:
    keys = with_keys(store) if seed % 2 else ()

    async def main() -> None:
        async with twins(store) as both:
            await compare(both, Corpus(models, seed, keys), 10_000)

    asyncio.run(main())


HEADER = st.tuples(
    st.sampled_from([b"X-Request-ID", b"traceparent", b"Accept", b"COOKIE", b"Content-Type", b"X-Understudy-Test"]),
    st.binary(max_size=20).map(lambda value: bytes(set(value) - set(b"\r\n\x00"))),
)
SOME_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["inputs", "visits", "weekday", "age", "x"]), inner, max_size=4)
    ),
    max_leaves=8,
).map(lambda document: json.dumps(document).encode())
ASKED = st.tuples(
    st.sampled_from([b"/models/loan/predict", b"/v2/models/loan/infer", b"/v2/models/fraud/infer"]),
    st.lists(HEADER, max_size=3),
    SOME_JSON | st.binary(max_size=40) | st.just(BODY),
)


def test_whatever_bytes_are_sent_in_headers_and_bodies_both_answer_the_same(store: Path) -> None:
    async def main(loop: asyncio.AbstractEventLoop) -> None:
        async with twins(store) as both:

            @settings(
                max_examples=250, deadline=None, derandomize=True, database=None,
                phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck),
            )  # fmt: skip
            @given(asked=st.lists(ASKED, min_size=1, max_size=4), cuts=st.lists(st.integers(0, 600), max_size=4))
            def ask(asked: list[tuple[bytes, list[tuple[bytes, bytes]], bytes]], cuts: list[int]) -> None:
                whole = b"".join(
                    b"POST %b HTTP/1.1\r\nHost: a\r\n%bContent-Length: %d\r\n\r\n%b"
                    % (path, b"".join(b"%b: %b\r\n" % header for header in headers), len(body), body)
                    for path, headers, body in asked
                )
                places = [0, *sorted(cuts), len(whole)]
                pieces = [whole[a:b] for a, b in pairwise(places) if a < b]
                asked_both.append(pieces)

            asked_both: list[list[bytes]] = []
            ask()
            for pieces in asked_both:
                await both.same(pieces)
            both.same_records()
            assert both.fast.n_to_litestar < both.slow.n_to_litestar / 2

    with asyncio.Runner() as runner:
        runner.run(main(runner.get_loop()))


def test_what_arrives_in_one_turn_of_the_loop_is_one_chunk_and_is_shared_out_the_same(
    store: Path, models: Mapping[str, Made]
) -> None:
    """Many connections at once; some of their requests are one too many."""
    random = Random(7)

    def bodies() -> list[bytes]:
        rows = models["price"].rows
        many = [{"inputs": random.choices(rows, k=random.randint(1, 9))} for _ in range(40)]
        return [json.dumps(asked).encode() for asked in many]

    async def main() -> None:
        async with twins(store, max_waiting_rows=100) as both:
            for _ in range(20):
                sent = [
                    PREDICT.replace(b"loan", b"price") + b"X-Request-Id: %d\r\n" % i + framed(body)
                    for i, body in enumerate(bodies())
                ]
                answers = []
                for twin in (both.fast, both.slow):
                    pipes = [twin.connected() for _ in sent]
                    for pipe, request in zip(pipes, sent, strict=True):
                        pipe.deliver(request)
                    await twin.settled()
                    answers.append([bytes(pipe.written) for pipe in pipes])
                    for pipe in pipes:
                        pipe.abort()
                    await asyncio.sleep(0)
                assert answers[0] == answers[1]
            both.same_records()
            codes = {code for _, _, code in both.fast.parts.predictor.tally.requests}
            assert codes == {200, 503}
            assert both.fast.n_to_litestar == 0
            assert max(len(chunk.starts()) for _, _, chunk in both.fast.journalled()) > 5

    asyncio.run(main())


def test_a_head_is_parsed_once_and_known_from_then_on(store: Path) -> None:
    async def main() -> None:
        async with twins(store) as both:
            await both.same([PLAIN] * 10, wait=True)
            assert both.fast.known.n_found == 9
            await both.same([PLAIN + PLAIN, PLAIN[:-1], PLAIN[-1:], PLAIN], wait=True)
            assert both.fast.known.n_found == 12  # three of these pieces begin with it; one of them is it, whole
            assert list(both.fast.known) == [PLAIN[: -len(BODY)]]
            both.same_records()

    asyncio.run(main())


@pytest.mark.parametrize(
    "more",
    [b"X-Request-Id: a\r\n", b"Traceparent: x\r\n", b"Connection: close\r\n", b"Cookie: %b\r\n" % (b"x" * 3_000)],
)
def test_a_head_that_is_not_likely_to_come_again_or_large_is_not_kept(store: Path, more: bytes) -> None:
    async def main() -> None:
        async with twins(store) as both:
            await both.same([PLAIN.replace(b"Host:", more + b"Host:")])
            assert not both.fast.known
            assert both.fast.n_to_litestar == 0

    asyncio.run(main())


def test_a_draining_worker_ends_each_connection_with_its_first_answer_in_both_ways(store: Path) -> None:
    async def main() -> None:
        async with twins(store) as both:
            await both.same([PLAIN, PLAIN], wait=True)
            for twin in (both.fast, both.slow):
                twin.parts.front.draining = True
            for request in (PLAIN, PREDICT + b"\r\n", b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"):
                for pieces in ([request], [request + PLAIN], [request, PLAIN]):
                    written = await both.same(pieces)
                    assert n_answers(written) == written.count(b"\r\nconnection: close\r\n") == 1
            both.same_records()

    asyncio.run(main())


def test_the_corpus_has_what_it_should(models: Mapping[str, Made]) -> None:
    corpus = Corpus(models, 5)
    sent: list[Sent] = [request for _ in range(500) for request in corpus.conversation()]
    assert len({request.whole for request in sent}) > 0.9 * len(sent)
    assert {(request.plain, request.ends) for request in sent} == {(a, b) for a in (True, False) for b in (True, False)}
