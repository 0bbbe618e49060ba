"""A schema or a name that cannot be meant is refused before anything is stored."""

from typing import Any

import msgspec
import pytest

from registry.audit import canonical
from registry.errors import SchemaRefused
from registry.policy import policy_of
from registry.schemas import check_extension, check_name, check_policy, check_schema
from registry.types import Feature, InputSchema, Metric, Policy, Task

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


MEASURED = InputSchema(
    (Feature("amount", "float64"), Feature("stock", "int64"), Feature("region", "string"), Feature("new", "bool"))
)
DEAR = ((0.0, 10.0), (1.0, 0.0))


def metric(**fields: Any) -> Policy:
    return Policy(metric=Metric(**fields))


@pytest.mark.parametrize(
    ("task", "policy", "sentence"),
    [
        ("regression", Policy(default_outcome="none"), "policy.default_outcome: expected a number, got 'none'"),
        ("binary", Policy(default_outcome=2), "policy.default_outcome: expected one of 0, 1; got 2"),
        ("binary", Policy(alpha=0.9), "policy: Expected `float` <= 0.5"),
        ("binary", Policy(maturity_s=float("inf")), "policy.maturity_s: expected a finite number, got inf"),
        ("binary", metric(margin=float("nan")), "policy.metric.margin: expected a finite number, got nan"),
        (
            "binary",
            metric(loss="absolute_error"),
            "loss: expected log_loss or brier or cost or reward for a binary model, got abs",
        ),
        ("regression", metric(loss="log_loss"), "expected absolute_error or pinball or reward for a regression model"),
        ("multiclass", metric(loss="cost", cost=DEAR), "expected log_loss or brier for a multiclass model"),
        ("binary", metric(loss="brier", clip=0.01), "metric.clip: belongs to the loss log_loss, and the loss is brier"),
        ("regression", metric(quantile=0.9), "metric.quantile: belongs to the loss pinball, and the loss is absolute"),
        ("binary", metric(cost=DEAR), "metric.cost: belongs to the loss cost, and the loss is log"),
        ("binary", metric(loss="cost"), "metric.cost: expected .* a row for each action .* got None"),
        ("binary", metric(loss="cost", cost=((1.0,), (2.0,))), r"metric.cost: expected \[\[n, n\], \[n, n\]\], a row"),
        ("binary", metric(loss="cost", cost=((0.0, 1.0), (0.0, 1.0))), "the action that is right .* costs less"),
        ("binary", metric(amount_feature="amount"), "metric.amount_feature: belongs to the loss cost"),
        ("regression", metric(scale_feature="region"), "a number, got 'region', which is string"),
        ("regression", metric(scale_feature="size"), "a number, got 'size', which is no feature of the model"),
        ("binary", metric(segments=("amount",)), "string, int64 or bool, got 'amount', which is float64"),
        ("binary", metric(segments=("new", "region", "new")), "'new' is named twice"),
        ("binary", Policy(observed="if_approved"), "approved_decisions: expected at least one"),
        ("binary", Policy(approved_decisions=(1,)), "approved_decisions: expected none, as outcomes can always exist"),
        ("regression", metric(loss="reward"), "policy.observed: expected if_shown, as a reward is of what was shown"),
    ],
)
def test_what_is_no_policy(task: Task, policy: Policy, sentence: str) -> None:
    with pytest.raises(SchemaRefused, match=sentence):
        check_policy(policy, task, None if task == "regression" else (0, 1), MEASURED)


@pytest.mark.parametrize(
    ("task", "policy"),
    [
        ("binary", metric(loss="cost", cost=DEAR, amount_feature="amount", segments=("region", "new", "stock"))),
        ("binary", metric(loss="log_loss", clip=1e-3, margin=0.001, mode="fast")),
        ("regression", metric(loss="pinball", quantile=0.9, scale_feature="stock")),
        ("multiclass", metric(loss="brier")),
        ("binary", Policy(observed="if_approved", approved_decisions=("yes", 1, 2.5))),
        ("regression", Policy(observed="if_shown", metric=Metric(loss="reward"))),
        ("binary", Policy(promotion="four_eyes", latency_limit_ms=20.0, max_source_share=0.1, cool_down_s=0.0)),
    ],
)
def test_what_is_a_policy_is_the_same_after_it_was_stored(task: Task, policy: Policy) -> None:
    check_policy(policy, task, None if task == "regression" else (0, 1), MEASURED)
    assert policy_of(canonical(policy)) == policy


def test_a_default_outcome_is_taken_before_any_version_has_told_its_classes() -> None:
    check_policy(Policy(default_outcome="no"), "binary", None, MEASURED)
    check_policy(Policy(default_outcome="no"), "binary", ("no", "yes"), MEASURED)
    check_policy(Policy(default_outcome=0), "regression", None, MEASURED)


def test_a_policy_that_was_stored_before_is_read_as_what_it_meant() -> None:
    assert policy_of('{"promotion":"manual","maturity_s":60.0}') == Policy(promotion="one", maturity_s=60.0)
    assert policy_of("{}") == Policy()
    with pytest.raises(msgspec.DecodeError):
        policy_of('{"promotion":"nobody"}')


def test_the_threshold_that_costs_imply_is_where_both_actions_cost_the_same() -> None:
    costs = Metric(loss="cost", cost=((0.0, 30.0), (2.0, -1.0)))
    threshold = costs.implied_threshold
    assert threshold is not None
    (c00, c01), (c10, c11) = costs.cost or ()
    assert (1 - threshold) * c00 + threshold * c01 == pytest.approx((1 - threshold) * c10 + threshold * c11)
    assert threshold == pytest.approx(2 / 33)
    assert Metric().implied_threshold is None


def test_the_rule_rests_for_one_maturity_window_unless_the_terms_say_otherwise() -> None:
    assert Policy(maturity_s=60.0).rest_s == 60.0
    assert Policy(maturity_s=60.0, cool_down_s=0.0).rest_s == 0.0
