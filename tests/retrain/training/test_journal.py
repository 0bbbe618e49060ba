"""What training reads: the rows of the journal that an export of the same moment has, whoever wrote or read them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace

from gateway.clock import JournalClock
from gateway.export import Wanted, exported, written
from gateway.journal import Draft
from registry.recipe import Window
from registry.types import Feature, InputSchema, Metric, Policy
from retrain.training.fit import fit
from retrain.training.journal import Lesson, learnable
from tests.actors import SCHEMA, linear, logistic, signature
from tests.stage import DAY, DAY_US, ME, Stage, at, at_us, staged

DAYS = 6
LATER, ALL = at_us(9), Window()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with staged(tmp_path / "store") as made:
        made.declare(Policy(maturity_s=float(DAY)))
        made.champion(logistic((1.0, 0.0)))
        yield made


def rows(seed: int, n: int = 50) -> Any:
    return np.random.default_rng(seed).normal(size=(n, 2))


def lived(stage: Stage, n_writers: int = 2) -> None:
    """Some days of predictions by several writers in turn, of which two in three have an outcome a little later."""
    writers = [stage.another_writer() for _ in range(n_writers)]
    for k in range(2 * DAYS):
        asked = rows(k)
        made = stage.predict(k / 2, asked, writer=writers[k % n_writers])
        stage.outcomes(
            [a for a in made if a.row % 3], (asked[np.arange(50) % 3 > 0, 0] > 0).astype(int).tolist(), k / 2 + 0.1
        )


def lesson(stage: Stage, as_of_us: int = LATER, window: Window = ALL) -> Lesson:
    model = stage.registry.model("m")
    signatures = {version.number: version.signature for version in stage.registry.versions("m")}
    return learnable(
        stage.reader, stage.ledger, model, signatures, as_of_us=as_of_us, window=window, bucket_us=DAY_US
    )  # fmt: skip


def of_export(stage: Stage, file: Path, as_of_day: float, **wanted: Any) -> pa.Table:
    clock = JournalClock(stage.settings.clock, DAY)
    clock.refresh(stage.registry)
    written(exported(stage.settings, stage.registry, clock, "m", Wanted(as_of=at(as_of_day), **wanted)), file)
    table = pq.read_table(file)
    there = table.filter(pc.is_valid(table["outcome"]))
    return there.sort_by([(name, "ascending") for name in ("predicted_at", "writer", "seq", "row")])


@pytest.mark.parametrize("as_of_day", [9.0, 4.0])
def test_it_is_what_an_export_of_the_same_moment_holds(stage: Stage, tmp_path: Path, as_of_day: float) -> None:
    lived(stage)
    stage.clock(9)
    expected = of_export(stage, tmp_path / "rows.parquet", as_of_day)
    got = lesson(stage, at_us(as_of_day))
    assert len(got) == got.counts.n_rows == len(expected) > 100
    assert list(got.columns) == list(SCHEMA.names)
    for name in SCHEMA.names:
        np.testing.assert_array_equal(got.columns[name], expected[f"inputs.{name}"].to_numpy())
    np.testing.assert_array_equal(got.target, expected["outcome"].to_numpy())
    np.testing.assert_array_equal(got.at, expected["predicted_at"].to_numpy())
    assert (got.at.dtype, got.target.dtype, got.weight) == (np.dtype("<M8[us]"), np.dtype(np.int64), None)
    n_all = {9.0: 12, 4.0: 6}[as_of_day] * 50
    n_waiting = {9.0: 0, 4.0: 3}[as_of_day] * 50  # the fourth day's; and what was predicted at that very moment
    assert (got.counts.n_without_outcome, got.counts.n_waiting) == (n_all - len(got), n_waiting)


def test_what_a_challenger_answers_is_never_learned_from(stage: Stage, tmp_path: Path) -> None:
    lived(stage)
    challenger = stage.challenger(logistic((0.0, 1.0)))
    made = stage.predict(6.5, rows(20))
    stage.outcomes(made, [row % 2 for row in range(50)], 6.6)
    without = lesson(stage, at_us(10))
    stage.shadow(challenger, lambda x: np.full(len(x), 0.123))
    stage.clock(10)
    there = of_export(stage, tmp_path / "rows.parquet", 10, with_shadow_scores=True)
    assert there[f"shadow.{challenger}"].null_count < len(there)  # they are in the journal
    got = lesson(stage, at_us(10))
    assert got.digest == without.digest
    assert list(got.columns) == list(SCHEMA.names)


def test_what_comes_later_does_not_change_what_stood_then(stage: Stage) -> None:
    lived(stage)
    early = stage.predict(5.9, rows(30))
    before = lesson(stage)
    stage.outcomes(early, [1] * 50, 9.5)  # nobody knew on the ninth day
    stage.outcomes(stage.predict(9.2, rows(31)), [1] * 50, 9.6)
    assert lesson(stage).digest == before.digest
    known = lesson(stage, at_us(9.5))
    assert (len(known), known.digest != before.digest) == (len(before) + 50, True)


def test_two_readings_are_the_same_whoever_wrote_the_rows(tmp_path: Path) -> None:
    made = []
    for n_writers in (1, 3):
        with staged(tmp_path / str(n_writers)) as stage:
            stage.declare(Policy(maturity_s=float(DAY)))
            stage.champion(logistic((1.0, 0.0)))
            lived(stage, n_writers)
            made += [lesson(stage), lesson(stage)]
            stage.outcomes(stage.predict(0.1, rows(40)), [0] * 50, 0.2)
            assert lesson(stage).digest != made[0].digest  # a row more is another lesson
    assert len({each.digest for each in made}) == 1


def test_a_window_keeps_the_latest(stage: Stage) -> None:
    lived(stage)
    everything = lesson(stage)
    for n_rows in (20, 120):  # fewer than a writer has, and more
        latest = lesson(stage, window=Window(n_rows=n_rows))
        np.testing.assert_array_equal(latest.at, everything.at[-n_rows:])
        np.testing.assert_array_equal(latest.columns["a"], everything.columns["a"][-n_rows:])
        assert (latest.counts.n_rows, latest.counts.n_older) == (n_rows, len(everything) - n_rows)
        assert latest.counts.n_without_outcome == everything.counts.n_without_outcome
    # a whole day of maturity has passed on day 9: the last cohort ended with day 7
    days = lesson(stage, window=Window(days=4.5))
    assert days.at[0] == np.datetime64(at_us(3.5), "us")
    assert len(lesson(stage, window=Window(days=0.5))) == 0
    assert len(lesson(stage, window=Window(days=4.5, n_rows=10))) == 10


EVERY_DTYPE = InputSchema(
    (Feature("a", "float64"), Feature("b", "float64"), Feature("city", "string"))
)  # fmt: skip
LATER_FEATURES = (
    Feature("ratio", "float32", required=False),
    Feature("rate", "float64", required=False, default=0.5),
    Feature("branch", "string", required=False),
    Feature("visits", "int64", required=False, default=3),
    Feature("member", "bool", required=False, default=True),
)


def test_what_was_not_sent_is_what_a_version_would_have_been_given(tmp_path: Path) -> None:
    with staged(tmp_path / "store") as stage:
        stage.declare(Policy(maturity_s=float(DAY)), schema=EVERY_DTYPE)
        stage.champion(logistic((1.0, 0.0)))
        asked = rows(0, 300)
        cities = [("Rīga", "Oslo", "")[k % 3] for k in range(300)]
        made = stage.predict(0.5, asked, texts=[(city,) for city in cities])
        stage.outcomes(made, (asked[:, 0] > 0).astype(int).tolist(), 0.6)
        wider = InputSchema((*EVERY_DTYPE.features, *LATER_FEATURES))
        stage.registry.extend_schema("m", wider, by=ME)
        got = lesson(stage)
        assert got.columns["city"].tolist() == cities
        assert np.isnan(got.columns["ratio"]).all()
        for name, value in (("rate", 0.5), ("branch", ""), ("visits", 3), ("member", True)):
            assert set(got.columns[name].tolist()) == {value}
        kinds = [got.columns[name].dtype.kind for name in ("city", "ratio", "branch", "visits", "member")]
        assert kinds == ["O", "f", "O", "i", "b"]
        trained = fit(got.columns, got.target, wider, "binary", at=got.at)
        assert trained.report.n_rows == 300


def test_rows_whose_outcome_nobody_could_see_are_left_out_and_the_others_stand_for_them(tmp_path: Path) -> None:
    with staged(tmp_path / "store") as stage:
        terms = Policy(maturity_s=float(DAY), observed="if_approved", approved_decisions=("yes", 1), default_outcome=0)
        stage.declare(terms)
        stage.champion(logistic((1.0, 0.0)))
        decisions: list[int | str] = ["yes", "no", 1, 0]
        stage.predict(0.5, rows(0, 4), decisions=decisions, propensities=[0.5, 0.5, 1.0, 0.25])
        stage.predict(0.75, rows(1, 1), decisions=["yes"])
        got = lesson(stage)
        assert got.weight is not None
        assert (got.weight.tolist(), got.target.tolist()) == ([2.0, 1.0, 1.0], [0, 0, 0])
        assert (got.counts.n_unseen, got.counts.n_without_outcome) == (2, 0)
        stage.registry.set_policy("m", replace(terms, observed="always", approved_decisions=()), by=ME)
        everywhere = lesson(stage)
        assert (len(everywhere), everywhere.weight) == (5, None)


def test_classes_that_are_words_and_rows_that_are_gone(tmp_path: Path) -> None:
    with staged(tmp_path / "store") as stage:
        stage.declare(Policy(maturity_s=float(DAY)))
        made = logistic((1.0, 0.0), classes=("bad", "good"))
        stage.champion(made, said=signature(made, classes=("bad", "good")))
        stage.outcomes(stage.predict(0.5, rows(0, 4)), ["good", "bad", "good", "good"], 0.6)
        stage.predict(0.7, rows(1, 3))
        (head, chunk) = stage.chunks()[-1]
        layout = stage.reader.layout(head.writer, chunk.layout)
        stage.writer.append([Draft(replace(chunk, inputs=None, erased=True), layout)])
        got = lesson(stage)
        assert got.target.tolist() == ["good", "bad", "good", "good"]
        assert (got.counts.n_erased, got.counts.n_without_outcome, got.counts.n_rows) == (3, 3, 4)


def test_whoever_sends_an_absurd_number_keeps_no_model_from_learning(tmp_path: Path) -> None:
    """1e300 is a number to the gateway, and infinite to an estimator: its row is left out, and counted."""
    learned = rows(98, 400)
    trees = fit({"a": learned[:, 0], "b": learned[:, 1]}, learned[:, 0] > 0, SCHEMA, "binary")
    with staged(tmp_path / "store") as stage:
        stage.declare(Policy(maturity_s=float(DAY)))
        stage.champion(trees.model_bytes)
        lived(stage)
        before = lesson(stage)
        asked = rows(99)
        asked[3, 0], asked[7, 1] = 1e300, -1e39
        made = stage.predict(1.2, asked)
        stage.outcomes(made, [1] * 50, 1.3)
        after = lesson(stage)
        assert (after.counts.n_absurd, len(after), before.counts.n_absurd) == (2, len(before) + 48, 0)
        assert after.counts.n_without_outcome == before.counts.n_without_outcome
        assert np.isfinite(after.columns["a"].astype(np.float32)).all()


def test_whoever_says_of_an_absurd_outcome_keeps_no_model_from_learning(tmp_path: Path) -> None:
    with staged(tmp_path / "store") as stage:
        stage.declare(Policy(maturity_s=float(DAY), metric=Metric(loss="absolute_error")), task="regression")
        stage.champion(linear((1.0, 0.0)))
        made = stage.predict(0.5, rows(1))
        stage.outcomes(made, [1e99, -2e30, *np.linspace(0, 1, 48).tolist()], 0.6)
        found = lesson(stage)
        assert (found.counts.n_absurd, len(found), found.target.max()) == (2, 48, 1.0)
