"""The figures of drift, against other people's numbers and plain loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss, roc_auc_score

from retrain.drift import measures
from retrain.drift.bets import ALARM_DAYS, STAKES, TOLERANCE, Detector, Guesser, Signs, loss_factor
from retrain.drift.estimate import estimated, score_sketch
from retrain.drift.reference import codes_of, reference_of
from retrain.drift.sketch import Sketcher, empty
from tests.retrain.drift_worlds import LAYOUT, SCHEMA, page_of, rows_of

COUNTS = st.lists(st.integers(0, 500), min_size=2, max_size=12)


def test_psi_is_that_of_the_golden_counts_with_shares_of_at_least_a_millionth() -> None:
    before, now = np.array([100, 200, 300, 250, 150]), np.array([80, 150, 320, 280, 170])
    assert measures.psi(before, now) == pytest.approx(0.02604086848991491, rel=1e-12)
    assert measures.psi(before, before) == 0
    assert measures.psi(np.array([1, 1]), np.array([2, 0])) == pytest.approx(
        0.5 * math.log(2) + (0.5 - 1e-6) * math.log(0.5e6), rel=1e-12
    )


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-50, 50), min_size=2, max_size=60), st.lists(st.floats(-50, 50), min_size=2, max_size=60))
def test_ks_and_wasserstein_of_every_value_in_a_bin_of_its_own_are_exact(u: list[float], w: list[float]) -> None:
    positions = np.unique(np.array(u + w))
    before, now = ((np.array(sample)[:, None] == positions).sum(axis=0) for sample in (u, w))
    assert measures.kolmogorov_smirnov(before, now) == pytest.approx(
        stats.ks_2samp(u, w, method="asymp").statistic, abs=1e-9
    )
    assert measures.wasserstein(positions, before, now) == pytest.approx(stats.wasserstein_distance(u, w), abs=1e-9)


def test_ks_and_wasserstein_are_those_of_the_golden_samples() -> None:
    i = np.arange(1, 401)
    u, w = np.sin(0.37 * i).round(6), (1.2 * np.sin(0.41 * i) + 0.1).round(6)
    positions = np.unique(np.concatenate([u, w]))
    before, now = ((sample[:, None] == positions).sum(axis=0) for sample in (u, w))
    assert measures.kolmogorov_smirnov(before, now) == pytest.approx(0.23, abs=1e-12)
    assert measures.wasserstein(positions, before, now) == pytest.approx(0.14466158749999997, rel=1e-9)


@given(COUNTS, COUNTS)
def test_jensen_shannon_is_scipys_distance_squared(p: list[int], q: list[int]) -> None:
    n = min(len(p), len(q))
    p, q = [*p[:n], 1], [*q[:n], 1]
    expected = jensenshannon(p, q, base=2) ** 2
    assert measures.jensen_shannon(np.array(p), np.array(q)) == pytest.approx(expected, abs=1e-9)


def test_psi_by_chance_is_what_psi_averages_where_nothing_moved() -> None:
    rng = np.random.default_rng(1)
    p = np.array([0.05, 0.15, 0.3, 0.3, 0.2])
    found = measures.psi(rng.multinomial(4_000, p, 3_000), rng.multinomial(1_500, p, 3_000)).mean()
    assert found == pytest.approx(measures.psi_by_chance(5, 4_000, 1_500), rel=0.06)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), cut=st.integers(1, 199), n_reference=st.integers(20, 3_000))
def test_a_sketch_counts_what_the_plain_loop_counts_and_merges(seed: int, cut: int, n_reference: int) -> None:
    rng = np.random.default_rng(seed)
    reference = reference_of(rows_of(rng, n_reference), SCHEMA.features, "training")
    columns = rows_of(rng, 200, older=10, town="Kaunas")
    sketcher = Sketcher(reference)
    whole = sketcher.sketch(page_of(columns, [200]), LAYOUT)
    for bins, counts in zip(reference.bins, whole.counts, strict=True):
        codes = codes_of(bins, columns[bins.name])
        assert list(counts) == np.bincount(codes, minlength=bins.n_bins).tolist()
    for name in ("age", "income", "visits", "vip"):
        place = SCHEMA.names.index(name)
        assert whole.sums[place] == pytest.approx(np.nansum(columns[name].astype(np.float64)), rel=1e-9)
        assert whole.squares[place] == pytest.approx(np.nansum(columns[name].astype(np.float64) ** 2), rel=1e-6)
    chunks = page_of(columns, [cut, 200 - cut])
    parts = [sketcher.sketch([chunk], LAYOUT) for chunk in chunks]
    together = empty(reference).merge(parts[1]).merge(parts[0])
    assert (together.n_rows, together.counts) == (whole.n_rows, whole.counts)
    assert together.sums == pytest.approx(whole.sums, rel=1e-12)
    which = rng.integers(0, 200, 9)
    expected = np.stack([codes_of(bins, columns[bins.name])[which] for bins in reference.bins], axis=1)
    np.testing.assert_array_equal(sketcher.codes(chunks, LAYOUT, which), expected)


def test_bins_are_deciles_of_the_reference_and_new_values_are_told_from_rare_ones() -> None:
    rng = np.random.default_rng(3)
    columns = rows_of(rng, 20_000)
    columns["branch"] = np.array([f"b{k}" for k in rng.zipf(1.5, 20_000) % 60], object)
    age, income, visits, vip, branch = reference_of(columns, SCHEMA.features, "training").bins
    assert len(age.cuts) == 9
    assert max(age.counts[:-1]) - min(age.counts[:-1]) <= 20
    assert income.counts[-1] == np.isnan(columns["income"]).sum()
    assert vip.counts == ((~columns["vip"]).sum(), columns["vip"].sum(), 0)
    assert visits.cuts[0] == 0
    assert sum(branch.counts) == 20_000
    assert branch.counts[len(branch.values) + 1] == 0
    known, rare, new = codes_of(branch, np.array([branch.values[3], branch.others[-1], "elsewhere"], object)).tolist()
    assert (known, rare, new) == (3, len(branch.values), len(branch.values) + 1)


def test_absurd_numbers_are_counted_and_their_sums_are_numbers() -> None:
    """What callers can send: neither a warning nor a mean of infinity comes of it."""
    rng = np.random.default_rng(3)
    columns = rows_of(rng, 200)
    columns["income"][:4] = [1e308, 1e308, -1e308, 5e-324]
    for reference in (reference_of(rows_of(rng, 900), SCHEMA.features, "training"),
                      reference_of(columns, SCHEMA.features, "traffic")):  # fmt: skip
        sketch = Sketcher(reference).sketch(page_of(columns, [200]), LAYOUT)
        place = SCHEMA.names.index("income")
        bins = reference.bins[place]
        assert (
            list(sketch.counts[place]) == np.bincount(codes_of(bins, columns["income"]), minlength=bins.n_bins).tolist()
        )
        assert np.isfinite([sketch.sums[place], sketch.squares[place], bins.mean, bins.sd, *bins.centres]).all()


def test_the_factor_of_a_day_is_the_mean_over_stakes_of_the_product_of_its_bets() -> None:
    signs, tolerance = [1] * 7 + [-1] * 4 + [0] * 3, TOLERANCE
    plain = sum(math.prod(1 + stake * (s - tolerance) for s in signs) for stake in STAKES) / len(STAKES)
    assert Signs(7, 4, 3).log_factor() == pytest.approx(math.log(plain), rel=1e-12)
    assert Signs().log_factor() == 0


def test_a_detector_adds_one_multiplies_and_starts_again_after_an_alarm() -> None:
    detector, plain, alarms = Detector(), 0.0, []
    rng = np.random.default_rng(5)
    for day, factor in enumerate(np.exp(rng.normal(0.4, 1.0, 200)).tolist()):
        detector.see(day, math.log(factor))
        plain = (plain + 1) * factor
        if plain >= ALARM_DAYS:
            alarms.append(day)
            plain = 0.0
    assert list(detector.alarms) == alarms
    assert len(alarms) > 3


def alarm_days(seed: int, n_days: int, n_reference: int, moves: dict[str, Any] | None = None) -> list[int]:
    """When the bets alarm over days of 150 rows; `moves` from the twentieth day on."""
    rng = np.random.default_rng(seed)
    reference = reference_of(rows_of(rng, n_reference), SCHEMA.features, "training")
    sketcher, guesser, detector = Sketcher(reference), Guesser(reference), Detector()
    for day in range(n_days):
        page = page_of(rows_of(rng, 150, **(moves if moves and day >= 20 else {})), [150])
        signs = guesser.signs(sketcher.codes(page, LAYOUT, np.arange(0, 150, 2)))
        detector.see(day, signs.log_factor())
        guesser.learn(sketcher.sketch(page, LAYOUT))
    return list(detector.alarms)


def test_days_like_the_reference_do_not_alarm() -> None:
    alarms = [day for seed in range(5) for day in alarm_days(seed, 120, 1_000)]
    assert len(alarms) <= 1  # 600 days, and one false alarm in 365 is allowed


def test_days_that_moved_alarm_within_days() -> None:
    alarms = alarm_days(7, 40, 3_000, {"older": 12.0})
    assert alarms[0] in range(20, 25)
    assert alarm_days(7, 40, 3_000) == []


def test_the_factor_of_a_loss_is_at_most_one_on_average_while_losses_are_at_most_a_tenth_higher() -> None:
    rng = np.random.default_rng(2)
    losses = rng.exponential(0.44, 200_000)
    assert np.mean([math.exp(loss_factor(loss, 0.4)) for loss in losses.tolist()]) == pytest.approx(1.0, abs=0.01)
    assert loss_factor(0.8, 0.4) > 0.3


def test_estimates_are_what_calibrated_scores_come_to() -> None:
    rng = np.random.default_rng(4)
    p = rng.beta(2, 5, 200_000)
    happened = rng.random(len(p)) < p
    said = estimated("binary", score_sketch("binary", p, ()))
    assert said is not None
    assert said.log_loss == pytest.approx(log_loss(happened, p), rel=0.01)
    assert said.brier == pytest.approx(brier_score_loss(happened, p), rel=0.01)
    assert said.accuracy == pytest.approx(accuracy_score(happened, p > 0.5), rel=0.01)
    assert said.auc == pytest.approx(roc_auc_score(happened, p), abs=0.005)
    three = rng.dirichlet([2, 1, 1], 100_000)
    label = (rng.random((len(three), 1)) > three.cumsum(axis=1)).sum(axis=1)
    many = estimated("multiclass", score_sketch("multiclass", three, ()))
    assert many is not None
    assert many.log_loss == pytest.approx(log_loss(label, three), rel=0.01)
    assert many.accuracy == pytest.approx(accuracy_score(label, three.argmax(axis=1)), rel=0.01)
    assert many.auc is None


def test_estimates_of_two_halves_are_those_of_the_whole() -> None:
    rng = np.random.default_rng(8)
    p = rng.random(1_000)
    whole, halves = score_sketch("binary", p, ()), [score_sketch("binary", part, ()) for part in (p[:300], p[300:])]
    merged = halves[1].merge(halves[0])
    assert (merged.n, merged.counts) == (whole.n, whole.counts)
    assert merged.log_loss == pytest.approx(whole.log_loss, rel=1e-12)
    assert estimated("regression", score_sketch("regression", p, (0.5,))) is None
