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
from gateway.config import Settings
from gateway.errors import GatewayError
from gateway.journal import Ledger, PredictionReader, only_one, open_ledger, open_reader
from gateway.records import Cursor, WriterState, moment
from registry.errors import GenerationMoved, NoChampion, RegistryError
from registry.store import Registry
from registry.types import ClosedBucket, Lineup, Model, Principal, Reign, Signature
from retrain.cohorts import BucketReader, Contender, OpenCohorts, contenders_of, may_close, stored_sums
from retrain.evidence import Evidence, Rule, judge

REFRESH_S = 2.0
"""How old the counts of rows that wait may be on the screen."""
PATIENCE_S = 5.0
DAY_S = 86_400
_log = structlog.get_logger("retrain")


class ReignState:
    """What the cycle knows of one model's present reign; made anew when the lineup moves."""

    def __init__(self, registry: Registry, model: Model, bucket_s: int) -> None:
        name = model.name
        self.model = model
        self.lineup: Lineup = registry.lineup(name)
        self.reign: Reign = registry.reign(name)
        self.closed: list[ClosedBucket] = registry.closed_buckets(name, self.reign.number)
        signatures: dict[int, Signature] = {v.number: v.signature for v in registry.versions(name)}
        self.champion_signature = signatures[self.lineup.champion]
        self.contenders = contenders_of(registry.lineups(name), self.reign, signatures)
        self.rule = rule_of(model, self.reign, bucket_s)
        closed_before = _last_closed(registry, name, before_reign=self.reign.number)
        self.cohorts = OpenCohorts(name, self.reign.first_generation, self.closed, closed_before)

    @property
    def judged(self) -> list[Contender]:
        """The contenders that still play and have a slot."""
        return [c for c in self.contenders if c.has_slot and c.version in self.lineup.challengers]


class Cycle:
    """Closes cohorts and decides, for every model of one store."""

    def __init__(
        self, registry: Registry, reader: PredictionReader, ledger: Ledger, clock: JournalClock, settings: Settings
    ) -> None:
        self._registry, self._reader, self._ledger, self._clock = registry, reader, ledger, clock
        self._bucket_s = settings.cohorts.bucket_s
        self._states: dict[str, ReignState] = {}
        self._saved: dict[str, tuple[float, dict[str, Any]]] = {}
        self._stamp: int | None = None

    def step(self) -> bool:
        """Close at most one bucket of each model; whether any was closed."""
        self._refresh()
        now_us = self._clock.now_us()
        if now_us is None:
            return False
        writers = self._reader.writers()  # before the chunks: see PredictionReader.writers
        closed = [self._advance(state, writers, now_us) for state in list(self._states.values())]
        return any(closed)

    def _refresh(self) -> None:
        stamp = self._registry.change_stamp()
        if stamp == self._stamp:
            return
        self._clock.refresh(self._registry)
        for model in self._registry.models():
            known = self._states.get(model.name)
            try:
                lineup = self._registry.lineup(model.name)
            except NoChampion:
                continue
            if known is None or known.lineup != lineup or known.model != model:
                self._states[model.name] = ReignState(self._registry, model, self._bucket_s)
        self._stamp = stamp

    def _advance(self, state: ReignState, writers: Sequence[WriterState], now_us: int) -> bool:
        state.cohorts.read(self._reader, writers)
        bucket = state.cohorts.next_bucket()
        heads = [] if bucket is None else state.cohorts.buckets.get(bucket, [])
        if bucket is None or not may_close(
            bucket, heads, writers, state.judged, self._ledger, model=state.model.name, now_us=now_us,
            bucket_us=self._bucket_s * MICROSECONDS, policy=state.reign.policy,
        ):  # fmt: skip
            self._refresh_counts(state, now_us)
            return False
        self._close(state, bucket, now_us)
        evidence = self._judged(state)
        self._save(state, document_of(state, evidence, self._bucket_s), now_us)
        self._decide(state, evidence)
        return True

    def _close(self, state: ReignState, bucket: int, now_us: int) -> None:
        """Reduce a bucket to sums, at the cursors of this moment, once and for all."""
        outcome_cursor = self._ledger.outcome_cursor()
        heads = state.cohorts.buckets.get(bucket, [])
        rows = BucketReader(self._reader, self._ledger, state.champion_signature, state.reign.policy, outcome_cursor)
        closed = ClosedBucket(
            model=state.model.name,
            reign=state.reign.number,
            bucket=bucket,
            closed_at=moment(now_us),
            prediction_cursor=_named(state.cohorts.cursor),
            outcome_cursor=_named(outcome_cursor),
            sums=rows.sums(heads, [c for c in state.contenders if c.has_slot], state.rule),
        )
        self._registry.close_bucket(
            closed.model, closed.reign, bucket, closed_at=closed.closed_at,
            prediction_cursor=closed.prediction_cursor, outcome_cursor=closed.outcome_cursor, sums=closed.sums,
        )  # fmt: skip
        state.closed.append(closed)
        state.cohorts.close(bucket)

    def _judged(self, state: ReignState) -> dict[int, Evidence]:
        champion = f"version {state.lineup.champion}"
        return {
            c.version: judge(sums, state.rule, champion=champion, challenger=f"version {c.version}")
            for c in state.judged
            if (sums := stored_sums(state.closed, c.version))
        }

    def _decide(self, state: ReignState, evidence: dict[int, Evidence]) -> None:
        """Promote the challenger whose gain is surest, if the rule promotes any and the policy lets it."""
        ready = [version for version, judged in evidence.items() if judged.promote]
        if not ready or state.reign.policy.promotion != "automatic":
            return
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
        else:
            _log.info("promoted", model=state.model.name, version=best, reason=evidence[best].sentence)

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


