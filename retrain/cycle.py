"""The story of a decision: close what is due ▶ judge ▶ decide ▶ act, for every model of one store.

    close    cohorts, bucket, pairing    a bucket, once, at cursors, reduced to sums                kept
    judge    judgement, corrections      every challenger; the champion against the previous one    reign, terms
    act      acting                      roll back, promote or propose, retire: one thing
    show     document                    what is known, and what is not
    train    drift, training             what moved, and a new version where that asks for one

Buckets are closed one by one in calendar order and judged after each, so that a worker that was away for a week decides
just what it would have decided had it been there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from gateway.clock import MICROSECONDS, JournalClock
from gateway.config import BUCKET_SETTING, Settings
from gateway.errors import GatewayError, JournalDamaged
from gateway.journal import Ledger, PredictionReader, only_one, open_ledger, open_reader
from gateway.records import WriterState, moment
from registry.errors import BucketDamaged, NoChampion, RegistryError
from registry.store import Registry
from registry.types import ClosedBucket
from registry.watch import Watch
from retrain import acting
from retrain.bucket import AsOf, BucketReader
from retrain.cohorts import due_bucket, matured_us, may_close, named
from retrain.desk import ReignDesk
from retrain.document import document_of
from retrain.drift.watch import DriftWatch
from retrain.evidence import EvidenceError
from retrain.reign import ReignState
from retrain.replays import ReplayDesk
from retrain.training.watch import TrainingWatch

REFRESH_S = 2.0
"""How old the counts of rows that wait may be on the screen."""
PATIENCE_S = 5.0
_log = structlog.get_logger("retrain")


class Cycle:
    """Closes cohorts and decides, for every model of one store."""

    def __init__(
        self, registry: Registry, reader: PredictionReader, ledger: Ledger, clock: JournalClock, settings: Settings
    ) -> None:
        self._registry, self._reader, self._ledger, self._clock = registry, reader, ledger, clock
        self._bucket_s = settings.cohorts.bucket_s
        self._desks: dict[str, ReignDesk] = {}
        self._saved: dict[str, tuple[float, dict[str, Any]]] = {}
        self._problems: dict[str, str | None] = {}
        self._watch = Watch(registry)

    def step(self) -> bool:
        """Close at most one bucket of each model; whether any was closed."""
        self._refresh()
        now_us = self._clock.now_us()
        if now_us is None:
            return False
        writers = self._reader.writers()  # before the chunks: see PredictionReader.writers
        closed = [self._served(desk, writers, now_us) for desk in list(self._desks.values())]
        return any(closed)

    def _refresh(self) -> None:
        if not self._watch.changed():
            return
        self._clock.refresh(self._registry)
        for model in self._registry.models():
            known = self._desks[model.name].state if model.name in self._desks else None
            try:
                if known is None or known.lineup != self._registry.lineup(model.name) or known.model != model:
                    state = ReignState(self._registry, model, self._bucket_s)
                    self._desks[model.name] = ReignDesk(state, self._reader, self._ledger)
            except NoChampion:
                continue
            except (EvidenceError, BucketDamaged) as error:  # nothing can be judged by its terms, or what is left of it
                self._desks.pop(model.name, None)
                self._say(model.name, str(error))
        self._watch.taken_over()

    def _served(self, desk: ReignDesk, writers: Sequence[WriterState], now_us: int) -> bool:
        """One bucket of one model; what cannot be done now is retried, and holds up no other model."""
        model = desk.state.model.name
        try:
            closed = self._advance(desk, writers, now_us)
        except (GatewayError, RegistryError, EvidenceError) as error:
            self._say(model, f"{type(error).__name__}: {error}")
            return False
        self._say(model, None)
        return closed

    def _advance(self, desk: ReignDesk, writers: Sequence[WriterState], now_us: int) -> bool:
        """Decide upon what is closed, if that is still to be done; else close the next bucket and decide upon it."""
        state = desk.state
        state.cohorts.read(self._reader, writers)
        if not state.decided:
            for problem in desk.reread.derived_again():
                _log.error("a bucket cannot be judged any more", model=state.model.name, reason=problem)
            if self._decide(desk, now_us):
                return True  # by another lineup from here on
        unreadable = [writer.problem for writer in writers if writer.is_unreadable]
        if unreadable:  # its rows may belong to the next bucket: nobody knows how many
            raise JournalDamaged(
                f"no bucket is closed while predictions cannot be read ({unreadable[0]}): bring the file back, or move "
                "it out of the store and do without its rows"
            )
        if state.cohorts.newest_generation > state.lineup.generation:
            return False  # who plays in it is not known here yet
        bucket = state.cohorts.next_bucket(due_bucket(now_us, self._bucket_s * MICROSECONDS, state.reign.policy))
        heads = [] if bucket is None else state.cohorts.buckets.get(bucket, [])
        if bucket is None or not may_close(
            bucket, heads, writers, state.playing, self._ledger, model=state.model.name, now_us=now_us,
            bucket_us=self._bucket_s * MICROSECONDS, policy=state.reign.policy,
        ):  # fmt: skip
            self._refresh_counts(desk, now_us)
            return False
        if self._close(state, bucket, now_us):
            self._decide(desk, now_us)
        return True

    def _close(self, state: ReignState, bucket: int, now_us: int) -> bool:
        """Reduce a bucket to sums, at the cursors of this moment, once and for all; False where it was before."""
        policy, outcome_cursor = state.reign.policy, self._ledger.outcome_cursor()
        as_of = AsOf(state.cohorts.cursor, outcome_cursor, matured_us(bucket, self._bucket_s * MICROSECONDS, policy))
        rows = BucketReader(self._reader, self._ledger, state.champion_signature, policy, as_of)
        closed = ClosedBucket(
            model=state.model.name,
            reign=state.reign.number,
            bucket=bucket,
            closed_at=moment(now_us),
            prediction_cursor=named(state.cohorts.cursor),
            outcome_cursor=named(outcome_cursor),
            sums=rows.sums(state.cohorts.buckets.get(bucket, []), [c for c in state.contenders if c.has_slot]),
        )
        is_new = self._registry.close_bucket(
            closed.model, closed.reign, bucket, closed_at=closed.closed_at,
            prediction_cursor=closed.prediction_cursor, outcome_cursor=closed.outcome_cursor, sums=closed.sums,
        )  # fmt: skip
        if not is_new:  # a commit that seemed to fail did not: what is stored is what counts
            self._desks.pop(state.model.name)
            self._watch.forget()
            return False
        for problem in rows.problems:
            _log.error("a bucket cannot be judged", model=state.model.name, bucket=bucket, reason=problem)
        state.decided = False
        state.closed.append(closed)
        state.cohorts.close(bucket)
        return True

    def _decide(self, desk: ReignDesk, now_us: int) -> bool:
        """Judge what is closed by now, and act upon it; whether the lineup is another now."""
        state, found = desk.state, desk.judged()
        moved = bool(state.closed) and (
            acting.roll_back(self._registry, state, found.watched)
            or acting.promote(self._registry, state, found.challengers, desk.reread.log_e_between)
            or acting.retire(self._registry, state, found.challengers)
        )
        if state.closed and not moved:  # what was decided upon is frozen in the decision, and the lineup is another
            self._alarm(desk)
            self._save(state, document_of(state, found.challengers, found.watched, desk.known_now(found)), now_us)
        state.decided = True
        return moved

    def _alarm(self, desk: ReignDesk) -> None:
        """Say once in the log that more of the closed outcomes were corrected than the terms allow."""
        state = desk.state
        for version, late in desk.new_alarms():
            _log.warning(
                "outcomes of closed buckets were corrected", model=state.model.name, version=version,
                n_corrected=late.n_corrected, allowed_share=state.reign.policy.max_late_corrections,
            )  # fmt: skip

    def _say(self, model: str, problem: str | None) -> None:
        """Log why a model waits, once; None when it does not."""
        if problem is not None and problem != self._problems.get(model):
            _log.warning("the cycle waits", model=model, reason=problem)
        self._problems[model] = problem

    def _refresh_counts(self, desk: ReignDesk, now_us: int) -> None:
        """Now and then, show how many rows wait, and what came late: between two closings nothing else can change."""
        state = desk.state
        saved_s, saved = self._saved.get(state.model.name, (-REFRESH_S, {}))
        if time.monotonic() - saved_s < REFRESH_S:
            return
        found = desk.judged()
        document = document_of(state, found.challengers, found.watched, desk.known_now(found))
        if document != saved:
            self._save(state, document, now_us)
        else:
            self._saved[state.model.name] = time.monotonic(), document

    def _save(self, state: ReignState, document: dict[str, Any], now_us: int) -> None:
        self._registry.save_evidence(state.model.name, document | {"as_of": moment(now_us).isoformat()})
        self._saved[state.model.name] = time.monotonic(), document


def run_retrain(settings: Settings, stop: threading.Event) -> None:
    """Close cohorts, decide and train until told to stop."""
    store = settings.folder
    with only_one(store, "retrain", stop):
        clock = JournalClock(settings.clock, settings.cohorts.bucket_s)
        registry = Registry.open(store, now=clock.now)
        reader, ledger = open_reader(store), open_ledger(store, settings.journal, busy_s=PATIENCE_S)
        cycle = Cycle(registry, reader, ledger, clock, settings)
        drift = DriftWatch(registry, reader, ledger, clock, settings)
        training = TrainingWatch(registry, reader, drift, settings)
        replays = ReplayDesk(registry, reader, ledger, settings)
        try:
            ledger.settle(BUCKET_SETTING, settings.cohorts.bucket_s)
            while not stop.is_set():
                if _tried(cycle.step, "the cycle waits"):
                    training.look_again()
                    _tried(training.runner.step, "training waits")  # its lease and its time run on
                    continue
                _tried(drift.look, "drift waits")
                _tried(training.step, "training waits")
                if not _tried(replays.step, "replays wait"):
                    stop.wait(settings.retrain.poll_s)
        finally:
            training.close()
            ledger.close()
            reader.close()
            registry.close()


def _tried(do: Callable[[], bool | None], waits: str) -> bool | None:
    """What it says; what the store cannot do now is said, and tried again after a pause."""
    try:
        return do()
    except (GatewayError, RegistryError) as error:
        _log.warning(waits, reason=str(error), kind=type(error).__name__)
        return None
