"""Who answers now, in this worker: a snapshot a model, replaced whole when the registry has moved.

A worker looks for changes many times a second by one number. A new champion is loaded beside the old one and then
takes its place between two ticks, so no request ever waits for a model to load, nor fails by it.
"""

from __future__ import annotations

import threading
import time

import structlog
from msgspec import Struct

from gateway.backends import LocalBackend, Stopwatch
from gateway.errors import ModelFailed
from gateway.wire.oip import InferDecoder
from gateway.wire.own import RequestDecoder
from registry.errors import ArtifactDamaged, ArtifactMissing, ArtifactRefused, ModelRaised, NoChampion, UnknownModel
from registry.store import Registry
from registry.types import Lineup, Model, Version
from registry.watch import Watch

UNLOADABLE = (ArtifactDamaged, ArtifactMissing, ArtifactRefused, ModelRaised, MemoryError)
"""What keeps one champion from being loaded, and is no reason to stop serving the others."""
RETRY_S = 1.0
_log = structlog.get_logger("gateway")


class Serving(Struct, frozen=True):
    """One model as this worker serves it."""

    model: Model
    lineup: Lineup
    champion: LocalBackend
    decoder: RequestDecoder
    infer_decoder: InferDecoder


class Played(Struct, frozen=True):
    """A model that has a champion, whether it could be loaded here or not: what is on record can be read and judged."""

    model: Model
    champion: Version


class Lineups:
    """What this worker serves. `refresh` may run in a thread; readers see one whole snapshot or the next."""

    def __init__(self, registry: Registry, max_rows: int, seconds: Stopwatch = time.perf_counter) -> None:
        """`seconds`: what calls of champions are timed by."""
        self._registry, self._max_rows, self._seconds = registry, max_rows, seconds
        self._serving: dict[str, Serving] = {}
        self._known: frozenset[str] = frozenset()
        self._played: dict[str, Played] = {}
        self.problems: dict[str, str] = {}
        """Model → why its champion could not be loaded. The one before serves on, where there was one."""
        self._watch = Watch(registry)
        self._refreshed_s = 0.0
        self._refreshing = threading.Lock()

    def __getitem__(self, name: str) -> Serving:
        """The model of that name.

        Raises:
            UnknownModel: there is none.
            NoChampion: there is one, and nobody answers for it.
            ModelFailed: its champion could not be loaded, and there was none before it here.
        """
        try:
            return self._serving[name]
        except KeyError:
            if name in self.problems:
                raise ModelFailed(self.problems[name]) from None
            raise (NoChampion(name) if name in self._known else UnknownModel(name)) from None

    def generation(self, name: str) -> int | None:
        """By which generation of a model this worker answers; None where it answers by none."""
        return self._serving[name].lineup.generation if name in self._serving else None

    def played(self, name: str) -> Played:
        """The model of that name, also while nobody can answer for it here; raises UnknownModel, NoChampion."""
        try:
            return self._played[name]
        except KeyError:
            raise (NoChampion(name) if name in self._known else UnknownModel(name)) from None

    @property
    def names(self) -> list[str]:
        """The models that can answer."""
        return sorted(self._serving)

    def may_have_moved(self) -> bool:
        """False where nothing is new for certain; a few microseconds, to ask many times a second."""
        return self._must_retry() or self._watch.may_have_changed()

    def moved(self) -> bool:
        """Whether the registry has changed since the last refresh, or it is time to try again what failed then."""
        return self._watch.changed() or self._must_retry()

    def _must_retry(self) -> bool:
        """A champion that could not be loaded is tried again, now and then: its file may have come back."""
        return bool(self.problems) and time.monotonic() - self._refreshed_s > RETRY_S

    def refresh(self) -> None:
        """Take over what the registry says now, loading what is new."""
        with self._refreshing:
            self._refresh()

    def _refresh(self) -> None:
        self._watch.begin()
        models = self._registry.models()
        serving: dict[str, Serving] = {}
        played: dict[str, Played] = {}
        problems: dict[str, str] = {}
        for model in models:
            try:
                lineup = self._registry.lineup(model.name)
            except NoChampion:
                continue
            played[model.name] = Played(model, self._registry.version(model.name, lineup.champion))
            try:
                serving[model.name] = self._served(model, lineup, played[model.name].champion)
            except UNLOADABLE as error:
                problems[model.name] = f"version {lineup.champion} of '{model.name}' could not be loaded: {error}"
                _log.error("champion not loaded", model=model.name, version=lineup.champion, reason=str(error))
                if model.name in self._serving:
                    serving[model.name] = self._serving[model.name]
        self._known = frozenset(model.name for model in models)
        self._serving, self._played, self.problems = serving, played, problems
        self._watch.taken_over()
        self._refreshed_s = time.monotonic()

    def _served(self, model: Model, lineup: Lineup, version: Version) -> Serving:
        before = self._serving.get(model.name)
        if before is not None and before.model.schema == model.schema and before.lineup.champion == lineup.champion:
            return Serving(model, lineup, before.champion, before.decoder, before.infer_decoder)
        champion = LocalBackend(version, self._registry.artifact(version), model.schema, self._seconds)
        decoder = RequestDecoder(model.schema, self._max_rows)
        return Serving(model, lineup, champion, decoder, InferDecoder(model.schema, self._max_rows))
