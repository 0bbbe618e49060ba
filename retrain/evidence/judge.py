"""The judgement: from the sums of a reign's buckets to a verdict. This file tells the whole rule, top-down."""

import math
from collections.abc import Sequence

import msgspec

from retrain.evidence import guards, vetoes
from retrain.evidence.cohorts import BucketSums, days_of, sums_of, total_of
from retrain.evidence.confseq import DayWindows, log_e_of_outcomes, windows_of
from retrain.evidence.eprocess import log_mixture
from retrain.evidence.forecast import Forecast, forecast
from retrain.evidence.guards import Condition
from retrain.evidence.losses import check
from retrain.evidence.pairs import Pairs
from retrain.evidence.ranking import paired_auc
from retrain.evidence.rule import Rule, Verdict
from retrain.evidence.sentences import Figures, sentence_of


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a challenger against the champion. Every number is finite, so JSON carries all of it.

    Differences are loss(champion) - loss(challenger), per outcome, in units of loss: above 0 the challenger is better.
    """

    verdict: Verdict
    promote: bool
    retire: bool
    """Nothing is to be hoped for: it is worse, or cannot gain what is worth having."""
    sentence: str
    conditions: tuple[Condition, ...]
    forecast: Forecast | None
    """How many more outcomes a promotion would take, where that can be said."""
    mean: float
    """Mean difference; 0 before the first outcome."""
    low: float | None
    """Two-sided confidence sequence of the mean at 1 - α, on windows of days; None while days show no spread."""
    high: float | None
    log_e: float
    """ln E: the challenger is better by more than the margin. Exact, unless the rule is `fast`."""
    log_e_inferior: float
    """ln E': the challenger is worse."""
    log_e_clustered: float
    """ln e of windows of days for the first claim; 0 while days show no spread."""
    log_e_clustered_inferior: float
    log_e_threshold: float
    n: int
    """Matured outcomes."""
    n_due: int
    n_failed: int
    n_minority: int | None
    n_effective_sample: float
    """What weighted outcomes are worth; `n` without weights."""
    n_days: int
    n_effective_days: float
    champion_loss: float
    """Mean loss of the champion; 0 before the first outcome."""
    margin: float
    least_gain: float


def compare(
    pairs: Pairs, rule: Rule, *, champion: str = "the champion", challenger: str = "the challenger"
) -> Evidence:
    """Judge logged pairs of one champion and one challenger; `champion` and `challenger` are names for the sentence.

    Raises:
        UnusedColumn: `pairs` holds a column that this rule would have to ignore.
        MismatchedPairs: scores without the dimensions of the task.
        ImpossibleValue: an outcome, or a champion's score, that the task does not have.
        TooManyNames: more segments or sources than sums can be kept of.
        MissingPrior: the challenger failed on a row of numbers and the rule has no prior.
    """
    check(pairs, rule)  # all rows at once, so that an error names the row that the caller knows
    sums = [sums_of(of_one_bucket, rule) for of_one_bucket in pairs.by_bucket()]
    return judge(sums, rule, champion=champion, challenger=challenger)


def judge(
    sums: Sequence[BucketSums],
    rule: Rule,
    *,
    n_corrected: int = 0,
    population: str = "",
    champion: str = "the champion",
    challenger: str = "the challenger",
) -> Evidence:
    """Judge the closed buckets of a reign: each once or in shards, in any order, all made under this `rule`.

    `n_corrected`: outcomes of these buckets that were corrected after they were closed. `population`: of what the
    outcomes are, after "matured outcomes".

    Raises:
        MismatchedSums: the sums were made under another rule.
    """
    total = total_of([_nothing(sums, rule), *sums])
    days = days_of(sums, rule.buckets_per_day)
    gain = windows_of([day.sum_d - day.n_bets * rule.delta for day in days])
    difference = windows_of([day.sum_d for day in days])
    loss = difference.reversed()

    grid = rule.grid
    log_e = log_mixture(total.log_growth, grid, total.largest_unpaid)
    if rule.fast:
        log_e = log_e_of_outcomes(total.n_bets, total.sum_d, total.sum_d2, rule.delta)
    log_e_inferior = log_mixture(total.log_growth_reverse, grid, total.largest_unpaid_reverse)

    mean = total.sum_d / total.n_bets if total.n_bets else 0.0
    champion_loss = total.sum_champion_loss / total.n_bets if total.n_bets else 0.0
    least_gain = rule.least_gain_of(champion_loss)
    radius = difference.radius(rule.alpha)
    low = (difference.total - radius) / total.n_bets if radius is not None else None
    high = (difference.total + radius) / total.n_bets if radius is not None else None

    minimums = _minimums(total, n_corrected, rule)
    conditions = (
        guards.evidence(log_e, total, rule),
        guards.clustered_evidence(gain, rule),
        guards.effective_days(gain, rule),
        *_span(days, rule),
        *minimums,
        *_vetoes(total, days, rule),
    )
    verdict: Verdict
    if log_e_inferior >= math.log(1.0 / rule.alpha) and _is_clearly_worse(loss, rule):
        verdict = "worse"
    elif all(condition.holds for condition in conditions):
        verdict = "better"
    elif high is not None and high < least_gain and loss.n_effective >= rule.min_effective_days_worse:
        verdict = "no_difference"
    elif mean > 0.0 and log_e > 0.0 and all(condition.holds for condition in minimums):
        verdict = "leading"
    else:
        verdict = "collecting"

    is_reward = rule.measured_by == "reward"
    awaited = forecast(total, gain, grid, rule) if verdict in ("leading", "collecting") else None
    return Evidence(
        verdict=verdict,
        promote=verdict == "better",
        retire=verdict in ("worse", "no_difference"),
        sentence=sentence_of(
            verdict,
            Figures(
                total.n,
                total.n_failed,
                mean,
                low,
                high,
                champion_loss,
                least_gain,
                rule.alpha,
                population,
                n_stood_for=total.n_due if total.is_weighted and not is_reward else None,
                is_reward=is_reward,
            ),
            [condition.detail for condition in conditions if not condition.holds],
            awaited,
            champion=champion,
            challenger=challenger,
        ),
        conditions=conditions,
        forecast=awaited,
        mean=mean,
        low=low,
        high=high,
        log_e=log_e,
        log_e_inferior=log_e_inferior,
        log_e_clustered=gain.log_e,
        log_e_clustered_inferior=loss.log_e,
        log_e_threshold=rule.log_e_threshold,
        n=total.n,
        n_due=total.n_due,
        n_failed=total.n_failed,
        n_minority=total.n_minority,
        n_effective_sample=total.n_effective,
        n_days=gain.n_days,
        n_effective_days=gain.n_effective,
        champion_loss=champion_loss,
        margin=rule.delta,
        least_gain=least_gain,
    )


