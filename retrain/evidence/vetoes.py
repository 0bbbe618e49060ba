"""What a promotion must not do: serve worse, answer worse in a part of the business, or rest on one source.

They only ever forbid, so they share no α: a challenger must pass all of them, whatever the evidence.
"""

import math
from collections.abc import Sequence

from retrain.evidence.calibration import log_e_miscalibrated
from retrain.evidence.cohorts import BucketSums, Calibration, Sums, added
from retrain.evidence.confseq import windows_of
from retrain.evidence.eprocess import log_mixture
from retrain.evidence.guards import Condition
from retrain.evidence.pairs import NO_NAME
from retrain.evidence.ranking import PairedAuc, lowest_gain
from retrain.evidence.rule import Rule
from retrain.evidence.serving import PairedCounts, log_e_no_worse

RECENT_SHARE = 0.25
MAJORITY = 0.5


def errors(counts: PairedCounts, rule: Rule) -> Condition:
    """The challenger is shown to fail at most `max_more_errors` more often than the champion."""
    return _no_worse("errors", "failed", counts, rule.max_more_errors, rule)


def latency(counts: PairedCounts, rule: Rule) -> Condition:
    """The challenger is shown to be over the limit of latency at most `max_more_slow` more often."""
    return _no_worse("latency", "was too slow", counts, rule.max_more_slow, rule)


def _no_worse(name: str, verb: str, counts: PairedCounts, margin: float, rule: Rule) -> Condition:
    log_e, needed = log_e_no_worse(counts, margin), _log_odds(rule)
    return Condition(
        name,
        log_e >= needed,
        f"on {counts.n:,} rows the challenger alone {verb} {counts.challenger_only:,} times and the champion alone "
        f"{counts.champion_only:,} times: ln E for at most {100 * margin:g} % more is {log_e:.2f} of the "
        f"{needed:.2f} needed",
    )


def calibration(sums: Calibration, rule: Rule) -> Condition:
    """The challenger's probabilities are not shown to be off, or the champion's are shown to be off more."""
    of_challenger, of_champion = log_e_miscalibrated(sums.challenger), log_e_miscalibrated(sums.champion)
    return Condition(
        "calibration",
        of_challenger < _log_odds(rule) or of_challenger <= of_champion,
        f"ln E against the challenger's calibration is {of_challenger:.2f}, against the champion's {of_champion:.2f}; "
        f"below {_log_odds(rule):.2f}, or no more than the champion's, is needed",
    )


def ranking(auc: PairedAuc | None, n: int, max_auc_loss: float, rule: Rule) -> Condition:
    """The challenger is shown to order no worse: the lower end of its gain in AUC is above `-max_auc_loss`."""
    if auc is None:
        return Condition("ranking", False, "fewer than two outcomes of a class: there is no order to compare yet")
    lowest = lowest_gain(auc, n, rule.alpha)
    return Condition(
        "ranking",
        lowest > -max_auc_loss,
        f"AUC is {auc.challenger:.4f}, the champion's {auc.champion:.4f}: the gain is at least {lowest:+.4f}, "
        f"above {-max_auc_loss:+.4f} is needed",
    )


def segments(totals: dict[str, Sums], rule: Rule) -> Condition:
    """No segment with enough outcomes to tell is shown to lose; rows without the name of one are of none."""
    totals = {name: total for name, total in totals.items() if name != NO_NAME}
    needed = math.log(max(1, len(totals)) / rule.alpha)
    told = {
        name: log_e_inferior_of(total, rule)
        for name, total in totals.items()
        if (total.n if total.n_minority is None else total.n_minority) >= rule.min_minority
    }
    worst = max(told, key=lambda name: told[name], default=None)
    if worst is None:
        return Condition("segments", True, f"none of {len(totals)} segments has enough outcomes to tell")
    return Condition(
        "segments",
        told[worst] < needed,
        f"of {len(told)} segments with enough outcomes '{worst}' speaks most against the challenger: ln E' is "
        f"{told[worst]:.2f}, below {needed:.2f} is needed",
    )


def recent(days: Sequence[BucketSums], rule: Rule) -> Condition:
    """The last days, or the last quarter of the run where that is more, do not speak against the challenger."""
    if not days:
        return Condition("recent", False, "no day has an outcome yet")
    n_days = min(len(days), max(rule.recent_days, math.ceil(RECENT_SHARE * len(days))))
    last = added(days[-n_days:])
    log_e_inferior, mean = log_e_inferior_of(last, rule), last.sum_d / last.n_bets
    return Condition(
        "recent",
        mean > 0.0 and log_e_inferior < _log_odds(rule),
        f"over the last {n_days} days the mean difference is {mean:+.3g} and ln E' is {log_e_inferior:.2f}; "
        f"above 0, and below {_log_odds(rule):.2f}, is needed",
    )


def sources(days: Sequence[BucketSums], total: BucketSums, rule: Rule) -> Condition:
    """No single source decides: without any one of them the evidence still holds, both times.

    So what one source reports of the outcomes can hinder a promotion, never force it. Without a source of more than
    half of the outcomes there is not enough left to promote by; then what is left must not speak against it.
    """
    reporting = [name for name, part in total.sources.items() if part.n > 0]
    if len(reporting) < 2:
        return Condition(
            "sources", True, f"all outcomes are of {'one source' if any(reporting) else 'no named source'}"
        )
    against = [said for name in reporting if (said := _without(name, days, total, rule)) is not None]
    return Condition(
        "sources",
        not against,
        against[0] if against else f"without any one of {len(reporting)} sources the evidence still holds",
    )


def _without(name: str, days: Sequence[BucketSums], total: BucketSums, rule: Rule) -> str | None:
    """Why the decision would be another without this source; None if it would not."""
    rest = added([part for other, part in total.sources.items() if other != name])
    if total.sources[name].n > MAJORITY * total.n:
        log_e_inferior = log_e_inferior_of(rest, rule)
        if rest.sum_d > 0.0 and log_e_inferior < _log_odds(rule):
            return None
        return (
            f"'{name}' reports most outcomes, and the others speak against the challenger: their mean difference is "
            f"{rest.sum_d / max(1, rest.n_bets):+.3g}, ln E' {log_e_inferior:.2f}"
        )
    log_e = log_mixture(rest.log_growth, rule.grid, rest.largest_unpaid)
    windows = windows_of(
        [
            sum(part.sum_d - part.n_bets * rule.delta for other, part in day.sources.items() if other != name)
            for day in days
            if any(other != name and part.n_bets for other, part in day.sources.items())
        ]
    )
    log_e = min(log_e, windows.log_e)
    if log_e >= rule.log_e_threshold and windows.n_effective >= rule.min_effective_days:
        return None
    return (
        f"without '{name}' ln E is {log_e:.2f} of the {rule.log_e_threshold:.2f} needed, on days worth "
        f"{windows.n_effective:.1f} of the {rule.min_effective_days:g} needed"
    )


def log_e_inferior_of(sums: Sums, rule: Rule) -> float:
    """The log of E' of these rows: the challenger is worse."""
    return log_mixture(sums.log_growth_reverse, rule.grid, sums.largest_unpaid_reverse)


def _log_odds(rule: Rule) -> float:
    return math.log(1.0 / rule.alpha)
