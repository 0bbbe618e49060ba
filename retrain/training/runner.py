"""Who has trainings done: claims one, starts its process, keeps its lease, and registers what comes of it.

At most one is under way here, and by its lease in the whole store. Nothing waits for it: `step` looks how it stands.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import structlog
from msgspec import Struct

from gateway.config import Settings, environment_of_children
from registry.artifacts import digest_of
from registry.errors import LeaseLost, RegistryError, StoreUnreachable
from registry.store import Registry
from registry.trainings import Training
from registry.types import Principal, TrainingReport
from retrain.training.brakes import futile
from retrain.training.run import ASSIGNMENT, LAST_WORDS, Assignment, Made, Refused, left_in

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
    """A training under way: its process, its folder, and when it was last said to go on (monotonic)."""

    training: Training
    child: subprocess.Popen[bytes]
    folder: Path
    began_s: float
    renewed_s: float
    progress: str = ""
    unread: bytes = b""


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
        return None if self._work is None else self._work.child.pid

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
            self._end_process()
        return self._work is not None

    def close(self) -> None:
        """End the process; its training is asked for again, and what its search has found is kept."""
        work = self._work
        self._end_process(keep_folder=True)
        if work is not None:
            with suppress(RegistryError):
                self._registry.trainings.release(work.training)

    def _begin(self) -> None:
        self._looked_s = time.monotonic()
        now = self._wall()
        training = self._registry.trainings.claim(self._holder, now=now, until=now + timedelta(seconds=LEASE_S))
        if training is None:
            return
        refusal = self._refusal(training)
        if refusal is not None:
            self._fail(training, refusal)
            return
        folder = self._folders / f"{training.model}-{training.number}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ASSIGNMENT).write_bytes(msgspec.json.encode(Assignment(self._settings, training)))
        now_s = time.monotonic()
        self._work = Work(training, _started(folder), folder, now_s, now_s)
        _log.info("training", model=training.model, training=training.number, reason=training.reason)

    def _looked_after(self, work: Work) -> None:
        """One look at the process: what it says, whether it has ended, whether it may go on."""
        self._listen(work)
        now_s, limit_s = time.monotonic(), self._settings.retrain.training_limit_s
        if work.child.poll() is not None:
            self._listen(work)
            self._ended(work)
        elif now_s - work.began_s > limit_s:
            self._fail(work.training, f"it took longer than {limit_s:g} s (retrain.training_limit_s)")
            self._end_process()
        elif now_s - work.renewed_s > RENEW_S:
            work.renewed_s = now_s
            self._renew(work)

    def _listen(self, work: Work) -> None:
        """Take what it has said since; a new line renews the lease."""
        assert work.child.stdout is not None  # noqa: S101  # it is a pipe
        with suppress(BlockingIOError):
            while said := os.read(work.child.stdout.fileno(), 65_536):
                work.unread += said
        *lines, work.unread = work.unread.split(b"\n")
        if lines:
            work.progress = lines[-1].decode(errors="replace")[:300]
            self._renew(work)

    def _renew(self, work: Work) -> None:
        until = self._wall() + timedelta(seconds=LEASE_S)
        self._registry.trainings.renew(work.training, until=until, progress=work.progress)

    def _ended(self, work: Work) -> None:
        """Register what it has left, or say why there is nothing."""
        result = left_in(work.folder)
        match result:
            case Made():
                self._register(work.training, result)
            case Refused():
                self._fail(work.training, result.sentence)
            case None:
                how = _how_it_ended(work)
                _log.warning("a training ended without a word", model=work.training.model, reason=how)
                self._registry.trainings.give_back(work.training, how)
        is_over = self._registry.trainings.one(work.training.model, work.training.number).is_over
        self._end_process(keep_folder=not is_over)

    def _register(self, training: Training, made: Made) -> None:
        """Make it a challenger, with the training that it came of, in one transaction."""
        refusal = self._refusal(training) or self._known(training, made)
        if refusal is not None:
            self._fail(training, refusal)
            return
        if (why := hopeless(training, made.report)) is not None:
            self._registry.trainings.decline(training, why)
            _log.info("a training was declined", model=training.model, training=training.number, reason=why)
            return
        self._make_room(training)
        said = f"training {training.number}, of {made.n_rows:,} rows: {training.reason}"
        try:
            version = self._registry.register(
                training.model, made.model_bytes, "challenger", by=Principal(training.by), reason=said,
                score=made.score, classes=made.classes or None, training=made.report, reference=made.reference,
                of=training,
            )  # fmt: skip
        except (StoreUnreachable, LeaseLost):
            raise
        except RegistryError as refused:
            self._fail(training, str(refused))
        else:
            _log.info("trained", model=training.model, training=training.number, version=version.number)

    def _refusal(self, training: Training) -> str | None:
        """Why no challenger may be added; None where one may."""
        standings, most = standings_of(self._registry, training.model), training.recipe.triggers.max_challengers
        if len(standings) < most or futile(standings) is not None:
            return None
        return f"{len(standings)} challengers play, none of them futile, and the recipe allows {most}: retire one"

    def _known(self, training: Training, made: Made) -> str | None:
        digest = digest_of(made.model_bytes)
        for version in self._registry.versions(training.model):
            if version.digest == digest:
                return f"it has learned nothing new: version {version.number} has the same bytes"
        return None

    def _make_room(self, training: Training) -> None:
        """Retire the challenger that nothing is to be hoped of, where one has to leave."""
        standings = standings_of(self._registry, training.model)
        leaving = futile(standings)
        if len(standings) >= training.recipe.triggers.max_challengers and leaving is not None:
            reason = f"{_WORDS[standings[leaving]]}: it makes room for training {training.number}"
            self._registry.retire(training.model, leaving, reason=reason, by=Principal.the_rule())

    def _fail(self, training: Training, sentence: str) -> None:
        self._registry.trainings.fail(training, sentence)
        _log.warning("a training failed", model=training.model, training=training.number, reason=sentence)

    def _end_process(self, *, keep_folder: bool = False) -> None:
        """End whatever of it still runs."""
        work, self._work = self._work, None
        if work is None:
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(work.child.pid, signal.SIGKILL)
        work.child.wait()
        for pipe in (work.child.stdin, work.child.stdout):
            if pipe is not None:
                pipe.close()
        if not keep_folder:
            shutil.rmtree(work.folder, ignore_errors=True)


def hopeless(training: Training, report: TrainingReport) -> str | None:
    """Why a version takes no place among the challengers; None where it does.

    Whoever plays is judged on what comes later, so choosing by what is past costs no validity, and saves a slot.
    """
    tried = report.backtest
    if training.kind == "person" or not training.recipe.triggers.must_win_backtest or tried is None:
        return None
    if tried.mean_difference > 0:
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


def _started(folder: Path) -> subprocess.Popen[bytes]:
    """Its process, in a group of its own but in the session of this one, whose place in the queue it shares."""
    root = str(Path(__file__).parents[2])
    environment = environment_of_children()
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH", "")]))
    with (folder / LAST_WORDS).open("wb") as last_words:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "retrain.training.run", str(folder / ASSIGNMENT)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=last_words, env=environment, process_group=0,
        )  # fmt: skip
    assert child.stdout is not None  # noqa: S101  # it was asked for above
    os.set_blocking(child.stdout.fileno(), False)
    return child


def _how_it_ended(work: Work) -> str:
    code = work.child.returncode
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    words = (work.folder / LAST_WORDS).read_text(errors="replace").strip().splitlines()
    return f"its process {how}" + (f" ({words[-1][:300]})" if words else "")
