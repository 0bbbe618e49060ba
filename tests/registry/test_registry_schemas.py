"""A schema or a name that cannot be meant is refused before anything is stored."""

import pytest

from registry.errors import SchemaRefused
from registry.schemas import check_extension, check_name, check_policy, check_schema
from registry.types import Feature, InputSchema, Policy, Task

AGE = Feature("age", "int64")


@pytest.mark.parametrize("name", ["a", "late-flights", "2026", "a" * 63])
def test_names(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a b", "a/b", "../x", "a\n", "é", "a" * 64, "a.b"])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(SchemaRefused, match="cannot name a model"):
        check_name(name)


@pytest.mark.parametrize(
    ("features", "sentence"),
    [
        ((), "at least one feature"),
        ((AGE, AGE), "'age' is declared twice"),
        ((Feature("", "bool"),), "length >= 1"),
        ((Feature("x" * 201, "bool"),), "length <= 200"),
        ((Feature("x", "int32"),), "dtype"),  # type: ignore[arg-type]  # that is the point
        ((Feature("x", "int64", required=False),), "needs a default"),
        ((Feature("x", "bool", required=False),), "needs a default"),
        ((Feature("x", "int64", required=False, default=1.5),), "1.5 cannot be its default"),
        ((Feature("x", "int64", required=False, default=True),), "True cannot be its default"),
        ((Feature("x", "int64", required=False, default=2**63),), "cannot be its default"),
        ((Feature("x", "bool", required=False, default=1),), "1 cannot be its default"),
        ((Feature("x", "string", required=False, default=1),), "1 cannot be its default"),
        ((Feature("x", "float64", required=False, default=float("nan")),), "nan cannot be its default"),
        ((Feature("x", "float32", required=False, default=1e39),), "is float32: 1e.39 cannot be its default"),
        ((Feature("x", "float64", required=False, default=10**400),), "cannot be its default"),
        ((Feature('a"b', "float64"),), "a name has no quote, backslash or control character"),
        ((Feature("a\\b", "float64"),), "a name has no quote"),
        ((Feature("a\tb", "float64"),), "a name has no quote"),
        ((Feature("x", "float32", required=False, default="0"),), "'0' cannot be its default"),
    ],
)
def test_what_is_no_schema(features: tuple[Feature, ...], sentence: str) -> None:
    with pytest.raises(SchemaRefused, match=sentence):
        check_schema(InputSchema(features))


def test_what_a_missing_value_may_become() -> None:
    check_schema(
        InputSchema(
            (
                Feature("a", "float64", required=False),
                Feature("b", "string", required=False),
                Feature("c", "float32", required=False, default=1),
                Feature("d", "bool", required=False, default=False),
                Feature("e", "int64", required=False, default=-(2**63)),
                Feature("f", "string", required=False, default="?"),
            )
        )
    )


def test_a_schema_only_grows_by_optional_features_at_its_end() -> None:
    city = Feature("city", "string", required=False)
    old, new = InputSchema((AGE,)), InputSchema((AGE, city))
    check_extension(old, new)
    assert old.digest != new.digest
    for wrong, sentence in (
        ((city, AGE), "'age' must stay as it is, at place 1"),
        ((Feature("age", "float64"), city), "'age' must stay"),
        ((AGE, Feature("city", "string")), "'city' must be optional"),
    ):
        with pytest.raises(SchemaRefused, match=sentence):
            check_extension(old, InputSchema(wrong))
    with pytest.raises(SchemaRefused, match="'city' must stay"):
        check_extension(new, old)


@pytest.mark.parametrize(
    ("task", "policy", "sentence"),
    [
        ("regression", Policy(default_outcome="none"), "policy.default_outcome: expected a number, got 'none'"),
        ("binary", Policy(default_outcome=2), "policy.default_outcome: expected one of 0, 1; got 2"),
        ("binary", Policy(alpha=0.9), "policy: Expected `float` <= 0.5"),
    ],
)
def test_what_is_no_policy(task: Task, policy: Policy, sentence: str) -> None:
    with pytest.raises(SchemaRefused, match=sentence):
        check_policy(policy, task, None if task == "regression" else (0, 1))


def test_a_default_outcome_is_taken_before_any_version_has_told_its_classes() -> None:
    check_policy(Policy(default_outcome="no"), "binary", None)
    check_policy(Policy(default_outcome="no"), "binary", ("no", "yes"))
    check_policy(Policy(default_outcome=0), "regression", None)
