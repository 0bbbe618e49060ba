"""The recipe of a model: how a new version is trained from its journal, and when.

A recipe is data: whoever may set it over HTTP can choose among estimators, and never brings code. `function` names one
in the folder that the operator's settings name (`retrain.functions`).
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

Estimator = Literal["boosted_trees", "logistic_regression", "random_forest", "lightgbm", "xgboost", "function"]
Parameter = bool | int | float | str | None
CENTURY_DAYS = 36_525
"""The longest time that any term may name: what is longer is a mistake, and no calendar has room for it."""
Days = Annotated[float, Meta(gt=0, le=CENTURY_DAYS)]
Count = Annotated[int, Meta(ge=1)]
FunctionName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]+\.py:[A-Za-z_][A-Za-z0-9_]*$(?!\n)")]


class Search(Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of the estimator to choose among, by validation in order of time: never on rows before those learned."""

    parameters: Annotated[
        dict[str, tuple[Parameter, ...]], Meta(description="setting → the values to try; every combination, at most")
    ]
    n_candidates: Annotated[Count, Meta(description="combinations that are tried, chosen by the seed")] = 12
    n_folds: Annotated[int, Meta(ge=1, le=20, description="stretches of time, each predicted from those before")] = 3


class Window(Struct, frozen=True, forbid_unknown_fields=True):
    """Which matured predictions are learned from: the latest ones, within both limits."""

    days: Annotated[Days | None, Meta(description="of so many days; none: all")] = None
    n_rows: Annotated[Count | None, Meta(description="so many rows; none: all")] = None


class Triggers(Struct, frozen=True, forbid_unknown_fields=True):
    """What asks for a training without a person, and what holds it back. Times are of the journal's clock."""

    every_days: Annotated[Days | None, Meta(description="so many days after the last one was asked for")] = None
    n_outcomes: Annotated[Count | None, Meta(description="when so many rows matured since the last one")] = None
    drift: Annotated[bool, Meta(description="when traffic, scores or outcomes have moved for sure")] = False
    performance: Annotated[bool, Meta(description="when the champion has become worse for sure")] = False
    cool_down_days: Annotated[
        float, Meta(ge=0, le=CENTURY_DAYS, description="between two trainings, whatever asks but a person")
    ] = 7.0
    min_outcomes: Annotated[int, Meta(ge=1, description="rows with an outcome that a training needs")] = 1_000
    must_win_backtest: Annotated[
        bool,
        Meta(
            description="a version that loses to the champion on the latest rows, which neither learned from, takes no "
            "place among the challengers; where a person asked it does"
        ),
    ] = True
    max_challengers: Annotated[
        int, Meta(ge=1, le=50, description="that may play at once: a training waits, or one that is futile is retired")
    ] = 2


class Recipe(Struct, frozen=True, forbid_unknown_fields=True):
    """How a version is made from a model's journal, and when. Without one, only people bring versions."""

    estimator: Annotated[
        Estimator,
        Meta(description="`lightgbm` and `xgboost` need the extra of that name; `function`: the one named beside"),
    ] = "boosted_trees"
    function: Annotated[
        FunctionName | None,
        Meta(
            description="`FILE.py:NAME` in the folder `retrain.functions`: takes the dataset, gives a fitted estimator"
        ),
    ] = None
    parameters: Annotated[dict[str, Parameter], Meta(description="settings of the estimator, as it names them")] = {}
    search: Annotated[Search | None, Meta(description="settings to choose among; none: those given")] = None
    window: Annotated[Window, Meta(description="which rows are learned from")] = Window()
    triggers: Annotated[Triggers, Meta(description="when it is used")] = Triggers()
    seed: Annotated[int, Meta(ge=0, le=2**32 - 1, description="of all that is random")] = 0
    tolerance: Annotated[
        float, Meta(gt=0, lt=0.1, description="largest difference between estimator and ONNX form that is taken")
    ] = 1e-5


MONTHLY = Recipe(triggers=Triggers(every_days=30, drift=True, performance=True, max_challengers=3))
"""Each month, and when something has moved: what a trial begins with."""
