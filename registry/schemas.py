"""What may be declared of a model: its name, its input schema and its terms, checked before anything is stored."""

from __future__ import annotations

import math
import re
import sys

import msgspec
from msgspec import Struct

from registry.errors import SchemaRefused
from registry.policy import Loss
from registry.types import Dtype, Feature, FeatureName, InputSchema, Metric, ModelName, Policy, Scalar, Task

# numbers widen: a bool or an int may stand where a float is meant, nothing else may
_PYTHON_TYPES: dict[Dtype, tuple[type, ...]] = {
    "float32": (float, int),
    "float64": (float, int),
    "int64": (int,),
    "string": (str,),
    "bool": (bool,),
}
_UNREADABLE = re.compile(r'["\\\x00-\x1f\x7f]')
"""What would have to be escaped in JSON: a decoder that matches names byte by byte would never see such a feature."""
LOSSES: dict[Task, tuple[Loss, ...]] = {
    "binary": ("log_loss", "brier", "cost", "reward"),
    "multiclass": ("log_loss", "brier"),
    "regression": ("absolute_error", "pinball", "reward"),
}
"""What a wrong answer can cost, by task; the first is what it costs where a policy does not say."""
_LARGEST: dict[Dtype, float] = {"float32": 3.4028234663852886e38, "float64": sys.float_info.max}


def check_name(name: str) -> None:
    """Refuses what cannot be a model's name.

    Raises:
        SchemaRefused: says what a name is made of.
    """
    try:
        msgspec.convert(name, ModelName)
    except msgspec.ValidationError:
        raise SchemaRefused(
            f"{name[:80]!r} cannot name a model: use 1 to 63 lower-case letters, digits and dashes, "
            "with a letter or digit first and last"
        ) from None


def check_schema(schema: InputSchema) -> None:
    """Refuses an input schema that contradicts itself.

    Raises:
        SchemaRefused: no feature, a name twice, a default that is not of the dtype, an optional integer or
            boolean without a default.
    """
    if not schema.features:
        raise SchemaRefused("an input schema needs at least one feature")
    seen: set[str] = set()
    for feature in schema.features:
        try:
            msgspec.convert(msgspec.to_builtins(feature), Feature)
            msgspec.convert(feature.name, FeatureName)
        except msgspec.ValidationError as error:
            raise SchemaRefused(f"feature {feature.name[:80]!r}: {error}") from None
        if _UNREADABLE.search(feature.name):
            raise SchemaRefused(f"feature {feature.name[:80]!r}: a name has no quote, backslash or control character")
        if feature.name in seen:
            raise SchemaRefused(f"feature '{feature.name}' is declared twice")
        seen.add(feature.name)
        _check_default(feature)


def check_policy(policy: Policy, task: Task, classes: tuple[int | str, ...] | None, schema: InputSchema) -> None:
    """Refuses terms that contradict themselves or the model; `classes` is None while no version has told them.

    Raises:
        SchemaRefused: a value out of its range, a default outcome that the model cannot have, a metric that is none
            for its task or names no feature of the model, decisions that contradict when an outcome can exist.
    """
    _check_finite("policy", policy)
    try:
        msgspec.convert(msgspec.to_builtins(policy), Policy)
    except msgspec.ValidationError as error:
        raise SchemaRefused(f"policy: {error}") from None
    _check_default_outcome(policy.default_outcome, task, classes)
    _check_metric(policy.metric, task, schema)
    _check_observed(policy)


def _check_finite(place: str, struct: Struct) -> None:
    for name, value in msgspec.structs.asdict(struct).items():
        if isinstance(value, Struct):
            _check_finite(f"{place}.{name}", value)
        elif isinstance(value, float) and not math.isfinite(value):
            raise SchemaRefused(f"{place}.{name}: expected a finite number, got {value}")


def _check_default_outcome(default: Scalar | None, task: Task, classes: tuple[int | str, ...] | None) -> None:
    if default is None:
        return
    if task == "regression" and not _fits(default, "float64"):
        raise SchemaRefused(f"policy.default_outcome: expected a number, got {default!r:.60}")
    if task != "regression" and classes is not None and default not in classes:
        named = ", ".join(map(repr, classes[:20]))
        raise SchemaRefused(f"policy.default_outcome: expected one of {named}; got {default!r:.60}")


