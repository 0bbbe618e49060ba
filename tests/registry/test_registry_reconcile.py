"""A row that is not what the audit tells of is found, whoever or whatever changed it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from registry.audit import verify
from registry.errors import BucketDamaged, RegistryError
from registry.reconcile import faults
from registry.store import Registry
from registry.types import Policy
from tests.actors import SCHEMA, logistic, signature
from tests.stage import ME

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    """A model with a past: three versions, a promotion, a rollback, other terms; a bucket that was closed; two keys."""
    with Registry.open(tmp_path, now=lambda: NOW) as made:
        made.create_model("m", SCHEMA, "binary", by=ME)
        for weight in (0.5, 1.0, 1.5):
            model = logistic((weight, 0.0))
            made.add_version("m", model, signature(model), by=ME)
        made.appoint("m", 1, reason="first", by=ME)
        made.enlist("m", 2, reason="try", by=ME)
        made.promote("m", 2, reason="better", by=ME, evidence={"log_e": 5.0}, cursors={"bucket": 7})
        made.rollback("m", reason="worse after all", by=ME)
        made.set_policy("m", Policy(alpha=0.01), by=ME)
        made.enlist("m", 3, reason="try", by=ME)
        made.close_bucket("m", 1, 7, closed_at=NOW, prediction_cursor={"1": 9}, outcome_cursor={}, sums={2: b"abc"})
        made.keys.issue("ops", {"admin"}, by=ME)
        key, _ = made.keys.issue("shop", {"predict"}, models=("m",), expires_at=datetime(2030, 1, 1, tzinfo=UTC), by=ME)
        made.keys.revoke(key.key_id, by=ME, reason="lost")
        yield made


def test_a_registry_is_what_its_audit_tells_of(registry: Registry) -> None:
    assert list(faults(registry, registry.keys)) == []
    assert registry.damage() == []


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        ("UPDATE lineup SET champion = 3 WHERE generation = 3", "generation 3 of 'm' is not the lineup"),
        ("UPDATE lineup SET challengers = '[3,2]' WHERE generation = 6", "generation 6 of 'm'"),
        ("UPDATE model SET policy = replace(policy, '0.01', '0.05')", "the policy of 'm'"),
        ("UPDATE reign SET policy = replace(policy, '0.01', '0.05')", "the reigns of 'm'"),
        ("UPDATE reign SET champion = 1 WHERE number = 2", "the reigns of 'm'"),
        ("UPDATE model_schema SET features = replace(features, '\"a\"', '\"z\"')", "the input schemas of 'm'"),
        ("UPDATE version SET digest = replace(digest, 'a', 'b')", "the versions of 'm'"),
        ("UPDATE decision SET evidence = '{\"log_e\":9.0}' WHERE kind = 'promote'", "generation 3 of 'm'"),
        ("UPDATE decision SET reason = 'none' WHERE kind = 'rollback'", "generation 4 of 'm'"),
        ("UPDATE api_key SET scopes = '[\"admin\"]' WHERE principal = 'shop'", "is not what the audit tells of"),
        ("UPDATE api_key SET revoked_at = NULL", "is not what the audit tells of"),
        ("DELETE FROM api_key WHERE principal = 'ops'", "is gone"),
    ],
)
def test_an_edited_row_is_found_although_the_chain_of_the_audit_holds(
    registry: Registry, tmp_path: Path, edit: str, said: str
) -> None:
    with closing(sqlite3.connect(tmp_path / "registry.db")) as db, db:
        assert db.execute(edit).rowcount > 0
    assert verify(registry.audit()) is None
    assert said in "; ".join(faults(registry, registry.keys))


def test_the_sums_of_a_closed_bucket_have_a_checksum_and_older_ones_are_taken_as_they_are(
    registry: Registry, tmp_path: Path
) -> None:
    assert registry.closed_buckets("m", 1)[0].sums == {2: b"abc"}
    with closing(sqlite3.connect(tmp_path / "registry.db")) as db, db:
        db.execute("UPDATE closed_bucket SET prediction_cursor = '{\"1\":8}'")
    with pytest.raises(BucketDamaged, match="bucket 7 of 'm'"):
        registry.closed_buckets("m", 1)
    with closing(sqlite3.connect(tmp_path / "registry.db")) as db, db:
        db.execute("UPDATE closed_bucket SET sums = ?", (b"\x81\x02\xc4\x03abd",))  # {2: b"abd"}, as once written
    assert registry.closed_buckets("m", 1)[0].sums == {2: b"abd"}
    with closing(sqlite3.connect(tmp_path / "registry.db")) as db, db:
        db.execute("UPDATE closed_bucket SET sums = ?", (b"\x81\x02\xc4",))
    with pytest.raises(RegistryError):
        registry.closed_buckets("m", 1)
