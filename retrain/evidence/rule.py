"""The rule: every constant of a reign, fixed before its first outcome, and what follows from them."""

import math
from typing import Literal, assert_never

import msgspec
from msgspec.structs import force_setattr

from retrain.evidence.eprocess import Grid, equal_grid, generic_grid, informed_grid
from retrain.evidence.errors import InvalidRule

Task = Literal["binary", "multiclass", "regression"]

Verdict = Literal["worse", "better", "no_difference", "leading", "collecting"]
"""What may be said of a challenger, in the order in which it is tried: the first that holds is the verdict."""

SMALLEST_CLIP = 1e-4
DEFAULT_MARGIN = 0.005  # of the reference loss: a smaller gain is not worth a change of champion
DEFAULT_LEAST_GAIN = 0.01  # of the reference loss: a challenger that cannot gain this much may go


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """Constants of one reign. Changing any of them starts a new reign: otherwise it is choosing after looking.

    Losses are clipped log loss in nats (binary, multiclass) or absolute error divided by `scale` (regression).
    `margin`, `reference_loss` and `least_gain` are in those units.

    Raises:
        InvalidRule: a constant is impossible.
    """

    task: Task = "binary"
    alpha: float = 0.05
    """Chance that a no-better challenger is promoted in this reign, over all of its slots."""
    n_slots: int = 1
    """Challengers that share `alpha`: each needs `n_slots` times the evidence."""
    margin: float | None = None
    """δ: better means better by more than this. None: 0.5 % of `reference_loss`, 0 without one."""
    base_rate: float | tuple[float, ...] | None = None
    """Share of positives, or of each class: the answer of a challenger that failed. None: classes equally frequent."""
    prior: float | None = None
    """Regression: the answer of a challenger that failed."""
    reference_loss: float | None = None
    """The champion's mean loss in its training report. None: unknown."""
    clip: float | None = None
    """ε: probabilities are cut to [ε, 1 - ε]. None: a twentieth of the rarest class, at least 1e-4."""
    bets: tuple[float, ...] | None = None
    """The bets λ, with equal shares. None: the generic eleven, and three more when `informed_bet` is given."""
    informed_bet: float | None = None
    """The bet that was best on an earlier backtest (`eprocess.informed_bet`)."""
    scale: float | None = None
    """Regression: the size of a typical outcome. None: 1, scores and outcomes are scaled already."""
    least_gain: float | None = None
    """The least mean difference worth having. None: 1 % of the reference loss, else of the champion's loss so far."""
    min_outcomes: int = 1000
    min_minority: int = 50
    min_coverage: float = 0.95
    min_effective_days: float = 28
    min_effective_days_worse: float = 14
    min_span_days: int = 0
    """First to last day, for portfolios with seasons. 0: not asked for."""
    buckets_per_day: int = 1
    """Buckets that make one day: 24 for hours counted from a midnight. Days are what shares shocks."""

    def __post_init__(self) -> None:
        if self.task not in ("binary", "multiclass", "regression"):
            raise InvalidRule("task", "'binary', 'multiclass' or 'regression'", self.task)
        if self.bets is not None:
            force_setattr(self, "bets", tuple(float(bet) for bet in self.bets))
            if not self.bets or not all(0.0 < bet < math.inf for bet in self.bets):
                raise InvalidRule("bets", "numbers above 0", self.bets)
            if self.informed_bet is not None:
                raise InvalidRule("informed_bet", "None beside bets of your own", self.informed_bet)
        for field, low, high, expected in _RANGES:
            value = getattr(self, field)
            if value is not None and not low <= value <= high:
                raise InvalidRule(field, expected, value)
        self._check_base_rate()

    def _check_base_rate(self) -> None:
        match self.base_rate:
            case None:
                return
            case tuple() as rates:
                sums_to_one = abs(math.fsum(rates) - 1.0) <= 1e-6
                if self.task != "multiclass" or not sums_to_one or not all(0.0 <= rate <= 1.0 for rate in rates):
                    raise InvalidRule("base_rate", "one share for each class of a multiclass task, adding to 1", rates)
            case rate:
                if self.task == "multiclass" or not 0.0 <= rate <= 1.0:
                    raise InvalidRule("base_rate", "a share between 0 and 1, or a tuple for multiclass", rate)

    @property
    def log_e_threshold(self) -> float:
        """The evidence that a promotion needs, ln(`n_slots`/α): Bonferroni's share for each slot."""
        return math.log(self.n_slots / self.alpha)

    @property
    def delta(self) -> float:
        """δ, the margin by which the challenger must be better, in units of loss."""
        if self.margin is not None:
            return self.margin
        return DEFAULT_MARGIN * self.reference_loss if self.reference_loss is not None else 0.0

    def least_gain_of(self, champion_loss: float) -> float:
        """The least gain worth having, in units of loss, given the champion's mean loss so far."""
        if self.least_gain is not None:
            return self.least_gain
        return DEFAULT_LEAST_GAIN * (self.reference_loss if self.reference_loss is not None else champion_loss)

    def class_rates(self, n_classes: int) -> tuple[float, ...]:
        """What somebody who sees no features answers: the share of each of the classes.

        Raises:
            InvalidRule: `base_rate` was given for another number of classes.
        """
        match self.base_rate:
            case None:
                return (1.0 / n_classes,) * n_classes
            case tuple() as rates:
                if len(rates) != n_classes:
                    raise InvalidRule("base_rate", f"{n_classes} shares, one for each class", rates)
                return rates
            case rate:
                return (1.0 - rate, rate)

    def epsilon(self, n_classes: int) -> float:
        """ε of the clipped log loss. By the rarest class: swapping names of classes must not change evidence."""
        if self.clip is not None:
            return self.clip
        return max(SMALLEST_CLIP, min(self.class_rates(n_classes)) / 20.0)

    def grid(self, n_classes: int) -> Grid:
        """The bets and their shares; the generic ones reach as far as the nominal bound of one difference allows."""
        if self.bets is not None:
            return equal_grid(self.bets)
        match self.task:
            case "binary" | "multiclass":
                epsilon = self.epsilon(n_classes)
                bound = math.log((1.0 - epsilon) / epsilon)
            case "regression":
                bound = 1.0
            case _:
                assert_never(self.task)
        return generic_grid(bound) if self.informed_bet is None else informed_grid(bound, self.informed_bet)


_TINY = math.ulp(0.0)
_RANGES: tuple[tuple[str, float, float, str], ...] = (
    ("alpha", 1e-12, 0.5, "a number between 0 and 0.5"),
    ("n_slots", 1, 10_000, "1 or more"),
    ("margin", 0.0, 1e100, "0 or more"),
    ("prior", -1e100, 1e100, "a finite number"),
    ("reference_loss", _TINY, 1e100, "a number above 0"),
    ("clip", 1e-12, 0.49, "a number above 0 and below 0.5"),
    ("informed_bet", _TINY, 1e100, "a number above 0"),
    ("scale", 1e-30, 1e30, "a number between 1e-30 and 1e30"),
    ("least_gain", 0.0, 1e100, "0 or more"),
    ("min_outcomes", 0, math.inf, "0 or more"),
    ("min_minority", 0, math.inf, "0 or more"),
    ("min_coverage", 0.0, 1.0, "a share between 0 and 1"),
    ("min_effective_days", 0, math.inf, "0 or more"),
    ("min_effective_days_worse", 0, math.inf, "0 or more"),
    ("min_span_days", 0, math.inf, "0 or more"),
    ("buckets_per_day", 1, math.inf, "1 or more"),
)
"""Field, least, most, in words. None always passes; NaN never does."""
