"""What the stores say at this moment: who plays, how the mirror stands, what is decided, how large the journal is.

Nothing of it is counted by a process, so it is right whatever has happened to processes.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import structlog
from msgspec import Struct

from gateway.clock import JournalClock
from gateway.desk import Files, JournalDesk
from gateway.errors import GatewayError
from gateway.journal import predictions_folder
from gateway.journal.sqlite import size_of
from gateway.status import mirror_status
from registry.errors import NoChampion, RegistryError
from registry.store import Registry
from registry.types import Lineup, Reign

_log = structlog.get_logger("gateway")


class Played(Struct, frozen=True):
    """One model, as the registry has it."""

    lineup: Lineup
    reign: Reign
    judged: list[dict[str, Any]]
    """The entries of the latest evidence of this reign, about those who still play."""
    n_decisions: Counter[str]
    """By kind."""


class JournalPart(Struct, frozen=True):
    """The files of one part of the journal: `predictions`, or the `ledger` of outcomes and shadow scores."""

    name: str
    n_files: int
    n_bytes: int
    """Of the files and their logs."""
    largest_wal_bytes: int
    """Each log is cut back by itself, so the largest is what a limit is about."""


class StoreFacts(Struct, frozen=True):
    """What could be read."""

    played: list[Played]
    mirrors: dict[str, list[dict[str, Any]]]
    """Model → entries of `mirror_status`."""
    journal: list[JournalPart]
    readable: bool
    """False where something is missing above, as its store could not be read."""


class FactFinder:
    """Reads the stores for one worker, and never in its event loop."""

    def __init__(self, registry: Registry, desk: JournalDesk, clock: JournalClock, store: Path) -> None:
        self._registry, self._desk, self._clock, self._store = registry, desk, clock, store
        self._decided: dict[str, tuple[int, Counter[str]]] = {}

    async def read(self) -> StoreFacts:
        """Everything as it stands; what cannot be read is left out and said in the log."""
        played: list[Played] = []
        mirrors: dict[str, list[dict[str, Any]]] = {}
        journal: list[JournalPart] = []
        try:
            played = await asyncio.to_thread(self._played)
            now_us = self._clock.now_us()
            mirrors = await self._desk.read(lambda files: _mirrors(files, played, now_us))
            journal = await asyncio.to_thread(journal_parts, self._store)
        except (RegistryError, GatewayError, OSError) as error:
            _log.warning("metrics are incomplete", reason=str(error), kind=type(error).__name__)
            return StoreFacts(played, mirrors, journal, readable=False)
        return StoreFacts(played, mirrors, journal, readable=True)

    def _played(self) -> list[Played]:
        found = []
        for model in self._registry.models():
            try:
                lineup, reign = self._registry.lineup(model.name), self._registry.reign(model.name)
            except NoChampion:
                continue
            found.append(Played(lineup, reign, self._judged(lineup, reign), self._n_decisions(lineup)))
        return found

    def _judged(self, lineup: Lineup, reign: Reign) -> list[dict[str, Any]]:
        document = self._registry.evidence(lineup.model)
        if document is None or document["reign"] != reign.number:
            return []
        return [entry for entry in document["challengers"] if entry["version"] in lineup.challengers]

    def _n_decisions(self, lineup: Lineup) -> Counter[str]:
        """Read again only in another generation: each decision makes one, and each row holds its whole evidence."""
        generation, counted = self._decided.get(lineup.model, (0, Counter()))
        if generation != lineup.generation:
            counted = Counter(decision.kind for decision in self._registry.decisions(lineup.model))
            self._decided[lineup.model] = lineup.generation, counted
        return counted


def _mirrors(files: Files, played: Iterable[Played], now_us: int | None) -> dict[str, list[dict[str, Any]]]:
    return {one.lineup.model: mirror_status(files, one.lineup, one.reign, now_us) for one in played}


def journal_parts(store: Path) -> list[JournalPart]:
    """How much of the disk the journal takes."""
    parts = {"predictions": sorted(predictions_folder(store).glob("*.db")), "ledger": [store / "journal.db"]}
    found = []
    for name, paths in parts.items():
        wal_bytes = [size_of(path.with_name(f"{path.name}-wal")) for path in paths]
        n_bytes = sum(wal_bytes) + sum(size_of(path) for path in paths)
        found.append(JournalPart(name, len(paths), n_bytes, max(wal_bytes, default=0)))
    return found
