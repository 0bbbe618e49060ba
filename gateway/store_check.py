"""Whether there is a store that can be served: asked once before serving, so that it is told in one sentence."""

from __future__ import annotations

import tempfile
from contextlib import closing

from gateway.clock import JournalClock
from gateway.config import BUCKET_SETTING, Settings
from gateway.journal import open_ledger
from registry.store import Registry


def looked_at(settings: Settings) -> bool:
    """Open everything for reading and writing, make what is missing; returns whether a key was ever issued.

    Raises:
        OSError, RegistryError, JournalUnavailable, SettingsRefused: it cannot be served; says why.
    """
    settings.folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryFile(dir=settings.folder),
        closing(open_ledger(settings.folder, settings.journal)) as ledger,
        Registry.open(settings.folder, now=JournalClock(settings.clock, settings.cohorts.bucket_s).now) as registry,
    ):
        ledger.settle(BUCKET_SETTING, settings.cohorts.bucket_s)
        registry.models()
        return registry.keys.any_issued()
