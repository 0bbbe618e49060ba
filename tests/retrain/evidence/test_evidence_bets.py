"""What is one bet: rows weighted by the logged chance of seeing their outcome, and rows of one entity together."""

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrain.evidence import BucketSums, Condition, Pairs, Rule, at_stake_of, compare, judge, sums_of
from retrain.evidence.errors import ImpossibleValue, TooManyNames

RULE = Rule(task="regression")


def pairs_of(d: Any, bucket: Any = None, **columns: Any) -> Pairs:
    """Rows that make exactly these differences: champion 0, challenger 1, and an outcome between them."""
    d = np.asarray(d, dtype=float)
    days = np.zeros(len(d), dtype=int) if bucket is None else np.asarray(bucket)
    optional = {name: np.array(column) for name, column in columns.items()}
    return Pairs((1 + d) / 2, np.zeros(len(d)), np.ones(len(d)), days, **optional)


# ---- entities -------------------------------------------------------------------------------------------------------


def test_rows_of_one_entity_are_one_bet_of_their_mean() -> None:
    sums = sums_of(pairs_of([0.5, 0.1, -0.4, 0.3], entity=["a", "b", "a", "b"]), RULE)
    alone = sums_of(pairs_of([0.05, 0.2]), RULE)
    assert (sums.n, sums.n_due, sums.n_bets) == (2, 2, 2)
    assert sums.log_growth == pytest.approx(alone.log_growth)
    assert sums.log_growth_reverse == pytest.approx(alone.log_growth_reverse)


def test_rows_without_an_entity_are_alone() -> None:
    named = sums_of(pairs_of([0.5, 0.1, -0.4], entity=np.array([None, "a", math.nan], dtype=object)), RULE)
    assert named == sums_of(pairs_of([0.5, 0.1, -0.4]), RULE)


def test_an_entity_is_known_when_one_of_its_outcomes_is() -> None:
    sums = sums_of(pairs_of([0.4, math.nan, math.nan], entity=["a", "a", "b"]), RULE)
    assert (sums.n, sums.n_due) == (1, 2)
    assert sums.sum_d == pytest.approx(0.4)


def test_an_entity_that_comes_back_in_another_bucket_is_another_bet() -> None:
    evidence = compare(pairs_of([0.5, 0.5], bucket=[0, 1], entity=["a", "a"]), RULE)
    assert evidence.n == 2


def test_an_entity_counts_once_for_each_class_and_once_as_failed() -> None:
    outcome, failed = np.array([1.0, 1.0, 0.0, 0.0]), np.array([math.nan, math.nan, 0.5, 0.5])
    pairs = Pairs(outcome, np.full(4, 0.5), failed, np.zeros(4, dtype=int), entity=np.array(["a", "a", "a", "b"]))
    sums = sums_of(pairs, Rule())
    assert (sums.class_counts, sums.n_failed, sums.n) == ((2, 1), 1, 2)


