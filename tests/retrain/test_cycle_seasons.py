"""Whole seasons by other terms: shown items, segments, quantiles; and many writers, whose rows say the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from gateway.columns import Array
from registry.types import Decision, Feature, InputSchema, Metric, TrainingReport
from tests.actors import SCHEMA, linear, logistic
from tests.seasons import N_ROWS, QUICK, TRUTH, WEAK, Weights, answers, ends, probability, rows_of
from tests.stage import Stage, staged

SEASON, LONG = 36, 48
UNIFORM: Weights = (0.0, 0.0)
"""A champion that shows every item with a chance of one half."""
LIKES_A: Weights = (1.0, 0.0)


def promotion(stage: Stage) -> Decision | None:
    return next((each for each in stage.registry.decisions("m") if each.kind == "promote"), None)


def conditions(stage: Stage, version: int) -> dict[str, dict[str, object]]:
    return {each["name"]: each for each in stage.entry(version)["conditions"]}


# --- shown items, by logged chances


def shop(stage: Stage, *, min_outcomes: int, weights: Weights) -> int:
    """Items are shown with the champion's chance, which is logged; the higher a is, the more is clicked."""
    stage.declare(
        replace(
            QUICK, metric=Metric(loss="reward"), observed="if_shown", approved_decisions=(1,), min_minority=0,
            min_outcomes=min_outcomes,
        )
    )  # fmt: skip
    stage.champion(logistic(UNIFORM))
    version = stage.challenger(logistic(weights))
    for day in range(LONG):
        generator = np.random.default_rng([23, day])
        rows = generator.normal(size=(200, 2))
        shown = generator.random(200) < 0.5
        clicked = generator.random(200) < 0.6 * probability(rows, (2.0, 0.0))
        addresses = stage.predict(day + 0.5, rows, decisions=shown.astype(int).tolist(), propensities=[0.5] * 200)
        seen = np.flatnonzero(shown)
        stage.outcomes([addresses[row] for row in seen], [int(clicked[row]) for row in seen], day + 0.9)
    stage.shadow(version, answers(weights))
    ends(stage, LONG)
    stage.close_all()
    return version


def test_who_would_show_what_is_clicked_is_promoted_on_what_another_one_showed(tmp_path: Path) -> None:
    """The gain is that of r (w - 1), w = π/0.5 by the chances; only shown rows count, and none of the others vetoes."""
    with staged(tmp_path / "store") as stage:
        version = shop(stage, min_outcomes=200, weights=LIKES_A)
        promoted = promotion(stage)
        assert promoted is not None
        assert promoted.version == version
        assert promoted.evidence is not None
        assert "earns" in promoted.reason
        n, n_effective = promoted.evidence["n"], promoted.evidence["n_effective_sample"]
        assert 2_800 < n < 0.6 * 200 * LONG
        assert promoted.evidence["population"]["n_due"] == n
        days = range(len({*stage.closed(1)}))
        expected: list[float] = []
        weights: list[float] = []
        for day in days:
            generator = np.random.default_rng([23, day])
            rows = generator.normal(size=(200, 2))
            shown = generator.random(200) < 0.5
            clicked = generator.random(200) < 0.6 * probability(rows, (2.0, 0.0))
            w = probability(rows, LIKES_A)[shown] / 0.5
            expected.extend(clicked[shown] * (w - 1))
            weights.extend(w)
        assert promoted.evidence["mean"] == pytest.approx(np.mean(expected), rel=1e-4)
        assert n_effective == pytest.approx(np.sum(weights) ** 2 / np.sum(np.square(weights)), rel=1e-4)
        assert n_effective < 0.9 * n


def test_a_tiny_effective_sample_promotes_nobody(tmp_path: Path) -> None:
    """Weights as far apart as 0 and 2: what is left of the outcomes is less than the terms ask for."""
    with staged(tmp_path / "store") as stage:
        version = shop(stage, min_outcomes=3_000, weights=(9.0, 0.0))
        assert promotion(stage) is None
        held = conditions(stage, version)
        assert held["outcomes"]["holds"]
        assert not held["effective_sample"]["holds"]
        assert [name for name, each in held.items() if not each["holds"]] == ["effective_sample"]


# --- segments


