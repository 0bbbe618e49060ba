"""Condition two: the same claim from day sums, judged by windows of neighbouring days, and the interval on screen.

Outcomes of one day share shocks, and so do neighbouring days: judged row by row, a stormy fortnight looks like a
thousand independent proofs. So the rows of a day become one number S_b, and the spread of the total is taken from
windows of h = ⌈1.5√J⌉ neighbouring days (Bartlett 1950; Newey & West 1987), corrected as Student's t with √J degrees
of freedom through its normal equivalent (Wallace 1959). What remains is a standard normal score z on J days, and the
one-sided normal mixture of Howard, Ramdas, McAuliffe & Sekhon 2021 turns it into an e-value that may be looked at
every day; with an estimated variance it is asymptotic (Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas 2024), which
is why it stands beside the exact condition and never alone.
"""

import math
from collections.abc import Sequence

import msgspec
import numpy as np

FEWEST_DAYS = 4
"""With fewer days one window holds them all and there is no spread to speak of."""


def log_phi(x: float) -> float:
    """The log of the standard normal distribution function, to 1e-12 relative for every finite x."""
    if x > 0.0:
        return math.log1p(-0.5 * math.erfc(x / math.sqrt(2.0)))
    if x > -30.0:
        return math.log(0.5 * math.erfc(-x / math.sqrt(2.0)))
    # Beyond here erfc runs out of range. Φ(x) = φ(x)/|x| · (1 - 1/x² + 3/x⁴ - 15/x⁶ + …), error < 1e-14 here.
    y = 1.0 / (x * x)
    series = y * (-1.0 + y * (3.0 + y * (-15.0 + y * (105.0 - y * 945.0))))
    return -0.5 * x * x - math.log(-x) - 0.5 * math.log(2.0 * math.pi) + math.log1p(series)


def mixture_scale(best_at: float, alpha: float) -> float:
    """ρ of a normal mixture whose boundary at level `alpha` is tightest near variance `best_at`.

    Two-sided (Howard et al. 2021, section 3.5); a one-sided mixture takes twice the alpha.
    """
    log_odds = 2.0 * math.log(1.0 / alpha)
    return best_at / (log_odds + math.log(1.0 + log_odds))


RHO_OUTCOMES = mixture_scale(best_at=5000, alpha=2 * 0.05)
"""790.03: tightest near five thousand outcomes."""

RHO_DAYS = mixture_scale(best_at=30, alpha=2 * 0.05)
"""4.740: tightest near thirty days. Fixed, so that changing α does not change what was measured."""


def log_e_one_sided(s: float, v: float, rho: float) -> float:
    """The one-sided normal mixture, ln e, at sum `s` with variance `v`: large when `s` is too large for mean 0."""
    return math.log(2.0) + 0.5 * math.log(rho / (v + rho)) + s * s / (2.0 * (v + rho)) + log_phi(s / math.sqrt(v + rho))


def log_e_of_outcomes(n: int, total: float, sum_of_squares: float, margin: float) -> float:
    """The asymptotic e-value, ln e, of n single outcomes for "the mean is above `margin`"; 0 while they are all equal.

    Sooner than fixed bets and not exact: it takes the spread so far for the spread to come.
    """
    variance = sum_of_squares / n - (total / n) ** 2 if n else 0.0
    if variance <= 1e-18 * sum_of_squares:
        return 0.0
    return log_e_one_sided((total - n * margin) / math.sqrt(variance), n, RHO_OUTCOMES)


def two_sided_radius(v: float, alpha: float, rho: float) -> float:
    """How far a sum with variance `v` strays from its mean, at any time, with probability at most `alpha`."""
    return math.sqrt((v + rho) * math.log((v + rho) / (rho * alpha * alpha)))


def window_length(n_days: int) -> int:
    """⌈1.5√J⌉ in integers, the smallest h with 4h² >= 9J: 8 at 28 days, 15 at 100, 29 at 365."""
    root = math.isqrt(9 * n_days - 1) + 1 if n_days else 0  # ⌈√(9J)⌉
    return (root + 1) // 2


