"""The client of a program: on a server and on a store it does the same, and leaves nothing behind."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import psutil  # type: ignore[import-untyped]  # it ships no types
import pytest

from gateway.client import Client
from gateway.config import ClockSettings, Settings
from gateway.errors import ProblemError, SettingsRefused, Unreachable
from tests.models import Made
from tests.servers import Running

HOUSE = {"area": 50.0, "rooms": 2}


def test_on_a_store_and_on_a_server_the_same_calls_give_the_same(
    server: Running, models: Mapping[str, Made], tmp_path: Path
) -> None:
    told = []
    made = models["price"]
    for client in (Client(server.url), Client.on_store(Settings(store=str(tmp_path / "store")))):
        with client as understudy:
            model = understudy.create_model("of-a-client", made.task, made.declaration["features"])
            version = understudy.register("of-a-client", made.onnx, "champion", score=made.score, classes=None)
            answer = understudy.predict("of-a-client", [HOUSE, HOUSE], association_id=["ключ / a", None])
            request_id = answer["prediction_id"]
            receipts = [
                understudy.outcome("of-a-client", 100, prediction_id=request_id),
                understudy.outcomes("of-a-client", [{"prediction_id": request_id, "row": 1, "outcome": 1.5}]),
            ]
            rows = [understudy.prediction("of-a-client", request_id, row) for row in (0, 1)]
            assert understudy.predictions("of-a-client", "ключ / a") == rows[:1]
            assert understudy.ready()["status"] == "ready"
            decided = [decision["kind"] for decision in understudy.decisions("of-a-client")]
            with pytest.raises(ProblemError) as refused:
                understudy.promote("of-a-client", 1, "for a test", generation=9)
            assert (refused.value.status, refused.value.problem["type"]) == (412, "urn:understudy:generation-moved")
            assert refused.value.sentence == refused.value.problem["error"]
            told.append(
                [model["schema"], version["digest"], answer["outputs"], receipts, decided]
                + [(row["inputs"], row["outputs"], row["outcome"], row["row"]) for row in rows]
            )
    assert told[0] == told[1]


def test_a_client_on_a_store_leaves_no_thread_no_process_and_no_open_file(tmp_path: Path) -> None:
    settings = Settings(store=str(tmp_path / "store"))
    with Client.on_store(settings):
        pass
    this = psutil.Process()

    def left() -> tuple[set[str], int, set[str]]:
        files = {file.path for file in this.open_files() if file.path.startswith(str(tmp_path))}
        return {thread.name for thread in threading.enumerate()}, len(this.children()), files

    before = left()
    for _ in range(3):
        with Client.on_store(settings) as client:
            assert client.models() == []
            with pytest.raises(ProblemError, match="unknown model"):
                client.predict("nope", {})
        assert left() == before


def test_a_store_that_cannot_be_opened_raises_what_is_wrong_and_leaves_no_thread(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    before = set(threading.enumerate())
    with pytest.raises(FileExistsError):
        Client.on_store(Settings(store=str(tmp_path / "file")))
    with pytest.raises(SettingsRefused, match="expected a folder"):
        Client.on_store(Settings(store="postgresql://elsewhere"))
    assert set(threading.enumerate()) == before


def test_the_callers_clock_is_kept_by_the_store(models: Mapping[str, Made], tmp_path: Path) -> None:
    settings = Settings(store=str(tmp_path / "store"), clock=ClockSettings(source="caller"))
    made = msgspec.structs.replace(models["price"], name="dated")
    with Client.on_store(settings) as client:
        client.create_model(made.name, made.task, made.declaration["features"])
        client.set_clock(datetime(2013, 6, 1, tzinfo=UTC))
        client.register(made.name, made.onnx, "champion", score=made.score)
    with Client.on_store(settings) as client:
        with pytest.raises(ProblemError) as refused:
            client.set_clock(datetime(2013, 5, 31, tzinfo=UTC))
        assert refused.value.status == 409
        answer = client.predict(made.name, HOUSE)
        assert client.prediction(made.name, answer["prediction_id"])["at"] == "2013-06-01T00:00:00Z"


@contextmanager
def stranger(status: int, body: bytes) -> Iterator[str]:
    """A server that is none of ours."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            return

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{served.server_address[1]}"
        finally:
            served.shutdown()
            thread.join()


@pytest.mark.parametrize(("status", "body"), [(200, b"<html>"), (200, b"\xff"), (302, b""), (200, b"")])
def test_whoever_answers_otherwise_is_not_taken_for_a_server_of_ours(status: int, body: bytes) -> None:
    with stranger(status, body) as url, Client(url) as client:
        for call in (client.models, client.ready):
            with pytest.raises(Unreachable, match="is no Understudy"):
                call()


def test_an_error_without_an_explanation_is_still_an_error_with_its_status() -> None:
    with stranger(500, b"<html>") as url, Client(url) as client, pytest.raises(ProblemError, match="HTTP 500") as said:
        client.models()
    assert said.value.status == 500


def test_an_address_that_is_none_or_where_nobody_is_says_so() -> None:
    for url in ("http://127.0.0.1:9", "http://127.0.0.1:99999", "nonsense", "ftp://127.0.0.1"):
        with pytest.raises(Unreachable), Client(url) as client:
            client.models()
