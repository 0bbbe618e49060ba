"""Who answers now, in this worker: a snapshot a model, replaced whole when the registry has moved.

A worker looks for changes many times a second by one number. A new champion is loaded beside the old one and then
takes its place between two ticks, so no request ever waits for a model to load, nor fails by it.
"""

from __future__ import annotations

import threading

from msgspec import Struct

from gateway.backends import LocalBackend
from gateway.wire.oip import InferDecoder
from gateway.wire.own import RequestDecoder
from registry.errors import NoChampion, UnknownModel
from registry.store import Registry
from registry.types import Lineup, Model


class Serving(Struct, frozen=True):
    """One model as this worker serves it."""

    model: Model
    lineup: Lineup
    champion: LocalBackend
    decoder: RequestDecoder
    infer_decoder: InferDecoder


class Lineups:
    """What this worker serves. `refresh` may run in a thread; readers see one whole snapshot or the next."""

    def __init__(self, registry: Registry, max_rows: int) -> None:
        self._registry, self._max_rows = registry, max_rows
        self._serving: dict[str, Serving] = {}
        self._known: frozenset[str] = frozenset()
        self._stamp: int | None = None
        self._refreshing = threading.Lock()

    def __getitem__(self, name: str) -> Serving:
        """The model of that name.

        Raises:
            UnknownModel: there is none.
            NoChampion: there is one, and nobody answers for it.
        """
        try:
            return self._serving[name]
        except KeyError:
            raise (NoChampion(name) if name in self._known else UnknownModel(name)) from None

    @property
    def names(self) -> list[str]:
        """The models that can answer."""
        return sorted(self._serving)

    def moved(self) -> bool:
        """Whether the registry has changed since the last refresh; cheap enough to ask every few milliseconds."""
        return self._registry.change_stamp() != self._stamp

    def refresh(self) -> None:
        """Take over what the registry says now, loading what is new."""
        with self._refreshing:
            self._refresh()

    def _refresh(self) -> None:
        stamp = self._registry.change_stamp()  # read first: a change in between is seen by the next look
        models = self._registry.models()
        serving = {}
        for model in models:
            try:
                lineup = self._registry.lineup(model.name)
            except NoChampion:
                continue
            serving[model.name] = self._served(model, lineup)
        self._known = frozenset(model.name for model in models)
        self._serving, self._stamp = serving, stamp

    def _served(self, model: Model, lineup: Lineup) -> Serving:
        before = self._serving.get(model.name)
        if before is not None and before.model == model and before.lineup.champion == lineup.champion:
            return Serving(model, lineup, before.champion, before.decoder, before.infer_decoder)
        version = self._registry.version(model.name, lineup.champion)
        champion = LocalBackend(version, self._registry.artifact(version), model.schema)
        decoder = RequestDecoder(model.schema, self._max_rows)
        return Serving(model, lineup, champion, decoder, InferDecoder(model.schema, self._max_rows))
