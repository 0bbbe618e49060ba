"""Sums of buckets: mergeable, storable, and the same evidence whatever the order, the shards or the restarts."""

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrain.evidence import BucketSums, Evidence, Pairs, Rule, Sums, compare, judge, sums_of
from retrain.evidence.errors import MismatchedPairs, MismatchedSums

FLOAT_FIELDS = ("sum_d", "sum_d2", "sum_champion_loss", "gap", "largest_unpaid", "log_growth", "log_growth_reverse")
EXACT_FIELDS = ("bucket", "n_due", "n", "n_failed", "class_counts")


def some_pairs(seed: int, n: int, n_buckets: int) -> Pairs:
    """Binary rows with gains, failures and outcomes that never arrived."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(-1.0, 1.0, n)
    challenger = 1 / (1 + np.exp(-logit))
    champion = 1 / (1 + np.exp(-0.6 * logit - rng.normal(0, 0.3, n)))
    outcome = (rng.random(n) < challenger).astype(float)
    challenger[rng.random(n) < 0.02] = math.nan
    outcome[rng.random(n) < 0.03] = math.nan
    return Pairs(outcome, champion, challenger, rng.integers(0, n_buckets, n))


def assert_close(got: BucketSums, expected: BucketSums) -> None:
    for name in EXACT_FIELDS:
        assert getattr(got, name) == getattr(expected, name)
    for name in FLOAT_FIELDS:
        assert getattr(got, name) == pytest.approx(getattr(expected, name), rel=1e-9, abs=1e-12)


def assert_same_evidence(got: Evidence, expected: Evidence) -> None:
    assert got.verdict == expected.verdict
    for name in ("mean", "low", "high", "log_e", "log_e_inferior", "log_e_clustered", "n_effective_days"):
        assert getattr(got, name) == pytest.approx(getattr(expected, name), rel=1e-9)
    assert [(c.name, c.holds) for c in got.conditions] == [(c.name, c.holds) for c in expected.conditions]


@given(st.integers(0, 10_000), st.integers(3, 60), st.integers(0, 10_000))
@settings(deadline=None, derandomize=True, max_examples=50)
def test_merging_is_associative_and_commutative(seed: int, n: int, cut_seed: int) -> None:
    pairs, rule = some_pairs(seed, n, n_buckets=1), Rule(base_rate=0.3)
    first, second = sorted(np.random.default_rng(cut_seed).choice(np.arange(1, n), 2, replace=False))
    shards = (slice(0, first), slice(first, second), slice(second, n))
    a, b, c = (sums_of(pairs.rows(shard), rule) for shard in shards)
    whole = sums_of(pairs, rule)
    assert a.merge(b) == b.merge(a)
    assert_close(a.merge(b).merge(c), whole)
    assert_close(a.merge(b.merge(c)), whole)


PAIRS = some_pairs(seed=1, n=4000, n_buckets=40)
RULE = Rule(base_rate=0.3, reference_loss=0.5, informed_bet=0.5, n_slots=2)
JUDGED = compare(PAIRS, RULE)


@given(st.integers(0, 10_000), st.integers(1, 64))
@settings(deadline=None, derandomize=True, max_examples=4)
def test_order_of_rows_and_shards_change_no_evidence(seed: int, n_shards: int) -> None:
    rng = np.random.default_rng(seed)
    shuffled = PAIRS.rows(rng.permutation(len(PAIRS)))
    assert_same_evidence(compare(shuffled, RULE), JUDGED)

    shards = [shuffled.rows(which) for which in np.array_split(np.arange(len(PAIRS)), n_shards)]
    sums = [sums_of(of_bucket, RULE) for shard in shards for of_bucket in shard.by_bucket()]
    assert_same_evidence(judge([sums[i] for i in rng.permutation(len(sums))], RULE), JUDGED)


def test_judging_stored_sums_equals_comparing_pairs() -> None:
    stored = [msgspec.json.encode(sums_of(of_bucket, RULE)) for of_bucket in PAIRS.by_bucket()]
    restored = [msgspec.json.decode(blob, type=BucketSums) for blob in stored]
    assert judge(restored, RULE) == JUDGED


def test_evidence_travels_through_json_even_when_nothing_is_known() -> None:
    out_of_play = Pairs(np.array([500.0]), np.array([0.0]), np.array([1000.0]), np.array([0]))
    for evidence in (JUDGED, judge([], RULE), compare(out_of_play, Rule(task="regression"))):
        assert msgspec.json.decode(msgspec.json.encode(evidence), type=Evidence) == evidence


def test_a_rule_is_frozen_with_its_reign_and_read_back() -> None:
    for rule in (RULE, Rule(bets=(0.5, 0.1)), Rule(task="multiclass", base_rate=(0.2, 0.3, 0.5))):
        assert msgspec.json.decode(msgspec.json.encode(rule), type=Rule) == rule


def test_the_sums_of_a_bucket_are_small() -> None:
    day = sums_of(next(PAIRS.by_bucket()), RULE)
    assert len(day.log_growth) == 17
    of_rows = [getattr(day, name) for name in Sums.__struct_fields__]
    assert len(msgspec.msgpack.encode(of_rows)) <= 512


def test_hours_are_summed_to_days_before_days_are_judged() -> None:
    hourly = Pairs(PAIRS.outcome, PAIRS.champion, PAIRS.challenger, PAIRS.bucket * 24 + np.arange(len(PAIRS)) % 24)
    by_hour = msgspec.structs.replace(RULE, buckets_per_day=24)
    assert_same_evidence(compare(hourly, by_hour), JUDGED)


def test_days_are_taken_in_calendar_order_with_closed_days_left_out() -> None:
    spaced = Pairs(PAIRS.outcome, PAIRS.champion, PAIRS.challenger, PAIRS.bucket * 3 - 50)
    assert_same_evidence(compare(spaced, RULE), JUDGED)
    unheard = Pairs(np.full(9, math.nan), np.full(9, 0.5), np.full(9, 0.5), np.full(9, -99))
    sums = [sums_of(of_bucket, RULE) for pairs in (PAIRS, unheard) for of_bucket in pairs.by_bucket()]
    assert judge(sums, RULE).n_days == JUDGED.n_days
    assert judge(sums, RULE).n_due == JUDGED.n_due + 9


def test_sums_that_do_not_belong_together_are_refused() -> None:
    first, second = (sums_of(of_bucket, RULE) for of_bucket in list(PAIRS.by_bucket())[:2])
    with pytest.raises(MismatchedSums, match="expected bucket 0, got 1"):
        first.merge(second)
    with pytest.raises(MismatchedSums, match="log_growth of length 17, got 14"):
        judge([first, second], Rule(base_rate=0.3))


@pytest.mark.parametrize("buckets", [[], [1, 2]])
def test_the_sums_of_a_bucket_are_of_one_bucket(buckets: list[int]) -> None:
    values: Any = np.full(len(buckets), 0.5)
    pairs = Pairs(values * 2, values, values, np.array(buckets, dtype=int))
    with pytest.raises(MismatchedPairs, match=f"the rows of one bucket, got {len(buckets)} buckets"):
        sums_of(pairs, Rule())