@given(st.integers(0, 10_000), st.integers(2, 40))
@settings(deadline=None, derandomize=True, max_examples=50)
def test_shards_that_keep_entities_whole_add_up(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    entity, d = rng.integers(0, 8, n), rng.uniform(-1, 1, n)
    pairs = pairs_of(d, entity=entity)
    order = rng.permutation(n)
    shards = [order[entity[order] % 3 == k] for k in range(3)]
    first, *others = [sums_of(pairs.rows(shard), RULE) for shard in shards if len(shard)]
    merged = first
    for other in others:
        merged = merged.merge(other)
    whole = sums_of(pairs, RULE)
    assert (merged.n, merged.n_due, merged.gap) == (whole.n, whole.n_due, whole.gap)
    assert merged.log_growth == pytest.approx(whole.log_growth, rel=1e-9, abs=1e-12)
    assert merged.sum_d2 == pytest.approx(whole.sum_d2, rel=1e-9, abs=1e-12)


def test_the_mean_of_an_entity_is_a_fair_bet_by_enumeration() -> None:
    """All outcomes of two entities with two rows each that share their fate: the expected capital is exactly 1."""
    entity, gains = ["a", "a", "b", "b"], np.array([0.6, 0.2, 0.5, 0.9])
    expected = np.zeros(len(RULE.grid.bets))
    for fates in product((1.0, -1.0), repeat=2):
        d = gains * np.repeat(fates, 2)
        expected += np.exp(sums_of(pairs_of(d, entity=entity), RULE).log_growth) / 4
    alive = np.array(RULE.grid.bets) < 0.98
    assert expected[alive] == pytest.approx(np.ones(alive.sum()))


def days_of_entities(rng: np.random.Generator, mean: float, n_days: int = 40, a_day: int = 30) -> Pairs:
    """Every entity is asked for twenty times on its day, with one outcome for all."""
    d = np.clip(rng.normal(mean, 0.35, n_days * a_day), -1, 1)
    return pairs_of(
        np.repeat(d, 20),
        bucket=np.repeat(np.arange(n_days), a_day * 20),
        entity=np.repeat(np.arange(n_days * a_day), 20),
    )


def without_entities(pairs: Pairs) -> Pairs:
    return Pairs(pairs.outcome, pairs.champion, pairs.challenger, pairs.bucket)


def test_twenty_copies_of_each_row_prove_no_more_than_one() -> None:
    """An equal challenger: copies taken for proofs, the control, pass the exact condition several times too often."""
    rng = np.random.default_rng(5)
    passed = []
    for _ in range(60):
        pairs = days_of_entities(rng, 0.0, n_days=10)
        looks = [pairs.rows(pairs.bucket < n_days) for n_days in range(2, 11, 2)]
        passed.append(
            [
                any((e := compare(rows(look), RULE)).log_e >= e.log_e_threshold for look in looks)
                for rows in (lambda each: each, without_entities)
            ]
        )
    by_entity, by_copy = np.mean(passed, axis=0)
    assert by_entity <= 0.05
    assert by_copy >= 0.2


def test_copies_would_flip_the_verdict() -> None:
    pairs = days_of_entities(np.random.default_rng(7), 0.15, a_day=10)
    by_copy, by_entity = compare(without_entities(pairs), RULE), compare(pairs, RULE)
    assert by_copy.verdict == "better"
    assert by_entity.verdict != "better"
    assert [c.name for c in by_entity.conditions if not c.holds] == ["outcomes"]
    assert (by_copy.n, by_entity.n) == (8_000, 400)


# ---- weights --------------------------------------------------------------------------------------------------------


def test_weighted_rows_equal_the_plain_loop() -> None:
    rule = Rule(task="regression", margin=0.05)
    d, weight = [0.5, math.nan, -0.2, math.nan], [1.0, math.nan, 4.0, 20.0]
    sums = sums_of(pairs_of(d, weight=weight), rule)
    contributions = [0.5, 0.0, -0.8, 0.0]
    assert (sums.n_due, sums.n, sums.n_bets) == (4, 2, 4)
    assert (sums.sum_d, sums.sum_d2) == pytest.approx((-0.3, 0.89))
    assert (sums.gap, sums.sum_weight, sums.sum_weight2) == (20.0, 5.0, 17.0)  # the last row too could have been seen
    expected = [sum(math.log(max(1e-3, 1 + bet * (x - 0.05))) for x in contributions) for bet in rule.grid.bets]
    assert sums.log_growth == pytest.approx(expected)


def test_weights_of_one_change_nothing_but_the_coverage() -> None:
    rng = np.random.default_rng(8)
    d, days = rng.normal(0.2, 0.3, 1500).clip(-1, 1), np.arange(1500) // 40
    plain, weighted = compare(pairs_of(d, days), RULE), compare(pairs_of(d, days, weight=np.ones(1500)), RULE)
    assert (weighted.log_e, weighted.mean, weighted.verdict) == (plain.log_e, plain.mean, plain.verdict)


def selected(rng: np.random.Generator, explored: float) -> Pairs:
    """Equal versions; the champion's favourites are always seen, the others with probability `explored`.

    On what the champion favours the challenger wins by chance of selection, on the rest it loses as much.
    """
    n = 6000
    favoured = rng.random(n) < 0.85
    d = np.where(favoured, rng.normal(0.03, 0.2, n), rng.normal(-0.17, 0.2, n)).clip(-1, 1)
    chance = np.where(favoured, 1.0, explored)
    seen = rng.random(n) < chance
    return pairs_of(np.where(seen, d, math.nan), np.arange(n) // 150, weight=1 / chance)


def test_weights_undo_the_selection_of_outcomes() -> None:
    """By the outcomes that were seen the challenger is better, the control; by all rows it is not."""
    rng = np.random.default_rng(9)
    pairs = [selected(rng, 0.1) for _ in range(20)]
    by_all = [compare(each, RULE) for each in pairs]
    by_seen = [compare(without_entities(each), Rule(task="regression", min_coverage=0.5)) for each in pairs]
    assert np.mean([e.mean for e in by_all]) == pytest.approx(0.0, abs=0.005)
    assert sum(e.promote for e in by_all) == 0
    assert sum(e.promote for e in by_seen) >= 16
    coverage = [next(c for c in e.conditions if c.name == "coverage") for e in by_all]
    assert sum(c.holds for c in coverage) >= 18
    assert "outcomes with logged probabilities stand for" in coverage[0].detail


def test_logged_probabilities_that_are_wrong_are_found_out() -> None:
    """One in ten was explored and one in two was logged: those that were seen stand for too few."""
    pairs = selected(np.random.default_rng(10), 0.1)
    assert pairs.weight is not None
    wrong = pairs_of(2 * pairs.outcome - 1, pairs.bucket, weight=np.where(pairs.weight > 1, 2.0, 1.0))
    (condition,) = (c for c in compare(wrong, RULE).conditions if c.name == "coverage")
    assert not condition.holds


def test_impossible_columns_are_refused_by_row() -> None:
    for column, values in (("weight", [1.0, 0.5]), ("scale", [1.0, 0.0]), ("amount", [1.0, -3.0])):
        with pytest.raises(ImpossibleValue, match=rf"{column}: expected .* in row 1"):
            pairs_of([0.1, 0.1], **{column: values})
    names = [f"branch {k}" for k in range(65)]
    with pytest.raises(TooManyNames, match="segment: expected at most 64 names in a bucket, got 65"):
        sums_of(pairs_of(np.zeros(65), segment=names), RULE)


def test_parts_survive_being_merged_in_any_order() -> None:
    rng = np.random.default_rng(11)
    n = 900
    p = rng.random(n)
    pairs = Pairs(
        (rng.random(n) < p).astype(float), p, np.clip(p + rng.normal(0, 0.1, n), 0, 1), np.arange(n) // 30,
        segment=rng.choice(["north", "south", "west"], n), source=rng.choice(["bank", "shop"], n),
        entity=rng.integers(0, 700, n),
    )  # fmt: skip
    whole = judge([sums_of(bucket, Rule()) for bucket in pairs.by_bucket()], Rule())
    shuffled = pairs.rows(rng.permutation(n))
    shards = [shuffled.rows(np.array([int(e) % 4 == k for e in shuffled.entity])) for k in range(4)]  # type: ignore[union-attr]
    sums = [sums_of(bucket, Rule()) for shard in shards for bucket in shard.by_bucket()]
    again = judge([sums[i] for i in rng.permutation(len(sums))], Rule())
    assert again.verdict == whole.verdict
    assert [(c.name, c.holds, c.detail) for c in again.conditions] == [
        (c.name, c.holds, c.detail) for c in whole.conditions
    ]
    assert again.log_e == pytest.approx(whole.log_e, rel=1e-9)


def test_disagreement_where_nothing_is_seen_is_held_against_the_challenger() -> None:
    """Some rows have an outcome, by design; on the others the versions are far apart, or not."""
    rng = np.random.default_rng(13)
    n = 4800
    days, seen = np.arange(n) // 80, rng.random(n) < 0.6
    d = np.where(seen, rng.normal(0.3, 0.3, n).clip(-1, 1), math.nan)
    rule = Rule(task="regression", min_coverage=0.4)
    alike = pairs_of(d, days)
    apart = Pairs(alike.outcome, alike.champion, np.where(seen, 1.0, 2.5), days)
    assert compare(alike, rule).promote
    evidence = compare(apart, rule)
    assert [c.name for c in evidence.conditions if not c.holds] == ["observed"]
    (condition,) = (c for c in evidence.conditions if c.name == "observed")
    assert condition.detail.startswith("63 % of what the two versions disagree about is on rows without an outcome")
    failed = Pairs(alike.outcome, alike.champion, np.where(seen, 1.0, math.nan), days)
    assert compare(failed, rule).promote


def test_rows_that_can_never_have_an_outcome_count_as_those_whose_outcome_did_not_come() -> None:
    """One condition, whether such a row is in the pairs or only what is at stake about it is told."""
    rng = np.random.default_rng(13)
    n = 600
    days, seen = np.arange(n) // 10, np.arange(n) % 5 < 2
    outcome = np.where(seen, rng.normal(1.0, 0.5, n), math.nan)
    whole = Pairs(outcome, np.zeros(n), np.where(seen, 1.0, 2.5), days)
    rule = Rule(task="regression")

    def observed(sums: list[BucketSums]) -> Condition:
        return next(each for each in judge(sums, rule).conditions if each.name == "observed")

    known = [~np.isnan(day.outcome) for day in whole.by_bucket()]
    told = [
        sums_of(day.rows(which), rule, at_stake_undue=at_stake_of(day.rows(~which), rule))
        for day, which in zip(whole.by_bucket(), known, strict=True)
    ]
    assert observed(told) == observed([sums_of(day, rule) for day in whole.by_bucket()])
    assert not observed(told).holds
    few = [sums_of(day.rows(~np.isnan(day.outcome)), rule, at_stake_undue=1.0) for day in whole.by_bucket()]
    assert observed(few).holds
    shown = Pairs(np.full(4, math.nan), np.full(4, 0.5), np.full(4, 0.9), np.zeros(4, dtype=int))
    assert at_stake_of(shown, Rule(task="recommendation")) == 0.0


def test_what_weighted_outcomes_and_rewards_say() -> None:
    rng = np.random.default_rng(14)
    weighted = compare(selected(rng, 0.1), RULE).sentence
    assert " matured outcomes that stand for 6,000 rows" in weighted
    shown = rng.random(3000) < 0.5
    reward = (rng.random(3000) < np.where(shown, 0.3, 0.1)).astype(float)
    pairs = Pairs(reward, np.full(3000, 0.5), np.where(shown, 0.9, 0.1), np.arange(3000) // 50)
    evidence = compare(pairs, Rule(task="recommendation"), challenger="version 2")
    percent = 100 * evidence.mean / -evidence.champion_loss
    assert evidence.sentence.startswith(f"version 2 earns {percent:.1f} % more than the champion on 3,000 matured")


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=30), st.integers(0, 29), st.floats(0, 0.5))
@settings(deadline=None, derandomize=True)
def test_a_row_that_goes_better_for_the_challenger_never_lowers_its_evidence(
    d: list[float], which: int, by: float
) -> None:
    better = list(d)
    better[which % len(d)] = min(1.0, better[which % len(d)] + by)
    before, after = compare(pairs_of(d), RULE), compare(pairs_of(better), RULE)
    assert after.log_e >= before.log_e - 1e-9
    assert after.log_e_inferior <= before.log_e_inferior + 1e-9
