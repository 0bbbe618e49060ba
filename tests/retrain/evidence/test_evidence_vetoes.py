"""What only forbids: segments that lose, last days that speak against, and sources that would decide alone."""

import math
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from retrain.evidence import Condition, Evidence, Pairs, Rule, compare, judge

RULE = Rule(task="regression")
N_DAYS, A_DAY = 60, 40
N = N_DAYS * A_DAY
DAY = np.arange(N) // A_DAY


def pairs_of(d: Any, **columns: Any) -> Pairs:
    d = np.clip(np.asarray(d, dtype=float), -1, 1)
    return Pairs((1 + d) / 2, np.zeros(len(d)), np.ones(len(d)), DAY[: len(d)], **columns)


def failing(evidence: Evidence) -> list[str]:
    return [condition.name for condition in evidence.conditions if not condition.holds]


def condition(evidence: Evidence, name: str) -> Condition:
    (found,) = (each for each in evidence.conditions if each.name == name)
    return found


# ---- recent ---------------------------------------------------------------------------------------------------------


def test_last_days_that_speak_against_hold_back() -> None:
    shocks = np.random.default_rng(3).normal(0, 0.3, 120)
    shocks[:90] += 0.32 - shocks[:90].mean()
    shocks[90:] += -0.01 - shocks[90:].mean()
    d = np.repeat(shocks, 20).clip(-1, 1)
    evidence = compare(Pairs((1 + d) / 2, np.zeros(2400), np.ones(2400), np.arange(2400) // 20), RULE)
    assert failing(evidence) == ["recent"]
    assert condition(evidence, "recent").detail.startswith("over the last 30 days the mean difference is -0.01 ")


def test_the_last_quarter_is_taken_where_it_is_longer_than_the_last_days() -> None:
    d = np.where(DAY >= 53, -0.01, 0.5) + np.random.default_rng(2).normal(0, 0.1, N)
    assert condition(compare(pairs_of(d), RULE), "recent").holds  # 15 days, of which 7 lose
    short = pairs_of(d[32 * A_DAY :])  # 28 days: the last seven
    assert not condition(compare(short, RULE), "recent").holds
    assert condition(compare(short, replace(RULE, recent_days=10)), "recent").holds


def test_before_the_first_day_nothing_is_recent() -> None:
    assert condition(judge([], RULE), "recent").detail == "no day has an outcome yet"


# ---- segments -------------------------------------------------------------------------------------------------------


def test_a_segment_that_loses_holds_back_whatever_the_others_gain() -> None:
    rng = np.random.default_rng(3)
    segment = np.array(["north", "south", "islands"])[rng.choice(3, N, p=[0.5, 0.45, 0.05])]
    d = rng.normal(np.where(segment == "islands", -0.4, 0.4), 0.3)
    evidence = compare(pairs_of(d, segment=segment), RULE)
    assert failing(evidence) == ["segments"]
    assert "of 3 segments with enough outcomes 'islands' speaks most against" in condition(evidence, "segments").detail
    assert compare(pairs_of(d), RULE).verdict == "better"


def test_a_segment_with_few_outcomes_is_not_asked() -> None:
    rng = np.random.default_rng(4)
    segment = np.where(np.arange(N) % 50 == 0, "islands", "north")  # 48 of them
    d = rng.normal(np.where(segment == "islands", -0.9, 0.4), 0.1)
    assert compare(pairs_of(d, segment=segment), RULE).verdict == "better"
    few = compare(pairs_of(d, segment=segment), replace(RULE, min_minority=5000))
    assert condition(few, "segments").detail == "none of 2 segments has enough outcomes to tell"


def test_more_segments_need_more_to_be_accused() -> None:
    """S/α: of forty segments one looks bad by chance."""
    rng = np.random.default_rng(5)
    segment = rng.integers(0, 40, N)
    evidence = compare(pairs_of(rng.normal(0.2, 0.4, N), segment=segment), RULE)
    assert f"below {math.log(40 / 0.05):.2f} is needed" in condition(evidence, "segments").detail
    assert evidence.verdict == "better"


# ---- sources --------------------------------------------------------------------------------------------------------


def reported(rng: np.random.Generator, share: float, honest: float, forged: float) -> Pairs:
    """One source reports a share of the outcomes, as it pleases; two others report the truth."""
    source = np.where(rng.random(N) < share, "forger", np.where(rng.random(N) < 0.5, "bank", "shop"))
    d = np.where(source == "forger", forged, rng.normal(honest, 0.3, N))
    return pairs_of(d + rng.normal(0, 1e-3, N), source=source)


def test_a_source_of_a_tenth_of_the_outcomes_cannot_force_a_promotion() -> None:
    """The control, the same rows without their sources, is promoted."""
    rng = np.random.default_rng(6)
    for _ in range(10):
        pairs = reported(rng, share=0.1, honest=0.0, forged=0.97)
        blind = Pairs(pairs.outcome, pairs.champion, pairs.challenger, pairs.bucket)
        assert compare(blind, RULE).promote
        evidence = compare(pairs, RULE)
        assert failing(evidence) == ["sources"]
        assert condition(evidence, "sources").detail.startswith("without 'forger' ln E is ")


def test_a_decision_that_no_single_source_carries_is_taken() -> None:
    pairs = reported(np.random.default_rng(7), share=0.1, honest=0.3, forged=-0.1)
    evidence = compare(pairs, RULE)
    assert evidence.promote
    assert condition(evidence, "sources").detail == "without any one of 3 sources the evidence still holds"


def test_the_rest_of_a_majority_must_not_speak_against_it() -> None:
    rng = np.random.default_rng(0)
    source = np.where(rng.random(N) < 0.8, "bank", "shop")
    agreed = compare(pairs_of(rng.normal(0.3, 0.3, N), source=source), RULE)
    assert agreed.promote
    split = compare(pairs_of(rng.normal(np.where(source == "bank", 0.5, -0.3), 0.3), source=source), RULE)
    assert failing(split) == ["sources"]
    assert condition(split, "sources").detail.startswith("'bank' reports most outcomes, and the others speak against")


def test_outcomes_without_a_source_are_one_more_source() -> None:
    rng = np.random.default_rng(6)
    source = np.where(rng.random(N) < 0.1, "", "bank")
    d = np.where(source == "", 0.97, rng.normal(0.0, 0.3, N)) + rng.normal(0, 1e-3, N)
    assert failing(compare(pairs_of(d, source=source), RULE)) == ["sources"]


@pytest.mark.parametrize(("name", "words"), [("bank", "one source"), ("", "no named source")])
def test_one_source_is_all_there_is(name: str, words: str) -> None:
    d = np.random.default_rng(9).normal(0.3, 0.3, N)
    evidence = compare(pairs_of(d, source=np.full(N, name)), RULE)
    assert condition(evidence, "sources").detail == f"all outcomes are of {words}"
    assert evidence.promote


# ---- fast mode ------------------------------------------------------------------------------------------------------


def test_the_fast_mode_decides_sooner_on_the_same_rows() -> None:
    d = np.random.default_rng(1).normal(0.04, 0.5, N)
    exact, fast = compare(pairs_of(d), RULE), compare(pairs_of(d), replace(RULE, fast=True))
    assert fast.log_e > exact.log_e + 0.5
    assert fast.log_e_inferior == exact.log_e_inferior
    assert condition(fast, "evidence").detail.startswith("ln e over single outcomes, asymptotic, is ")


def test_the_fast_mode_waits_while_one_row_outweighs_the_others() -> None:
    d = np.random.default_rng(11).normal(0.3, 0.3, N)
    pairs = pairs_of(d)
    heavy = Pairs(
        np.append(pairs.outcome, 50.0), np.append(pairs.champion, 0.0), np.append(pairs.challenger, 100.0),
        np.append(pairs.bucket, 0),
    )  # fmt: skip
    rule = replace(RULE, fast=True)
    assert compare(pairs, rule).verdict == "better"
    evidence = compare(heavy, rule)
    assert evidence.log_e > evidence.log_e_threshold
    assert failing(evidence) == ["evidence"]
    assert "one row could weigh" in condition(evidence, "evidence").detail


def test_the_fast_mode_waits_for_the_rarer_class() -> None:
    """Before the first loss of a rare class every row is a small gain, and the spread is nearly nothing."""
    outcome = np.zeros(2000)
    outcome[:40] = 1.0
    rng = np.random.default_rng(12)
    champion = np.full(2000, 0.03)
    challenger = 0.025 - 0.005 * rng.random(2000)
    order = rng.permutation(2000)
    rule = Rule(base_rate=0.02, fast=True, max_auc_loss=None)
    evidence = compare(Pairs(outcome[order], champion, challenger, np.arange(2000) // 40), rule)
    assert not condition(evidence, "minority").holds
    assert not condition(evidence, "evidence").holds