class DayWindows(msgspec.Struct, frozen=True):
    """What the day sums say: their total and the spread of it.

    `n_days` days with outcomes; `total` ΣS_b; `sum_of_squares` ΣS_b²; `spread` v = Σx_b² with x_b = S_b - mean;
    `window_spread` V_h, of windows of h days; `long_run` V* = max(v, V_h/(1 - h/J)), the variance of the total.
    """

    n_days: int
    total: float
    sum_of_squares: float
    spread: float
    window_spread: float
    long_run: float

    @property
    def has_spread(self) -> bool:
        """False while there are too few days, or only equal ones: then nothing can be concluded."""
        return self.n_days >= FEWEST_DAYS and self.spread > 0.0

    @property
    def n_effective(self) -> float:
        """J·v/V* <= J: how many independent days the run is worth."""
        return self.n_days * (self.spread / self.long_run) if self.has_spread else 0.0

    @property
    def z_day(self) -> float:
        """The total against single days, uncentred: never above √J, which protects the first weeks."""
        return self.total / math.sqrt(self.sum_of_squares) if self.sum_of_squares > 0.0 else 0.0

    @property
    def z_window(self) -> float:
        """The total against windows of days: Student's t with √J degrees of freedom, as a standard normal."""
        if not self.has_spread:
            return 0.0
        t, nu = self.total / math.sqrt(self.long_run), math.sqrt(self.n_days)
        return math.copysign(wallace(nu) * math.sqrt(nu * math.log1p(t * t / nu)), t)

    @property
    def log_e(self) -> float:
        """The e-value, ln e, for "the mean is above zero"; 0, no evidence either way, while there is no spread."""
        if not self.has_spread:
            return 0.0
        z = min(self.z_day, self.z_window)
        return log_e_one_sided(z * math.sqrt(self.n_days), self.n_days, RHO_DAYS)

    def radius(self, alpha: float) -> float | None:
        """Half the width of the two-sided confidence sequence for the expected total; None while there is no spread.

        It holds exactly the values that a two-sided mixture on `z_window` does not reject: the same windows and
        the same Student correction as the test. Without the correction it misses the truth three to five times
        too often when neighbouring days are correlated at 0.6.
        """
        if not self.has_spread:
            return None
        nu = math.sqrt(self.n_days)
        z = two_sided_radius(self.n_days, alpha, RHO_DAYS) / math.sqrt(self.n_days)
        t = math.sqrt(nu * math.expm1((z / wallace(nu)) ** 2 / nu))
        return t * math.sqrt(self.long_run)

    def reversed(self) -> "DayWindows":
        """The same days with the two versions in each other's place."""
        return msgspec.structs.replace(self, total=-self.total)


def windows_of(day_sums: Sequence[float]) -> DayWindows:
    """Totals and spreads of the sums of the days, in calendar order; days without outcomes are left out.

    V_h is 1/h times the sum of the squared totals of all h-day windows of x, those that stick out at either end
    included; the loop that it equals is

    v + 2 * sum((1 - l / h) * sum(x[b] * x[b + l] for b in range(J - l)) for l in range(1, h))
    """
    sums = np.asarray(day_sums, dtype=np.float64)
    n_days = len(sums)
    total, sum_of_squares = math.fsum(sums), math.fsum(sums * sums)
    x = sums - (total / n_days if n_days else 0.0)
    spread = math.fsum(x * x)
    if n_days < FEWEST_DAYS or spread <= 1e-18 * sum_of_squares:  # equal days: what is left is rounding
        return DayWindows(n_days, total, sum_of_squares, 0.0, 0.0, 0.0)
    h = window_length(n_days)
    neighbours = math.fsum((1.0 - lag / h) * float(x[:-lag] @ x[lag:]) for lag in range(1, h))
    window_spread = max(0.0, spread + 2.0 * neighbours)
    # A window that is centred at the mean of its own series has too small a spread, by about h/J.
    return DayWindows(
        n_days, total, sum_of_squares, spread, window_spread, max(spread, window_spread / (1.0 - h / n_days))
    )


def wallace(nu: float) -> float:
    """Wallace's factor between √(ν·ln(1 + t²/ν)) and the normal score of t with ν degrees of freedom."""
    return (8.0 * nu + 1.0) / (8.0 * nu + 3.0)
