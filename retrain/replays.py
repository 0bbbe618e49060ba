"""The worker's part in replays: when the mirror has scored one to the end, say what it says, once."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any

import structlog

from gateway.config import Settings
from gateway.errors import GatewayError, JournalDamaged, NotFound
from gateway.journal import Ledger, PredictionReader
from registry.errors import NoChampion, RegistryError
from registry.store import Registry
from registry.types import Replay
from registry.watch import Watch
from retrain.evidence import EvidenceError
from retrain.replay_report import report_of
from retrain.replay_words import NOT_EVIDENCE

AT_ONCE_S = 0.1
"""How long this may go on before the worker looks whether something is due to be decided."""
_log = structlog.get_logger("retrain")


class ReplayDesk:
    """Reports the replays of every model of one store, one after the other."""

    def __init__(self, registry: Registry, reader: PredictionReader, ledger: Ledger, settings: Settings) -> None:
        self._registry, self._reader, self._ledger = registry, reader, ledger
        self._bucket_s = settings.cohorts.bucket_s
        self._watch = Watch(registry)
        self._waiting: list[Replay] = []
        self._begun: tuple[Replay, Generator[None, None, dict[str, Any]]] | None = None
        self._problem: str | None = None

    def step(self) -> bool:
        """Go on with the report of what is scored; whether there is more to do at once.

        What cannot be done now is said, and begun again later.
        """
        if self._watch.changed():
            self._waiting = self._registry.replays.waiting()
            self._watch.taken_over()
        try:
            if self._begun is None:
                self._begun = self._next()
            return self._begun is not None and self._gone_on(*self._begun)
        except (GatewayError, RegistryError) as error:
            if self._begun is not None:  # the others are not held up by it
                replay, _ = self._begun
                self._waiting = [*(other for other in self._waiting if other != replay), replay]
            self._begun = None
            if self._problem != str(error):
                _log.warning("replays wait", reason=str(error), kind=type(error).__name__)
            self._problem = str(error)
            return False

    def _next(self) -> tuple[Replay, Generator[None, None, dict[str, Any]]] | None:
        """The first that is scored to its end."""
        for replay in self._waiting:
            if self._ledger.replayed.is_over(replay):
                return replay, report_of(self._registry, self._reader, self._ledger, replay, self._bucket_s)
        return None

    def _gone_on(self, replay: Replay, report: Generator[None, None, dict[str, Any]]) -> bool:
        """Some more buckets of a report; with the last one it is kept."""
        until_s = time.monotonic() + AT_ONCE_S
        try:
            while time.monotonic() < until_s:
                next(report)
        except StopIteration as ended:
            self._registry.replays.end(replay, "done", ended.value)
        except (JournalDamaged, NotFound, EvidenceError, NoChampion) as error:  # it would be the same every time
            self._fail(replay, str(error))
        except (GatewayError, RegistryError):
            raise
        except Exception as error:  # noqa: BLE001  # none may end the worker, which would begin with the same one again
            _log.exception("a replay failed", model=replay.model, replay=replay.number)
            self._fail(replay, f"{type(error).__name__} was raised, which is a mistake of ours: {error}")
        else:
            return True
        self._waiting = [other for other in self._waiting if other != replay]
        self._begun = self._problem = None
        return True

    def _fail(self, replay: Replay, why: str) -> None:
        failed = {"is_evidence": False, "sentences": [f"{NOT_EVIDENCE}: nothing can be said, as {why}"]}
        self._registry.replays.end(replay, "failed", failed)
