"""The folder of a bundle: written whole or not at all, and carried as one zip."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO

from msgspec import Struct

from gateway.config import Settings
from registry.store import Registry
from retrain.bundle.collect import Wanted, collected
from retrain.bundle.document import encoded
from retrain.bundle.report import report_of
from retrain.bundle.verification import DECISION, PAIRS, REPORT, SUMS, Verified, sha256_of, verified
from retrain.errors import BundleRefused

FILES = (DECISION, PAIRS, REPORT, SUMS)


class Bundled(Struct, frozen=True):
    """A bundle that was written, what was found when it was read back, and the digest of its SHA256SUMS to keep."""

    folder: str
    seal: str
    found: Verified


def bundled(settings: Settings, registry: Registry, wanted: Wanted, folder: Path, made_at: datetime) -> Bundled:
    """Write the bundle, and verify what was written.

    Raises:
        BundleRefused: the folder is there already, or there is nothing to bundle; see `collected` for more.
    """
    with _whole(folder) as making:
        document = collected(settings, registry, wanted, making / PAIRS, made_at)
        (making / DECISION).write_bytes(encoded(document))
        digests = {name: sha256_of(making / name) for name in (DECISION, PAIRS) if (making / name).exists()}
        (making / REPORT).write_text(report_of(document, digests), encoding="utf-8")
        digests[REPORT] = sha256_of(making / REPORT)
        (making / SUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in digests.items()))
    return _told(folder)


def zipped(folder: Path, into: IO[bytes]) -> None:
    """The files of a bundle as a zip; those that are compressed already as they are."""
    with zipfile.ZipFile(into, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in FILES:
            if (folder / name).exists():
                how = zipfile.ZIP_STORED if name == PAIRS else zipfile.ZIP_DEFLATED
                archive.write(folder / name, name, compress_type=how)


def unpacked(archive: Path, folder: Path) -> Bundled:
    """The bundle that a zip holds, as a folder, verified.

    Raises:
        BundleRefused: the folder is there already, or it is no zip of a bundle.
    """
    with _whole(folder) as making:
        try:
            with zipfile.ZipFile(archive) as packed:
                for name in packed.namelist():
                    if name not in FILES:  # and so nothing is written elsewhere either
                        raise BundleRefused(f"what came is no bundle: it holds {name!r:.60}")
                    with packed.open(name) as piece, (making / name).open("wb") as into:
                        shutil.copyfileobj(piece, into)
        except zipfile.BadZipFile:
            raise BundleRefused("what came is no whole bundle") from None
    return _told(folder)


def _told(folder: Path) -> Bundled:
    return Bundled(str(folder), f"sha256:{sha256_of(folder / SUMS)}", verified(folder))


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A folder beside the wanted one, which takes its place when all is written."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BundleRefused(f"{folder} is there already: a bundle is written once")
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    beside.mkdir(parents=True)
    try:
        yield beside
        if folder.exists():
            folder.rmdir()
        beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
