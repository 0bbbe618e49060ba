"""`python -m retrain.bundle SETTINGS WANTED`: makes a bundle for a server, a zip on standard output."""

from __future__ import annotations

import os
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from gateway.clock import JournalClock
from gateway.config import Settings
from gateway.errors import GatewayError
from registry.errors import RegistryError
from registry.store import Registry
from retrain.bundle import Wanted, bundled, zipped
from retrain.errors import BundleRefused
from retrain.evidence import EvidenceError

NICE = 15
"""Predictions are answered first."""


def main() -> int:
    """Returns 1 where there is no bundle, and says why as JSON on standard error."""
    os.nice(NICE)
    settings, wanted = msgspec.json.decode(sys.argv[1], type=Settings), msgspec.json.decode(sys.argv[2], type=Wanted)
    clock = JournalClock(settings.clock, settings.cohorts.bucket_s)
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            Registry.open(settings.folder, now=clock.now) as registry,
        ):
            made = bundled(settings, registry, wanted, Path(folder) / "bundle", datetime.now(UTC))
            zipped(Path(made.folder), sys.stdout.buffer)
            sys.stdout.buffer.flush()
    except (BundleRefused, GatewayError, RegistryError, EvidenceError) as error:
        said = {"error": type(error).__name__, "sentence": str(error)}
        sys.stderr.write(msgspec.json.encode(said).decode() + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
