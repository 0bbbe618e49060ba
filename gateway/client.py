"""The client: the same calls on a running server, or on a store without one.

    with Client("http://127.0.0.1:8080") as understudy:
        answer = understudy.predict("late-flights", {"carrier": "UA", "distance": 733.0})
        understudy.outcome("late-flights", 1, prediction_id=answer["prediction_id"])

`Client.on_store(settings)` runs the very same application in this process, so there is one way to do each thing.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime
from typing import Any, Literal, Self
from urllib.parse import quote

import httpx
import msgspec

from gateway.config import Settings
from gateway.errors import ProblemError, Unreachable

Rows = Mapping[str, Any] | Sequence[Mapping[str, Any]]


class Client:
    """Calls of one user. Not for several threads at once."""

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        timeout_s: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Work on the server at `url`, with an API key where it needs one.

        Raises:
            Unreachable: `url` is no address at all.
            ValueError: the key has characters that no key has; says no more of it.
        """
        if key is not None and not (key.isascii() and key.isprintable()):
            raise ValueError("key: expected printable ASCII, like us_…, got something else")
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        try:
            # no proxies and no credentials from the environment: predictions go where they were told to
            self._http = httpx.Client(
                base_url=url, headers=headers, timeout=timeout_s, transport=transport, trust_env=False,
                follow_redirects=False,
            )  # fmt: skip
        except httpx.InvalidURL as error:
            raise Unreachable(f"{url!r} is no address: {error}") from None

    @classmethod
    def on_store(cls, settings: Settings) -> Self:
        """Work on a store in this process; nothing else needs to run."""
        return cls("http://store", transport=_InProcess(settings))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close connections, or the store."""
        self._http.close()

    # --- data plane

    def predict(self, model: str, inputs: Rows, **facts: Any) -> dict[str, Any]:
        """The champion's answer. `facts`: association_id, predicted_at, decision, propensity; each as on the wire."""
        return self._json("POST", _path("models", model, "predict"), {"inputs": inputs, **facts})

    def outcome(self, model: str, outcome: Any, **facts: Any) -> dict[str, Any]:
        """What really happened. `facts`: prediction_id or association_id, and row, observed_at, source."""
        return self._json("POST", _path("models", model, "outcomes"), {"outcome": outcome, **facts})

    def outcomes(self, model: str, outcomes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Many at once; see `outcome`."""
        return self._json("POST", _path("models", model, "outcomes"), outcomes)

    def prediction(self, model: str, prediction_id: str, row: int = 0) -> dict[str, Any]:
        """A prediction read back, with its shadow scores and outcomes."""
        return self._json("GET", _path("models", model, "predictions", prediction_id), params={"row": row})

    def predictions(self, model: str, association_id: str) -> list[dict[str, Any]]:
        """The predictions of an association id, oldest first."""
        found = self._json("GET", _path("models", model, "predictions"), params={"association_id": association_id})
        rows: list[dict[str, Any]] = found["predictions"]
        return rows

    # --- control plane

    def models(self) -> list[dict[str, Any]]:
        """Every model with its lineup, versions and mirror."""
        documents: list[dict[str, Any]] = self._decoded("GET", "/admin/models")
        return documents

    def model(self, model: str) -> dict[str, Any]:
        """One model."""
        return self._json("GET", _path("admin", "models", model))

    def create_model(
        self, model: str, task: str, features: Sequence[Mapping[str, Any]], policy: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Declare a model; the same declaration again changes nothing."""
        declared = {"name": model, "task": task, "features": features} | ({} if policy is None else {"policy": policy})
        return self._json("POST", "/admin/models", declared)

    def register(
        self, model: str, onnx: bytes, as_: Literal["champion", "challenger"], **options: str | None
    ) -> dict[str, Any]:
        """Upload a version. `options`: score, classes, features, reason; each as on the wire."""
        params = {"as": as_} | {name: value for name, value in options.items() if value is not None}
        headers = {"content-type": "application/octet-stream"}
        path = _path("admin", "models", model, "versions")
        version: dict[str, Any] = self._decoded("POST", path, content=onnx, params=params, headers=headers)
        return version

    def promote(self, model: str, version: int, reason: str, *, generation: int | None = None) -> dict[str, Any]:
        """Make a challenger the champion; returns the lineup."""
        return self._change(model, "promote", {"version": version, "reason": reason}, generation)

    def rollback(self, model: str, reason: str, *, generation: int | None = None) -> dict[str, Any]:
        """Give the previous champion its place back; returns the lineup."""
        return self._change(model, "rollback", {"reason": reason}, generation)

    def retire(self, model: str, version: int, reason: str, *, generation: int | None = None) -> dict[str, Any]:
        """Take a challenger out of play; returns the lineup."""
        return self._change(model, "retire", {"version": version, "reason": reason}, generation)

    def enlist(self, model: str, version: int, reason: str, *, generation: int | None = None) -> dict[str, Any]:
        """Make a retired version a challenger again; returns the lineup."""
        return self._change(model, "challengers", {"version": version, "reason": reason}, generation)

    def evidence(self, model: str) -> dict[str, Any]:
        """What is known of the challengers, and what is missing."""
        return self._json("GET", _path("admin", "models", model, "evidence"))

    def decisions(self, model: str) -> list[dict[str, Any]]:
        """Every change of the lineup, oldest first."""
        decided: list[dict[str, Any]] = self._decoded("GET", _path("admin", "models", model, "decisions"))
        return decided

    def keys(self) -> list[dict[str, Any]]:
        """Every key that was ever issued, oldest first, without the secrets."""
        issued: list[dict[str, Any]] = self._decoded("GET", "/admin/keys")
        return issued

    def issue_key(self, principal: str, scopes: Sequence[str], **limits: Any) -> dict[str, Any]:
        """Issue a key: `{"key", "token"}`, the token this once. `limits`: models, expires_at; each as on the wire."""
        return self._json("POST", "/admin/keys", {"principal": principal, "scopes": scopes, **limits})

    def revoke_key(self, key_id: str, reason: str) -> dict[str, Any]:
        """Revoke a key, for good; returns it."""
        return self._json("POST", _path("admin", "keys", key_id, "revoke"), {"reason": reason})

    def set_clock(self, now: datetime) -> None:
        """Advance the caller's clock."""
        self._json("POST", "/admin/clock", {"now": now.isoformat()})

    def ready(self) -> dict[str, Any]:
        """What `/readyz` says, ready or not."""
        said = self._document(self._request("GET", "/readyz"))
        if not isinstance(said, dict) or "problems" not in said:
            raise self._not_us("/readyz")
        return said

    def wait_caught_up(self, model: str, *, timeout_s: float, poll_s: float = 0.02) -> dict[str, Any]:
        """Wait until every challenger has been given every prediction; returns the model.

        Raises:
            TimeoutError: it has not, in that time; says how many chunks wait.
        """
        deadline_s = time.monotonic() + timeout_s
        while True:
            document = self.model(model)
            waiting = sum(entry["n_chunks_waiting"] for entry in document["mirror"])
            if not waiting:
                return document
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"{waiting} chunks of '{model}' still wait for a challenger after {timeout_s:g} s")
            time.sleep(poll_s)

    def _change(self, model: str, what: str, body: Mapping[str, Any], generation: int | None) -> dict[str, Any]:
        headers = {} if generation is None else {"if-match": f'"{generation}"'}
        return self._json("POST", _path("admin", "models", model, what), body, headers=headers)

    def _json(self, method: str, path: str, body: Any = None, **options: Any) -> dict[str, Any]:
        document: dict[str, Any] = self._decoded(method, path, body, **options)
        return document

    def _decoded(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        if body is not None:
            options["content"] = msgspec.json.encode(body)
            options["headers"] = {"content-type": "application/json", **options.get("headers", {})}
        response = self._request(method, path, **options)
        if response.status_code >= 400:
            raise _problem(response)
        return self._document(response)

    def _document(self, response: httpx.Response) -> Any:
        try:
            return msgspec.json.decode(response.content)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise self._not_us(response.request.url.path) from None

    def _not_us(self, path: str) -> Unreachable:
        return Unreachable(f"what answers at {self._http.base_url} is no Understudy: it does not know {path}")

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **options)
        except httpx.TransportError as error:
            raise Unreachable(f"nobody answers at {self._http.base_url}: {error or type(error).__name__}") from None


