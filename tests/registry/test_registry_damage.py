"""A flipped bit of the registry is found, by a checksum, by the database or by the audit, or it changes nothing."""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from registry.errors import BucketDamaged, RegistryError
from registry.store import Registry
from registry.types import Policy
from tests.actors import SCHEMA, logistic, signature
from tests.faults import Faults
from tests.stage import ME

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    """A model with a past: three versions, a promotion, a rollback, other terms; a bucket that was closed; two keys."""
    clock = (NOW + timedelta(minutes=n) for n in count())
    with Registry.open(tmp_path, now=lambda: next(clock)) as made:
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


def everything(registry: Registry) -> list[Any]:
    """What readers are told."""
    told: list[Any] = [registry.audit(), registry.keys.by_digest(), registry.clock(), *registry.models()]
    for read in (registry.versions, registry.schemas, registry.lineups, registry.reigns, registry.decisions):
        told += read("m")
    for reign in registry.reigns("m"):
        told += registry.closed_buckets("m", reign.number)
    return told


def fates(registry: Registry, path: Path, n: int) -> Counter[str]:
    """What becomes of so many flipped bits of the file, one at a time."""
    told, whole, chance = everything(registry), path.read_bytes(), random.Random(7)
    written = [offset for offset, byte in enumerate(whole) if byte]
    counted: Counter[str] = Counter()
    for _ in range(n):
        content = bytearray(whole)
        content[chance.choice(written)] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
        try:
            with Registry.open(path.parent, now=lambda: NOW) as opened:
                same = everything(opened) == told
                wrong = opened.damage() or opened.verified().faults
        except RegistryError:
            wrong = ["it cannot be read"]
        counted["found" if wrong else "harmless" if same else "SILENT"] += 1
    path.write_bytes(whole)
    return counted


def test_a_flipped_bit_of_the_registry_is_found_or_changes_nothing(registry: Registry, tmp_path: Path) -> None:
    counted = fates(registry, tmp_path / "registry.db", 25)
    assert counted["SILENT"] == 0, counted
    assert counted["found"] > 10


@pytest.mark.slow
def test_a_bit_of_the_registry_flipped_anywhere_is_found(
    registry: Registry, tmp_path: Path, chaos_times: int, kept: Faults
) -> None:
    n = 20 * chaos_times
    counted = fates(registry, tmp_path / "registry.db", n)
    assert counted["SILENT"] == 0, counted
    kept.record(
        "a flipped bit in registry.db",
        n,
        f"{counted['found']:,} found and told; {counted['harmless']:,} harmless, as nobody reads it; 0 believed",
        "a lineup edited by hand, beside an audit whose chain holds, is found by telling the audit again",
    )
