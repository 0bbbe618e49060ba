"""`understudy serve`: one parent, its workers, and what each of them does when another one dies."""

from __future__ import annotations

import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import psutil  # type: ignore[import-untyped]  # it ships no types
import pytest

from gateway.config import ServerSettings, Settings
from gateway.errors import SettingsRefused
from gateway.supervisor import listening_socket
from tests.actors import hostile, logistic
from tests.seasons import TRUTH, WEAK
from tests.servers import understudy
from tests.serving import gone, serving, until
from tests.stage import staged

ROW = {"inputs": {"a": 1.0, "b": 2.0}}


def store_with(tmp_path: Path, champion: bytes, *challengers: bytes) -> Path:
    with staged(tmp_path / "store", source="server") as stage:
        stage.declare()
        stage.champion(champion)
        for challenger in challengers:
            stage.challenger(challenger)
    return tmp_path / "store"


def test_children_end_within_a_second_of_their_parent_and_so_do_theirs(tmp_path: Path) -> None:
    """Kill -9 of the parent, with a challenger that is in the middle of an endless batch."""
    store = store_with(tmp_path, logistic(WEAK), hostile("loops"))
    with serving(store) as serve:
        serve.ready()
        serve.post("/models/m/predict", {"inputs": {"a": 1.0, "b": 99.0}})
        shadow = serve.worker("shadow")
        (child,) = until(shadow.children, "the challenger's process")
        used = child.cpu_times().user
        until(lambda: child.cpu_times().user > used + 0.1, "it loops")
        family = psutil.Process(serve.process.pid).children(recursive=True)
        assert len(family) >= 4
        serve.process.kill()
        killed_s = time.monotonic()
        until(lambda: all(gone(process) for process in family), "nobody is left", within_s=10)
        assert time.monotonic() - killed_s < 1.5  # a second, and what a busy machine needs to notice


def test_five_crashes_within_a_minute_end_it_with_1_and_leave_nobody_behind(tmp_path: Path) -> None:
    store = store_with(tmp_path, logistic(WEAK))
    with serving(store) as serve:
        serve.ready()
        killed: list[int] = []
        for _ in range(5):
            worker = until(lambda: [w for w in serve.workers("retrain") if w.pid not in killed], "a new worker")[0]
            killed.append(worker.pid)
            worker.kill()
        family = psutil.Process(serve.process.pid).children(recursive=True)
        assert serve.process.wait(30) == 1
        assert all(gone(process) for process in family)
        assert "crashed five times within a minute" in serve.log


def test_sigterm_answers_what_was_taken_and_ends_with_0_although_a_challenger_never_ends(tmp_path: Path) -> None:
    store = store_with(tmp_path, hostile("is slow", n_slow=60), hostile("loops"))  # some 400 ms; for ever
    with serving(store, server__max_wait_s=60.0) as serve:
        serve.ready()
        serve.post("/models/m/predict", {"inputs": {"a": 1.0, "b": 99.0}})
        until(serve.worker("shadow").children, "the challenger's process")
        found: list[Any] = []

        def ask() -> None:
            with httpx.Client(base_url=serve.url, timeout=60, trust_env=False) as http:
                found.append(http.post("/models/m/predict", json=ROW).status_code)

        used = serve.worker("gateway").cpu_times().user
        asking = [threading.Thread(target=ask) for _ in range(3)]
        for thread in asking:
            thread.start()
        until(lambda: serve.worker("gateway").cpu_times().user > used + 0.15, "a run is on its way")
        asked_s = time.monotonic()
        assert serve.stop() == 0
        assert time.monotonic() - asked_s < 8  # not the patience that the challenger's batch is due
        for thread in asking:
            thread.join()
    assert found == [200, 200, 200]
    with staged(store, source="server") as stage:
        assert sum(head.n_rows for head, _ in stage.chunks()) == 4


def test_the_port_is_the_parents_and_survives_a_workers_restart(tmp_path: Path) -> None:
    store = store_with(tmp_path, logistic(WEAK))
    with serving(store) as serve:
        serve.ready()
        first = serve.worker("gateway")
        first.kill()
        first.wait()
        with socket.create_connection(("127.0.0.1", serve.port), timeout=60):  # accepted while nobody is there
            answer = serve.post("/models/m/predict", ROW)  # and answered by the next
        assert answer["version"] == 1
        assert serve.worker("gateway").pid != first.pid


def test_two_workers_share_the_port_and_serve_the_same_lineup(tmp_path: Path) -> None:
    store = store_with(tmp_path, logistic(WEAK), logistic(TRUTH))
    with serving(store, server__workers=2) as serve:
        serve.ready()
        until(lambda: len(serve.workers("gateway")) == 2, "two workers")
        writers: set[int] = set()
        versions: set[int] = set()

        def ask() -> bool:
            with httpx.Client(base_url=serve.url, timeout=60, trust_env=False) as http:  # a connection each
                answers = [http.post("/models/m/predict", json=ROW).json() for _ in range(3)]
            versions.update(answer["version"] for answer in answers)
            with staged(store, source="server") as stage:
                writers.update(head.writer for head, _ in stage.chunks())
            return len(writers) == 2

        until(ask, "both have answered")
        assert versions == {1}
        assert serve.stop() == 0


def test_a_role_alone_ends_with_0_too(tmp_path: Path) -> None:
    import subprocess

    from tests.serving import PROGRAM

    store = store_with(tmp_path, logistic(WEAK))
    command = [*PROGRAM, "gateway", "--data-dir", str(store), "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        url = process.stdout.readline().decode().split('"')[3]
        with httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
            assert http.post("/models/m/predict", json=ROW).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def at(host: str, port: int = 0) -> Settings:
    return Settings(store="a store", server=ServerSettings(host=host, port=port))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "example.org", "127.0.0.1.example.org"])  # noqa: S104
def test_it_listens_beyond_this_machine_only_with_keys(host: str) -> None:
    with pytest.raises(SettingsRefused, match="keys issue ops --scope admin --data-dir 'a store'"):
        listening_socket(at(host), has_keys=False)


def test_with_keys_it_listens_wherever_it_is_told_and_without_them_on_loopback() -> None:
    with listening_socket(at("0.0.0.0"), has_keys=True) as bound:  # noqa: S104  # that is the point
        assert bound.getsockname()[0] == "0.0.0.0"  # noqa: S104
    for has_keys in (True, False):
        with listening_socket(at("127.0.0.1"), has_keys=has_keys) as bound:
            port = bound.getsockname()[1]
            with pytest.raises(SettingsRefused, match=f"cannot listen on 127.0.0.1:{port}"):
                listening_socket(at("127.0.0.1", port), has_keys=has_keys)


def test_a_store_without_keys_is_served_to_this_machine_and_says_so_and_to_no_network(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    refused = understudy("serve", "--data-dir", store, "--host", "0.0.0.0", "--port", "0")  # noqa: S104
    assert (refused.returncode, refused.stdout) == (1, "")
    assert f"understudy keys issue ops --scope admin --data-dir {store}" in refused.stderr
    with serving(Path(store)) as serve:
        serve.ready()
        assert serve.get("/admin/keys") == []
