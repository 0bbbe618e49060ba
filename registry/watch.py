"""Following a registry: take over what has changed, and know for the price of a `stat` that nothing has.

if watch.changed():
…                    # take over everything; if that fails, the next look says again that it has changed
watch.taken_over()
"""

from __future__ import annotations

from registry.reader import RegistryReader


class Watch:
    """What one follower has taken over."""

    def __init__(self, registry: RegistryReader) -> None:
        self._registry = registry
        self._seen: int | None = None
        self._taken: int | None = None
        self._written: tuple[int, int] | None = None
        """What the file was when it was looked into last: of this follower, as others may follow the same registry."""

    def may_have_changed(self) -> bool:
        """False where nothing has changed for certain; never waits."""
        written = self._registry.written()
        return self._taken is None or written is None or written != self._written

    def changed(self) -> bool:
        """Whether there is something to take over; may wait for a commit under way. Raises StoreUnreachable."""
        if not self.may_have_changed():
            return False
        before = self._taken
        self.begin()
        if self._seen == before:
            self.taken_over()
        return self._seen != before

    def begin(self) -> None:
        """Begin to take over what is there, changed or not. A change from here on is seen by the next look."""
        self._taken = None
        self._written = self._registry.written()
        self._seen = self._registry.change_stamp()

    def taken_over(self) -> None:
        """What was there when it was looked at last is taken over."""
        self._taken = self._seen

    def forget(self) -> None:
        """Whatever was taken over is to be taken over again."""
        self._taken = None
