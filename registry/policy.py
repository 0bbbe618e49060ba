"""The terms of a model: how its outcomes are read, its versions compared, and its lineup decided.

Frozen in a reign. Changing any of them starts a new one: evidence may not be judged by terms chosen after it was seen.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from registry.recipe import CENTURY_DAYS

Loss = Literal["log_loss", "brier", "cost", "absolute_error", "pinball", "reward"]
"""In the words of the rule (`retrain.evidence`)."""
Amount = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
DayCount = Annotated[float, Meta(ge=0, le=CENTURY_DAYS)]
Seconds = Annotated[float, Meta(ge=0, le=CENTURY_DAYS * 86_400)]
FeatureName = Annotated[str, Meta(min_length=1, max_length=200)]
MOST_JUDGED = 99
"""Challengers of a reign without a number of slots: the share of the last is 1 in 9,900."""
Told = int | float | str
"""A decision as predictions carry it."""


class Metric(Struct, frozen=True, forbid_unknown_fields=True):
    """By what two versions are compared; `registry.schemas.check_policy` says what suits which task.

    `cost[action][outcome]`: row 0 is what it costs to act as on the first class, row 1 as on the second; columns are
    the outcomes in the order of the model's classes. A version acts as on the second class where its score is at least
    the threshold of its own training report, or, where that names none, at least `implied_threshold`.
    """

    loss: Annotated[
        Loss | None,
        Meta(
            description="what an answer costs: `log_loss`, `brier` or `cost` of two classes, `log_loss` or `brier` of "
            "several, `absolute_error` or `pinball` of numbers, `reward` of shown items; none: the first of these"
        ),
    ] = None
    quantile: Annotated[
        Annotated[float, Meta(gt=0, lt=1)] | None,
        Meta(description="that is forecast, of the pinball loss; none: one half"),
    ] = None
    cost: Annotated[
        tuple[tuple[float, ...], ...] | None,
        Meta(
            description="what acting as on each class costs (rows) for each outcome (columns); each version acts by "
            "its own threshold"
        ),
    ] = None
    amount_feature: Annotated[
        FeatureName | None,
        Meta(
            description="feature whose logged value multiplies the cost of its row; not above 0: the row costs nothing"
        ),
    ] = None
    scale_feature: Annotated[
        FeatureName | None,
        Meta(description="feature whose logged value divides the error of its row; not above 0: that of training does"),
    ] = None
    margin: Annotated[
        Amount | None, Meta(description="better means better by more than this; none: 0.5 % of the reference loss")
    ] = None
    clip: Annotated[
        Annotated[float, Meta(gt=0, lt=0.5)] | None,
        Meta(description="probabilities are cut to this distance from 0 and 1; none: by the rarest class"),
    ] = None
    segments: Annotated[
        tuple[FeatureName, ...],
        Meta(description="features (no floats) in each of whose values a challenger must not be shown to lose"),
    ] = ()
    mode: Annotated[
        Literal["exact", "fast"], Meta(description="`fast`: the asymptotic test, sooner, valid only for long runs")
    ] = "exact"

    @property
    def implied_threshold(self) -> float | None:
        """From which probability of the second class on it is cheaper to act as on it; None without costs.

        With p the probability: (1 - p) (c10 - c00) <= p (c01 - c11).
        """
        if self.cost is None:
            return None
        (c00, c01), (c10, c11) = self.cost
        return (c10 - c00) / ((c10 - c00) + (c01 - c11))


class Policy(Struct, frozen=True, forbid_unknown_fields=True):
    """How decisions and outcomes of one model are treated. Times are seconds of the journal's clock."""

    promotion: Annotated[
        Literal["automatic", "one", "four_eyes"],
        Meta(
            description="who promotes: `automatic`, the rule; `one`, a person, whom the rule asks once; `four_eyes`, a "
            "person, what another one or the rule proposed, and never what it uploaded itself"
        ),
    ] = "automatic"
    maturity_s: Annotated[
        Seconds, Meta(description="how long after its bucket an outcome may come and still count")
    ] = 86_400.0
    default_outcome: Annotated[
        int | float | str | None, Meta(description="what a missing outcome means at maturity; none: it stays missing")
    ] = None
    association: Annotated[
        Literal["latest", "first", "all"],
        Meta(description="which prediction of an association id an outcome belongs to"),
    ] = "latest"
    unjournalled: Annotated[
        Literal["refuse", "answer_unlogged"], Meta(description="when the journal cannot be written")
    ] = "refuse"
    alpha: Annotated[float, Meta(gt=0, le=0.5, description="false promotions allowed a reign")] = 0.05
    n_slots: Annotated[
        int,
        Meta(
            ge=0,
            le=50,
            description="challengers that may be judged in one reign, each by its share of `alpha`; 0: as many as "
            f"come, up to {MOST_JUDGED}, and the k-th has the share 1 / (k (k + 1))",
        ),
    ] = 2
    min_outcomes: Annotated[int, Meta(ge=1, description="matured outcomes that a promotion needs")] = 1_000
    min_minority: Annotated[int, Meta(ge=0, description="of them, of the rarer class")] = 50
    min_coverage: Annotated[Share, Meta(description="share of the rows that must have an outcome")] = 0.95
    min_span_days: Annotated[
        DayCount, Meta(description="days from the first to the last; 91 or more where there are seasons")
    ] = 0.0
    metric: Annotated[Metric, Meta(description="by what two versions are compared")] = Metric()
    observed: Annotated[
        Literal["always", "if_approved", "if_shown"],
        Meta(
            description="when an outcome can exist at all. Other rows are not due: where `propensity` was logged, "
            "those that are seen are weighted for them, else the sentence says what it is about"
        ),
    ] = "always"
    approved_decisions: Annotated[
        tuple[Told, ...], Meta(description="logged decisions with which an outcome can exist: `approve`, 1")
    ] = ()
    max_error_rate_increase: Annotated[
        Share, Meta(description="share of rows that a challenger may fail beyond the champion")
    ] = 0.001
    latency_limit_ms: Annotated[
        Annotated[float, Meta(gt=0)] | None, Meta(description="slower answers count against a version; none: no guard")
    ] = None
    max_latency_increase: Annotated[
        Share, Meta(description="share of rows that a challenger may answer too slowly beyond the champion")
    ] = 0.005
    max_source_share: Annotated[
        Annotated[float, Meta(gt=0, le=1)] | None,
        Meta(
            description="share of the outcomes that one source may decide by: more are left out, chosen by a hash, and "
            "with one source alone nothing counts; none: no cap"
        ),
    ] = None
    min_auc_difference: Annotated[
        float, Meta(ge=-1, le=0, description="how much ranking (AUC) a challenger may lose at most")
    ] = -0.005
    max_late_corrections: Annotated[
        Share,
        Meta(
            description="share of closed outcomes that may be corrected before a promotion waits; what comes late is "
            "shown (as known now) and un-decides nothing"
        ),
    ] = 0.005
    probation_days: Annotated[
        DayCount,
        Meta(description="how many days with outcomes the deposed champion is held against the new one, at least"),
    ] = 14.0
    probation_alpha: Annotated[float, Meta(gt=0, le=0.5, description="false rollbacks allowed a probation")] = 0.05
    detector_buckets: Annotated[
        int,
        Meta(ge=1, description="buckets between two false alarms of the detector that follows a probation, on average"),
    ] = 1_095
    cool_down_s: Annotated[
        Seconds | None,
        Meta(description="how long after a rollback the rule promotes nothing; none: one maturity window"),
    ] = None
    futility: Annotated[
        Literal["keep", "retire"],
        Meta(description="what becomes of a challenger that can gain nothing any more: `retire` lets the rule do so"),
    ] = "keep"

    @property
    def n_judged(self) -> int:
        """How many challengers one reign can judge."""
        return self.n_slots or MOST_JUDGED

    def one_of(self, place: int) -> int:
        """The share of `alpha` of the challenger that came in that place (from 0), as one part of so many.

        Fixed before it has an outcome, and together no more than 1: 1/2 + 1/6 + 1/12 + … = 1.
        """
        last = min(place, MOST_JUDGED - 1)  # whoever comes later is not judged at all
        return self.n_slots or (last + 1) * (last + 2)

    @property
    def rest_s(self) -> float:
        """How long after a rollback the rule promotes nothing."""
        return self.maturity_s if self.cool_down_s is None else self.cool_down_s


def policy_of(document: str | dict[str, Any]) -> Policy:
    """A policy as it was stored at any time: what was called `manual` is `one`."""
    said = msgspec.json.decode(document, type=dict[str, Any]) if isinstance(document, str) else document
    if said.get("promotion") == "manual":
        said = said | {"promotion": "one"}
    return msgspec.convert(said, Policy)
