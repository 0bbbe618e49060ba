"""What training knew of a version, kept with it and frozen: the evidence of its reign is measured against it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

from registry.policy import Metric
from registry.recipe import Parameter

Conversion = Literal["plain", "float32 division", "double precision scaler"]
"""What it took to make an ONNX form that answers as the estimator does (`retrain.training.convert`)."""


class Backtest(Struct, frozen=True, forbid_unknown_fields=True):
    """A version against the champion of its day, on rows that neither of the two had learned from.

    `mean_difference`, `variance`: of loss(champion) - loss(version), in the units of the report. `largest_gap`: what
    99.99 % of its differences could not have been below, whatever the outcomes. `bet`: how much to bet on it in a
    reign of that champion; None where it did not win.
    """

    champion: int
    n_rows: int
    mean_difference: float
    variance: float
    largest_gap: float
    bet: float | None = None


class Candidate(Struct, frozen=True, forbid_unknown_fields=True):
    """Settings that a search tried: their mean loss on later stretches of time, or why there is none."""

    parameters: dict[str, Parameter]
    loss: float | None = None
    refused: str = ""


class TrainingReport(Struct, frozen=True, forbid_unknown_fields=True):
    """What training knew of a version.

    `base_rate` is the share of positives (binary), `reference_loss` the loss of the version on its own held-out
    rows in the units of the evidence, `scale` what regression losses or amounts are divided by, `prior` what a failed
    answer is replaced by in regression, `threshold` the score from which on the version acts as on the second class:
    its own, as costs are compared between decisions. `metric` is by what all of it was measured: under terms with
    another metric none of it is used but `base_rate`, `prior` and `threshold`. `parity` is how far the ONNX form is
    from the estimator, and `conversion` what that took. `parameters` were set by the recipe, or chosen among
    `candidates`, which never saw the held-out rows.
    """

    n_rows: Annotated[int, Meta(ge=1)]
    trained_from: datetime | None = None
    trained_until: datetime | None = None
    base_rate: Annotated[float, Meta(gt=0, lt=1)] | None = None
    reference_loss: Annotated[float, Meta(gt=0)] | None = None
    scale: Annotated[float, Meta(gt=0)] | None = None
    prior: float | None = None
    threshold: float | None = None
    parity: dict[str, float] = {}
    recipe: str = ""
    dataset_digest: str = ""
    metric: Metric = Metric()
    backtest: Backtest | None = None
    conversion: Conversion | None = None
    seed: int | None = None
    parameters: dict[str, Parameter] = {}
    candidates: tuple[Candidate, ...] = ()

    def measures(self, metric: Metric) -> bool:
        """Whether its losses are in the units of that metric."""
        return _units(self.metric) == _units(metric)


def _units(metric: Metric) -> tuple[object, ...]:
    return metric.loss, metric.quantile, metric.cost, metric.amount_feature, metric.scale_feature, metric.clip