def _path(*parts: str) -> str:
    """A path of these parts, whatever characters they have."""
    return "/" + "/".join(quote(part, safe="") for part in parts)


def _problem(response: httpx.Response) -> ProblemError:
    try:
        problem = msgspec.json.decode(response.content, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        problem = {"error": f"HTTP {response.status_code}, without an explanation"}
    return ProblemError(response.status_code, problem)


class _InProcess(httpx.BaseTransport):
    """Runs the gateway's application on a store, in a thread with an event loop of its own."""

    def __init__(self, settings: Settings) -> None:
        from gateway.app import create_app  # as slow as a server, and not needed to talk to one

        app: Any = create_app(settings, serves=False)
        self._closed = asyncio.Event()
        opened: Future[asyncio.AbstractEventLoop] = Future()
        # `run` ends with the threads of its loop; a daemon, so that Ctrl-C while it opens waits for nobody
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live(app, opened)), daemon=True)
        self._thread.start()
        try:
            self._loop = opened.result()
        except Exception:
            self._thread.join()
            raise
        self._transport = httpx.ASGITransport(app)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        async def answer() -> httpx.Response:
            sent = httpx.Request(request.method, request.url, headers=request.headers, content=request.read())
            response = await self._transport.handle_async_request(sent)
            body = await response.aread()
            return httpx.Response(response.status_code, headers=response.headers, content=body)

        return asyncio.run_coroutine_threadsafe(answer(), self._loop).result()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._closed.set)
        self._thread.join()

    async def _live(self, app: Any, opened: Future[asyncio.AbstractEventLoop]) -> None:
        """From the opening of the store to its closing, in one task, as cancel scopes want it."""
        try:
            async with app.lifespan():
                opened.set_result(asyncio.get_running_loop())
                await self._closed.wait()
        except BaseException as error:
            if opened.done():
                raise
            cause = error
            while isinstance(cause, BaseExceptionGroup):  # task groups wrap what went wrong
                cause = cause.exceptions[0]
            opened.set_exception(cause)
