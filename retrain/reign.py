"""What the cycle knows of one model's present reign, and how that is shown."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.clock import MICROSECONDS
from gateway.records import moment
from registry.errors import NoChampion
from registry.store import Registry
from registry.types import ClosedBucket, Lineup, Model, Reign, Signature
from retrain.cohorts import Contender, OpenCohorts, contenders_of, n_void
from retrain.evidence import Evidence, Rule

DAY_S = 86_400


class ReignState:
    """What the cycle knows of one model's present reign; made anew when the lineup moves."""

    def __init__(self, registry: Registry, model: Model, bucket_s: int) -> None:
        name = model.name
        self.model = model
        lineups = registry.lineups(name)
        if not lineups:
            raise NoChampion(name)
        self.lineup: Lineup = lineups[-1]
        # all of it as of that lineup: somebody may change it between two of these reads
        reigns = [reign for reign in registry.reigns(name) if reign.first_generation <= self.lineup.generation]
        self.reign: Reign = reigns[-1]
        self.decided = False
        """Whether what is closed was decided upon; an earlier process may have ended in between."""
        self.closed: list[ClosedBucket] = registry.closed_buckets(name, self.reign.number)
        signatures: dict[int, Signature] = {v.number: v.signature for v in registry.versions(name)}
        self.champion_signature = signatures[self.lineup.champion]
        self.contenders = contenders_of(lineups, self.reign, signatures)
        self.rule = rule_of(model, self.reign, bucket_s)
        closed_before = _last_closed(registry, name, before_reign=self.reign.number)
        self.cohorts = OpenCohorts(name, self.reign.first_generation, self.closed, closed_before)

    @property
    def judged(self) -> list[Contender]:
        """The contenders that still play and have a slot."""
        return [c for c in self.contenders if c.has_slot and c.version in self.lineup.challengers]


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
        "n_void_buckets": n_void(state.closed, contender.version),
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
