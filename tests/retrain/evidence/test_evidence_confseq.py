"""Windows of days and normal mixtures: reference numbers, the loops they equal, and coverage with a control."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_ndtr

from retrain.evidence.confseq import (
    RHO_DAYS,
    RHO_OUTCOMES,
    log_e_of_outcomes,
    log_e_one_sided,
    log_phi,
    mixture_scale,
    two_sided_radius,
    window_length,
    windows_of,
)

GOLDEN = Path(__file__).parent / "golden"
WINDOWS: dict[str, Any] = json.loads((GOLDEN / "windows_of_days.json").read_text())
NORMAL: dict[str, Any] = json.loads((GOLDEN / "normal_mixture.json").read_text())
INTERVALS: dict[str, Any] = json.loads((GOLDEN / "sequential_intervals.json").read_text())
MIXTURE: dict[str, Any] = json.loads((GOLDEN / "fixed_bet_mixture.json").read_text())
SERIES: dict[str, list[int]] = {case["name"]: case["S"] for case in WINDOWS["cases"]}


@pytest.mark.parametrize("case", WINDOWS["cases"], ids=lambda case: case["name"])
def test_windows_of_days_reproduce_the_reference(case: dict[str, Any]) -> None:
    windows, expect = windows_of(case["S"]), case["expect"]
    got = {
        "J": windows.n_days,
        "sum": windows.total,
        "sum_sq": windows.sum_of_squares,
        "h": window_length(windows.n_days),
        "v": windows.spread,
        "V_h": windows.window_spread,
        "V_star": windows.long_run,
        "J_eff": windows.n_effective,
        "z_day": windows.z_day,
        "z_win": windows.z_window,
        "ln_e": windows.log_e,
    }
    assert got == pytest.approx({name: float(expect[name]) for name in got}, rel=1e-9)
    for slots in (1, 2):
        promoted = windows.log_e >= math.log(20 * slots) and windows.n_effective >= 28
        assert promoted is expect[f"promote_thr{20 * slots}"]


@pytest.mark.parametrize("prefix", WINDOWS["prefixes"], ids=lambda prefix: f"J={prefix['J']}")
def test_prefixes_reproduce_the_reference(prefix: dict[str, Any]) -> None:
    windows = windows_of(SERIES[prefix["case"]][: prefix["J"]])
    got = {
        "h": window_length(windows.n_days),
        "J_eff": windows.n_effective,
        "z_day": windows.z_day,
        "z_win": windows.z_window,
        "ln_e": windows.log_e,
    }
    assert got == pytest.approx({name: float(prefix[name]) for name in got}, rel=1e-9)


def test_the_window_grows_with_the_root_of_the_days() -> None:
    assert [window_length(n_days) for n_days in (28, 100, 365)] == [8, 15, 29]
    for n_days in range(1, 2000):
        h = window_length(n_days)
        assert 4 * h * h >= 9 * n_days > 4 * (h - 1) * (h - 1)


@given(st.lists(st.integers(-50, 50), min_size=4, max_size=40))
@settings(deadline=None, derandomize=True)
def test_the_spread_is_that_of_the_totals_of_all_windows(day_sums: list[int]) -> None:
    windows, h = windows_of(day_sums), window_length(len(day_sums))
    x = np.array(day_sums) - np.mean(day_sums)
    padded = np.concatenate([np.zeros(h - 1), x, np.zeros(h - 1)])
    of_windows = sum(padded[start : start + h].sum() ** 2 for start in range(len(x) + h - 1)) / h
    assert windows.spread == pytest.approx((x * x).sum(), abs=1e-9)
    if windows.has_spread:
        assert windows.window_spread == pytest.approx(of_windows, rel=1e-9, abs=1e-8)
        assert 0 < windows.n_effective <= windows.n_days
        reverse = windows_of([-s for s in day_sums])
        assert windows.reversed() == reverse


@pytest.mark.parametrize("day_sums", [[], [5.0], [5.0, 7.0, 6.0], [0.1 + 0.2] * 40, [0.0] * 40, [1e80] * 40])
def test_without_days_or_without_spread_nothing_is_concluded(day_sums: list[float]) -> None:
    windows = windows_of(day_sums)
    assert (windows.log_e, windows.n_effective, windows.radius(0.05)) == (0.0, 0.0, None)


def test_nearly_equal_days_count_for_no_more_than_their_number() -> None:
    """Against single days the score is at most √J, however little the days differ."""
    windows = windows_of([10.0 + 0.01 * (day % 7) for day in range(40)])
    assert windows.z_window > math.sqrt(40) >= windows.z_day
    assert windows.log_e == log_e_one_sided(windows.z_day * math.sqrt(40), 40, RHO_DAYS)
    assert windows.reversed().log_e == log_e_one_sided(-windows.z_window * math.sqrt(40), 40, RHO_DAYS)


def test_enormous_days_stay_finite() -> None:
    windows = windows_of([1e100, -3e100, 2e100, 1e100, 5.0] * 8)
    assert math.isfinite(windows.log_e)
    assert math.isfinite(windows.radius(1e-9) or math.inf)


@pytest.mark.parametrize("x", [*np.linspace(-60, 12, 145), -1e3, -1e6, -29.999999, -30.000001, 0.0])
def test_log_phi_is_accurate_in_both_tails(x: float) -> None:
    assert log_phi(float(x)) == pytest.approx(float(log_ndtr(x)), rel=1e-11, abs=1e-300)


@pytest.mark.parametrize("row", NORMAL["log_mixture"])
def test_normal_mixtures_reproduce_confseq(row: dict[str, float]) -> None:
    one_sided = mixture_scale(row["v_opt"], 2 * row["alpha_opt"])
    assert log_e_one_sided(row["s"], row["v"], one_sided) == pytest.approx(row["normal_1s"], rel=1e-9)


@pytest.mark.parametrize("row", NORMAL["bounds"])
def test_boundaries_reproduce_confseq(row: dict[str, float]) -> None:
    one_sided, two_sided = (mixture_scale(row["v_opt"], sides * row["alpha_opt"]) for sides in (2, 1))
    at_boundary = log_e_one_sided(row["normal_1s"], row["v"], one_sided)
    assert at_boundary == pytest.approx(math.log(1 / row["alpha"]), abs=1e-6)
    assert two_sided_radius(row["v"], row["alpha"], two_sided) == pytest.approx(row["normal_2s"], rel=1e-6)


def test_the_asymptotic_form_on_single_outcomes_reproduces_the_reference() -> None:
    assert pytest.approx(MIXTURE["rho_nopt5000_alpha05"], rel=1e-9) == RHO_OUTCOMES
    for row in MIXTURE["rows"][1:]:
        got = log_e_of_outcomes(int(row["n"]), row["S"], row["Q"], margin=0.0)
        assert got == pytest.approx(row["asymp_log_e_1sided_nopt5000"], rel=1e-9)
    assert pytest.approx(float(WINDOWS["rho"]), rel=1e-12) == RHO_DAYS


def test_the_interval_covers_under_days_that_depend_on_each_other() -> None:
    """Day sums with autocorrelation 0.6 and mean 0, looked at on many days; single days as control must miss."""
    rng = np.random.default_rng(30)
    n_streams, n_days, phi = 200, 120, 0.6
    shocks = rng.normal(size=(n_streams, n_days))
    days = shocks.copy()
    for day in range(1, n_days):
        days[:, day] = phi * days[:, day - 1] + math.sqrt(1 - phi * phi) * shocks[:, day]

    missed = missed_by_control = 0
    for stream in days:
        looked = [windows_of(stream[:n]) for n in range(14, n_days + 1, 4)]
        missed += any(abs(w.total) > (w.radius(0.05) or math.inf) for w in looked)
        missed_by_control += any(
            abs(w.total) > math.sqrt(w.spread / w.n_days) * two_sided_radius(w.n_days, 0.05, RHO_DAYS) for w in looked
        )
    assert missed / n_streams <= 0.07
    assert missed_by_control / n_streams >= 0.2


@pytest.mark.parametrize("row", INTERVALS["rows"], ids=lambda row: f"tuned for {row['tuning']}")
def test_two_sided_intervals_reproduce_growthbook(row: dict[str, Any]) -> None:
    """Two arms of independent rows there, one row of pairs here: the same sum of n rows with that variance."""
    (n_a, mean_a, deviation_a), (n_b, mean_b, deviation_b) = row["a"], row["b"]
    n = n_a + n_b
    deviation = math.sqrt(n * (deviation_a**2 / n_a + deviation_b**2 / n_b))
    rho = mixture_scale(row["tuning"], row["alpha"])
    radius = deviation * two_sided_radius(n, row["alpha"], rho) / n
    got = [row["point"], row["point"] - radius, row["point"] + radius, 1 / math.sqrt(rho)]
    assert got == pytest.approx([mean_b - mean_a, *row["ci"], row["rho"]], rel=1e-9)


def test_scales_and_bounds_reproduce_the_authors_own_tests() -> None:
    """Of Howard's program: the scale for variance 100, and a one-sided bound at it."""
    assert mixture_scale(100, 0.05) == pytest.approx(12.60056, abs=5e-6)
    assert log_e_one_sided(10, 100, mixture_scale(100, 0.1)) == pytest.approx(-0.06502391, abs=5e-9)
    assert log_e_one_sided(27.66071, 100, mixture_scale(100, 0.1)) == pytest.approx(math.log(20), abs=5e-6)


def test_outcomes_that_are_all_equal_are_no_evidence() -> None:
    assert log_e_of_outcomes(0, 0.0, 0.0, 0.0) == 0.0
    assert log_e_of_outcomes(50, 5.0, 0.5, 0.0) == 0.0
