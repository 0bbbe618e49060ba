"""The rule: every constant of a reign, fixed before its first outcome, and what follows from them."""

import hashlib
import math
from typing import Literal, assert_never

import msgspec
from msgspec.structs import force_setattr

from retrain.evidence.eprocess import Grid, equal_grid, generic_grid, informed_grid, log_loss_grid
from retrain.evidence.errors import InvalidRule

Task = Literal["binary", "multiclass", "regression", "recommendation"]

Loss = Literal["log_loss", "brier", "cost", "absolute_error", "pinball", "reward"]

Verdict = Literal["worse", "better", "no_difference", "leading", "collecting"]
"""What may be said of a challenger, in the order in which it is tried: the first that holds is the verdict."""

LOSSES: dict[Task, tuple[Loss, ...]] = {
    "binary": ("log_loss", "brier", "cost"),
    "multiclass": ("log_loss", "brier"),
    "regression": ("absolute_error", "pinball"),
    "recommendation": ("reward",),
}
"""The losses of each task; the first is its default."""

SMALLEST_CLIP = 1e-4
DEFAULT_MARGIN = 0.005  # of the reference loss: a smaller gain is not worth a change of champion
DEFAULT_LEAST_GAIN = 0.01  # of the reference loss: a challenger that cannot gain this much may go
ONE_FOR_AN_ERROR = ((0.0, 1.0), (1.0, 0.0))


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """Constants of one reign. Changing any of them starts a new reign: otherwise it is choosing after looking.

    `margin`, `reference_loss` and `least_gain` are in units of `loss`, which are: nats (log loss); squared error of
    the probabilities, halved over the classes (Brier); shares of the largest cost difference times `scale` (cost);
    multiples of `scale` (absolute error, pinball); reward (reward).

    Raises:
        InvalidRule: a constant is impossible.
    """

    task: Task = "binary"
    loss: Loss | None = None
    """What one row loses. None: log loss of classes, absolute error of numbers, reward of recommendations."""
    alpha: float = 0.05
    """Chance that a no-better challenger is promoted in this reign, over all of its slots."""
    n_slots: int = 1
    """Challengers that share `alpha`: each needs `n_slots` times the evidence."""
    margin: float | None = None
    """δ: better means better by more than this. None: 0.5 % of `reference_loss`, 0 without one."""
    base_rate: float | tuple[float, ...] | None = None
    """Share of positives, or of each class: the answer of a challenger that failed. None: classes equally frequent."""
    prior: float | None = None
    """Regression and recommendation: the answer of a challenger that failed."""
    reference_loss: float | None = None
    """The champion's mean loss in its training report. None: unknown."""
    clip: float | None = None
    """ε: probabilities are cut to [ε, 1 - ε]. None: a twentieth of the rarest class, at least 1e-4."""
    costs: tuple[tuple[float, float], tuple[float, float]] | None = None
    """Cost: `costs[decision][outcome]`, for an amount of 1. None: 1 for each error."""
    thresholds: tuple[float, float] | None = None
    """Cost: from which probability on champion and challenger decide 1. None: where both decisions cost the same."""
    quantile: float = 0.5
    """Pinball: τ, the quantile that is forecast."""
    scale: float | None = None
    """The size of a typical outcome (regression) or amount (cost). None: 1, they are scaled already."""
    bets: tuple[float, ...] | None = None
    """The bets λ, with equal shares. None: the generic ones of the loss, and three more beside an `informed_bet`."""
    informed_bet: float | None = None
    """The bet that was best on an earlier backtest (`eprocess.informed_bet`)."""
    fast: bool = False
    """Judge single outcomes by the asymptotic mixture: sooner, and not exact (see `guards.evidence`)."""
    least_gain: float | None = None
    """The least mean difference worth having. None: 1 % of the reference loss, else of the champion's loss so far."""
    min_outcomes: int = 1000
    min_minority: int = 50
    min_coverage: float = 0.95
    min_effective_days: float = 28
    min_effective_days_worse: float = 14
    min_span_days: int = 0
    """First to last day, for portfolios with seasons. 0: not asked for."""
    max_corrected: float = 0.005
    """Share of the closed outcomes that may have been corrected afterwards."""
    mirror_share: float = 1.0
    """Share of the rows that the mirror was told to take, by hash; 1: all, and then nothing is tested."""
    max_more_errors: float = 0.001
    """By how much the challenger may fail more often than the champion."""
    max_more_slow: float = 0.005
    """By how much its answers may be over the limit of latency more often."""
    calibration_tolerance: float = 0.25
    """Log-odds by which the challenger's probabilities may be off before that counts against it."""
    max_auc_loss: float | None = 0.005
    """By how much the challenger may order worse, in AUC. None: not asked (a probability need not rank)."""
    recent_days: int = 7
    """The last days, or the last quarter of the run where that is more, must not speak against the challenger."""
    buckets_per_day: int = 1
    """Buckets that make one day: 24 for hours counted from a midnight. Days are what shares shocks."""

    def __post_init__(self) -> None:
        if self.task not in LOSSES:
            raise InvalidRule("task", "'binary', 'multiclass', 'regression' or 'recommendation'", self.task)
        if self.loss not in (None, *LOSSES[self.task]):
            raise InvalidRule("loss", f"{' or '.join(map(repr, LOSSES[self.task]))} for {self.task}", self.loss)
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
        self._check_costs()

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

    def _check_costs(self) -> None:
        if self.measured_by != "cost":
            for field in ("costs", "thresholds"):
                if getattr(self, field) is not None:
                    raise InvalidRule(field, f"None, as {self.measured_by} has none", getattr(self, field))
            return
        (keep_right, keep_wrong), (act_wrong, act_right) = costs = self.cost_matrix
        if not all(abs(cost) <= 1e100 for row in costs for cost in row):
            raise InvalidRule("costs", "finite numbers", costs)
        if not (act_wrong > keep_right and keep_wrong > act_right):
            raise InvalidRule("costs", "each wrong decision to cost more than the right one", costs)
        if self.thresholds is not None and not all(0.0 <= threshold <= 1.0 for threshold in self.thresholds):
            raise InvalidRule("thresholds", "two probabilities", self.thresholds)

    @property
    def measured_by(self) -> Loss:
        """The loss that this rule judges by."""
        return self.loss if self.loss is not None else LOSSES[self.task][0]

    @property
    def digest(self) -> str:
        """Names this rule, and with it the metric version: `sha256:…` of every constant of it."""
        # as it comes back from a record, where 28 days are 28.0: the same rule has one name
        told = msgspec.convert(msgspec.to_builtins(self), Rule)
        return "sha256:" + hashlib.sha256(msgspec.json.encode(told, order="sorted")).hexdigest()

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

    @property
    def cost_matrix(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """`costs`, or 1 for each error."""
        return self.costs if self.costs is not None else ONE_FOR_AN_ERROR

    @property
    def cut(self) -> tuple[float, float]:
        """From which probability on champion and challenger decide 1."""
        if self.thresholds is not None:
            return self.thresholds
        (keep_right, keep_wrong), (act_wrong, act_right) = self.cost_matrix
        wrongly, missed = act_wrong - keep_right, keep_wrong - act_right
        return (wrongly / (wrongly + missed),) * 2

    def least_gain_of(self, champion_loss: float) -> float:
        """The least gain worth having, in units of loss, given the champion's mean loss so far."""
        if self.least_gain is not None:
            return self.least_gain
        return DEFAULT_LEAST_GAIN * (self.reference_loss if self.reference_loss is not None else abs(champion_loss))

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

    @property
    def grid(self) -> Grid:
        """The bets and their shares."""
        if self.bets is not None:
            return equal_grid(self.bets)
        match self.measured_by:
            case "log_loss":
                generic = log_loss_grid()
            case "brier" | "cost" | "absolute_error" | "pinball" | "reward":
                generic = generic_grid(bound=1.0)
            case _:
                assert_never(self.measured_by)
        return generic if self.informed_bet is None else informed_grid(generic, self.informed_bet)


_TINY = math.ulp(0.0)
_SHARE = "a share between 0 and 1"
_RANGES: tuple[tuple[str, float, float, str], ...] = (
    ("alpha", 1e-12, 0.5, "a number between 0 and 0.5"),
    ("n_slots", 1, 10_000, "1 or more"),
    ("margin", 0.0, 1e100, "0 or more"),
    ("prior", -1e100, 1e100, "a finite number"),
    ("reference_loss", _TINY, 1e100, "a number above 0"),
    ("clip", 1e-12, 0.49, "a number above 0 and below 0.5"),
    ("quantile", 1e-6, 1.0 - 1e-6, "a number between 0 and 1"),
    ("informed_bet", _TINY, 1e100, "a number above 0"),
    ("scale", 1e-30, 1e30, "a number between 1e-30 and 1e30"),
    ("least_gain", 0.0, 1e100, "0 or more"),
    ("min_outcomes", 0, math.inf, "0 or more"),
    ("min_minority", 0, math.inf, "0 or more"),
    ("min_coverage", 0.0, 1.0, _SHARE),
    ("min_effective_days", 0, math.inf, "0 or more"),
    ("min_effective_days_worse", 0, math.inf, "0 or more"),
    ("min_span_days", 0, math.inf, "0 or more"),
    ("max_corrected", 0.0, 1.0, _SHARE),
    ("mirror_share", 1e-6, 1.0, "a share above 0"),
    ("max_more_errors", 0.0, 1.0, _SHARE),
    ("max_more_slow", 0.0, 1.0, _SHARE),
    ("calibration_tolerance", 0.0, 2.0, "a number between 0 and 2"),
    ("max_auc_loss", 0.0, 1.0, _SHARE),
    ("recent_days", 1, math.inf, "1 or more"),
    ("buckets_per_day", 1, math.inf, "1 or more"),
)
"""Field, least, most, in words. None always passes; NaN never does."""
