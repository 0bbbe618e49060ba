"""Keys are issued once, kept as a digest, revoked for good, and each of it is a line of the audit."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from registry.audit import digest_of_text, verify
from registry.errors import KeyRefused, UnknownKey
from registry.keys import digest_of_token
from registry.store import Registry
from registry.types import SCOPES, InputSchema, Principal, Scope

NEW_YEAR = datetime(2027, 1, 1, tzinfo=UTC)


def secret_of(token: str) -> str:
    return token.rsplit("_", 1)[1]


def test_a_key_is_issued_listed_and_found_by_the_digest_of_its_token(
    registry: Registry, schema: InputSchema, me: Principal
) -> None:
    registry.create_model("loans", schema, "binary", by=me)
    key, token = registry.keys.issue(
        "scoring@bank.example", ["outcome", "predict", "predict"], by=me, models=["loans"], expires_at=NEW_YEAR
    )
    assert token.startswith(f"us_{key.key_id}_")
    assert (key.principal, key.scopes, key.models) == ("scoring@bank.example", ("predict", "outcome"), ("loans",))
    assert (key.created_by, key.expires_at, key.revoked_at) == ("local-operator", NEW_YEAR, None)
    other, other_token = registry.keys.issue("ops", ["admin"], by=me)
    assert registry.keys.all() == [key, other]
    assert registry.keys.by_digest() == {digest_of_token(token): key, digest_of_token(other_token): other}


def test_a_secret_has_256_random_bits_and_an_id_is_short(registry: Registry, me: Principal) -> None:
    issued = [registry.keys.issue("ops", ["read"], by=me) for _ in range(5)]
    assert len({secret_of(token) for _, token in issued}) == len({key.key_id for key, _ in issued}) == 5
    for key, token in issued:
        assert len(secret_of(token)) * 5 >= 256  # five bits a character of base32
        assert len(key.key_id) == 12


def test_no_secret_and_no_digest_is_in_the_audit_and_no_secret_is_anywhere(
    tmp_path: Path, now: Callable[[], datetime], me: Principal
) -> None:
    with Registry.open(tmp_path, now=now) as registry:
        key, token = registry.keys.issue("ops", ["admin"], by=me)
        registry.keys.revoke(key.key_id, by=me, reason="a test")
        told = msgspec.json.encode([registry.audit(), registry.keys.all()]).decode()
    assert secret_of(token) not in told
    assert digest_of_token(token).hex() not in told
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert secret_of(token).encode() not in stored
    assert key.key_id.encode() in stored  # so that the line above could have failed
    assert digest_of_token(token) in stored


def test_every_change_is_a_line_of_the_audit_and_moves_the_stamp(registry: Registry, me: Principal) -> None:
    stamps = [registry.change_stamp()]
    key, token = registry.keys.issue("ops", ["read", "operate"], by=me, expires_at=NEW_YEAR)
    stamps.append(registry.change_stamp())
    registry.keys.revoke(key.key_id, by=Principal("security"), reason="left the bank")
    stamps.append(registry.change_stamp())
    assert stamps == sorted(set(stamps))
    issued, revoked = registry.audit()
    assert (issued.action, issued.principal) == ("issue_key", "local-operator")
    assert issued.detail == {
        "key_id": key.key_id, "principal": "ops", "scopes": ["read", "operate"], "models": None,
        "expires_at": "2027-01-01T00:00:00Z", "token_digest": digest_of_text(digest_of_token(token).hex()),
    }  # fmt: skip
    assert (revoked.action, revoked.principal) == ("revoke_key", "security")
    assert revoked.detail == {"key_id": key.key_id, "principal": "ops", "reason": "left the bank"}
    assert verify(registry.audit()) is None


def test_a_key_is_revoked_once_and_for_good(registry: Registry, me: Principal) -> None:
    assert not registry.keys.any_issued()
    key, _ = registry.keys.issue("ops", ["admin"], by=me)
    assert registry.keys.any_issued()
    revoked = registry.keys.revoke(key.key_id, by=me, reason="lost")
    assert revoked.revoked_at is not None
    assert revoked == msgspec.structs.replace(key, revoked_at=revoked.revoked_at)
    assert registry.keys.revoke(key.key_id, by=me, reason="again") == revoked
    assert registry.keys.all() == [revoked]
    assert registry.keys.any_issued()
    assert len(registry.audit()) == 2


def test_a_key_that_was_never_issued_cannot_be_revoked_and_no_token_is_said_back(
    registry: Registry, me: Principal
) -> None:
    _, token = registry.keys.issue("ops", ["admin"], by=me)
    for said in ("nothing", token):
        with pytest.raises(UnknownKey, match="there is no key '") as refused:
            registry.keys.revoke(said, by=me, reason="lost")
        assert secret_of(token)[:4] not in str(refused.value)
    assert len(registry.audit()) == 1


@pytest.mark.parametrize(
    "name", ["", "local-operator", "rule", "-x", "a b", "x" * 64, "ops\n", "ünïcode", "../ops", "a:b"]
)
def test_names_that_cannot_be_meant_or_are_taken_are_refused(registry: Registry, me: Principal, name: str) -> None:
    with pytest.raises(KeyRefused, match="principal: "):
        registry.keys.issue(name, ["read"], by=me)
    assert not registry.keys.any_issued()
    assert registry.audit() == []


@pytest.mark.parametrize("name", ["a", "Ops.1", "a_b-c@d", "9", "x" * 63])
def test_names_that_can_be_meant_are_not(registry: Registry, me: Principal, name: str) -> None:
    assert registry.keys.issue(name, ["read"], by=me)[0].principal == name


def test_no_scope_unknown_scopes_unknown_models_and_a_past_end_are_refused(
    registry: Registry, schema: InputSchema, me: Principal
) -> None:
    registry.create_model("loans", schema, "binary", by=me)
    n_lines = len(registry.audit())
    issue = registry.keys.issue
    with pytest.raises(KeyRefused, match="scopes: expected at least one of predict, outcome, read"):
        issue("ops", [], by=me)
    with pytest.raises(KeyRefused, match=r"scopes: expected any of .* got 'root'"):
        issue("ops", ["read", "root"], by=me)  # type: ignore[list-item]  # that is the point
    with pytest.raises(KeyRefused, match="models: there is no model 'lones'"):
        issue("ops", ["read"], by=me, models=["loans", "lones"])
    with pytest.raises(KeyRefused, match="models: expected at least one"):
        issue("ops", ["read"], by=me, models=[])
    with pytest.raises(KeyRefused, match="expires_at: expected a time after now"):
        issue("ops", ["read"], by=me, expires_at=NEW_YEAR - timedelta(days=400))
    with pytest.raises(KeyRefused, match="expires_at: expected a time with its zone"):
        issue("ops", ["read"], by=me, expires_at=datetime(2027, 1, 1))  # noqa: DTZ001  # that is the point
    assert not registry.keys.any_issued()
    assert len(registry.audit()) == n_lines


@pytest.mark.parametrize("scope", SCOPES)
def test_a_principal_may_what_its_scopes_say_and_nothing_else(scope: Scope) -> None:
    for of_key in SCOPES:
        one = Principal("x", frozenset({of_key}))
        assert one.may(scope, "loans") == one.may(scope, None) == (of_key in (scope, "admin"))
    assert not Principal("x").may(scope, "loans")
    assert not Principal.the_rule().may(scope, "loans")
    assert Principal.local_operator().may(scope, None)


def test_a_principal_for_some_models_may_nothing_that_concerns_others_or_all() -> None:
    for scopes in (frozenset[Scope]({"read"}), frozenset[Scope]({"admin"})):
        limited = Principal("x", scopes, frozenset({"loans"}))
        assert limited.may("read", "loans")
        assert not limited.may("read", "fraud")
        assert not limited.may("read", None)


def test_the_holder_of_a_key_is_as_the_key_says(registry: Registry, schema: InputSchema, me: Principal) -> None:
    registry.create_model("loans", schema, "binary", by=me)
    limited, _ = registry.keys.issue("a", ["read"], by=me, models=["loans", "loans"])
    free, _ = registry.keys.issue("b", ["admin"], by=me)
    assert limited.holder == Principal("a", frozenset({"read"}), frozenset({"loans"}))
    assert free.holder == Principal("b", frozenset({"admin"}), None)
