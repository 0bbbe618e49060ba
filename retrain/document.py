"""What `evidence --json` shows of a reign; the mirror's account is added by whoever shows it, as it moves by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.clock import MICROSECONDS
from gateway.records import moment
from retrain.acting import config_digest, population_document
from retrain.cohorts import Contender
from retrain.evidence import BucketSums, Evidence, Rule, metrics_of_sums
from retrain.judgement import Judged, Watched
from retrain.kept import n_void
from retrain.reign import ReignState


def document_of(
    state: ReignState, judged: Sequence[Judged], watched: Watched | None, known_now: dict[int, Evidence]
) -> dict[str, Any]:
    """The evidence of a model. `known_now`: of challengers with late outcomes, version → evidence with them."""
    through = state.cohorts.closed_through
    by_version = {each.contender.version: each for each in judged}
    return {
        "model": state.model.name,
        "generation": state.lineup.generation,
        "reign": state.reign.number,
        "champion": state.lineup.champion,
        "previous": state.lineup.previous,
        "closed_through": (
            None if through is None else moment((through + 1) * state.bucket_s * MICROSECONDS).isoformat()
        ),
        "n_late_rows": state.cohorts.n_late_rows,
        "promotion": state.reign.policy.promotion,
        "probation": _probation(watched),
        "challengers": [
            _entry(state, contender, by_version.get(contender.version), known_now.get(contender.version))
            for contender in state.contenders
            if not contender.is_previous and contender.version in state.lineup.challengers
        ],
    }


def _entry(state: ReignState, contender: Contender, judged: Judged | None, known: Evidence | None) -> dict[str, Any]:
    learned_until = None if contender.learned_until_us is None else moment(contender.learned_until_us)
    entry: dict[str, Any] = {
        "version": contender.version,
        "verdict": "collecting",
        "sentence": f"version {contender.version} has no matured outcome in this reign yet",
        "log_e": 0.0,
        "log_e_threshold": contender.rule.log_e_threshold,
        "n_matured": 0,
        "n_corrected": 0,
        "n_waiting": state.cohorts.n_waiting(contender),
        "mean_difference": None,
        "low": None,
        "high": None,
        "conditions": [],
        "forecast": None,
        "n_void_buckets": n_void(state.closed, contender.key),
        "learned_until": None if learned_until is None else learned_until.isoformat(),
        "metric": {
            "loss": contender.rule.measured_by,
            "digest": contender.rule.digest,
            "config": config_digest(contender.rule, state.reign.policy),
            "bets": "generic" if contender.rule.informed_bet is None else "informed",
        },
    }
    if learned_until is not None and learned_until >= state.reign.since:
        entry["sentence"] += f"; rows until {learned_until.isoformat()} do not count, as it may have learned from them"
    if not contender.has_slot:
        n_slots = state.reign.policy.n_judged
        entry["sentence"] = (
            f"version {contender.version} waits for the next reign: the {n_slots} slots of this one are taken"
        )
    if judged is None:
        return entry
    evidence, policy = judged.evidence, state.reign.policy
    n_closed = max(1, evidence.n)
    return entry | {
        "verdict": evidence.verdict,
        "sentence": evidence.sentence,
        "log_e": evidence.log_e,
        "log_e_inferior": evidence.log_e_inferior,
        "log_e_clustered": evidence.log_e_clustered,
        "n_matured": evidence.n,
        "n_corrected": judged.late.n_corrected,
        "latency_s": judged.latency_s,
        "mean_difference": evidence.mean,
        "low": evidence.low,
        "high": evidence.high,
        "conditions": msgspec.to_builtins(evidence.conditions),
        "forecast": msgspec.to_builtins(evidence.forecast),
        "retire": evidence.retire,
        "metrics": metrics_document([kept.sums for kept in judged.kept], contender.rule),
        "population": population_document(judged.population),
        "corrections": {
            "n_corrected": judged.late.n_corrected,
            "n_arrived_late": judged.late.n_arrived,
            "share": judged.late.n_corrected / n_closed,
            "alarm": judged.late.n_corrected > policy.max_late_corrections * n_closed,
            "as_known_now": _known_now(known),
        },
    }


def _known_now(evidence: Evidence | None) -> dict[str, Any] | None:
    """What would be said with the outcomes that came after their time; it decides nothing."""
    if evidence is None:
        return None
    return {
        "verdict": evidence.verdict,
        "log_e": evidence.log_e,
        "n_matured": evidence.n,
        "mean_difference": evidence.mean,
        "low": evidence.low,
        "high": evidence.high,
    }


def _probation(watched: Watched | None) -> dict[str, Any] | None:
    """How the champion does against the one that it deposed."""
    if watched is None:
        return None
    detector = watched.detector
    return {
        "previous": watched.contender.version,
        **msgspec.structs.asdict(watched.probation),
        "detector": None if detector is None else msgspec.to_builtins(detector),
        "incident": watched.wants_back,
    }


def metrics_document(sums: Sequence[BucketSums], rule: Rule) -> dict[str, dict[str, float]]:
    """Both versions' metrics on all closed buckets, for people: they decide nothing. What a task lacks is not there."""
    champion, challenger = metrics_of_sums(sums, rule)
    return {"champion": msgspec.to_builtins(champion), "challenger": msgspec.to_builtins(challenger)}
