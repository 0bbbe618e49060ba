"""How many more outcomes a promotion would take, if the gain stays what it has been: an interval, never a promise.

The gain so far is uncertain by its standard error over windows of days; the two ends of the interval are what the
conditions would need if it were one standard error larger, or smaller, with the spread seen so far. In trials with
gains of 4, 6 and 10 points it held what it took in 47, 49 and 51 of 60 reigns. It is for people; nothing is decided
by it.
"""

import math
from collections.abc import Callable

import msgspec

from retrain.evidence.cohorts import Sums
from retrain.evidence.confseq import FEWEST_DAYS, RHO_DAYS, DayWindows, log_e_one_sided, wallace
from retrain.evidence.eprocess import Grid, log_mixture
from retrain.evidence.rule import Rule

MOST_DAYS = 3650
FEWEST_OUTCOMES = 30
"""Before that many, a forecast would be of nothing but chance."""


class Forecast(msgspec.Struct, frozen=True):
    """Outcomes that are still missing, from `low` to `high`; `high` is None where it may be never."""

    low: int
    high: int | None


def forecast(total: Sums, gain: DayWindows, grid: Grid, rule: Rule) -> Forecast | None:
    """None where nothing can be said, where it does not lead anywhere, or where nothing is missing."""
    if total.n < FEWEST_OUTCOMES or not gain.has_spread:
        return None
    error = math.sqrt(gain.long_run) / total.n_bets
    at_best, at_worst = (_needed(total, gain, grid, rule, shift) for shift in (error, -error))
    if at_best is None or at_best <= total.n:
        return None if at_best is None or at_worst is None or at_worst <= total.n else Forecast(0, at_worst - total.n)
    return Forecast(at_best - total.n, None if at_worst is None else at_worst - total.n)


def _needed(total: Sums, gain: DayWindows, grid: Grid, rule: Rule, shift: float) -> int | None:
    """Outcomes that all conditions together need if the mean difference is `shift` more than it was; None: never."""
    by_bets, by_days = _by_bets(total, grid, rule, shift), _by_days(total, gain, rule, shift)
    if by_bets is None or by_days is None:
        return None
    by_minority = rule.min_minority * total.n / total.n_minority if total.n_minority else 0.0
    # at best, days turn out independent after all
    independent = 1.0 if shift > 0.0 else gain.n_effective / gain.n_days
    by_effective_days = rule.min_effective_days / independent * total.n / gain.n_days
    return math.ceil(max(by_bets, by_days, by_minority, by_effective_days, rule.min_outcomes))


def _by_bets(total: Sums, grid: Grid, rule: Rule, shift: float) -> float | None:
    """Until the bets have earned enough, each at the rate at which it has earned so far."""
    rates = [growth / total.n_bets + bet * shift for growth, bet in zip(total.log_growth, grid.bets, strict=True)]

    def is_enough(n_bets: int) -> bool:
        growth = [rate * n_bets for rate in rates]
        return log_mixture(growth, grid, total.largest_unpaid) >= rule.log_e_threshold

    n_bets = _first(is_enough, 1, MOST_DAYS * total.n_bets)
    return None if n_bets is None else n_bets * total.n / total.n_bets


def _by_days(total: Sums, gain: DayWindows, rule: Rule, shift: float) -> float | None:
    """Until as many days of this signal and this spread reach the threshold."""
    a_day = (gain.total + shift * total.n_bets) / gain.n_days
    if a_day <= 0.0:
        return None
    signal, ratio = a_day / math.sqrt(gain.long_run / gain.n_days), a_day / math.sqrt(gain.sum_of_squares / gain.n_days)

    def is_enough(n_days: int) -> bool:
        nu, t = math.sqrt(n_days), signal * math.sqrt(n_days)
        z_window = wallace(nu) * math.sqrt(nu * math.log1p(t * t / nu))
        z = min(z_window, min(1.0, ratio) * math.sqrt(n_days))
        return log_e_one_sided(z * math.sqrt(n_days), n_days, RHO_DAYS) >= rule.log_e_threshold

    n_days = _first(is_enough, FEWEST_DAYS, MOST_DAYS)
    return None if n_days is None else n_days * total.n / gain.n_days


def _first(holds: Callable[[int], bool], low: int, high: int) -> int | None:
    """The least number from `low` to `high` from which on this holds, for what stays once it holds."""
    if not holds(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low
