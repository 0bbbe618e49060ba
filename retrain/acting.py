"""What follows from a judgement: roll back, promote (or propose to), retire; with all that it rests on, frozen.

At most one thing is done, and then the lineup is another: what else there is to do is found when that one is judged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypedDict

import msgspec
import structlog

from registry.errors import (
    ArtifactDamaged,
    ArtifactMissing,
    GenerationMoved,
    ProposalRefused,
    RuleRests,
    VersionBarred,
)
from registry.store import Registry
from registry.types import Policy, Principal
from retrain.corrections import Late
from retrain.evidence import Candidate, Detector, Evidence, Probation, Rule, choose
from retrain.judgement import Contest, Judged, Watched, contest_of
from retrain.kept import Kept, pairs_digest
from retrain.population import Population
from retrain.reign import ReignState

_log = structlog.get_logger("retrain")
RULE = Principal.the_rule()


class Known(TypedDict):
    """What a decision freezes."""

    expected_generation: int
    evidence: dict[str, Any]
    cursors: dict[str, Any]
    hashes: dict[str, str]


def roll_back(registry: Registry, state: ReignState, watched: Watched | None) -> bool:
    """Give the previous champion its place back where probation or the detector says so; whether the lineup moved."""
    reason = watched.wants_back if watched is not None else None
    if watched is None or reason is None or not is_deployable(registry, state, watched):
        return False
    evidence = frozen_watch(contest_of(state, watched.contender), watched.probation, watched.detector)
    known = _known(state, evidence, watched.contender.rule, watched.kept)
    try:
        registry.rollback(state.model.name, reason=reason, by=RULE, **known)
    except GenerationMoved as moved:
        _log.info("somebody changed the lineup first", model=state.model.name, reason=str(moved))
    else:
        _log.warning("rolled back", model=state.model.name, version=watched.contender.version, reason=reason)
    return True


def is_deployable(registry: Registry, state: ReignState, watched: Watched) -> bool:
    """Whether the previous champion could answer: its bytes are there, and are its own."""
    try:
        registry.artifact(state.versions[watched.contender.version])
    except (ArtifactMissing, ArtifactDamaged) as error:
        _log.error("cannot roll back", model=state.model.name, reason=str(error))
        return False
    return True


def promote(
    registry: Registry,
    state: ReignState,
    judged: Sequence[Judged],
    log_e_between: Callable[[Judged, Judged], float],
) -> bool:
    """Promote the challenger whose gain is surest, or propose to, as the terms say; whether the lineup moved."""
    ready = {each.contender.version: each for each in judged if each.evidence.promote}
    if not ready:
        return False
    candidates = [Candidate(number, each.evidence, each.latency_s) for number, each in ready.items()]
    best = ready[choose(candidates, lambda a, b: log_e_between(ready[a.version], ready[b.version])).version]
    evidence = frozen_evidence(best.contender.rule, best.evidence, best.population, best.late)
    known = _known(state, evidence, best.contender.rule, best.kept)
    number, reason = best.contender.version, best.evidence.sentence
    try:
        if state.reign.policy.promotion == "automatic":
            registry.promote(state.model.name, number, reason=reason, by=RULE, **known)
            _log.info("promoted", model=state.model.name, version=number, reason=reason)
            return True
        registry.propose(state.model.name, number, reason=reason, by=RULE, **known)
        _log.info("proposed", model=state.model.name, version=number, reason=reason)
    except GenerationMoved as moved:
        _log.info("somebody changed the lineup first", model=state.model.name, reason=str(moved))
        return True
    except (RuleRests, VersionBarred, ProposalRefused) as refused:  # a proposal that stands is said once
        _log.debug("not now", model=state.model.name, version=number, reason=str(refused))
    return False


def retire(registry: Registry, state: ReignState, judged: Sequence[Judged]) -> bool:
    """Retire a challenger that nothing is to be hoped of, where the terms want that; whether the lineup moved."""
    if state.reign.policy.futility != "retire":
        return False
    hopeless = next((each for each in judged if each.evidence.retire), None)
    if hopeless is None:
        return False
    number, reason = hopeless.contender.version, hopeless.evidence.sentence
    evidence = frozen_evidence(hopeless.contender.rule, hopeless.evidence, hopeless.population, hopeless.late)
    known = _known(state, evidence, hopeless.contender.rule, hopeless.kept)
    try:
        registry.retire(state.model.name, number, reason=reason, by=RULE, **known)
    except GenerationMoved as moved:
        _log.info("somebody changed the lineup first", model=state.model.name, reason=str(moved))
    else:
        _log.info("retired", model=state.model.name, version=number, reason=reason)
    return True


def frozen_evidence(rule: Rule, evidence: Evidence, population: Population, late: Late) -> dict[str, Any]:
    """The evidence as a decision keeps it, with the rule in full: so that anybody can compute it again."""
    found: dict[str, Any] = msgspec.to_builtins(evidence)
    return found | {
        "rule": msgspec.to_builtins(rule),
        "population": population_document(population),
        "corrections": msgspec.structs.asdict(late),
    }


def frozen_watch(contest: Contest, probation: Probation, detector: Detector | None) -> dict[str, Any]:
    """What a rollback keeps, with all that it is computed from beside the pairs and the policy of the reign."""
    return {
        "probation": msgspec.to_builtins(probation),
        "detector": msgspec.to_builtins(detector),
        "rule": msgspec.to_builtins(contest.rule),
        "n_promoted": contest.n_promoted,
    }


def population_document(population: Population) -> dict[str, Any]:
    """Of what rows outcomes can exist, for people and for the record."""
    return {
        "n_rows": population.n_rows,
        "n_due": population.n_due,
        "share_due": population.n_due / population.n_rows if population.n_rows else None,
        "n_over_cap": population.n_over_cap,
        "n_learned": population.n_learned,
    }


@cache
def code_digest() -> str:
    """Names the code that judges: this package's version, and the sources of the evidence and of what feeds it."""
    digest = hashlib.sha256(version("understudy").encode())
    here = Path(__file__).parent
    for path in sorted([*here.glob("*.py"), *(here / "evidence").rglob("*.py")]):
        digest.update(f"{path.relative_to(here).as_posix()}\n".encode() + path.read_bytes())
    return "sha256:" + digest.hexdigest()


def config_digest(rule: Rule, policy: Policy) -> str:
    """Names the terms: every constant of the rule, and the policy that it follows from."""
    text = msgspec.json.encode([rule.digest, policy], order="sorted")
    return "sha256:" + hashlib.sha256(text).hexdigest()


def hashes_of(rule: Rule, policy: Policy, kept: Sequence[Kept]) -> dict[str, str]:
    """By what, and from what, evidence is computed."""
    return {"config": config_digest(rule, policy), "code": code_digest(), "data": pairs_digest(kept)}


def _known(state: ReignState, evidence: dict[str, Any], rule: Rule, kept: Sequence[Kept]) -> Known:
    last = state.closed[-1]
    return {
        "expected_generation": state.lineup.generation,
        "evidence": evidence,
        "cursors": {"bucket": last.bucket, "predictions": last.prediction_cursor, "outcomes": last.outcome_cursor},
        "hashes": hashes_of(rule, state.reign.policy, kept),
    }
