"""A real gateway in a process of its own, asked over real sockets, and a reader of what it has journalled."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
from msgspec import Struct

from gateway.config import JournalSettings
from gateway.journal import open_ledger, open_reader
from tests.models import Made

START_S = 60.0
Answer = tuple[int, dict[str, str], bytes]
LEAKS = re.compile(
    r"Traceback|File \"|\.py\b|/(?:home|tmp|usr|root|var|etc|work|opt|proc)/|\bSELECT\b|\bINSERT\b|sqlite|sqlalchemy|"
    r"apsw|msgspec|litestar|numpy|<class|<function|object at 0x|ONNXRuntimeError|registry\.|gateway\.(?!log)",
    re.IGNORECASE,
)
BOTH_WAYS = pytest.mark.parametrize("server", ["with_lane", "without_lane"], indirect=True, scope="session")
"""For tests of what the fast lane may answer: that Litestar answers the same is no question of how it is set."""
UNDERSTUDY = (sys.executable, "-c", "from gateway.cli import main; main(prog_name='understudy')")


class Running(Struct, frozen=True):
    """A gateway that serves a store."""

    url: str
    store: Path
    log: Path
    http: httpx.Client
    pid: int

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parsed = httpx.URL(self.url)
        return parsed.host, parsed.port or 80

    def predict(self, model: str, inputs: Any, **more: Any) -> dict[str, Any]:
        """The answer to a prediction that must succeed."""
        response = self.http.post(f"/models/{model}/predict", json={"inputs": inputs, **more})
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    def journalled(self) -> tuple[dict[int, int], dict[int, int]]:
        """Writer → last seq of predictions, and of outcomes: what a reader of the journal finds now."""
        reader, ledger = open_reader(self.store), open_ledger(self.store, JournalSettings())
        try:
            return {state.writer: state.last_seq for state in reader.writers()}, dict(ledger.outcome_cursor())
        finally:
            reader.close()
            ledger.close()

    def registered(self) -> Any:
        """Every model with its lineup, and every decision; without the mirror, which moves by itself."""
        documents = [document | {"mirror": None} for document in self.http.get("/admin/models").json()]
        return documents, [self.http.get(f"/admin/models/{d['name']}/decisions").json() for d in documents]

    def raw(self, request: bytes) -> Answer:
        """Status, headers and body of the answer to these very bytes."""
        with Wire(self.address) as wire:
            wire.send(request)
            return wire.answer()


class Wire:
    """One TCP connection, for requests that no client library would send."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._socket = socket.create_connection(address, timeout=20)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # pieces leave as they are sent
        self._file = self._socket.makefile("rb")

    @property
    def port(self) -> int:
        """Ours, by which the other side knows it."""
        port: int = self._socket.getsockname()[1]
        return port

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Send all of it, or as much as the other side takes."""
        try:
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return

    def send_no_more(self) -> None:
        """End our side; what was asked may still be answered."""
        self._socket.shutdown(socket.SHUT_WR)

    def ended(self) -> bool:
        """Whether the other side has closed it."""
        return self._file.read(1) == b""

    def answer(self, *, without_body: bool = False) -> Answer:
        """The next answer on this connection; its headers in lower case."""
        status = int(self._file.readline().split()[1])
        headers = {}
        while line := self._file.readline().strip():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        n_bytes = 0 if without_body else int(headers.get("content-length", 0))
        if headers.get("connection") == "close" and "content-length" not in headers:
            return status, headers, self._file.read()
        return status, headers, self._file.read(n_bytes)


@contextmanager
def running(store: Path, settings: Mapping[str, Any], models: Iterable[Made]) -> Iterator[Running]:
    """A gateway on a new store with these models, until the end of the block."""
    log = store.with_name(f"{store.name}.log")
    names = {f"UNDERSTUDY__{key.upper().replace('.', '__')}": str(value) for key, value in settings.items()}
    command = [*UNDERSTUDY, "gateway", "--data-dir", str(store), "--port", "0", "--json"]
    with log.open("wb") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, env=os.environ | names)
    try:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        with httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
            until_ready(http)
            for made in models:
                publish(http, made)
            yield Running(url, store, log, http, process.pid)
    finally:
        process.terminate()
        process.communicate(timeout=30)


def until_ready(http: httpx.Client) -> None:
    """Wait until a server answers."""
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s:
        try:
            if http.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.02)
    raise AssertionError(f"nobody answers at {http.base_url} after {START_S} s")


def publish(http: httpx.Client, made: Made) -> None:
    """Declare a model and upload its first champion."""
    declared = http.post("/admin/models", json=made.declaration)
    assert declared.status_code == 201, declared.text
    uploaded = upload(http, made, "champion")
    assert uploaded.status_code == 201, uploaded.text


def upload(http: httpx.Client, made: Made, role: str) -> httpx.Response:
    """The answer to an upload."""
    headers = {"content-type": "application/octet-stream"}
    params = {"as": role, **made.options}
    return http.post(f"/admin/models/{made.name}/versions", content=made.onnx, params=params, headers=headers)


def understudy(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """One command of the command line, run to its end."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("UNDERSTUDY__")}
    return subprocess.run(
        [*UNDERSTUDY, *arguments], capture_output=True, text=True, input=stdin, timeout=120, env=environment
    )


def told(response: httpx.Response | Answer, status: int, expected: str) -> None:
    """The problem has every member, says what is expected, and nothing of what is inside."""
    if isinstance(response, httpx.Response):
        response = response.status_code, dict(response.headers), response.content
    code, headers, body = response
    text = body.decode()
    assert code == status, text
    assert headers["content-type"] == "application/problem+json"
    problem = json.loads(text)
    assert set(problem) == {"type", "title", "status", "detail", "request_id", "error"}
    assert problem["status"] == status
    assert re.fullmatch(r"urn:understudy:[a-z-]+", problem["type"])
    assert problem["title"]
    assert problem["detail"] == problem["error"]
    assert len(problem["error"]) <= 1_000
    assert problem["request_id"] == headers["x-request-id"]
    assert expected in problem["error"], problem["error"]
    assert not LEAKS.search(text), text
