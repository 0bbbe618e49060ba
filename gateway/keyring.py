"""Who asks: the keys as one worker knows them, looked up once a request, refreshed when the registry has changed.

While no key was ever issued the ring is open, and everybody is `local-operator`. From the first key on it is closed
for good: revoking the last one lets nobody in, rather than everybody.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from hashlib import sha256

from msgspec import Struct

from gateway.errors import Forbidden, Unauthenticated
from registry.keys import Keys
from registry.types import Principal, Scope

BEARER = "bearer "


class Held(Struct, frozen=True):
    """A key that is not revoked, as far as a request needs to know it."""

    principal: Principal
    expires_at: datetime | None


class KeyRing:
    """A worker's snapshot of the keys."""

    def __init__(self, keys: Keys | None, now: Callable[[], datetime]) -> None:
        """`keys` None: the ring is open and stays so, for one process's own use of a store.

        `now`: must give aware datetimes; keys expire by it.
        """
        self._keys, self._now = keys, now
        self._held: dict[bytes, Held] = {}
        self._everybody = Principal.local_operator()
        self.is_open = keys is None
        """Whether nobody needs a key; not before the first `refresh` has found that there are none."""

    def refresh(self) -> None:
        """Take over the keys from the registry; raises StoreUnreachable, and then what was known is kept."""
        if self._keys is None:
            return
        issued = self._keys.by_digest()
        # in this order: a request in another thread may be refused for a moment, and never let in
        if issued:
            self.is_open = False
        self._held = {
            digest: Held(key.holder, key.expires_at) for digest, key in issued.items() if key.revoked_at is None
        }
        self.is_open = not issued

    def principal_of(self, authorization: str | None, api_key: str | None) -> Principal:
        """As whom a request acts, by its `Authorization` and `X-API-Key` headers; some 1 µs.

        Raises:
            Unauthenticated: a key is needed, and none was given, or two, or one that is not accepted.
        """
        if self.is_open:
            return self._everybody
        # whatever bytes a header had, they are text by now, and not always text that UTF-8 knows
        token = _token(authorization, api_key).encode("utf-8", "surrogatepass")
        held = self._held.get(sha256(token).digest())
        if held is None or (held.expires_at is not None and held.expires_at <= self._now()):
            raise Unauthenticated("this key is not accepted: it is unknown, expired or revoked")
        return held.principal

    def check(self, principal: Principal, needed: Scope | tuple[Scope, ...], model: str | None) -> None:
        """Hold a principal to its scopes and models.

        Args:
            principal: who asks.
            needed: the scope that it takes, or several of which any one will do.
            model: on which model; None where it concerns no single one, which a key for some models may not do.

        Raises:
            Forbidden: it may not do that, or not to that model.
        """
        if isinstance(needed, str):
            needed = (needed,)
        for scope in needed:
            if principal.may(scope, model):
                return
        raise Forbidden(principal, needed, model)


def _token(authorization: str | None, api_key: str | None) -> str:
    """The one key of a request.

    Raises:
        Unauthenticated: there is none, or there are two.
    """
    if authorization is None:
        said = api_key
    elif authorization[: len(BEARER)].lower() == BEARER:
        said = authorization[len(BEARER) :].strip()
        if api_key is not None and api_key != said:
            raise Unauthenticated("expected one key, got another in X-API-Key than in Authorization")
    else:
        said = None
    if not said:
        raise Unauthenticated("expected a key as Authorization: Bearer … or X-API-Key")
    return said
