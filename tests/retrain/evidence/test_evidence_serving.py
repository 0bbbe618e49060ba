"""Errors, slow answers and the mirror's share: from counts, by e-processes that are checked by enumeration."""

import json
import math
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrain.evidence import Condition, PairedCounts, Pairs, Rule, Serving, judge, level_of, sums_of
from retrain.evidence.eprocess import log_growth, log_mixture
from retrain.evidence.serving import BETS, log_e_mismatch, log_e_no_worse

MISMATCH: dict[str, Any] = json.loads((Path(__file__).parent / "golden" / "mirror_share.json").read_text())
counts = st.integers(0, 200)


@pytest.mark.parametrize("row", MISMATCH["rows"], ids=lambda row: f"n={sum(row['counts'])}")
def test_the_share_of_the_mirror_reproduces_savvi(row: dict[str, Any]) -> None:
    mirrored, left = row["counts"]
    assert math.exp(log_e_mismatch(mirrored, mirrored + left, 0.9)) == pytest.approx(row["odds"], rel=1e-9)


def test_the_odds_of_a_mismatch_are_a_fair_bet_by_enumeration() -> None:
    expected = sum(
        math.comb(12, k) * 0.3**k * 0.7 ** (12 - k) * math.exp(log_e_mismatch(k, 12, 0.3)) for k in range(13)
    )
    assert expected == pytest.approx(1.0)


@given(counts, counts, counts, st.floats(0.0, 0.05))
@settings(deadline=None, derandomize=True)
def test_three_counts_hold_the_capital_of_every_row(
    champion: int, challenger: int, neither: int, margin: float
) -> None:
    x = np.repeat([1.0, -1.0, 0.0], [champion, challenger, neither])
    got = log_e_no_worse(PairedCounts(len(x), champion, challenger), margin)
    expected = log_mixture(log_growth(x, BETS.bets, -margin), BETS, 1.0 - margin)
    assert got == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_a_challenger_at_the_margin_is_a_fair_bet_by_enumeration() -> None:
    """It fails alone in 30 % of rows, the champion in 10 %, and 20 points more are allowed: nothing can be earned."""
    margin, chances = 0.2, {1: 0.1, -1: 0.3, 0: 0.6}
    expected = 0.0
    for rows in product(chances, repeat=5):
        chance = math.prod(chances[row] for row in rows)
        expected += chance * math.exp(log_e_no_worse(PairedCounts(5, rows.count(1), rows.count(-1)), margin))
    assert expected == pytest.approx(1.0)


@given(counts, counts, counts, st.floats(0.0, 0.05), st.floats(0.0, 0.05))
@settings(deadline=None, derandomize=True)
def test_failures_of_the_challenger_and_strict_margins_only_hinder(
    champion: int, challenger: int, neither: int, margin: float, wider: float
) -> None:
    n = champion + challenger + neither + 1
    log_e = log_e_no_worse(PairedCounts(n, champion, challenger), margin)
    assert log_e_no_worse(PairedCounts(n, champion, challenger + 1), margin) <= log_e
    assert log_e_no_worse(PairedCounts(n, champion, challenger), margin + wider) >= log_e - 1e-12


def test_counts_add_up() -> None:
    a = Serving(PairedCounts(10, 1, 2), PairedCounts(9, 0, 1), 12, 10)
    b = Serving(PairedCounts(5, 0, 1), PairedCounts(5, 2, 0), 6, 5)
    assert a + b == b + a == Serving(PairedCounts(15, 1, 3), PairedCounts(14, 2, 1), 18, 15)
    assert a + Serving() == a


def conditions_of(serving: Serving, rule: Rule) -> dict[str, Condition]:
    one = np.array([1.0])
    sums = [sums_of(Pairs(one, one * 0.5, one * 0.6, np.array([0])), rule, serving)]
    return {condition.name: condition for condition in judge(sums, rule).conditions}


def test_serving_no_worse_must_be_shown() -> None:
    rule = Rule()
    early = conditions_of(Serving(PairedCounts(2000, 0, 0)), rule)
    assert not early["errors"].holds
    assert "latency" not in early
    assert "mirror" not in early
    shown = conditions_of(Serving(PairedCounts(5000, 0, 0), PairedCounts(3000, 3, 3)), rule)
    assert shown["errors"].holds
    assert shown["latency"].holds
    failing = conditions_of(Serving(PairedCounts(50_000, 0, 100), PairedCounts(50_000, 0, 400)), rule)
    assert not failing["errors"].holds
    assert not failing["latency"].holds
    assert failing["errors"].detail.startswith("on 50,000 rows the challenger alone failed 100 times")


def test_a_mirror_that_takes_another_share_is_noticed() -> None:
    rule = Rule(mirror_share=0.1)
    fair = conditions_of(Serving(n_eligible=10_000, n_mirrored=1_020), rule)["mirror"]
    chosen = conditions_of(Serving(n_eligible=10_000, n_mirrored=800), rule)["mirror"]
    assert fair.holds
    assert not chosen.holds
    assert "the mirror took 8 % of 10,000 rows, where 10 % were declared" in chosen.detail
    assert conditions_of(Serving(), rule)["mirror"].holds


def test_corrections_after_closing_are_an_alarm_not_a_new_judgement() -> None:
    rule = Rule(task="regression")
    d = np.random.default_rng(1).normal(0.3, 0.4, 1200).clip(-1, 1)
    pairs = Pairs((1 + d) / 2, np.zeros(1200), np.ones(1200), np.arange(1200) // 30)
    sums = [sums_of(bucket, rule) for bucket in pairs.by_bucket()]
    assert judge(sums, rule, n_corrected=6).promote
    corrected = judge(sums, rule, n_corrected=7)
    assert [c.name for c in corrected.conditions if not c.holds] == ["corrections"]
    assert corrected.log_e == judge(sums, rule).log_e


@given(st.lists(st.floats(1.0, 1e7), min_size=1, max_size=80), st.integers(0, 80))
@settings(deadline=None, derandomize=True)
def test_the_latency_of_timed_calls_is_their_95th_percentile_however_they_are_added_up(
    taken_us: list[float], cut: int
) -> None:
    parts = [Serving(timed={level_of(each): 1}) for each in taken_us]
    whole = sum(parts, Serving())
    assert sum(parts[:cut], Serving()) + sum(parts[cut:], Serving()) == whole
    exact = 1e-6 * sorted(taken_us)[math.ceil(0.95 * len(taken_us)) - 1]
    assert whole.latency_s == pytest.approx(exact, rel=0.045)
    assert Serving().latency_s is None
