"""Following a registry: each follower sees each change, whoever else follows it through the same object."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from registry.database import SETTLED_NS
from registry.store import Registry
from registry.types import Principal
from registry.watch import Watch

Change = Callable[[], None]


@pytest.fixture
def change(registry: Registry, me: Principal, tmp_path: Path) -> Change:
    """Changes what a follower must notice, and lets the file look as it does some time after that."""
    path = tmp_path / "store" / "registry.db"
    oldest_ns = time.time_ns() - 1000 * SETTLED_NS
    n_changes = 0

    def changed() -> None:
        nonlocal n_changes
        n_changes += 1
        registry.keys.issue(f"key-{n_changes}", {"read"}, by=me)
        at_ns = oldest_ns + n_changes
        os.utime(path, ns=(at_ns, at_ns))
        assert registry.written() == (at_ns, path.stat().st_ino)

    return changed


def test_what_was_taken_over_is_not_seen_again_until_it_changes(registry: Registry, change: Change) -> None:
    change()
    watch = Watch(registry)
    for _ in range(3):
        assert watch.changed()
        watch.taken_over()
        assert not watch.may_have_changed()
        assert not watch.changed()
        change()


def test_what_was_not_taken_over_is_seen_again(registry: Registry, change: Change) -> None:
    change()
    watch = Watch(registry)
    assert watch.changed()
    assert watch.changed()


def test_every_follower_of_one_registry_sees_every_change(registry: Registry, change: Change) -> None:
    """One that looks first, or reads the stamp by itself, takes nothing from the others."""
    followers = [Watch(registry) for _ in range(3)]
    for _ in range(3):
        change()
        registry.change_stamp()
        for watch in followers:
            assert watch.may_have_changed()
            assert watch.changed()
            watch.taken_over()
        assert not any(watch.changed() for watch in followers)
