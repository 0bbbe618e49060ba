"""What may be declared of a model: its name and its input schema, checked before anything is stored."""

from __future__ import annotations

import re
import sys

import msgspec

from registry.errors import SchemaRefused
from registry.types import Dtype, Feature, FeatureName, InputSchema, ModelName, Policy, Scalar, Task

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


def check_policy(policy: Policy, task: Task, classes: tuple[int | str, ...] | None) -> None:
    """Refuses terms that contradict themselves or the model; `classes` is None while no version has told them.

    Raises:
        SchemaRefused: a value out of its range, or a default outcome that the model cannot have.
    """
    try:
        msgspec.convert(msgspec.to_builtins(policy), Policy)
    except msgspec.ValidationError as error:
        raise SchemaRefused(f"policy: {error}") from None
    default = policy.default_outcome
    if default is None:
        return
    if task == "regression" and not _fits(default, "float64"):
        raise SchemaRefused(f"policy.default_outcome: expected a number, got {default!r:.60}")
    if task != "regression" and classes is not None and default not in classes:
        named = ", ".join(map(repr, classes[:20]))
        raise SchemaRefused(f"policy.default_outcome: expected one of {named}; got {default!r:.60}")


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
