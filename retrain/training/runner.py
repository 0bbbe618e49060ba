"""Who has trainings done: claims one, starts its process, keeps its lease, and registers what comes of it.

At most one is under way here, and by its lease in the whole store. Nothing waits for it: `step` looks how it stands.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog
from msgspec import Struct

from gateway.config import Settings
from registry.artifacts import digest_of
from registry.errors import LeaseLost, RegistryError, StoreUnreachable
from registry.store import Registry
from registry.trainings import Training
from registry.types import Principal, TrainingReport
from retrain.training.brakes import leaving
from retrain.training.process import TrainingProcess
from retrain.training.run import Assignment, Made, Refused, left_in

LEASE_S, RENEW_S = 15.0, 3.0
LOOK_S = 0.2
"""How often the registry is asked whether there is something to train."""
_WORDS = {
    "worse": "it is worse than the champion",
    "no_difference": "it makes no difference worth having",
    "behind": "it loses more than the champion so far",
}
_log = structlog.get_logger("retrain")


class Work(Struct):
    """A training under way: its process, and when its lease was last renewed (monotonic)."""

    training: Training
    process: TrainingProcess
    renewed_s: float


class Runner:
    """Does the trainings of one store, one after the other."""

    def __init__(self, registry: Registry, settings: Settings, *, wall: Callable[[], datetime] | None = None) -> None:
        """`wall`: the machine's time, by which leases are counted."""
        self._registry, self._settings = registry, settings
        self._wall = wall or (lambda: datetime.now(UTC))
        self._holder = f"{os.uname().nodename[:24]}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._folders = settings.folder / "trainings"
        self._work: Work | None = None
        self._looked_s = -LOOK_S

    @property
    def pid(self) -> int | None:
        """The number of the process that trains; None while none does."""
        return None if self._work is None else self._work.process.pid

    def step(self) -> bool:
        """Look how the training under way stands, or begin the next; whether anything is under way.

        Raises:
            StoreUnreachable: the registry cannot be used now; nothing is lost by that.
        """
        try:
            if self._work is not None:
                self._looked_after(self._work)
            elif time.monotonic() - self._looked_s >= LOOK_S:
                self._begin()
        except LeaseLost as lost:
            _log.warning("a training is somebody else's by now", reason=str(lost))
            self._end_work()
        return self._work is not None

    def close(self) -> None:
        """End the process; its training is asked for again, and what its search has found is kept."""
        work = self._work
        self._end_work()
        if work is not None:
            with suppress(RegistryError):
                self._registry.trainings.release(work.training)

    def _begin(self) -> None:
        self._looked_s = time.monotonic()
        now = self._wall()
        training = self._registry.trainings.claim(self._holder, now=now, until=now + timedelta(seconds=LEASE_S))
        if training is None:
            return
        if self._leaving(training) is None:
            self._fail(training, _too_many(training))
            return
        try:
            process = TrainingProcess(Assignment(self._settings, training), self._folder(training) / _attempt(training))
        except OSError as error:
            self._registry.trainings.give_back(training, f"its process could not be started: {error}")
            self._clear(training)
            return
        self._work = Work(training, process, time.monotonic())
        _log.info("training", model=training.model, training=training.number, reason=training.reason)

    def _looked_after(self, work: Work) -> None:
        """One look at the process: what it says, whether it has ended, whether it may go on."""
        process, limit_s = work.process, self._settings.retrain.training_limit_s
        has_ended = process.has_ended  # before it is listened to: these are its last words
        has_told, now_s = process.listen(), time.monotonic()
        if has_ended:
            self._ended(work)
        elif now_s - process.began_s > limit_s:
            self._fail(work.training, f"it took longer than {limit_s:g} s (retrain.training_limit_s)")
            self._end_work()
        elif has_told or now_s - work.renewed_s > RENEW_S:
            work.renewed_s, until = now_s, self._wall() + timedelta(seconds=LEASE_S)
            self._registry.trainings.renew(work.training, until=until, progress=process.progress)

    def _ended(self, work: Work) -> None:
        """Register what it has left, or say why there is nothing."""
        result = left_in(work.process.folder)
        match result:
            case Made():
                self._register(work.training, result)
            case Refused():
                self._fail(work.training, result.sentence)
            case None:
                how = work.process.how_it_ended()
                _log.warning("a training ended without a word", model=work.training.model, reason=how)
                self._registry.trainings.give_back(work.training, how)
        self._end_work()

    def _register(self, training: Training, made: Made) -> None:
        """Make it a challenger, with the training that it came of, in one transaction."""
        making_room = self._leaving(training)
        if making_room is None:
            self._fail(training, _too_many(training))
            return
        if (known := self._known(training, made)) is not None:
            self._fail(training, f"it has learned nothing new: version {known} has the same bytes")
            return
        champion = self._registry.lineup(training.model).champion
        if (why := hopeless(training, made.report, champion)) is not None:
            self._registry.trainings.decline(training, why)
            _log.info("a training was declined", model=training.model, training=training.number, reason=why)
            return
        said = f"training {training.number}, of {made.n_rows:,} rows: {training.reason}"
        try:
            version = self._registry.register(
                training.model, made.model_bytes, "challenger", by=Principal(training.by), reason=said,
                score=made.score, classes=made.classes or None, training=made.report, reference=made.reference,
                of=training, leaving=making_room,
            )  # fmt: skip
        except (StoreUnreachable, LeaseLost):
            raise
        except RegistryError as refused:
            self._fail(training, str(refused))
        else:
            _log.info("trained", model=training.model, training=training.number, version=version.number)

    def _leaving(self, training: Training) -> dict[int, str] | None:
        """The challengers that make room for it, each with the reason; None where it finds none."""
        standings = standings_of(self._registry, training.model)
        found = leaving(standings, training.recipe.triggers.max_challengers)
        if found is None:
            return None
        said = f"it makes room for training {training.number}"
        return {version: f"{_WORDS[standings[version]]}: {said}" for version in found}

    def _known(self, training: Training, made: Made) -> int | None:
        """The version that has these bytes."""
        digest = digest_of(made.model_bytes)
        known = (each.number for each in self._registry.versions(training.model) if each.digest == digest)
        return next(known, None)

    def _fail(self, training: Training, sentence: str) -> None:
        self._registry.trainings.fail(training, sentence)
        _log.warning("a training failed", model=training.model, training=training.number, reason=sentence)

    def _folder(self, training: Training) -> Path:
        """What all attempts at it share."""
        return self._folders / f"{training.model}-{training.number}"

    def _end_work(self) -> None:
        """End the process. What another attempt goes on with, whoever makes it, stays until the training is over."""
        work, self._work = self._work, None
        if work is None:
            return
        work.process.end()
        shutil.rmtree(work.process.folder, ignore_errors=True)
        self._clear(work.training)

    def _clear(self, training: Training) -> None:
        """Have nothing left lying about of a training that is over."""
        with suppress(RegistryError):
            if self._registry.trainings.one(training.model, training.number).is_over:
                shutil.rmtree(self._folder(training), ignore_errors=True)


