"""Changes while it serves with two workers: of the champion, a hundred times at full load; and of who may ask."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from gateway.columns import Array
from gateway.records import address_of
from registry.types import Policy
from tests.actors import logistic
from tests.faults import Faults
from tests.scenarios.checks import recomputed, recorded
from tests.scenarios.traffic import Answer, under_load
from tests.seasons import TRUTH, WEAK
from tests.servers import Wire
from tests.serving import Serve, serving, until
from tests.stage import ME, Stage, staged

ROLL_OUT_S = 0.1
"""How long a worker may answer by what was before."""
SLACK_S = 0.5
"""And how much later a busy machine may let it look."""
BODY = json.dumps({"inputs": {"a": 1.0, "b": 2.0}}).encode()


@contextmanager
def two_champions(tmp_path: Path) -> Iterator[tuple[Stage, int]]:
    with staged(tmp_path / "store", source="server") as stage:
        stage.declare(Policy(promotion="one"))
        stage.champion(logistic(WEAK))
        yield stage, stage.challenger(logistic(TRUTH))


def answered_by_the_version_they_name(stage: Stage, answers: Sequence[Answer]) -> None:
    """Each is what its version says of the recorded inputs, computed again in the recorded runs, bit for bit."""
    chunks = {(head.writer, head.seq): chunk for head, chunk in stage.chunks()}
    champions = {lineup.generation: lineup.champion for lineup in stage.registry.lineups("m")}
    again: dict[tuple[int, int], dict[str, Array]] = {}
    for (writer, seq), chunk in chunks.items():
        assert chunk.version == champions[chunk.generation]
        again[writer, seq] = recomputed(stage, chunk, writer)
        for name, values in recorded(stage, chunk, writer).items():
            assert values.tobytes() == again[writer, seq][name].tobytes()
    for answer in answers:
        found = address_of(answer.prediction_id)
        assert found is not None
        place = found[0].writer, found[0].seq
        assert answer.version == chunks[place].version
        assert answer.outputs["label"] == again[place]["label"][found[0].row]
        np.testing.assert_array_equal(
            np.array(answer.outputs["probabilities"], np.float32), again[place]["probabilities"][found[0].row]
        )


def alternate(stage: Stage, challenger: int, n: int, then: Callable[[], Any]) -> None:
    for number in range(n):
        if number % 2 == 0:
            stage.registry.promote("m", challenger, reason=f"change {number}", by=ME)
        else:
            stage.registry.rollback("m", reason=f"change {number}", by=ME)
        then()
        if number % 2:  # it is retired by now, and plays again before the next promotion
            stage.registry.lift_bar("m", challenger, reason="try again", by=ME)
            stage.registry.enlist("m", challenger, reason="try again", by=ME)


def n_alike_by_the_other(stage: Stage) -> int:
    """The control: how many recorded answers the other version would have given, bit for bit."""
    n_alike = 0
    for head, chunk in stage.chunks():
        other = replace(chunk, version=3 - chunk.version)
        again, told = recomputed(stage, other, head.writer), recorded(stage, chunk, head.writer)
        n_alike += int((again["probabilities"] == told["probabilities"]).all(axis=1).sum())
    return n_alike


def changed_under_load(tmp_path: Path, n: int) -> tuple[int, int]:
    """So many changes; returns how many answers there were, and how many of them the other version would have given."""
    with two_champions(tmp_path) as (stage, challenger):
        with serving(stage.folder, server__workers=2) as serve:
            serve.ready()
            until(lambda: len(serve.workers("gateway")) == 2, "two workers")
            with under_load(serve.url) as load:
                load.goes_on()
                alternate(stage, challenger, n, lambda: load.goes_on(20))
                load.stop()
            assert serve.stop() == 0
        assert load.failures == []
        assert {answer.version for answer in load.answers} == {1, challenger}
        kinds = [decision.kind for decision in stage.registry.decisions("m")]
        assert kinds.count("promote") == kinds.count("rollback") == n // 2
        answered_by_the_version_they_name(stage, load.answers)
        return len(load.answers), n_alike_by_the_other(stage)


def test_changes_of_champion_under_load_fail_no_request_and_mix_no_answer(tmp_path: Path) -> None:
    _, n_alike = changed_under_load(tmp_path, 6)
    assert n_alike == 0


@pytest.mark.slow
def test_a_hundred_changes_of_champion_under_load_fail_no_request_and_mix_no_answer(
    tmp_path: Path, kept: Faults
) -> None:
    n_answers, n_alike = changed_under_load(tmp_path, 100)
    kept.record(
        "promote and rollback in turn under load",
        100,
        f"0 of {n_answers:,} requests failed; each answer names one version and is, bit for bit, what it computes",
        f"{n_alike} of them are what the other version computes",
    )


# --- how soon every worker knows


class Workers:
    """A connection to each worker, asked again and again."""

    def __init__(self, serve: Serve, opened: ExitStack, headers: bytes = b"") -> None:
        self._headers = headers
        serve.ready()
        workers = until(lambda: len(found := serve.workers("gateway")) == 2 and found, "two workers")
        self._wires: dict[int, Wire] = {}

        def each_has_one() -> bool:
            new = [opened.enter_context(Wire(("127.0.0.1", serve.port))) for _ in range(8)]
            for wire in new:
                self.ask(wire)
            for worker in workers:
                opposite = {one.raddr.port for one in worker.net_connections("tcp") if one.raddr}
                own = next((wire for wire in new if wire.port in opposite), None)
                if own is not None:
                    self._wires[worker.pid] = own
            return len(self._wires) == 2

        until(each_has_one, "a connection to each worker")

    def ask(self, wire: Wire) -> tuple[int, Any]:
        head = b"POST /models/m/predict HTTP/1.1\r\nHost: h\r\n%bContent-Length: %d\r\n\r\n"
        wire.send(head % (self._headers, len(BODY)) + BODY)
        status, _, body = wire.answer()
        return status, json.loads(body)

    def know_within_s(self, known: Callable[[int, Any], bool]) -> float:
        """How long it takes until all of them have answered so, from now on."""
        began_s = time.monotonic()
        for wire in self._wires.values():
            until(partial(self._knows, wire, known), "a worker knows")
        return time.monotonic() - began_s

    def _knows(self, wire: Wire, known: Callable[[int, Any], bool]) -> bool:
        return known(*self.ask(wire))


def test_a_change_of_champion_is_seen_by_every_worker_within_a_tenth_of_a_second(tmp_path: Path) -> None:
    with two_champions(tmp_path) as (stage, challenger), serving(stage.folder, server__workers=2) as serve:
        with ExitStack() as opened:
            workers, took_s = Workers(serve, opened), []

            def seen() -> None:
                champion = stage.registry.lineup("m").champion
                took_s.append(workers.know_within_s(lambda _, said: said["version"] == champion))

            alternate(stage, challenger, 6, seen)
        assert sorted(took_s)[len(took_s) // 2] < ROLL_OUT_S + SLACK_S, took_s
        assert min(took_s) < ROLL_OUT_S, took_s


def test_a_key_that_is_revoked_opens_no_worker_a_tenth_of_a_second_later(tmp_path: Path) -> None:
    with two_champions(tmp_path) as (stage, _):
        issue, took_s = stage.registry.keys.issue, []
        issue("ops", ["admin"], models=None, expires_at=None, by=ME)
        issued = [issue(f"shop-{i}", ["predict"], models=None, expires_at=None, by=ME) for i in range(4)]
        with serving(stage.folder, server__workers=2) as serve:
            for key, token in issued:
                with ExitStack() as opened:
                    workers = Workers(serve, opened, b"Authorization: Bearer %b\r\n" % token.encode())
                    assert workers.know_within_s(lambda status, _: status == 200) < ROLL_OUT_S + SLACK_S
                    stage.registry.keys.revoke(key.key_id, by=ME, reason="it was lost")
                    took_s.append(workers.know_within_s(lambda status, _: status == 401))
        assert sorted(took_s)[len(took_s) // 2] < ROLL_OUT_S + SLACK_S, took_s
        assert min(took_s) < ROLL_OUT_S, took_s