def _check_metric(metric: Metric, task: Task, schema: InputSchema) -> None:
    suited = LOSSES[task]
    loss = metric.loss or suited[0]
    if loss not in suited:
        raise SchemaRefused(f"policy.metric.loss: expected {' or '.join(suited)} for a {task} model, got {loss}")
    for name, (value, losses) in {
        "quantile": (metric.quantile, ("pinball",)),
        "cost": (metric.cost, ("cost",)),
        "clip": (metric.clip, ("log_loss",)),
        "amount_feature": (metric.amount_feature, ("cost",)),
        "scale_feature": (metric.scale_feature, ("absolute_error", "pinball")),
    }.items():
        if value is not None and loss not in losses:
            raise SchemaRefused(
                f"policy.metric.{name}: belongs to the loss {' or '.join(losses)}, and the loss is {loss}"
            )
    if loss == "cost":
        _check_cost(metric.cost)
    dtypes = {feature.name: feature.dtype for feature in schema.features}
    for name, feature in (("amount_feature", metric.amount_feature), ("scale_feature", metric.scale_feature)):
        if feature is not None and dtypes.get(feature) not in ("float32", "float64", "int64"):
            raise SchemaRefused(f"policy.metric.{name}: expected a feature that is a number, {_got(feature, dtypes)}")
    for feature in metric.segments:
        if dtypes.get(feature) not in ("string", "int64", "bool"):
            raise SchemaRefused(
                f"policy.metric.segments: expected features that are string, int64 or bool, {_got(feature, dtypes)}"
            )
        if metric.segments.count(feature) > 1:
            raise SchemaRefused(f"policy.metric.segments: '{feature}' is named twice")


def _got(feature: str, dtypes: dict[str, Dtype]) -> str:
    return f"got '{feature:.60}', which is {dtypes.get(feature, 'no feature of the model')}"


def _check_cost(cost: tuple[tuple[float, ...], ...] | None) -> None:
    """Acting as on a class must be what is cheaper when it comes: else one action would always be right."""
    expected = "policy.metric.cost: expected [[n, n], [n, n]], a row for each action and a column for each outcome"
    if cost is None or [len(row) for row in cost] != [2, 2] or not all(map(math.isfinite, [*cost[0], *cost[1]])):
        raise SchemaRefused(f"{expected}, got {cost!r:.80}")
    (c00, c01), (c10, c11) = cost
    if not (c00 < c10 and c11 < c01):
        raise SchemaRefused(
            f"{expected}, where the action that is right for an outcome costs less than the other one, got {cost!r:.80}"
        )


def _check_observed(policy: Policy) -> None:
    told = policy.approved_decisions
    if policy.observed == "if_approved" and not told:
        raise SchemaRefused("policy.approved_decisions: expected at least one, as outcomes exist only if approved")
    if policy.observed == "always" and told:
        raise SchemaRefused("policy.approved_decisions: expected none, as outcomes can always exist (policy.observed)")
    if policy.metric.loss == "reward" and policy.observed != "if_shown":
        raise SchemaRefused(
            f"policy.observed: expected if_shown, as a reward is of what was shown, got {policy.observed}"
        )


def check_extension(old: InputSchema, new: InputSchema) -> None:
    """Refuses a schema that is not the old one with optional features added at its end.

    Raises:
        SchemaRefused: says which feature was changed, moved, or is required.
    """
    check_schema(new)
    for index, feature in enumerate(old.features):
        if index >= len(new.features) or new.features[index] != feature:
            raise SchemaRefused(
                f"feature '{feature.name}' must stay as it is, at place {index + 1}: a schema only grows at its end"
            )
    for feature in new.features[len(old.features) :]:
        if feature.required:
            raise SchemaRefused(f"feature '{feature.name}' must be optional: callers do not send it yet")


def _check_default(feature: Feature) -> None:
    if feature.default is None:
        if not feature.required and feature.dtype in ("int64", "bool"):
            raise SchemaRefused(
                f"feature '{feature.name}' is optional and {feature.dtype}: it needs a default, "
                "as no value of that dtype means missing"
            )
        return
    if not _fits(feature.default, feature.dtype):
        raise SchemaRefused(
            f"feature '{feature.name}' is {feature.dtype}: {feature.default!r:.60} cannot be its default"
        )


def _fits(value: Scalar, dtype: Dtype) -> bool:
    if isinstance(value, bool) and dtype != "bool":
        return False
    if not isinstance(value, _PYTHON_TYPES[dtype]):
        return False
    if dtype == "int64":
        return -(2**63) <= int(value) < 2**63
    largest = _LARGEST.get(dtype)
    return largest is None or isinstance(value, str) or abs(value) <= largest  # NaN and infinity are not
