"""What `evidence --json` shows of a reign; the mirror's account is added by whoever shows it, as it moves by itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from gateway.clock import MICROSECONDS
from gateway.records import moment
from retrain.acting import config_digest, population_document
from retrain.cohorts import Contender
from retrain.evidence import BucketSums, Evidence
from retrain.evidence.ranking import paired_auc
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
        "metric": {
            "loss": contender.rule.measured_by,
            "digest": contender.rule.digest,
            "config": config_digest(contender.rule, state.reign.policy),
            "bets": "generic" if contender.rule.informed_bet is None else "informed",
        },
    }
    if not contender.has_slot:
        n_slots = state.reign.policy.n_slots
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
        "mean_difference": evidence.mean,
        "low": evidence.low,
        "high": evidence.high,
        "conditions": msgspec.to_builtins(evidence.conditions),
        "forecast": msgspec.to_builtins(evidence.forecast),
        "retire": evidence.retire,
        "metrics": metrics_of([kept.sums for kept in judged.kept]),
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


def metrics_of(sums: Sequence[BucketSums]) -> dict[str, dict[str, float | None]]:
    """Both versions' metrics on all closed buckets, for people: they decide nothing.

    `auc` and `ks` are of scores rounded to quarters of log-odds, as the sums hold them.
    """
    n = sum(each.n_bets for each in sums)
    if n == 0:
        return {"champion": {}, "challenger": {}}
    champion_loss = math.fsum(each.sum_champion_loss for each in sums) / n
    loss = (champion_loss, champion_loss - math.fsum(each.sum_d for each in sums) / n)
    found: list[dict[str, float | None]] = [{"loss": each} for each in loss]
    tables = [each.scores.tables() for each in sums if each.scores is not None]
    if tables:
        negatives, positives = (np.sum([table[y] for table in tables], axis=0) for y in (0, 1))
        auc = paired_auc(negatives, positives)
        rate = float(positives.sum() / (positives.sum() + negatives.sum()))
        for place, axis in ((0, 1), (1, 0)):
            by_level = [table.sum(axis=axis) for table in (negatives, positives)]
            found[place] |= {
                "auc": None if auc is None else (auc.champion, auc.challenger)[place],
                "ks": _ks(*by_level),
                "base_rate": rate,
            }
    return {"champion": found[0], "challenger": found[1]}


def _ks(negatives: Any, positives: Any) -> float | None:
    """The largest distance between the distributions of both classes' scores."""
    if not negatives.sum() or not positives.sum():
        return None
    distance = np.cumsum(negatives) / negatives.sum() - np.cumsum(positives) / positives.sum()
    return float(np.abs(distance).max())
