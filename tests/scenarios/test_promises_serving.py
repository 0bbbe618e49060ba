"""The promises of DESIGN section 1 that hold while it serves: 1, 3, 6 and 8. Number 2 is in test_kill_nine."""

from __future__ import annotations

import os
import pickle
import signal
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.records import MirrorCount, address_of
from registry.artifacts import digest_of
from registry.types import Policy
from tests.actors import POISON, Quirk, hostile, logistic
from tests.scenarios.checks import counted, kept_account
from tests.scenarios.traffic import Answer, under_load
from tests.seasons import LEFT, TRUTH, WEAK, probability, rows_of
from tests.serving import serving, until
from tests.stage import ME, Stage, staged

ROLL_OUT_S = 0.1
"""How long a worker may answer by the previous generation."""
SLACK_S = 0.5
"""And how much later a busy machine may let it look."""


# --- 1


BEHAVIOUR: dict[Quirk, str] = {
    "loops": "timeout",
    "hoards": "crashed",
    "answers nan": "invalid_answer",
    "answers too few": "invalid_answer",
    "raises": "error",
}


def test_promise_1_the_caller_gets_the_champions_answer_whatever_a_challenger_does(tmp_path: Path) -> None:
    """Five challengers that misbehave on poison, and two that do not; all of them are shot. No request notices."""
    n, poison = 30, {5, 25}
    with staged(tmp_path / "store", source="server") as stage:
        stage.declare()
        stage.champion(logistic(WEAK))
        bad = {stage.challenger(hostile(quirk)): reason for quirk, reason in BEHAVIOUR.items()}
        slow, well = stage.challenger(hostile("is slow", n_slow=4)), stage.challenger(logistic(TRUTH))
        rows = rows_of(0, n)[0]
        rows[list(poison), 1] = POISON
        expected = probability(rows, WEAK)
        settings: dict[str, Any] = {"shadow__timeout_s": 6.0, "shadow__batch_rows": 1}
        with serving(stage.folder, **settings) as serve:
            serve.ready()
            took: list[float] = []
            for (a, b), p in zip(rows.tolist(), expected, strict=True):
                began_s = time.perf_counter()
                answer = serve.post("/models/m/predict", {"inputs": {"a": a, "b": b}})
                took.append(time.perf_counter() - began_s)
                assert answer["version"] == 1
                assert answer["outputs"]["probabilities"][1] == pytest.approx(p, rel=1e-5)
                if len(took) == n // 2:  # every child of a challenger that runs now
                    until(serve.worker("shadow").children, "a challenger's process")
                    for child in serve.worker("shadow").children():
                        os.kill(child.pid, signal.SIGSEGV)
            assert statistics.median(took) < 0.1  # milliseconds, while challengers hang for seconds
            serve.caught_up()
            assert serve.stop() == 0
        for version, reason in bad.items():
            account = counted(stage, version)
            assert account == kept_account(stage, version)
            _failed_by_their_own_doing(account, n, reason, n_guilty=len(poison))
        for version in (slow, well):
            _failed_by_their_own_doing(counted(stage, version), n, "crashed", n_guilty=0)


def _failed_by_their_own_doing(account: MirrorCount, n: int, reason: str, n_guilty: int) -> None:
    """So many rows failed for that reason, and at most one more: the row that was in the child when it was shot."""
    reasons = dict(account.reasons)
    n_shot = reasons.get("crashed", 0) - (n_guilty if reason == "crashed" else 0)
    assert n_shot in (0, 1)
    assert reasons.pop(reason, 0) == n_guilty + (n_shot if reason == "crashed" else 0)
    assert set(reasons) <= {"crashed"}
    assert (account.eligible, account.scored) == (n, n - n_guilty - n_shot)


# --- 3


def test_promise_3_no_mirror_is_lost_silently(tmp_path: Path) -> None:
    """Challengers come, go, are promoted and rolled back under load; every row of their generations has its status."""
    with staged(tmp_path / "store", source="server") as stage:
        stage.declare(Policy(promotion="one"))
        stage.champion(logistic(WEAK))
        first, second = stage.version(logistic(LEFT)), stage.version(hostile("raises"))
        with serving(stage.folder, shadow__batch_rows=16) as serve, under_load(serve.url) as load:
            load.goes_on()
            for _ in range(2):
                for change, version in [("enlist", first), ("enlist", second), ("promote", first), ("rollback", None)]:
                    if change == "rollback":
                        stage.registry.rollback("m", reason="and back", by=ME)
                        stage.registry.lift_bar("m", first, reason="to go on", by=ME)
                    else:
                        getattr(stage.registry, change)("m", version, reason="on the way", by=ME)
                    load.goes_on()
                stage.registry.retire("m", second, reason="enough", by=ME)
                load.goes_on()
            load.stop()
            assert load.failures == []
            everything = {1, first, second}
            until(lambda: all(_all_given(stage, version) for version in everything), "the mirror has caught up")
            assert serve.stop() == 0
        for version in everything:
            account = counted(stage, version)
            assert account == kept_account(stage, version)
            assert account.eligible == account.scored + account.failed + account.skipped > 0
        assert counted(stage, second).reasons["error"] == counted(stage, second).failed > 0


def _all_given(stage: Stage, version: int) -> bool:
    try:
        return counted(stage, version) == kept_account(stage, version)
    except AssertionError:
        return False


# --- 6