def branches(stage: Stage, segments: tuple[str, ...]) -> int:
    """Better in three branches of four; in the smallest the opposite happens of what the challenger says of b."""
    schema = InputSchema((*SCHEMA.features, Feature("branch", "string")))
    stage.declare(replace(QUICK, metric=Metric(segments=segments), min_auc_difference=-0.5), schema=schema)
    stage.champion(logistic(WEAK))
    version = stage.challenger(logistic(TRUTH))
    names = ["Braga" if row % 15 == 0 else ("Porto", "Lisboa", "Faro")[row % 3] for row in range(N_ROWS)]
    lost = np.array([name == "Braga" for name in names])
    for day in range(LONG):
        rows, happened = rows_of(day)
        turned = np.random.default_rng([29, day]).random(N_ROWS) < probability(rows, (0.4, -1.5))
        outcome = np.where(lost, turned, happened).astype(int)
        addresses = stage.predict(day + 0.5, rows, texts=[(name,) for name in names])
        stage.outcomes(addresses, outcome.tolist(), day + 0.9)
    stage.shadow(version, answers(TRUTH))
    ends(stage, LONG)
    stage.close_all()
    return version


def test_a_segment_that_loses_vetoes_what_gains_in_all(tmp_path: Path) -> None:
    with staged(tmp_path / "all") as stage:
        branches(stage, ())
        assert promotion(stage) is not None  # the control: nothing else stands against it
    with staged(tmp_path / "each") as stage:
        version = branches(stage, ("branch",))
        assert promotion(stage) is None
        held = conditions(stage, version)
        assert [name for name, each in held.items() if not each["holds"]] == ["segments"]
        assert "'branch=Braga' speaks most against the challenger" in str(held["segments"]["detail"])


# --- quantiles


def test_a_season_of_quantiles_promotes_who_forecasts_the_upper_one(tmp_path: Path) -> None:
    """0.84 of a normal error is below one spread: who forecasts that much more loses less of pinball, not of error."""
    with staged(tmp_path / "store") as stage:
        metric = Metric(loss="pinball", quantile=0.84)
        stage.declare(replace(QUICK, metric=metric, min_minority=0), task="regression")
        report = TrainingReport(n_rows=100, reference_loss=0.3, scale=1.0, prior=0.0, metric=metric)
        stage.champion(linear((1.0, 1.0)), training=report)
        upper = stage.challenger(linear((1.0, 1.0), bias=1.0))
        for day in range(SEASON):
            rows, _ = rows_of(day)
            noise = np.random.default_rng([31, day]).normal(size=N_ROWS)
            stage.outcomes(stage.predict(day + 0.5, rows), (rows.sum(axis=1) + noise).tolist(), day + 0.9)
        stage.mirrored()
        ends(stage, SEASON)
        stage.close_all()
        promoted = promotion(stage)
        assert promoted is not None
        assert promoted.version == upper
        assert promoted.evidence is not None
        # E of the pinball loss of a normal error at 0 and at its 84 % point: 0.3989 and about 0.2433
        assert promoted.evidence["mean"] == pytest.approx(0.3989 - 0.2433, abs=0.02)


# --- many writers


def written(stage: Stage, n_writers: int, order: Array) -> tuple[Decision, list[float]]:
    """The same rows by one or many writing processes, in some order; the decision, and ln E after each bucket."""
    stage.declare(QUICK)
    stage.champion(logistic(WEAK))
    version = stage.challenger(logistic(TRUTH))
    writers = [stage.another_writer() for _ in range(n_writers)]
    for day in range(SEASON):
        rows, happened = rows_of(day, 64)
        parts = zip(writers, np.array_split(order, n_writers), strict=True)
        addresses = [each for writer, mine in parts for each in stage.predict(day + 0.5, rows[mine], writer=writer)]
        stage.outcomes(addresses, [happened[row] for row in order], day + 0.9)
    stage.shadow(version, answers(TRUTH))
    stage.clock(SEASON + 2)
    for writer in (*writers, stage.writer):
        stage.beat(SEASON + 2, writer)
    seen: list[float] = []
    cycle = stage.cycle()
    while promotion(stage) is None and cycle.step():
        if (document := stage.registry.evidence("m")) is not None:
            seen.extend(entry["log_e"] for entry in document["challengers"])
    decided = promotion(stage)
    assert decided is not None
    return decided, seen


def test_rows_of_64_writers_decide_as_those_of_one(tmp_path: Path) -> None:
    with staged(tmp_path / "one") as stage:
        one, each_day = written(stage, 1, np.arange(64))
    with staged(tmp_path / "many") as stage:
        many, each_day_of_many = written(stage, 64, np.random.default_rng(1).permutation(64))
    assert one.evidence is not None
    assert many.evidence is not None
    assert one.cursors is not None
    assert many.cursors is not None
    assert (one.version, one.reason, one.cursors["bucket"]) == (many.version, many.reason, many.cursors["bucket"])
    assert len(many.cursors["predictions"]) >= 64
    for name in ("log_e", "log_e_inferior", "log_e_clustered", "mean", "low", "high"):
        assert many.evidence[name] == pytest.approx(one.evidence[name], rel=1e-9)
    assert each_day_of_many == pytest.approx(each_day, rel=1e-9)
