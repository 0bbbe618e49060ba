"""API keys: who may ask a server for what. Issued and revoked with their audit row in one transaction; never deleted.

    us_k3f7q2mzx4ab_w6…q        us_<key id>_<secret>: the id is public, the secret has 256 random bits

The store keeps the SHA-256 of the whole token. A slow hash guards passwords, which can be guessed; a random secret
cannot, and is looked up by its digest, so that no comparison of bytes takes a time that tells anything.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Callable, Iterable
from datetime import datetime

import msgspec
from sqlalchemy import Connection, select

from registry.audit import append, digest_of_text
from registry.database import Database
from registry.errors import KeyRefused, UnknownKey
from registry.rows import to_key
from registry.tables import api_keys, models
from registry.types import LOCAL_OPERATOR, RULE, SCOPES, ApiKey, Principal, Scope

N_ID_BYTES, N_SECRET_BYTES = 7, 32
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,62}")


def digest_of_token(token: str) -> bytes:
    """What a token is found by, 32 bytes."""
    return hashlib.sha256(token.encode()).digest()


class Keys:
    """The keys of a registry."""

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database, self._now = database, now

    def issue(
        self,
        principal: str,
        scopes: Iterable[Scope],
        *,
        by: Principal,
        models: Iterable[str] | None = None,
        expires_at: datetime | None = None,
    ) -> tuple[ApiKey, str]:
        """Makes a key; returns it with its token, which is kept nowhere and cannot be had again.

        Args:
            principal: whose key it is; one principal may have several, as when an old one is replaced.
            scopes: what it may do, at least one.
            by: who issues it.
            models: for which models alone; None for every one, and for what concerns no single model.
            expires_at: from when on it is not accepted; None for never.

        Raises:
            KeyRefused: says which of these cannot be meant.
        """
        at = self._now()
        key_id, secret = _random_text(N_ID_BYTES), _random_text(N_SECRET_BYTES)
        named = None if models is None else tuple(sorted(set(models)))
        key = ApiKey(key_id, _checked_name(principal), _checked_scopes(scopes), named, at, by.name, expires_at)
        _check_expiry(key)
        token = f"us_{key_id}_{secret}"
        detail = {
            "key_id": key_id,
            "principal": principal,
            "scopes": key.scopes,
            "models": named,
            "expires_at": expires_at,
            "token_digest": digest_of_text(digest_of_token(token).hex()),
        }
        with self._database.change() as connection:
            _check_models(connection, named)
            connection.execute(api_keys.insert().values(_columns(key) | {"digest": digest_of_token(token)}))
            append(connection, at=at, by=by, action="issue_key", detail=detail)
        return key, token

    def revoke(self, key_id: str, *, by: Principal, reason: str) -> ApiKey:
        """Ends a key, for good; one that was revoked before stays as it is, and nothing changes.

        Raises:
            UnknownKey: no key of that id was ever issued.
        """
        with self._database.change() as connection:
            row = connection.execute(select(api_keys).where(api_keys.c.key_id == key_id)).first()
            if row is None:
                raise UnknownKey(key_id)
            key = to_key(row)
            if key.revoked_at is not None:
                return key
            at = self._now()
            connection.execute(api_keys.update().where(api_keys.c.key_id == key_id).values(revoked_at=at))
            detail = {"key_id": key_id, "principal": key.principal, "reason": reason}
            append(connection, at=at, by=by, action="revoke_key", detail=detail)
            return msgspec.structs.replace(key, revoked_at=at)

    def all(self) -> list[ApiKey]:
        """Every key that was ever issued, oldest first."""
        query = select(api_keys).order_by(api_keys.c.created_at, api_keys.c.key_id)
        with self._database.read() as connection:
            return [to_key(row) for row in connection.execute(query)]

    def by_digest(self) -> dict[bytes, ApiKey]:
        """Every key that was ever issued, also those that are over, by the digest of its token."""
        with self._database.read() as connection:
            return {row.digest: to_key(row) for row in connection.execute(select(api_keys))}

    def any_issued(self) -> bool:
        """Whether a key was ever issued: from then on nobody is let in without one, though all be revoked."""
        with self._database.read() as connection:
            return connection.execute(select(api_keys.c.key_id).limit(1)).first() is not None


def _random_text(n_bytes: int) -> str:
    return base64.b32encode(secrets.token_bytes(n_bytes)).decode().rstrip("=").lower()


def _columns(key: ApiKey) -> dict[str, object]:
    documents = {
        "scopes": msgspec.json.encode(key.scopes).decode(),
        "models": None if key.models is None else msgspec.json.encode(key.models).decode(),
    }
    return msgspec.structs.asdict(key) | documents


def _checked_name(principal: str) -> str:
    if not _NAME.fullmatch(principal):
        raise KeyRefused(
            "principal: expected 1 to 63 letters, digits, dots, dashes, underscores and @, with a letter or digit "
            f"first, got {principal!r:.80}"
        )
    if principal in (LOCAL_OPERATOR, RULE):
        raise KeyRefused(f"principal: '{principal}' is who acts here without a key: choose another name")
    return principal


def _checked_scopes(scopes: Iterable[Scope]) -> tuple[Scope, ...]:
    given = frozenset(scopes)
    if not given:
        raise KeyRefused(f"scopes: expected at least one of {', '.join(SCOPES)}; got none")
    for unknown in sorted(given.difference(SCOPES)):
        raise KeyRefused(f"scopes: expected any of {', '.join(SCOPES)}; got {unknown!r:.40}")
    return tuple(scope for scope in SCOPES if scope in given)


def _check_expiry(key: ApiKey) -> None:
    if key.expires_at is None:
        return
    if key.expires_at.tzinfo is None:
        raise KeyRefused(f"expires_at: expected a time with its zone, got {key.expires_at.isoformat()}")
    if key.expires_at <= key.created_at:
        raise KeyRefused(
            f"expires_at: expected a time after now ({key.created_at.isoformat()}), got {key.expires_at.isoformat()}"
        )


def _check_models(connection: Connection, named: tuple[str, ...] | None) -> None:
    if named is None:
        return
    if not named:
        raise KeyRefused("models: expected at least one, or none said for every model; got an empty list")
    known = set(connection.scalars(select(models.c.name)))
    for unknown in sorted(set(named) - known):
        raise KeyRefused(f"models: there is no model '{unknown:.80}': declare it first")
