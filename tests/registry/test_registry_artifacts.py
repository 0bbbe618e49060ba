"""Bytes are kept under their digest: they cannot change unseen, and no string of a caller becomes a path."""

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.artifacts import ArtifactStore, digest_of
from registry.errors import ArtifactDamaged, ArtifactMissing


def only_file(folder: Path) -> Path:
    (file,) = (path for path in folder.rglob("*") if path.is_file())
    return file


def test_what_is_put_is_got_by_its_sha256(tmp_path: Path) -> None:
    store = ArtifactStore.open(tmp_path)
    digest = store.put(b"model")
    assert digest == digest_of(b"model") == "sha256:" + hashlib.sha256(b"model").hexdigest()
    assert store.get(digest) == b"model"
    assert store.put(b"model") == digest
    assert only_file(tmp_path).read_bytes() == b"model"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [cut, flip, empty])
def test_damage_is_seen_on_every_read_and_mended_by_putting_the_same_bytes(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    store = ArtifactStore.open(tmp_path)
    digest = store.put(b"model")
    damage(only_file(tmp_path))
    for _ in range(2):
        with pytest.raises(ArtifactDamaged) as damaged:
            store.get(digest)
    assert damaged.value.expected == digest
    assert damaged.value.got == digest_of(only_file(tmp_path).read_bytes())
    store.put(b"model")
    assert store.get(digest) == b"model"


def test_many_threads_put_the_same_bytes(tmp_path: Path) -> None:
    store = ArtifactStore.open(tmp_path)
    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(store.put, [b"same" * 10_000] * 64))) == 1
    assert only_file(tmp_path).read_bytes() == b"same" * 10_000


@given(st.text() | st.from_regex(r"sha256:[0-9a-f./]{60,70}") | st.just("sha256:../../../outside"))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_no_digest_is_missing_and_never_a_path(tmp_path: Path, name: str) -> None:
    (tmp_path / "outside").write_bytes(b"secret")
    store = ArtifactStore.open(tmp_path / "store")
    with pytest.raises(ArtifactMissing):
        store.get(name)


def test_a_bucket_is_opened_by_its_url() -> None:
    store = ArtifactStore.open("memory:///")
    digest = store.put(b"model")
    assert store.get(digest) == b"model"
    assert store.put(b"model") == digest
