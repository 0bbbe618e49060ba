"""A ring is open until the first key was issued, and then lets in whoever shows one that holds, and nobody else."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.errors import Forbidden, Unauthenticated
from gateway.keyring import KeyRing
from registry.errors import StoreUnreachable
from registry.store import Registry
from registry.types import SCOPES, Principal

START = datetime(2026, 1, 1, tzinfo=UTC)
ME = Principal.local_operator()
MISSING = "expected a key as Authorization: Bearer … or X-API-Key"
NOT_ACCEPTED = "this key is not accepted: it is unknown, expired or revoked"


class Watch:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.shows = START

    def now(self) -> datetime:
        return self.shows


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def registry(tmp_path: Path, watch: Watch) -> Iterator[Registry]:
    with Registry.open(tmp_path, now=watch.now) as opened:
        yield opened


@pytest.fixture
def ring(registry: Registry, watch: Watch) -> KeyRing:
    return KeyRing(registry.keys, watch.now)


def refused(ring: KeyRing, authorization: str | None, api_key: str | None = None) -> str:
    with pytest.raises(Unauthenticated) as said:
        ring.principal_of(authorization, api_key)
    return str(said.value)


def test_without_keys_everybody_is_the_local_operator_once_that_was_looked_at(ring: KeyRing) -> None:
    assert refused(ring, None) == MISSING
    ring.refresh()
    assert ring.is_open
    assert ring.principal_of(None, None) == ME
    assert ring.principal_of("Bearer us_a_b", None) == ME


def test_one_process_own_use_of_a_store_is_open_whatever_was_issued(watch: Watch) -> None:
    ring = KeyRing(None, watch.now)
    assert ring.principal_of(None, None) == ME
    ring.refresh()
    assert ring.is_open


def test_a_key_is_taken_from_either_header(registry: Registry, ring: KeyRing) -> None:
    _, token = registry.keys.issue("app", ["predict", "read"], by=ME)
    ring.refresh()
    assert not ring.is_open
    app = Principal("app", frozenset({"predict", "read"}))
    for said in (f"Bearer {token}", f"bearer {token}", f"BEARER  {token} "):
        assert ring.principal_of(said, None) == app
        assert ring.principal_of(said, token) == app
    assert ring.principal_of(None, token) == app


def test_whoever_shows_no_key_or_two_or_an_unknown_one_is_refused(registry: Registry, ring: KeyRing) -> None:
    _, token = registry.keys.issue("app", ["predict"], by=ME)
    _, other = registry.keys.issue("app", ["predict"], by=ME)
    ring.refresh()
    assert refused(ring, None) == MISSING
    for said in ("", "Bearer", "Bearer ", token, f"Basic {token}", f"Bearer{token}", f"Token {token}"):
        assert refused(ring, said) == MISSING
    assert refused(ring, None, "") == MISSING
    assert refused(ring, f"Basic {token}", token) == MISSING
    for said in (token[:-1], token + "x", token.upper(), token.split("_")[2], "us_\udcff", "ключ"[:2] + "é"):
        assert refused(ring, f"Bearer {said}") == NOT_ACCEPTED
        assert refused(ring, None, said) == NOT_ACCEPTED
    assert "expected one key" in refused(ring, f"Bearer {token}", other)
    assert "expected one key" in refused(ring, f"Bearer {token}", "")


def test_a_key_that_has_expired_or_was_revoked_is_refused_like_an_unknown_one(
    registry: Registry, ring: KeyRing, watch: Watch
) -> None:
    key, token = registry.keys.issue("app", ["predict"], by=ME, expires_at=START + timedelta(days=1))
    again, lasting = registry.keys.issue("app", ["predict"], by=ME)
    ring.refresh()
    watch.shows = START + timedelta(days=1) - timedelta(microseconds=1)
    assert ring.principal_of(None, token).name == "app"
    watch.shows = START + timedelta(days=1)
    assert refused(ring, None, token) == NOT_ACCEPTED
    assert ring.principal_of(None, lasting).name == "app"
    registry.keys.revoke(again.key_id, by=ME, reason="lost")
    ring.refresh()
    assert refused(ring, None, lasting) == NOT_ACCEPTED
    assert key.key_id not in NOT_ACCEPTED


def test_revoking_the_last_key_lets_nobody_in(registry: Registry, ring: KeyRing) -> None:
    key, token = registry.keys.issue("app", ["admin"], by=ME)
    registry.keys.revoke(key.key_id, by=ME, reason="lost")
    ring.refresh()
    assert not ring.is_open
    assert refused(ring, None, token) == NOT_ACCEPTED
    assert refused(ring, None) == MISSING


def test_a_store_that_cannot_be_read_changes_nothing(registry: Registry, ring: KeyRing, tmp_path: Path) -> None:
    _, token = registry.keys.issue("app", ["predict"], by=ME)
    ring.refresh()
    with closing(sqlite3.connect(tmp_path / "registry.db")) as connection, connection:
        connection.execute("UPDATE api_key SET scopes = '[\"root\"]'")
    with pytest.raises(StoreUnreachable, match="a stored document is damaged"):
        ring.refresh()
    assert ring.principal_of(None, token).name == "app"
    assert refused(ring, None) == MISSING


def test_scopes_and_models_are_held_to_and_what_is_missing_is_named(ring: KeyRing) -> None:
    app = Principal("app", frozenset({"predict", "outcome"}), frozenset({"loans"}))
    ring.check(app, "predict", "loans")
    ring.check(app, ("read", "outcome"), "loans")
    for scope in SCOPES:
        ring.check(ME, scope, None)
    for needed, model, sentence in (
        ("read", "loans", "this needs the scope read; the key of 'app' has outcome, predict"),
        (("read", "admin"), "fraud", "this needs the scope read or admin; the key of 'app' has outcome, predict"),
        ("predict", "fraud", "the key of 'app' has it for some models only, not for 'fraud'"),
        ("predict", None, "the key of 'app' has it for some models only, not for all of them"),
    ):
        with pytest.raises(Forbidden) as said:
            ring.check(app, needed, model)  # type: ignore[arg-type]  # the table's scopes are widened to text
        assert sentence in str(said.value)
    with pytest.raises(Forbidden, match="the key of 'nobody' has none"):
        ring.check(Principal("nobody"), "predict", "loans")
