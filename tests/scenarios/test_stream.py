"""A file streamed into a real server, through kills of either side: each row once, and the same decisions."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]  # it ships no types
import pytest

from gateway.journal import PredictionReader, open_reader
from tests.serving import PATIENCE_S, PROGRAM, Serve, gone, serving, until
from tests.streams import N_ROWS, loans, outcomes_of, predictions_of

N_LEARNED = 600
OPTIONS = (
    "--model", "loans", "--target", "late", "--time", "asked", "--outcome-time", "defaulted_at",
    "--outcome-delay", "4d", "--champion-rows", "20%", "--challenger-rows", "0%-40%",
)  # fmt: skip


class Streaming:
    """A running `understudy stream`."""

    def __init__(self, file: Path, *more: str) -> None:
        self.log = file.with_suffix(".log")
        self._out = self.log.open("ab")
        command = [*PROGRAM, "stream", str(file), *OPTIONS, *more, "--json", "--exit"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("UNDERSTUDY")}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._out, env=environment)

    def ends(self, code: int = 0) -> dict[str, Any]:
        """Wait for the end; returns the summary, where it ends well."""
        out, _ = self.process.communicate(timeout=4 * PATIENCE_S)
        self._out.close()
        assert self.process.returncode == code, self.log.read_text()
        if code:
            return {}
        # a store that is served says first where
        summary: dict[str, Any] = json.JSONDecoder().raw_decode(out.decode().partition('"}\n')[2] or out.decode())[0]
        return summary

    def killed(self) -> None:
        """Kill -9, and wait until nothing of it is left."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        self.process.communicate()
        self._out.close()
        until(lambda: all(gone(child) for child in children), "its workers have ended")


def sent(store: Path, at_least: int) -> None:
    """Wait until so many rows are in the journal; training comes before the first, and may find the machine busy."""
    until((store / "predictions").is_dir, "a journal", within_s=4 * PATIENCE_S)
    with closing(open_reader(store)) as reader:
        until(lambda: n_rows_of(reader) >= at_least, f"{at_least} rows are sent", within_s=4 * PATIENCE_S)


def n_rows_of(reader: PredictionReader) -> int:
    """How many rows the journal has by now."""
    return sum(head.n_rows for state in reader.writers() for head in reader.heads(state.writer, 0, 1_000_000))


def keys_of(file: Path) -> list[str]:
    """The association ids that have to be sent, each once."""
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    return [f"{digest}:{row}" for row in range(N_LEARNED, N_ROWS)]


def check_each_once(store: Path, file: Path) -> None:
    """Exactly the rows that nobody learned from, each once, with one outcome each."""
    expected = keys_of(file)
    assert predictions_of(store) == dict.fromkeys(expected, 1)
    assert outcomes_of(store, "loans", expected) == dict.fromkeys(expected, 1)


def judged(summary: dict[str, Any]) -> Any:
    """What was decided and why: the same in every telling of one story."""
    evidence = summary["evidence"]
    facts = ("version", "verdict", "n_matured", "n_waiting", "mirror")
    shown = [{name: entry[name] for name in facts} for entry in evidence["challengers"]]
    return shown, evidence["closed_through"], evidence["champion"], summary["decisions"]


def check_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert judged(one) == judged(other)
    for left, right in zip(one["evidence"]["challengers"], other["evidence"]["challengers"], strict=True):
        assert left["log_e"] == pytest.approx(right["log_e"], rel=1e-9)


@pytest.mark.slow
def test_a_killed_stream_goes_on_and_sends_nothing_twice(tmp_path: Path) -> None:
    file, store = loans(tmp_path / "loans.csv"), tmp_path / "store"
    first = Streaming(file, "--data-dir", str(store))
    sent(store, 300)
    first.killed()
    n_before = sum(predictions_of(store).values())
    assert 300 <= n_before < N_ROWS - N_LEARNED

    summary = Streaming(file, "--data-dir", str(store)).ends()
    assert summary["n_sent_before"] == n_before
    assert summary["n_requests"] == N_ROWS - N_LEARNED - n_before
    check_each_once(store, file)
    assert summary["evidence"]["challengers"][0]["n_matured"] == N_ROWS - N_LEARNED
    assert summary["mirror"][0]["mirror"] == {
        "eligible": 900, "scored": 900, "failed": 0, "skipped": 0, "reasons": {},
    }  # fmt: skip


@pytest.mark.slow
def test_two_runs_decide_the_same_and_so_does_one_that_was_interrupted(tmp_path: Path) -> None:
    file = loans(tmp_path / "loans.csv")
    whole = Streaming(file, "--data-dir", str(tmp_path / "one")).ends()
    check_same(whole, Streaming(file, "--data-dir", str(tmp_path / "two")).ends())
    again = Streaming(file, "--data-dir", str(tmp_path / "two")).ends()
    assert (again["n_requests"], again["outcomes"]) == (0, {})
    check_same(whole, again)
    check_each_once(tmp_path / "two", file)

    store = tmp_path / "three"
    for n in (150, 400, 700):
        stopped = Streaming(file, "--data-dir", str(store))
        sent(store, n)
        stopped.process.send_signal(signal.SIGINT)
        stopped.ends(code=1)
        assert "the same command goes on from there" in stopped.log.read_text()
    check_same(whole, Streaming(file, "--data-dir", str(store)).ends())
    check_each_once(store, file)


@pytest.mark.slow
def test_a_server_that_is_killed_and_comes_back_gets_every_row_once(tmp_path: Path) -> None:
    file, store = loans(tmp_path / "loans.csv"), tmp_path / "store"
    settings: dict[str, Any] = {"clock__source": "caller", "journal__heartbeat_s": 0.1, "retrain__poll_s": 0.02}
    with serving(store, **settings) as first:
        stream = Streaming(file, "--url", first.url)
        for n in (100, 300, 500):
            sent(store, n)
            first.kill("gateway")  # the supervisor starts another one
            until(lambda: first.workers("gateway"), "another gateway")
        sent(store, 600)
        port = first.port
        kill_all(first)
    with serving(store, port=port, **settings):
        summary = stream.ends()
    check_each_once(store, file)
    assert summary["evidence"]["challengers"][0]["n_matured"] == N_ROWS - N_LEARNED
    # what was told twice was known again
    assert summary["outcomes"]["accepted"] + summary["outcomes"]["duplicate"] >= N_ROWS - N_LEARNED
    assert not summary["outcomes"]["unknown"]
    assert not summary["outcomes"]["rejected"]


def kill_all(serve: Serve) -> None:
    """Kill -9 of every process of a server."""
    workers = psutil.Process(serve.process.pid).children(recursive=True)
    for process in [serve.process, *workers]:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    serve.process.wait()
    until(lambda: all(gone(worker) for worker in workers), "all of it is gone")


@pytest.mark.slow
def test_a_server_that_stays_away_ends_the_stream_which_goes_on_later(tmp_path: Path) -> None:
    file, store = loans(tmp_path / "loans.csv"), tmp_path / "store"
    settings: dict[str, Any] = {"clock__source": "caller", "journal__heartbeat_s": 0.1, "retrain__poll_s": 0.02}
    with serving(store, **settings) as first:
        stream = Streaming(file, "--url", first.url)
        sent(store, 300)
        kill_all(first)
        stream.ends(code=1)
        assert "nobody answers at 127.0.0.1" in stream.log.read_text()
    with serving(store, **settings) as second:
        Streaming(file, "--url", second.url).ends()
    check_each_once(store, file)
