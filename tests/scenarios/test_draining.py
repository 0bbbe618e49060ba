"""SIGTERM under load: what was taken is answered and kept, and no connection is reset with a request on its way.

Callers behave as a balancer does: who is told that a connection ends (`connection: close`), or finds that it has ended
while nothing was asked, sends nothing more on it. (A caller that gets no turn for longer than the notice finds that.)
The control is kill -9, which must leave requests without an answer.
"""

from __future__ import annotations

import json
import select
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from gateway.config import ServerSettings
from registry.types import Policy
from tests.actors import logistic
from tests.faults import Faults
from tests.scenarios.checks import Acknowledged, gaps, lost
from tests.seasons import WEAK, rows_of
from tests.serving import serving, until
from tests.stage import Stage, staged

N_CALLERS = 4
MOST_LIVES = 10


class Caller:
    """One connection that asks again as soon as it is answered, until it is told that it ends."""

    def __init__(self, port: int, seed: int) -> None:
        self.acknowledged: list[Acknowledged] = []
        self.unanswered: str | None = None
        self._rows = rows_of(seed, 100)[0].tolist()
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._file = self._socket.makefile("rb")
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            while not self._has_ended() and self._ask():
                pass
        except OSError as error:
            self.unanswered = repr(error)
        finally:
            self._file.close()
            self._socket.close()

    def _has_ended(self) -> bool:
        """Whether the connection was closed while it was quiet."""
        return bool(select.select([self._socket], [], [], 0)[0])

    def _ask(self) -> bool:
        a, b = self._rows[len(self.acknowledged) % 100]
        body = json.dumps({"inputs": {"a": a, "b": b}}).encode()
        head = "POST /models/m/predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: "
        self._socket.sendall(f"{head}{len(body)}\r\n\r\n".encode() + body)
        status = self._file.readline()
        if not status:
            self.unanswered = "the connection ended"
            return False
        headers = {}
        while line := self._file.readline().strip():
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        answer = self._file.read(int(headers["content-length"]))
        assert status.startswith(b"HTTP/1.1 200"), status + answer
        said = json.loads(answer)
        self.acknowledged.append(Acknowledged(said["prediction_id"], said["outputs"]))
        return headers.get("connection") != "close"


def stopped_under_load(stage: Stage, number: signal.Signals) -> tuple[list[Caller], int, float]:
    """The callers of one life of a server that ended by a signal, its exit code, and how long its end took."""
    with serving(stage.folder) as serve:
        serve.ready()
        callers = [Caller(serve.port, seed) for seed in range(N_CALLERS)]
        until(lambda: all(len(caller.acknowledged) >= 5 for caller in callers), "the load goes on")
        asked_s = time.monotonic()
        (serve.process if number == signal.SIGTERM else serve.worker("gateway")).send_signal(number)
        for caller in callers:
            caller.thread.join(60)
        if number != signal.SIGTERM:
            serve.process.terminate()
        return callers, serve.process.wait(60), time.monotonic() - asked_s


def drained(folder: Path, n: int) -> tuple[int, float]:
    """So many lives: what was acknowledged in them, and how long the longest end took; nothing may be lost."""
    told: list[Acknowledged] = []
    longest_s = 0.0
    with staged(folder, source="server") as stage:
        stage.declare(Policy(promotion="one"))
        stage.champion(logistic(WEAK))
        for _ in range(n):
            callers, code, took_s = stopped_under_load(stage, signal.SIGTERM)
            assert [caller.unanswered for caller in callers] == [None] * N_CALLERS
            assert code == 0
            told += [each for caller in callers for each in caller.acknowledged]
            longest_s = max(longest_s, took_s)
        assert lost(folder, stage.registry.model("m"), told) == []
        assert gaps(stage) == []
        assert sum(head.n_rows for head, _ in stage.chunks()) == len(told)  # and nothing was kept that nobody was told
    return len(told), longest_s


def unanswered_by_a_kill(folder: Path) -> int:
    """How many callers of the control were left without an answer, in the first life in which any was.

    On a full machine all of them may be between two requests at that moment.
    """
    with staged(folder, source="server") as stage:
        stage.declare(Policy(promotion="one"))
        stage.champion(logistic(WEAK))
        for _ in range(MOST_LIVES):
            callers, _, _ = stopped_under_load(stage, signal.SIGKILL)
            if n := sum(caller.unanswered is not None for caller in callers):
                return n
    return 0


def test_sigterm_under_load_answers_and_keeps_all_that_was_sent(tmp_path: Path) -> None:
    drained(tmp_path / "store", 3)


def test_the_control_that_is_killed_leaves_callers_without_an_answer(tmp_path: Path) -> None:
    assert unanswered_by_a_kill(tmp_path / "store") > 0


@pytest.mark.slow
def test_sigterm_a_hundred_times(tmp_path: Path, chaos_times: int, kept: Faults) -> None:
    n = 2 * chaos_times
    n_told, longest_s = drained(tmp_path / "store", n)
    assert longest_s < ServerSettings().drain_notice_s + ServerSettings().drain_s + 2
    kept.record(
        "SIGTERM under load",
        n,
        f"0 of {n_told:,} predictions lost, 0 requests unanswered, {N_CALLERS} connections each time; "
        f"all gone after {longest_s:.1f} s at most",
        f"kill -9 left {unanswered_by_a_kill(tmp_path / 'control')} of {N_CALLERS} callers without an answer",
    )
