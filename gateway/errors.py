"""Everything that the gateway refuses or cannot do, one class a fact.

    GatewayError
    ├── BadRequest               the request itself is wrong, and names where
    │   ├── BodyTooLarge         more bytes than max_body_bytes
    │   ├── TooManyRows          more rows than max_rows
    │   ├── NotJson              not UTF-8, not JSON, or a key given twice
    │   ├── WrongContentType     something else than application/json
    │   └── InvalidInput         valid JSON that does not fit the model's schema
    ├── Unauthenticated          a key is needed, and none was given that is accepted
    ├── Forbidden                the key may not do that, or not to that model
    ├── NotFound                 no such prediction, version or route
    ├── Gone                     it existed; its contents were erased or expired
    ├── Conflict                 true a moment ago, or for another model
    ├── ModelFailed              the champion raised, or answered outside of its signature
    ├── Overloaded               more is waiting than may wait; come back in retry_after_s
    ├── JournalUnavailable       what was to be recorded, or read, cannot be now; nothing was acknowledged
    ├── JournalDamaged           a stored chunk does not match its checksum
    └── SettingsRefused          a configuration that cannot be meant

`problems.py` holds the one table from these (and the registry's) to HTTP statuses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from registry.types import Principal, Scope


class GatewayError(Exception):
    """Something that the gateway refuses or cannot do."""


class BadRequest(GatewayError):
    """The request is wrong; the message names the place, what was expected and what came."""


class BodyTooLarge(BadRequest):
    """More bytes than allowed."""

    def __init__(self, limit_bytes: int, setting: str = "server.max_body_bytes") -> None:
        self.limit_bytes = limit_bytes
        super().__init__(f"the body is larger than {limit_bytes:,} bytes ({setting})")


class TooManyRows(BadRequest):
    """More rows in one request than allowed."""

    def __init__(self, got: int, limit: int) -> None:
        self.got, self.limit = got, limit
        super().__init__(f"inputs: expected at most {limit:,} rows (server.max_rows), got {got:,}")


class NotJson(BadRequest):
    """The body is not the JSON that was promised."""


class WrongContentType(BadRequest):
    """The body is declared to be something else."""

    def __init__(self, expected: str, got: str) -> None:
        self.expected, self.got = expected, got
        super().__init__(f"content-type: expected {expected}, got {got or 'none'}")


class InvalidInput(BadRequest):
    """Valid JSON that does not fit the model's input schema."""


class Unauthenticated(GatewayError):
    """Nobody knows who asks."""


class Forbidden(GatewayError):
    """It is known who asks, and they may not."""

    def __init__(self, principal: Principal, needed: tuple[Scope, ...], model: str | None) -> None:
        """`needed`: any one of these would do; `model` None: what was asked concerns no single one."""
        self.principal, self.needed, self.model = principal, needed, model
        sentence = f"this needs the scope {' or '.join(needed)}; the key of '{principal.name}' has "
        if principal.scopes.isdisjoint((*needed, "admin")):
            sentence += ", ".join(sorted(principal.scopes)) or "none"
        else:
            sentence += "it for some models only, not for " + ("all of them" if model is None else f"'{model:.80}'")
        super().__init__(sentence)


class NotFound(GatewayError):
    """There is no such thing, or it is not the asker's to see."""


class Gone(GatewayError):
    """It existed, and its contents were erased or expired."""


class Conflict(GatewayError):
    """The state of things does not allow it."""


class ModelFailed(GatewayError):
    """The champion could not answer."""


class Overloaded(GatewayError):
    """More waits than can be answered in time."""

    def __init__(self, n_waiting: int, wait_s: float) -> None:
        self.n_waiting, self.wait_s = n_waiting, wait_s
        self.retry_after_s = max(1, math.ceil(wait_s))
        super().__init__(
            f"overloaded: {n_waiting:,} rows are waiting already, for about {wait_s:.1f} s: try again later"
        )


class JournalUnavailable(GatewayError):
    """The journal cannot be written, or read, now: no record was acknowledged that is not there."""

    def __init__(self, why: str, retry_after_s: int = 1) -> None:
        self.why, self.retry_after_s = why, retry_after_s
        super().__init__(f"journal_unavailable: {why}; nothing was acknowledged")


class JournalDamaged(GatewayError):
    """Stored bytes are not what was written."""


class SettingsRefused(GatewayError):
    """A configuration that cannot be meant; the message names the key, what is expected and what was found."""


class ProblemError(Exception):
    """The server refused, or could not; `sentence` is for people, `status` and `problem` for programs."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status, self.problem = status, problem
        self.sentence = str(problem.get("error", problem))
        super().__init__(self.sentence)


class Unreachable(Exception):
    """Nobody answers at that address, or nobody who speaks as Understudy does."""


def sentence_of(error: Exception) -> str:
    """What went wrong, in one sentence, for a terminal."""
    if isinstance(error, OSError) and not isinstance(error, TimeoutError):
        return f"{error.filename or 'the store'}: {error.strerror or error}"
    return str(error)
