"""`understudy doctor`: whether this machine and this store are fit to serve, one line a fact."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import rich_click as click
from msgspec import Struct

from gateway.cli.options import Failed, Target, on_target, settings_of
from gateway.clock import JournalClock
from gateway.config import Settings
from gateway.errors import GatewayError, Unreachable
from gateway.journal.sqlite import check_library
from gateway.journal.survey import survey
from registry.errors import RegistryError
from registry.store import Registry

LEAST_FREE_BYTES = 1_073_741_824
MOST_TOLD = 20


class Finding(Struct, frozen=True):
    """One thing that was looked at."""

    name: str
    ok: bool
    detail: str


class StoreDamaged(GatewayError):
    """Something is not what was written; says what, one fault after the other."""


@click.command()
@on_target
def doctor(target: Target) -> None:
    """Look at this machine and a store (or at a running server, with --url); exits with 1 if something is wrong."""
    target.check()
    findings = list(_server(target, target.url) if target.url else _store(settings_of(target.config, target.data_dir)))
    target.show(findings, lambda: "\n".join(f"[{'ok' if f.ok else '!!'}] {f.name}: {f.detail}" for f in findings))
    if not all(finding.ok for finding in findings):
        raise Failed("something is wrong: see above")


def _server(target: Target, url: str) -> Iterator[Finding]:
    try:
        with target.of_server(url) as client:
            said = client.ready()
    except Unreachable as error:
        yield Finding("server", ok=False, detail=str(error))
        return
    ready = said["status"] == "ready"
    yield Finding("server", ok=ready, detail="; ".join(said["problems"]) or f"answers for {', '.join(said['models'])}")


def _store(settings: Settings) -> Iterator[Finding]:
    folder = settings.folder
    yield _tried("python", lambda: f"{sys.version.split()[0]} on {sys.platform}")
    yield _tried("sqlite", _library)
    if not folder.exists():
        yield Finding("store", ok=True, detail=f"{folder} does not exist yet; the first command makes it")
        return
    free_bytes = shutil.disk_usage(folder).free
    yield Finding("disk", ok=free_bytes > LEAST_FREE_BYTES, detail=f"{free_bytes / 2**30:.1f} GiB free at {folder}")
    yield _tried("registry", lambda: _registry(settings))
    yield _tried("artifacts", lambda: _artifacts(settings))
    yield _tried("audit", lambda: _audit(settings))
    yield _tried("journal", lambda: _journal(folder))


def _tried(name: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(name, ok=True, detail=look())
    except (GatewayError, RegistryError, OSError) as error:
        return Finding(name, ok=False, detail=str(error))


def _library() -> str:
    check_library()
    return "new enough not to corrupt a write-ahead log"


def _opened(settings: Settings) -> Registry:
    return Registry.open(settings.folder, now=JournalClock(settings.clock, settings.cohorts.bucket_s).now)


def _registry(settings: Settings) -> str:
    """Read every row, which decodes its documents, and have the database look at its own pages."""
    with _opened(settings) as registry:
        _none_of(registry.damage())
        models = registry.models()
        for model in models:
            registry.evidence(model.name)
            for reign in registry.reigns(model.name):
                registry.closed_buckets(model.name, reign.number)
    return f"{len(models)} models" + "".join(f", {model.name}" for model in models[:10])


def _artifacts(settings: Settings) -> str:
    """Read every version's bytes, which hashes them again."""
    n_bytes = n_versions = 0
    with _opened(settings) as registry:
        for model in registry.models():
            for version in registry.versions(model.name):
                n_bytes += len(registry.artifact(version))
                n_versions += 1
    return f"{n_versions} versions, {n_bytes / 2**20:.1f} MiB, every one as its digest says"


def _audit(settings: Settings) -> str:
    with _opened(settings) as registry:
        found = registry.verified()
    _none_of(found.faults)
    return f"{found.n_lines} lines, the chain holds, and the registry is as they say"


def _none_of(faults: Sequence[str]) -> None:
    if faults:
        more = f"; and {len(faults) - MOST_TOLD:,} more" if len(faults) > MOST_TOLD else ""
        raise StoreDamaged("; ".join(faults[:MOST_TOLD]) + more)


def _journal(folder: Path) -> str:
    """Read every page, chunk, shadow chunk and outcome, which checks their checksums."""
    found = survey(folder)
    _none_of(found.faults)
    unprotected = f"; {len(found.unprotected)} files are from before pages had checksums" if found.unprotected else ""
    return (
        f"{found.n_predictions:,} predictions in {found.n_chunks:,} chunks, {found.n_outcomes:,} outcomes, "
        f"every checksum right{unprotected}"
    )
