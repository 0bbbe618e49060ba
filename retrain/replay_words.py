"""The sentences of a replay. Each begins by saying what it is not."""

from __future__ import annotations

from typing import Any

from gateway.chunk import SPARED
from registry.types import Reign, Replay, Version
from retrain.evidence import Evidence, Rule
from retrain.evidence.sentences import Figures, comparison

NOT_EVIDENCE = "replay, not evidence"


def of_rows(replay: Replay, n_rows: dict[str, int]) -> str:
    """What became of the rows of the span; `n_rows`: by status."""
    n_in_training = n_rows.get("in_training", 0)
    n_given, n_scored = sum(n_rows.values()) - n_in_training, n_rows.get("scored", 0)
    given = f"version {replay.version} was given {n_given:,} past rows in which it did not play"
    clauses = [f"{NOT_EVIDENCE}: {given}, and scored {n_scored:,}"]
    others = {reason: n for reason, n in n_rows.items() if reason not in ("scored", *SPARED)}
    if others:
        clauses.append("the others: " + ", ".join(f"{n:,} {reason.replace('_', ' ')}" for reason, n in others.items()))
    if n_in_training:
        window = replay.asked.window
        whose = "as whoever asked states" if window.is_stated else "by its training report"
        learned = f"its training window ({whose} until {window.end.isoformat()})"
        clauses.append(f"{n_in_training:,} more are from {learned} and were not scored")
    return "; ".join(clauses)


def of_match(found: Evidence, rule: Rule, population: str, champion: Version, version: Version) -> str:
    """Who would have lost less, by how much, and between which bounds."""
    ours, theirs = f"version {version.number}", f"version {champion.number}"
    if found.n == 0:
        return f"{NOT_EVIDENCE}: no outcome has matured to compare {ours} with {theirs}"
    figures = Figures(
        found.n, found.n_failed, found.mean, found.low, found.high, found.champion_loss, found.least_gain, rule.alpha,
        population, is_reward=rule.measured_by == "reward",
    )  # fmt: skip
    return f"{NOT_EVIDENCE}: {comparison(figures, theirs, ours)}"


def of_bet(reign: Reign, suggested: dict[str, Any] | None) -> str:
    """What a bet on it against the champion of then would have been, and when one is made."""
    whom = f"version {reign.champion}, the champion when it was asked for"
    if suggested is None or suggested["bet"] is None:
        return f"{NOT_EVIDENCE}: it suggests no bet against {whom}"
    bet = f"a bet of {suggested['bet']:.3g} against {whom}"
    when = "it is made only where the version joins a reign of that champion later than this, under the same terms"
    return f"{NOT_EVIDENCE}: {bet}, would have grown fastest; {when}"