def _attempt(training: Training) -> str:
    """The folder of an attempt: no two that are under way at once have one number."""
    return f"attempt-{training.n_attempts}"


def _too_many(training: Training) -> str:
    most = training.recipe.triggers.max_challengers
    return f"the recipe allows {most} challenger{'s' * (most != 1)}, and so many may still win: retire one"


def hopeless(training: Training, report: TrainingReport, champion: int) -> str | None:
    """Why a version takes no place among the challengers of this champion; None where it does.

    Whoever plays is judged on what comes later, so choosing by what is past costs no validity, and saves a slot.
    """
    tried = report.backtest
    if training.kind == "person" or not training.recipe.triggers.must_win_backtest or tried is None:
        return None
    if tried.champion != champion or tried.mean_difference > 0:
        return None
    return (
        f"on the latest {tried.n_rows:,} rows, which neither has learned from, it loses {-tried.mean_difference:.3g} "
        f"more a row than version {tried.champion}: it takes no place (triggers.must_win_backtest)"
    )


def standings_of(registry: Registry, model: str) -> dict[int, str]:
    """Version → how each challenger that plays stands, as brakes know it; `collecting` where nothing is known yet."""
    document = registry.evidence(model) or {"challengers": []}
    known = {entry["version"]: entry for entry in document["challengers"]}
    enough = registry.model(model).policy.min_outcomes
    found = {}
    for version in registry.lineup(model).challengers:
        entry = known.get(version, {"verdict": "collecting", "mean_difference": None, "n_matured": 0})
        loses = entry["mean_difference"] is not None and entry["mean_difference"] < 0
        is_behind = entry["verdict"] == "collecting" and loses and entry["n_matured"] >= enough
        found[version] = "behind" if is_behind else entry["verdict"]
    return found
