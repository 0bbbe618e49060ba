"""What a policy names reaches the evidence: losses, amounts, scales, segments, sources, decisions, corrections."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace

from gateway.records import Address
from registry.types import Backtest, Metric, TrainingReport
from retrain.evidence import Pairs, compare
from retrain.kept import FORMAT, kept_of, stored_sums
from retrain.names import MOST_NAMED, OTHERS, few, within_cap
from retrain.terms import rule_of
from tests.actors import linear, logistic
from tests.seasons import N_ROWS, QUICK, TRUTH, WEAK, answers, ends, lives, probability, rows_of
from tests.stage import DAY, Stage, staged

SEASON = 34
DEAR = ((0.0, 10.0), (1.0, 0.0))
"""To miss a one costs ten times what a false alarm costs."""


def one_day(stage: Stage, version: int, outcomes: list[int], **said: object) -> None:
    """One day, closed: rows of day 0."""
    rows, _ = rows_of(0)
    stage.outcomes(stage.predict(0.5, rows, **said), outcomes, 0.9)  # type: ignore[arg-type]
    stage.shadow(version, answers(TRUTH))
    ends(stage, 0)
    stage.close_all()


# --- losses


def test_costs_are_those_of_each_versions_own_decision_times_the_logged_amount(tmp_path: Path) -> None:
    with staged(tmp_path / "store") as stage:
        stage.declare(replace(QUICK, metric=Metric(loss="cost", cost=DEAR, amount_feature="a")))
        stage.champion(logistic(WEAK), training=TrainingReport(n_rows=1, threshold=0.5))
        version = stage.challenger(logistic(TRUTH), training=TrainingReport(n_rows=1, threshold=0.3))
        rows, happened = rows_of(0)
        one_day(stage, version, happened)
        (sums,) = stored_sums(stage.registry.closed_buckets("m", 1), version)
        y, amount = np.array(happened), np.where(rows[:, 0] > 0, rows[:, 0], 0.0)  # what is no amount costs nothing
        costs = np.array(DEAR)
        champion = costs[(probability(rows, WEAK) >= 0.5).astype(int), y] * amount / 10
        challenger = costs[(probability(rows, TRUTH) >= 0.3).astype(int), y] * amount / 10
        assert sums.sum_d == pytest.approx((champion - challenger).sum(), abs=1e-6)
        assert sums.sum_champion_loss == pytest.approx(champion.sum(), abs=1e-6)


def test_a_season_of_costs_promotes_who_decides_better(tmp_path: Path) -> None:
    with staged(tmp_path / "store") as stage:
        stage.declare(replace(QUICK, metric=Metric(loss="cost", cost=((0.0, 1.0), (1.0, 0.0)))))
        stage.champion(logistic((-0.4, 0.0)))
        better = stage.challenger(logistic(TRUTH))
        lives(stage, range(SEASON), {better: TRUTH})
        ends(stage, SEASON)
        stage.close_all()
        assert [version for version, _ in stage.promotions()] == [better]
        assert stage.registry.decisions("m")[-1].evidence["rule"]["loss"] == "cost"  # type: ignore[index]


def test_pinball_is_divided_by_the_logged_scale_of_each_row(tmp_path: Path) -> None:
    with staged(tmp_path / "store") as stage:
        metric = Metric(loss="pinball", quantile=0.8, scale_feature="b")
        stage.declare(replace(QUICK, metric=metric), task="regression")
        training = TrainingReport(n_rows=1, scale=2.0, prior=0.0, metric=metric)
        stage.champion(linear((1.0, 0.0)), training=training)
        version = stage.challenger(linear((1.0, 0.5)))
        rows, _ = rows_of(0)
        outcomes = rows.sum(axis=1)
        stage.outcomes(stage.predict(0.5, rows), outcomes.tolist(), 0.9)
        stage.mirrored()
        ends(stage, 0)
        stage.close_all()
        (sums,) = stored_sums(stage.registry.closed_buckets("m", 1), version)
        scale = np.where(rows[:, 1] > 0, rows[:, 1], 2.0)

        def lost(forecast: object) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
            miss = outcomes - forecast
            return np.asarray(np.maximum(0.8 * miss, -0.2 * miss) / scale)

        expected = lost(rows[:, 0]) - lost(rows @ np.array([1.0, 0.5]))
        assert sums.sum_d == pytest.approx(expected.sum(), rel=1e-4)


def test_a_rule_follows_from_frozen_terms_and_reports_and_from_nothing_else(tmp_path: Path) -> None:
    with staged(tmp_path / "store") as stage:
        stage.declare(QUICK)
        stage.champion(logistic(WEAK), training=TrainingReport(n_rows=1, base_rate=0.1, reference_loss=0.4))
        model, reign = stage.registry.model("m"), stage.registry.reign("m")
        rule = rule_of(model, reign, DAY)
        assert (rule.base_rate, rule.reference_loss, rule.informed_bet) == (0.1, 0.4, None)
        won = Backtest(champion=1, n_rows=500, mean_difference=0.1, variance=0.2, largest_gap=0.5, bet=0.5)
        assert rule_of(model, reign, DAY, TrainingReport(n_rows=1, backtest=won)).informed_bet == 0.5
        elsewhere = replace(won, champion=7)
        assert rule_of(model, reign, DAY, TrainingReport(n_rows=1, backtest=elsewhere)).digest == rule.digest
        other_units = TrainingReport(n_rows=1, reference_loss=0.4, metric=Metric(loss="brier"))
        assert rule_of(model, replace(reign, training=other_units), DAY).reference_loss is None


# --- who said it, and of what


def test_rows_of_one_association_id_are_one_proof(tmp_path: Path) -> None:
    with staged(tmp_path / "store") as stage:
        stage.declare(replace(QUICK, association="all"))
        stage.champion(logistic(WEAK))
        version = stage.challenger(logistic(TRUTH))
        one_day(stage, version, [1] * N_ROWS, associations=[f"loan-{row // 3}" for row in range(N_ROWS)])
        (sums,) = stored_sums(stage.registry.closed_buckets("m", 1), version)
        assert (sums.n, sums.n_due) == (N_ROWS // 3, N_ROWS // 3)


def test_a_source_that_reports_more_than_its_share_is_cut_to_it(tmp_path: Path) -> None:
    found = {}
    for share in (None, 0.5):
        with staged(tmp_path / str(share)) as stage:
            stage.declare(replace(QUICK, max_source_share=share))
            stage.champion(logistic(WEAK))
            version = stage.challenger(logistic(TRUTH))
            rows, happened = rows_of(0)
            addresses = stage.predict(0.5, rows)
            stage.outcomes(addresses[:50], happened[:50], 0.9, source="loud")
            stage.outcomes(addresses[50:], happened[50:], 0.9, source="quiet")
            stage.shadow(version, answers(TRUTH))
            ends(stage, 0)
            stage.close_all()
            (kept,) = kept_of(stage.registry.closed_buckets("m", 1), version)
            found[share] = {name: sums.n for name, sums in kept.sums.sources.items()}, kept.population.n_over_cap
    assert found == {None: ({"loud": 50, "quiet": 10}, 0), 0.5: ({"loud": 10, "quiet": 10}, 40)}


def test_with_one_source_alone_a_cap_leaves_nothing_and_names_stay_few() -> None:
    addresses = np.arange(30, dtype="<i8").reshape(10, 3)
    assert not within_cap(np.array(["a"] * 10), addresses, 10, 0.9).any()
    assert within_cap(np.array([""] * 10), addresses, 10, 0.1).all()
    names = few(np.array([f"s{i}" for i in range(500)] + ["big"] * 9))
    assert len(set(names)) == MOST_NAMED + 1
    assert OTHERS in names
    assert "big" in names


def test_slow_answers_are_counted_where_latency_is_limited(tmp_path: Path) -> None:
    counts = {}
    for limit_ms in (None, 1e-3, 1e6):
        with staged(tmp_path / str(limit_ms)) as stage:
            stage.declare(replace(QUICK, latency_limit_ms=limit_ms))
            stage.champion(logistic(WEAK))
            version = stage.challenger(logistic(TRUTH))
            rows, happened = rows_of(0)
            addresses = stage.predict(0.5, rows[:30]) + stage.predict(0.6, rows[30:])
            stage.outcomes(addresses, happened, 0.9)
            stage.mirrored()
            ends(stage, 0)
            stage.close_all()
            (sums,) = stored_sums(stage.registry.closed_buckets("m", 1), version)
            assert sums.serving is not None
            assert (sums.serving.errors.n, sums.serving.n_mirrored) == (N_ROWS, N_ROWS)
            counts[limit_ms] = (sums.serving.slow.n, sums.serving.slow.challenger_only)
            latency_s = stage.entry(version)["latency_s"]
            assert (latency_s is None) == (limit_ms is None)
            assert latency_s == sums.serving.latency_s
    # a stage's champion takes no time; a thousandth of a millisecond is too short for any call
    assert counts == {None: (0, 0), 1e-3: (2, 2), 1e6: (2, 0)}


# --- what can have an outcome at all


def bank(stage: Stage, *, logs_chance: bool) -> int:
    """15 % are rejected by the champion, and of those one in fifty is approved all the same, to learn from."""
    stage.declare(replace(QUICK, observed="if_approved", approved_decisions=("approve",), min_coverage=0.5))
    stage.champion(logistic(WEAK))
    version = stage.challenger(logistic(TRUTH))
    generator = np.random.default_rng(5)
    for day in range(SEASON):
        rows, happened = rows_of(day, 200)
        risky = probability(rows, WEAK) >= np.quantile(probability(rows, WEAK), 0.85)
        approved = ~risky | (generator.random(200) < 0.02)
        told = ["approve" if yes else "reject" for yes in approved]
        chance = [1.0 if not risk else (0.02 if yes else 0.98) for risk, yes in zip(risky, approved, strict=True)]
        addresses = stage.predict(day + 0.5, rows, decisions=told, propensities=chance if logs_chance else None)
        seen = np.flatnonzero(approved)
        stage.outcomes([addresses[row] for row in seen], [happened[row] for row in seen], day + 0.9)
    stage.shadow(version, answers(TRUTH))
    ends(stage, SEASON)
    stage.close_all()
    return version


def test_without_logged_chances_the_claim_is_about_what_was_approved_and_says_so(tmp_path: Path) -> None:
    with staged(tmp_path / "store") as stage:
        version = bank(stage, logs_chance=False)
        (promotion,) = [d for d in stage.registry.decisions("m") if d.kind == "promote"]
        assert promotion.evidence is not None
        assert promotion.version == version
        assert "of rows decided approve, which say nothing of the 1" in promotion.reason
        population = promotion.evidence["population"]
        assert 0.8 < population["share_due"] < 0.9
        (seen,) = [each for each in promotion.evidence["conditions"] if each["name"] == "observed"]
        assert seen["holds"]
        assert 0 < int(seen["detail"].split(" %")[0]) <= 50


def test_with_logged_chances_the_claim_is_about_everybody(tmp_path: Path) -> None:
    with staged(tmp_path / "store") as stage:
        version = bank(stage, logs_chance=True)
        kept = kept_of(stage.registry.closed_buckets("m", 1), version)
        assert all(each.population.n_due == each.population.n_rows == 200 for each in kept)
        assert any(each.sums.sum_weight >= 50 for each in kept)
        found = [d for d in stage.registry.decisions("m") if d.kind == "promote"]
        sentence = found[0].reason if found else stage.entry(version)["sentence"]
        assert "that stand for" in sentence


def test_versions_that_differ_where_nothing_is_seen_are_not_promoted(tmp_path: Path) -> None:
    """Approved are only those on whom both agree: what is better elsewhere cannot be known."""
    with staged(tmp_path / "store") as stage:
        policy = replace(QUICK, observed="if_approved", approved_decisions=(1,), min_outcomes=10, min_minority=1)
        stage.declare(policy)
        stage.champion(logistic(WEAK))
        version = stage.challenger(logistic(TRUTH))
        for day in range(2):
            rows, happened = rows_of(day)
            near = np.abs(probability(rows, WEAK) - probability(rows, TRUTH)) < 0.1
            addresses = stage.predict(day + 0.5, rows, decisions=near.astype(int).tolist())
            seen = np.flatnonzero(near)
            stage.outcomes([addresses[row] for row in seen], [happened[row] for row in seen], day + 0.9)
        stage.shadow(version, answers(TRUTH))
        ends(stage, 2)
        stage.close_all()
        conditions = {condition["name"]: condition for condition in stage.entry(version)["conditions"]}
        assert not conditions["observed"]["holds"]


# --- what came after its time, and what was kept before this code


def test_late_corrections_are_counted_shown_and_un_decide_nothing(tmp_path: Path) -> None:
    with staged(tmp_path / "store") as stage:
        stage.declare(QUICK)
        stage.champion(logistic(WEAK))
        version = stage.challenger(logistic(TRUTH))
        lives(stage, range(3), {version: TRUTH})
        ends(stage, 3)
        stage.close_all(cycle := stage.cycle())
        decided = stage.entry(version)
        (head, _), *_ = stage.chunks()
        _, happened = rows_of(0)
        for row in range(4):
            stage.outcomes(stage_addresses(head.writer, head.seq, row), [1 - happened[row]], 5.5)
        lives(stage, range(5, 6), {version: TRUTH})
        ends(stage, 6)
        for worker in (cycle, stage.cycle()):  # counted the same by one that has just started
            stage.close_all(worker)
            entry = stage.entry(version)
            assert entry["corrections"]["n_corrected"] == 4
            assert entry["corrections"]["alarm"]
            now = entry["corrections"]["as_known_now"]
            assert now["n_matured"] == entry["n_matured"] == decided["n_matured"] + N_ROWS
            assert now["log_e"] != entry["log_e"]
        conditions = {condition["name"]: condition["holds"] for condition in entry["conditions"]}
        assert not conditions["corrections"]


def stage_addresses(writer: int, seq: int, row: int) -> list[Address]:
    return [Address(writer, seq, row)]


def test_sums_of_another_format_are_derived_again_from_the_journal(tmp_path: Path) -> None:
    with staged(tmp_path / "store") as stage:
        stage.declare(QUICK)
        stage.champion(logistic(WEAK))
        version = stage.challenger(logistic(TRUTH))
        lives(stage, range(3), {version: TRUTH})
        ends(stage, 3)
        stage.close_all()
        expected, kept = stage.entry(version), stage.registry.closed_buckets("m", 1)

        with staged(tmp_path / "old") as old:
            old.declare(QUICK)
            old.champion(logistic(WEAK))
            old.challenger(logistic(TRUTH))
            lives(old, range(3), {version: TRUTH})
            ends(old, 3)
            for bucket in kept:  # bare sums under names, as format 1 had them
                told = {key: msgspec.msgpack.encode({"bucket": bucket.bucket, "n": 60}) for key in bucket.sums}
                old.registry.close_bucket(
                    "m", 1, bucket.bucket, closed_at=bucket.closed_at, prediction_cursor=bucket.prediction_cursor,
                    outcome_cursor=bucket.outcome_cursor, sums=told,
                )  # fmt: skip
            old.close_all()
            assert old.entry(version)["log_e"] == expected["log_e"]
            assert old.entry(version)["n_matured"] == expected["n_matured"]
    assert FORMAT == 4


def test_compare_of_the_pairs_and_the_cycle_say_the_same_of_a_cost(tmp_path: Path) -> None:
    """The rule of a decision, taken from its record, gives the same figures over pairs put together by hand."""
    with staged(tmp_path / "store") as stage:
        stage.declare(replace(QUICK, metric=Metric(loss="cost", cost=DEAR)))
        stage.champion(logistic(WEAK))
        version = stage.challenger(logistic(TRUTH))
        lives(stage, range(4), {version: TRUTH})
        ends(stage, 4)
        stage.close_all()
        rule = rule_of(stage.registry.model("m"), stage.registry.reign("m"), DAY)
        days = [rows_of(day) for day in range(4)]
        rows, happened = np.concatenate([r for r, _ in days]), np.concatenate([y for _, y in days])
        pairs = Pairs(happened, probability(rows, WEAK), probability(rows, TRUTH), np.repeat(np.arange(4), N_ROWS))
        assert compare(pairs, rule).log_e == pytest.approx(stage.entry(version)["log_e"], rel=1e-9)
