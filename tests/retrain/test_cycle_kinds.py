"""Other tasks than the plain one, what cannot be judged, and what can be derived again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from registry.types import Policy, TrainingReport
from retrain.bucket import AsOf, BucketReader
from retrain.cohorts import matured_us
from retrain.evidence import judge
from retrain.kept import stored_sums
from retrain.reign import contenders_of
from tests.actors import linear, logistic, signature
from tests.seasons import N_ROWS, QUICK, TRUTH, WEAK, ends, lives, rows_of
from tests.stage import DAY, ME, Stage, staged

SEASON = 36


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A weak champion, nobody else yet."""
    with staged(tmp_path / "store") as made:
        made.declare(QUICK)
        made.champion(logistic(WEAK))
        yield made


# --- other tasks


def test_a_binary_score_in_the_first_column_is_judged_as_the_second_would_be(tmp_path: Path) -> None:
    kept = []
    for column in (0, 1):
        with staged(tmp_path / str(column)) as stage:
            stage.declare(QUICK)
            champion, better = logistic(WEAK), logistic(TRUTH)
            said = signature(champion)
            said = replace(said, score=replace(said.score, column=column))
            stage.champion(champion, said=said)
            number = stage.challenger(better, said=said)
            lives(stage, range(2), {number: TRUTH})
            ends(stage, 2)
            stage.close_all()
            kept.append(stored_sums(stage.registry.closed_buckets("m", 1), number))
    for first, second in zip(*kept, strict=True):
        assert first.sum_d == pytest.approx(second.sum_d, rel=1e-5)


def test_regression_goes_through_the_cycle(tmp_path: Path) -> None:
    with staged(tmp_path / "store") as stage:
        stage.declare(Policy(maturity_s=float(DAY), min_outcomes=200, max_error_rate_increase=0.02), task="regression")
        training = TrainingReport(n_rows=100, reference_loss=0.2, scale=5.0, prior=0.0)
        stage.champion(linear((1.0, 0.0)), training=training)
        better = stage.challenger(linear((1.0, 0.9)))
        for day in range(SEASON):
            rows, _ = rows_of(day)
            noise = np.random.default_rng([3, day]).normal(size=N_ROWS)
            addresses = stage.predict(day + 0.5, rows)
            stage.outcomes(addresses, (rows.sum(axis=1) + noise).tolist(), day + 0.9)
        stage.mirrored()
        ends(stage, SEASON)
        stage.close_all()
        assert [version for version, _ in stage.promotions()] == [better]


def test_multiclass_with_names_for_classes_goes_through_the_cycle(tmp_path: Path) -> None:
    names = ("ash", "birch", "cedar")
    truth = np.array([[1.5, 0.0], [0.0, 1.5], [-1.5, -1.5]])
    with staged(tmp_path / "store") as stage:
        stage.declare(Policy(maturity_s=float(DAY), min_outcomes=200, max_error_rate_increase=0.02), task="multiclass")
        champion, better = logistic(0.2 * truth, classes=names), logistic(truth, classes=names)
        said = signature(champion, "multiclass", names)
        stage.champion(champion, said=said)
        number = stage.challenger(better, said=said)
        for day in range(SEASON):
            rows, _ = rows_of(day)
            odds = np.exp(rows @ truth.T)
            generator = np.random.default_rng([5, day])
            happened = [names[generator.choice(3, p=p)] for p in odds / odds.sum(axis=1, keepdims=True)]
            stage.outcomes(stage.predict(day + 0.5, rows), happened, day + 0.9)
        stage.mirrored()
        ends(stage, SEASON)
        stage.close_all()
        assert [version for version, _ in stage.promotions()] == [number]
        assert sum(sums.n for sums in stored_sums(stage.registry.closed_buckets("m", 1), number)) > 200


# --- what cannot be judged


def test_terms_that_nothing_can_be_judged_by_stop_one_model_and_not_the_worker(stage: Stage) -> None:
    better = stage.challenger(logistic(TRUTH))
    stage.registry.create_model("other", stage.registry.model("m").schema, "binary", QUICK, by=ME)
    there = stage.registry.version("m", 1)
    no_loss = TrainingReport(n_rows=1, reference_loss=1e200)  # nothing can be measured in units of it
    stage.registry.add_version("other", logistic(WEAK), there.signature, no_loss, by=ME)
    stage.registry.appoint("other", 1, reason="first", by=ME)
    lives(stage, range(2), {better: TRUTH})
    ends(stage, 2)
    stage.close_all()
    assert stage.closed()[:2] == [0, 1]
    assert stage.registry.closed_buckets("other", 1) == []


def test_a_champion_that_answers_no_probability_voids_the_bucket_and_not_the_worker(tmp_path: Path) -> None:
    with staged(tmp_path / "store") as stage:
        stage.declare(QUICK)
        plain = linear((1.0, 0.0))
        said = replace(signature(plain, "regression"), task="binary", classes=(0, 1))
        stage.champion(plain, said=said)
        other = stage.challenger(linear((0.9, 0.0)), said=said)
        rows, happened = rows_of(0)
        stage.outcomes(stage.predict(0.5, rows), happened, 0.9)
        stage.mirrored()
        ends(stage, 0)
        stage.close_all()
        assert stage.closed()[0] == 0
        assert stage.entry(other)["n_void_buckets"] == 1


# --- everything derived can be derived again


def test_what_is_kept_of_a_bucket_is_what_its_chunks_give_again_at_its_cursors(stage: Stage) -> None:
    better = stage.challenger(logistic(TRUTH))
    lives(stage, range(4), {better: TRUTH})
    ends(stage, 4)
    stage.close_all()
    reign = stage.registry.reign("m")
    versions = {version.number: version for version in stage.registry.versions("m")}
    contenders = contenders_of(stage.registry.lineups("m"), stage.registry.model("m"), reign, versions, DAY, [])
    for bucket in stage.registry.closed_buckets("m", 1):
        upto = {int(writer): seq for writer, seq in bucket.prediction_cursor.items()}
        outcomes = {int(writer): seq for writer, seq in bucket.outcome_cursor.items()}
        heads = [head for head, _ in stage.chunks() if head.bucket == bucket.bucket and head.seq <= upto[head.writer]]
        matured = matured_us(bucket.bucket, DAY * 1_000_000, reign.policy)
        as_of = AsOf(upto, outcomes, matured)
        reader = BucketReader(stage.reader, stage.ledger, versions[1].signature, reign.policy, as_of)
        assert reader.sums(heads[::-1], contenders) == bucket.sums
    (contender,) = contenders
    judged = judge(stored_sums(stage.registry.closed_buckets("m", 1), better), contender.rule)
    assert judged.log_e == pytest.approx(stage.entry(better)["log_e"], rel=1e-12)
