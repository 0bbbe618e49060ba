"""The worker's part of training: after each cohort that was closed, see whether a model asks for a version.

    evidence as of a cohort ▶ drift as of the same ▶ facts ▶ brakes ▶ ask, once a trigger ▶ outlook

What is asked for depends on what was closed, and not on when somebody looked: under the caller's clock a journal gives
the same trainings again.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Any

import structlog

from gateway.clock import MICROSECONDS
from gateway.config import Settings
from gateway.errors import GatewayError, JournalDamaged
from gateway.journal import PredictionReader
from gateway.records import Cursor, micros, moment
from registry.errors import NoChampion, RegistryError
from registry.recipe import Recipe
from registry.store import Registry
from registry.trainings import Training
from registry.types import Lineup, Model, Principal
from registry.watch import Watch
from retrain.drift.watch import DriftWatch
from retrain.training.brakes import Alarm, Facts, Outlook, outlook
from retrain.training.runner import Runner, standings_of

HEADS_AT_ONCE = 10_000
LOOK_S = 1.0
"""How often every model is judged where nobody said that anything is new: that costs some milliseconds each."""
_log = structlog.get_logger("retrain")


class TrainingWatch:
    """Asks for the trainings of one store, and has them done."""

    def __init__(self, registry: Registry, reader: PredictionReader, drift: DriftWatch, settings: Settings) -> None:
        self._registry, self._reader, self._drift = registry, reader, drift
        self._bucket_us = settings.cohorts.bucket_s * MICROSECONDS
        self._rows: dict[str, RowCount] = {}
        self._seen: dict[str, tuple[Any, ...]] = {}
        self._problems: dict[str, str] = {}
        self._watch = Watch(registry)
        self._look_again_s = 0.0
        self.runner = Runner(registry, settings)

    def step(self) -> bool:
        """Ask for what is due, and look after what is under way; whether anything is."""
        if self._watch.changed() or time.monotonic() >= self._look_again_s:
            self._look_again_s = time.monotonic() + LOOK_S
            self._look_at_all()
            self._watch.taken_over()
        return self.runner.step()

    def look_again(self) -> None:
        """A cohort was closed: what follows from it is found by the next step, and not within `LOOK_S` only."""
        self._look_again_s = 0.0

    def _look_at_all(self) -> None:
        """Judge every model; what fails of one is said, and holds up no other."""
        for model in self._registry.models():
            try:
                self._look(model)
                self._problems.pop(model.name, None)
            except NoChampion:
                continue
            except (GatewayError, RegistryError) as error:
                if self._problems.get(model.name) != str(error):
                    _log.warning("training waits", model=model.name, reason=str(error), kind=type(error).__name__)
                self._problems[model.name] = str(error)

    def close(self) -> None:
        """End what is under way; it is asked for again."""
        self.runner.close()

    def _look(self, model: Model) -> None:
        """Judge one model, where anything is new since it was judged."""
        recipe = self._registry.trainings.recipe(model.name)
        if recipe is None:
            return
        evidence, lineup = self._registry.evidence(model.name), self._registry.lineup(model.name)
        if evidence is None or evidence["closed_through"] is None or evidence["generation"] != lineup.generation:
            return
        trainings = self._registry.trainings.all(model.name)
        seen = evidence["closed_through"], lineup.generation, recipe, [training.state for training in trainings]
        if self._seen.get(model.name) == seen:
            return
        through = datetime.fromisoformat(evidence["closed_through"])
        drift = self._drifted(model, recipe, self._matured_at(model, through))
        if drift is None:
            self.look_again()
            return
        found = outlook(recipe, self._facts(model, lineup, drift, through, trainings))
        if found.ask is not None:
            asked = self._registry.trainings.ask(
                model.name, found.ask.id, found.ask.kind, found.ask.reason, by=Principal.the_rule(),
                at=self._matured_at(model, through),
            )  # fmt: skip
            _log.info("a training is asked for", model=model.name, training=asked.number, reason=asked.reason)
            seen = (*seen[:3], [*seen[3], asked.state])
        self._registry.trainings.save_outlook(model.name, _document(through, found))
        self._seen[model.name] = seen

    def _drifted(self, model: Model, recipe: Recipe, at: datetime) -> dict[str, Any] | None:
        """What is known of drift as of a moment, whoever looks when; None while a day that had ended is not counted."""
        if not (recipe.triggers.drift or recipe.triggers.performance):
            return {}
        self._drift.step()
        if not self._drift.has_counted(model.name, micros(at)):
            return None
        return self._registry.drift.document(model.name) or {}

    def _facts(
        self, model: Model, lineup: Lineup, drift: dict[str, Any], through: datetime, trainings: list[Training]
    ) -> Facts:
        at = self._matured_at(model, through)
        rows = self._rows.setdefault(model.name, RowCount(model.name))
        rows.read(self._reader)
        asked_at = trainings[-1].at if trainings else None
        reign = self._registry.reign(model.name)
        in_reign = [each for each in self._registry.lineups(model.name) if each.generation >= reign.first_generation]
        judged = {version for each in in_reign for version in each.challengers}
        return Facts(
            at=at,
            champion=lineup.champion,
            n_matured=rows.before(micros(through) // self._bucket_us),
            n_matured_before=0 if asked_at is None else rows.before(self._closed_at(model, asked_at)),
            begun_at=asked_at or self._begun_at(model, rows),
            asked_at=asked_at,
            under_way=next((training.number for training in trainings if not training.is_over), None),
            served=frozenset(training.trigger for training in trainings),
            standings=standings_of(self._registry, model.name),
            n_slots_left=reign.policy.n_judged - len(judged),
            drift=self._alarm(drift.get("alarm"), at),
            performance=self._alarm((drift.get("performance") or {}).get("alarm"), at),
        )

    def _alarm(self, said: dict[str, Any] | None, at: datetime) -> Alarm | None:
        """An alarm that was given by then, at the end of its day."""
        if said is None or said["state"] != "alarm":
            return None
        given_us = micros(datetime.fromisoformat(said["since"])) + self._bucket_us
        return Alarm(said["since"], said["sentence"]) if given_us <= micros(at) else None

    def _matured_at(self, model: Model, through: datetime) -> datetime:
        """When the outcomes of what is closed have had their time."""
        return through + timedelta(seconds=model.policy.maturity_s)

    def _closed_at(self, model: Model, at: datetime) -> int:
        """The first bucket whose outcomes had not had their time at a moment."""
        return micros(at - timedelta(seconds=model.policy.maturity_s)) // self._bucket_us

    def _begun_at(self, model: Model, rows: RowCount) -> datetime:
        """When the model had its first champion; by the first row where that says so, as it is of the journal's clock.

        Until the caller's clock is set a champion comes at the machine's time, which may be years after all rows.
        """
        since = self._registry.lineup_in(model.name, 1).since
        assert since is not None  # noqa: S101  # of a lineup that was stored
        first = rows.first
        return since if first is None else min(since, moment(first * self._bucket_us))


class RowCount:
    """How many live rows of a model lie before a bucket. Reads each chunk's head once."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._cursor: Cursor = {}
        self._n_rows: dict[int, int] = {}

    def read(self, reader: PredictionReader) -> None:
        """Take in what came since; raises JournalUnavailable or JournalDamaged."""
        for state in reader.writers():
            while (after := self._cursor.get(state.writer, 0)) < state.last_seq:
                heads = reader.heads(state.writer, after, HEADS_AT_ONCE)
                if not heads:
                    raise JournalDamaged(f"writer {state.writer} has no chunk between {after} and {state.last_seq}")
                for head in heads:
                    if head.model == self._model and head.purpose == "live":
                        self._n_rows[head.bucket] = self._n_rows.get(head.bucket, 0) + head.n_rows
                self._cursor[state.writer] = heads[-1].seq

    @property
    def first(self) -> int | None:
        """The bucket of the earliest; None while there is none."""
        return min(self._n_rows, default=None)

    def before(self, bucket: int) -> int:
        """The rows of all buckets before this one."""
        return sum(n for number, n in self._n_rows.items() if number < bucket)


def _document(through: datetime, found: Outlook) -> dict[str, Any]:
    """What is shown of the next training."""
    ask = None if found.ask is None else {"kind": found.ask.kind, "trigger": found.ask.id}
    return {"through": through.isoformat(), "asked": ask, "sentence": found.sentence}
