"""The bet that a challenger brings into a reign from a replay, where one may be brought.

Half of the capital is then on bets around the suggested one (`evidence.eprocess.informed_grid`), and the evidence of a
better challenger is there sooner. A wrong bet costs time. A bet that was chosen by the outcomes on which it is made
costs the bound: Ville's inequality holds for bets that are known before. What was answered and known in the past may
tell of outcomes to come, but so it may be used; what it must not be is a choice by the evidence itself.

A replay's bet is therefore made in a reign only if the replay had **ended before the version joined the reign**: its
end is dated with the generation of that moment, in the transaction that keeps its report, and the first generation in
which the version is a challenger of the reign is a later one. Then

- every row of the version's evidence is of a generation that did not exist yet. The rows that were replayed, the
  outcomes that were counted (at cursors from before the end) and the report are all older than any prediction of the
  evidence, and so the bet is measurable before the first of its outcomes, in whatever order these come;
- so is the choice: of several replays that had all ended by then the last one counts, whoever asked for them, and for
  which spans. Nothing that is asked for, ends or is scored later changes the rule of this contender;
- rows of other days that share a shock with those of the evidence do no harm: they were known before, and the claim is
  about expectations given all that was known before.

Were it enough that no cohort of the reign was closed yet, a person who has seen outcomes that the rule has not could
ask for the replay that fits them. That a version was replayed while it played says nothing here, for this reign; it may
for one that it joins later. Against another champion, or in other units, there is no such bet at all.

Numbers of generations are counted in the registry's transactions, so that no clock is trusted, and everything that the
choice depends on is kept (`Replay`, lineups) and held by the audit: whoever computes the evidence again makes the same
bets. The rule with its bet is part of the contender's digest, of the decision and of its bundle.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from registry.types import Replay
from retrain.evidence import Rule


def informed(rule: Rule, replays: Sequence[Replay], version: int, champion: int, first_generation: int) -> Rule:
    """The rule of a contender whose first generation in a reign of `champion` this is.

    With the bet that the last replay suggests which says anything of the two in these units, and had ended before; as
    it is where there is none, or where the version did not win there.
    """
    for replay in sorted(replays, key=lambda each: -each.number):
        ended = replay.ended_generation
        if replay.version != version or replay.state != "done" or ended is None or ended >= first_generation:
            continue
        for match in (replay.report or {}).get("champions", []):
            if match["champion"] == champion and match["metric"]["units"] == units_of(rule):
                suggested = match["suggested_bet"]
                bet = None if suggested is None else suggested["bet"]
                return rule if bet is None else replace(rule, informed_bet=bet)
    return rule


def units_of(rule: Rule) -> str:
    """Names all of a rule but what depends on who is judged: its bet, and its share of the slots."""
    return replace(rule, informed_bet=None, n_slots=1).digest
