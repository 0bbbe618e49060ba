"""How the client asks: one connection pool, JSON there and back, and what is refused as an error of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self
from urllib.parse import quote

import httpx
import msgspec

from gateway.errors import ProblemError, Unreachable


class HttpCalls:
    """Calls of one user over HTTP. Not for several threads at once."""

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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close connections, or the store."""
        self._http.close()

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

    def _streamed(self, path: str, params: Mapping[str, Any]) -> Iterator[bytes]:
        """The bytes of an answer as they come."""
        try:
            with self._http.stream("GET", path, params=params) as response:
                if response.status_code >= 400:
                    response.read()
                    raise _problem(response)
                yield from response.iter_bytes()  # nothing compresses; in this process it was read already
        except httpx.TransportError as error:
            raise Unreachable(f"{self._http.base_url} ended the answer: {error or type(error).__name__}") from None


def path_of(*parts: str) -> str:
    """A path of these parts, whatever characters they have."""
    return "/" + "/".join(quote(part, safe="") for part in parts)


def _problem(response: httpx.Response) -> ProblemError:
    try:
        problem = msgspec.json.decode(response.content, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        problem = {"error": f"HTTP {response.status_code}, without an explanation"}
    return ProblemError(response.status_code, problem)
