"""What the commands share that rewrite the files of a store: one of them at a time, also while it is served."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cli.options import failing_in_one_line, settings_of

if TYPE_CHECKING:
    from registry.store import Registry


@contextmanager
def upkeep_of(config: Path | None, data_dir: str | None) -> Iterator[tuple[Path, Registry, datetime]]:
    """The folder of a store that is there, its registry, and its time; another command of this kind is waited for."""
    from gateway.clock import JournalClock
    from gateway.errors import InvalidInput
    from gateway.journal import only_one
    from gateway.locks import is_locked
    from registry.store import Registry

    settings = settings_of(config, data_dir)
    with failing_in_one_line():
        if not (settings.folder / "registry.db").exists():
            raise InvalidInput(f"there is no store at {settings.folder}")
        clock = JournalClock(settings.clock, settings.cohorts.bucket_s)
        with Registry.open(settings.folder, now=clock.now) as registry:
            clock.refresh(registry)
            if is_locked(settings.folder / "upkeep.lock"):
                sys.stderr.write("another command works on the files of this store: waiting until it is done\n")
            with only_one(settings.folder, "upkeep", threading.Event()):
                yield settings.folder, registry, clock.now()
