"""The story of a decision: close what is due ▶ judge every challenger ▶ promote what the rule promotes.

Buckets are closed one by one in calendar order and judged after each, so that a worker that was away for a week decides
just what it would have decided had it been there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import msgspec
import structlog

from gateway.clock import MICROSECONDS, JournalClock
from gateway.config import BUCKET_SETTING, Settings
from gateway.errors import GatewayError, JournalDamaged
from gateway.journal import Ledger, PredictionReader, only_one, open_ledger, open_reader
from gateway.records import Cursor, WriterState, moment
from registry.errors import BucketDamaged, GenerationMoved, NoChampion, RegistryError, RuleRests, VersionBarred
from registry.store import Registry
from registry.types import ClosedBucket, Principal
from registry.watch import Watch
from retrain.cohorts import BucketReader, due_bucket, matured_us, may_close, stored_sums
from retrain.evidence import Evidence, EvidenceError, judge
from retrain.reign import ReignState, document_of

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
        self._states: dict[str, ReignState] = {}
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
        closed = [self._served(state, writers, now_us) for state in list(self._states.values())]
        return any(closed)

    def _served(self, state: ReignState, writers: Sequence[WriterState], now_us: int) -> bool:
        """One bucket of one model; what cannot be done now is retried, and holds up no other model."""
        try:
            closed = self._advance(state, writers, now_us)
        except (GatewayError, RegistryError, EvidenceError) as error:
            self._say(state.model.name, f"{type(error).__name__}: {error}")
            return False
        self._say(state.model.name, None)
        return closed

    def _refresh(self) -> None:
        if not self._watch.changed():
            return
        self._clock.refresh(self._registry)
        for model in self._registry.models():
            known = self._states.get(model.name)
            try:
                if known is None or known.lineup != self._registry.lineup(model.name) or known.model != model:
                    self._states[model.name] = ReignState(self._registry, model, self._bucket_s)
            except NoChampion:
                continue
            except (EvidenceError, BucketDamaged) as error:  # nothing can be judged by its terms, or what is left of it
                self._states.pop(model.name, None)
                self._say(model.name, str(error))
        self._watch.taken_over()

    def _advance(self, state: ReignState, writers: Sequence[WriterState], now_us: int) -> bool:
        state.cohorts.read(self._reader, writers)
        if not state.decided and self._decide(state, now_us):
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
            bucket, heads, writers, state.judged, self._ledger, model=state.model.name, now_us=now_us,
            bucket_us=self._bucket_s * MICROSECONDS, policy=state.reign.policy,
        ):  # fmt: skip
            self._refresh_counts(state, now_us)
            return False
        if self._close(state, bucket, now_us):
            self._decide(state, now_us)
        return True

    def _close(self, state: ReignState, bucket: int, now_us: int) -> bool:
        """Reduce a bucket to sums, at the cursors of this moment, once and for all; False where it was before."""
        outcome_cursor = self._ledger.outcome_cursor()
        heads = state.cohorts.buckets.get(bucket, [])
        rows = BucketReader(
            self._reader,
            self._ledger,
            state.champion_signature,
            state.reign.policy,
            state.cohorts.cursor,
            outcome_cursor,
            matured_us(bucket, self._bucket_s * MICROSECONDS, state.reign.policy),
        )
        closed = ClosedBucket(
            model=state.model.name,
            reign=state.reign.number,
            bucket=bucket,
            closed_at=moment(now_us),
            prediction_cursor=_named(state.cohorts.cursor),
            outcome_cursor=_named(outcome_cursor),
            sums=rows.sums(heads, [c for c in state.contenders if c.has_slot], state.rule),
        )
        is_new = self._registry.close_bucket(
            closed.model, closed.reign, bucket, closed_at=closed.closed_at,
            prediction_cursor=closed.prediction_cursor, outcome_cursor=closed.outcome_cursor, sums=closed.sums,
        )  # fmt: skip
        if not is_new:  # a commit that seemed to fail did not: what is stored is what counts
            self._states.pop(state.model.name)
            self._watch.forget()
            return False
        for problem in rows.problems:
            _log.error("a bucket cannot be judged", model=state.model.name, bucket=bucket, reason=problem)
        state.decided = False
        state.closed.append(closed)
        state.cohorts.close(bucket)
        return True

    def _judged(self, state: ReignState) -> dict[int, Evidence]:
        champion = f"version {state.lineup.champion}"
        return {
            c.version: judge(sums, state.rule, champion=champion, challenger=f"version {c.version}")
            for c in state.judged
            if (sums := stored_sums(state.closed, c.version))
        }

    def _decide(self, state: ReignState, now_us: int) -> bool:
        """Judge what is closed by now, and promote by it; whether the lineup is another now."""
        evidence = self._judged(state)
        moved = self._promote(state, evidence)
        if state.closed and not moved:  # what promoted is frozen in the decision, and a new reign has begun
            self._save(state, document_of(state, evidence, self._bucket_s), now_us)
        state.decided = True
        return moved

    def _promote(self, state: ReignState, evidence: dict[int, Evidence]) -> bool:
        """Promote the challenger whose gain is surest, if the rule promotes any and the policy lets it."""
        ready = [version for version, judged in evidence.items() if judged.promote]
        if not ready or state.reign.policy.promotion != "automatic":
            return False
        best = max(ready, key=lambda version: (_low(evidence[version]), -version))
        last = state.closed[-1]
        try:
            self._registry.promote(
                state.model.name,
                best,
                reason=evidence[best].sentence,
                by=Principal.the_rule(),
                expected_generation=state.lineup.generation,
                evidence=msgspec.to_builtins(evidence[best]),
                cursors={"bucket": last.bucket, "predictions": last.prediction_cursor, "outcomes": last.outcome_cursor},
            )
        except GenerationMoved as moved:
            _log.info("somebody changed the lineup first", model=state.model.name, reason=str(moved))
        except (RuleRests, VersionBarred) as refused:  # judged and shown as ever, until it may or a person does
            _log.info("not promoted", model=state.model.name, version=best, reason=str(refused))
            return False
        else:
            _log.info("promoted", model=state.model.name, version=best, reason=evidence[best].sentence)
        return True

    def _say(self, model: str, problem: str | None) -> None:
        """Log why a model waits, once; None when it does not."""
        if problem is not None and problem != self._problems.get(model):
            _log.warning("the cycle waits", model=model, reason=problem)
        self._problems[model] = problem

    def _refresh_counts(self, state: ReignState, now_us: int) -> None:
        """Now and then, show how many rows wait: between two closings nothing else can change."""
        saved_s, saved = self._saved.get(state.model.name, (-REFRESH_S, {}))
        if time.monotonic() - saved_s < REFRESH_S:
            return
        document = document_of(state, self._judged(state), self._bucket_s)
        if document != saved:
            self._save(state, document, now_us)
        else:
            self._saved[state.model.name] = time.monotonic(), document

    def _save(self, state: ReignState, document: dict[str, Any], now_us: int) -> None:
        self._registry.save_evidence(state.model.name, document | {"as_of": moment(now_us).isoformat()})
        self._saved[state.model.name] = time.monotonic(), document


def _low(evidence: Evidence) -> float:
    return float("-inf") if evidence.low is None else evidence.low


def _named(cursor: Cursor) -> dict[str, int]:
    return {str(writer): seq for writer, seq in sorted(cursor.items())}


def run_retrain(settings: Settings, stop: threading.Event) -> None:
    """Close cohorts and decide until told to stop."""
    store = settings.folder
    with only_one(store, "retrain", stop):
        clock = JournalClock(settings.clock, settings.cohorts.bucket_s)
        registry = Registry.open(store, now=clock.now)
        reader, ledger = open_reader(store), open_ledger(store, settings.journal, busy_s=PATIENCE_S)
        cycle = Cycle(registry, reader, ledger, clock, settings)
        try:
            ledger.settle(BUCKET_SETTING, settings.cohorts.bucket_s)
            while not stop.is_set():
                if not _stepped(cycle):
                    stop.wait(settings.retrain.poll_s)
        finally:
            ledger.close()
            reader.close()
            registry.close()


def _stepped(cycle: Cycle) -> bool:
    """One step; what the store cannot do now is said, and tried again after a pause."""
    try:
        return cycle.step()
    except (GatewayError, RegistryError) as error:
        _log.warning("the cycle waits", reason=str(error), kind=type(error).__name__)
        return False