def rule_of(model: Model, reign: Reign, bucket_s: int) -> Rule:
    """The rule of a reign: the model's policy and the champion's training report, both as they were at its start."""
    policy, training = reign.policy, reign.training
    return Rule(
        task=model.task,
        alpha=policy.alpha,
        n_slots=policy.n_slots,
        base_rate=training.base_rate if training and model.task == "binary" else None,
        reference_loss=training.reference_loss if training else None,
        prior=(training.prior if training and training.prior is not None else 0.0)
        if model.task == "regression"
        else None,
        scale=training.scale if training else None,
        min_outcomes=policy.min_outcomes,
        min_minority=policy.min_minority,
        min_coverage=policy.min_coverage,
        min_span_days=round(policy.min_span_days),
        buckets_per_day=max(1, DAY_S // bucket_s),
    )


def document_of(state: ReignState, evidence: dict[int, Evidence], bucket_s: int) -> dict[str, Any]:
    """What `evidence --json` shows; the mirror's account is added by whoever shows it, as it moves by itself."""
    through = state.cohorts.closed_through
    return {
        "model": state.model.name,
        "generation": state.lineup.generation,
        "reign": state.reign.number,
        "champion": state.lineup.champion,
        "previous": state.lineup.previous,
        "closed_through": None if through is None else moment((through + 1) * bucket_s * MICROSECONDS).isoformat(),
        "n_late_rows": state.cohorts.n_late_rows,
        "challengers": [
            _entry(state, contender, evidence.get(contender.version))
            for contender in state.contenders
            if contender.version in state.lineup.challengers
        ],
    }


def _entry(state: ReignState, contender: Contender, evidence: Evidence | None) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "version": contender.version,
        "verdict": "collecting",
        "sentence": f"version {contender.version} has no matured outcome in this reign yet",
        "log_e": 0.0,
        "log_e_threshold": state.rule.log_e_threshold,
        "n_matured": 0,
        "n_waiting": state.cohorts.n_waiting(contender),
        "mean_difference": None,
        "low": None,
        "high": None,
        "conditions": [],
    }
    if not contender.has_slot:
        n_slots = state.reign.policy.n_slots
        entry["sentence"] = (
            f"version {contender.version} waits for the next reign: the {n_slots} slots of this one are taken"
        )
    if evidence is not None:
        entry |= {
            "verdict": evidence.verdict,
            "sentence": evidence.sentence,
            "log_e": evidence.log_e,
            "n_matured": evidence.n,
            "mean_difference": evidence.mean,
            "low": evidence.low,
            "high": evidence.high,
            "conditions": msgspec.to_builtins(evidence.conditions),
        }
    return entry


def _last_closed(registry: Registry, model: str, *, before_reign: int) -> int | None:
    """The last bucket that any earlier reign closed."""
    for number in range(before_reign - 1, 0, -1):
        if closed := registry.closed_buckets(model, number):
            return closed[-1].bucket
    return None


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