def test_promise_6_a_change_of_champion_fails_no_request_reaches_every_worker_and_is_undone(tmp_path: Path) -> None:
    with staged(tmp_path / "store", source="server") as stage:
        stage.declare(Policy(promotion="one"))
        stage.champion(logistic(WEAK))
        challenger = stage.challenger(logistic(TRUTH))
        with serving(stage.folder, server__workers=2) as serve:
            serve.ready()
            until(lambda: len(serve.workers("gateway")) == 2, "two workers")
            with under_load(serve.url) as load:
                load.goes_on()
                promoted = _changed(lambda: serve.post(
                    "/admin/models/m/promote", {"version": challenger, "reason": "it is better"},
                    headers={"if-match": '"2"'},
                ))  # fmt: skip
                load.goes_on(200)
                undone = _changed(lambda: serve.post("/admin/models/m/rollback", {"reason": "it is not"}))
                load.goes_on(200)
                load.stop()
            refused = serve.http.post("/admin/models/m/promote", json={"version": challenger, "reason": "again"},
                                      headers={"if-match": '"2"'})  # fmt: skip
            assert refused.status_code == 412
            assert serve.stop() == 0
        assert load.failures == []
        _answered_by(load.answers, before=promoted[0], version=1)
        _answered_by(load.answers, after=promoted[1] + ROLL_OUT_S + SLACK_S, before=undone[0], version=challenger)
        _answered_by(load.answers, after=undone[1] + ROLL_OUT_S + SLACK_S, version=1)
        _each_change_is_one(stage, challenger)
        _answers_name_their_version(stage, load.answers)


def _changed(change: Callable[[], Any]) -> tuple[float, float]:
    """When a change was asked for, and when it had been made."""
    asked_s = time.monotonic()
    change()
    return asked_s, time.monotonic()


def _answered_by(
    answers: Sequence[Answer], *, version: int, after: float = float("-inf"), before: float = float("inf")
) -> None:
    wrong = [a for a in answers if a.asked_s >= after and a.given_s <= before and a.version != version]
    assert wrong == []


def _each_change_is_one(stage: Stage, challenger: int) -> None:
    """Lineup, reign, decision and audit row of each change stand side by side, and nothing else does."""
    kinds = [(d.kind, d.version, d.from_generation, d.to_generation) for d in stage.registry.decisions("m")]
    assert kinds[2:] == [("promote", challenger, 2, 3), ("rollback", 1, 3, 4)]
    lineups = {lineup.generation: lineup for lineup in stage.registry.lineups("m")}
    assert [(lineups[g].champion, lineups[g].previous) for g in (3, 4)] == [(challenger, 1), (1, None)]
    assert [(r.champion, r.first_generation) for r in stage.registry.reigns("m")] == [(1, 1), (challenger, 3), (1, 4)]
    assert [row.action for row in stage.registry.audit("m")][-2:] == ["promote", "rollback"]


def _answers_name_their_version(stage: Stage, answers: Sequence[Answer]) -> None:
    """What callers were told is what the chunks say; each chunk is of one version, the champion of its generation."""
    champions = {lineup.generation: lineup.champion for lineup in stage.registry.lineups("m")}
    chunks = {(head.writer, head.seq): chunk for head, chunk in stage.chunks()}
    assert {writer for writer, _ in chunks} >= set(sorted({w for w, _ in chunks})[:2])
    assert all(chunk.version == champions[chunk.generation] for chunk in chunks.values())
    for answer in answers:
        place = address_of(answer.prediction_id)
        assert place is not None
        assert chunks[place[0].writer, place[0].seq].version == answer.version


# --- 8


def test_promise_8_what_admission_refuses_is_never_loaded_here_and_nothing_is_ever_unpickled(tmp_path: Path) -> None:
    victim = tmp_path / "unpickled"
    refused = {
        "a pickle": pickle.dumps(Evil(str(victim))),
        "a loop": hostile("loops"),
        "nonsense": b"\x08\x07nonsense" * 50,
        "half a model": logistic(TRUTH)[:-20],
    }
    with staged(tmp_path / "store", source="server") as stage:
        stage.declare()
        stage.champion(logistic(WEAK))
        with serving(stage.folder) as serve:
            serve.ready()
            for what, body in refused.items():
                for role in ("challenger", "champion"):
                    path = f"/admin/models/m/versions?as={role}"
                    answer = serve.http.post(path, content=body, headers={"content-type": "application/octet-stream"})
                    assert answer.status_code == 422, what
                    assert answer.json()["error"]
            assert serve.post("/models/m/predict", {"inputs": {"a": 1.0, "b": 1.0}})["version"] == 1
            loaded = _libraries_of(serve.worker("gateway").pid)
            assert serve.stop() == 0
        assert not victim.exists()
        assert [version.number for version in stage.registry.versions("m")] == [1]
        assert stage.registry.lineup("m").generation == 1
        assert [r.action for r in stage.registry.audit("m")].count("refuse_version") == 2 * len(refused)
        for body in refused.values():
            assert not list(stage.folder.glob(f"artifacts/**/{digest_of(body).removeprefix('sha256:')}"))
    assert not [path for path in loaded if "/sklearn/" in path or "/onnx/" in path]


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return open, (self._path, "w")


def _libraries_of(pid: int) -> set[str]:
    """The files that a process has mapped; nothing where the system does not say."""
    maps = Path(f"/proc/{pid}/maps")
    return (
        {line.split(maxsplit=5)[5] for line in maps.read_text().splitlines() if "/" in line} if maps.exists() else set()
    )