def _minimums(total: BucketSums, n_corrected: int, rule: Rule) -> tuple[Condition, ...]:
    """What must be there, and in order, before any figure is worth a word."""
    is_reward = rule.measured_by == "reward"
    conditions = [guards.outcomes(total, rule)]
    if total.n_minority is not None:
        conditions.append(guards.minority(total, total.n_minority, rule))
    conditions.append(guards.coverage(total, weighted=total.is_weighted and not is_reward, rule=rule))
    if total.is_weighted:
        conditions.append(guards.effective_sample(total, rule))
    if total.at_stake_unobserved > 0.0:
        conditions.append(guards.observed(total))
    if n_corrected:
        conditions.append(guards.corrections(n_corrected, total, rule))
    if total.serving is not None and rule.mirror_share < 1.0:
        conditions.append(guards.mirror(total.serving, rule))
    return tuple(conditions)


def _vetoes(total: BucketSums, days: Sequence[BucketSums], rule: Rule) -> tuple[Condition, ...]:
    """What the promotion must not do; of each only where there is something to look at."""
    conditions = [vetoes.recent(days, rule)]
    if total.serving is not None:
        conditions.append(vetoes.errors(total.serving.errors, rule))
        if total.serving.slow.n:
            conditions.append(vetoes.latency(total.serving.slow, rule))
    if total.calibration is not None:
        conditions.append(vetoes.calibration(total.calibration, rule))
    if total.scores is not None and rule.max_auc_loss is not None:
        conditions.append(vetoes.ranking(paired_auc(*total.scores.tables()), total.n, rule.max_auc_loss, rule))
    if total.segments:
        conditions.append(vetoes.segments(total.segments, rule))
    if total.sources:
        conditions.append(vetoes.sources(days, total, rule))
    return tuple(conditions)


def _span(days: Sequence[BucketSums], rule: Rule) -> tuple[Condition, ...]:
    """Only where a span is asked for."""
    if rule.min_span_days == 0:
        return ()
    numbers = [day.bucket // rule.buckets_per_day for day in days]
    return (guards.span(max(numbers) - min(numbers) + 1 if numbers else 0, rule),)


def _is_clearly_worse(loss: DayWindows, rule: Rule) -> bool:
    """Condition two in reverse. Exact evidence alone would fire on one stormy week, in either direction."""
    return loss.n_effective >= rule.min_effective_days_worse and loss.log_e >= math.log(1.0 / rule.alpha)


def _nothing(sums: Sequence[BucketSums], rule: Rule) -> BucketSums:
    """The sums of no rows, shaped like the others: a reign begins with it."""
    n_classes = len(sums[0].class_counts) if sums else (2 if rule.task in ("binary", "multiclass") else 0)
    no_growth = (0.0,) * len(rule.grid.bets)
    return BucketSums(
        bucket=min((each.bucket for each in sums), default=0),
        n_due=0,
        n=0,
        n_bets=0,
        n_failed=0,
        class_counts=(0,) * n_classes,
        sum_d=0.0,
        sum_d2=0.0,
        sum_champion_loss=0.0,
        sum_weight=0.0,
        sum_weight2=0.0,
        at_stake=0.0,
        at_stake_unseen=0.0,
        gap=0.0,
        largest_unpaid=0.0,
        largest_unpaid_reverse=0.0,
        log_growth=no_growth,
        log_growth_reverse=no_growth,
    )
