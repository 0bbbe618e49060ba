"""A version that is trained here answers as those that somebody brought: the same names, types and meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from registry.recipe import Recipe, Triggers
from registry.types import InputBinding, Metric, OutputTensor, Policy, ScoreColumn, Signature, Task, TrainingReport
from retrain import errors
from retrain.training.fit import fit
from tests.actors import linear, signature
from tests.journals import until
from tests.retrain.training.tables import ALL_DTYPES, runtime, table
from tests.seasons import rows_of
from tests.stage import DAY, ME, at, staged

INPUT = (InputBinding("X", "float32", ("a",)),)


def like(task: Task, outputs: list[OutputTensor], score: ScoreColumn, classes: tuple[Any, ...] = ()) -> Signature:
    return Signature(task, INPUT, tuple(outputs), score, classes)


@pytest.mark.parametrize(
    ("task", "outputs", "score", "classes"),
    [
        ("binary", [OutputTensor("p", "float64")], ScoreColumn("p"), (0, 1)),
        ("binary", [OutputTensor("p", "float32"), OutputTensor("out", "int64")], ScoreColumn("p"), (0, 1)),
        ("binary", [OutputTensor("y", "string"), OutputTensor("p", "float64", 2)], ScoreColumn("p", 0), ("no", "yes")),
        ("multiclass", [OutputTensor("prob", "float64", 3)], ScoreColumn("prob"), ("a", "b", "c")),
        ("regression", [OutputTensor("variable", "float64")], ScoreColumn("variable"), ()),
    ],
)
def test_it_has_the_outputs_of_the_versions_before_it(
    task: Task, outputs: list[OutputTensor], score: ScoreColumn, classes: tuple[Any, ...]
) -> None:
    columns, signal = table()
    if classes:
        target = np.array(classes, object if isinstance(classes[0], str) else np.int64)
        target = target[np.digitize(signal, [1.5] if len(classes) == 2 else [1.0, 2.0])]
    else:
        target = signal
    told = like(task, outputs, score, classes)
    trained, plain = fit(columns, target, ALL_DTYPES, task, like=told), fit(columns, target, ALL_DTYPES, task)
    model, found = runtime(trained, ALL_DTYPES, task)
    assert (found.outputs, found.score, found.classes) == (told.outputs, told.score, told.classes)
    assert trained.report.parity["max"] <= 1e-6
    answers, ours = model.run(columns), runtime(plain, ALL_DTYPES, task)[0].run(columns)
    expected = ours["prediction"] if task == "regression" else ours["probabilities"]
    got = answers[score.output]
    assert got.dtype == next(output.dtype for output in outputs if output.name == score.output)
    np.testing.assert_array_equal(got, expected[:, 1] if classes and got.ndim == 1 else expected)
    for label in (output for output in outputs if output.name != score.output):
        assert (answers[label.name] == ours["label"]).all()


P, LABEL = OutputTensor("p", "float32"), OutputTensor("label", "int64")


@pytest.mark.parametrize(
    ("outputs", "classes", "sentence"),
    [
        ([P, OutputTensor("margin", "float32")], (0, 1), "the model's versions answer 'margin', and what is trained"),
        ([P, OutputTensor("label", "string")], (0, 1), "the model's versions answer 'label', and"),
        ([P, LABEL, OutputTensor("group", "int64")], (0, 1), "the model's versions answer 'label', and"),
        ([P, LABEL], (1, 0), r"target: expected the classes of the model's versions, \[1, 0\], got \[0, 1\]"),
    ],
)
def test_what_nobody_can_make_is_refused_before_anything_is_fitted(
    outputs: list[OutputTensor], classes: tuple[int, int], sentence: str
) -> None:
    columns, signal = table()
    said: list[str] = []
    with pytest.raises(errors.TrainingRefused, match=sentence):
        fit(columns, signal > 1.5, ALL_DTYPES, "binary", like=like("binary", outputs, ScoreColumn("p"), classes),
            progress=said.append)  # fmt: skip
    assert said == []


def test_a_model_whose_champion_somebody_brought_gets_challengers_that_suit_it(tmp_path: Path) -> None:
    """skl2onnx calls the output of a regression `variable`."""
    with staged(tmp_path / "store") as stage:
        stage.declare(Policy(maturity_s=float(DAY), metric=Metric(loss="absolute_error")), task="regression")
        brought = linear((1.0, 0.0))
        report = TrainingReport(n_rows=9, scale=1.0, metric=Metric(loss="absolute_error"))
        stage.champion(brought, said=signature(brought, "regression"), training=report)
        stage.registry.trainings.set_recipe("m", Recipe(triggers=Triggers(min_outcomes=300)), by=ME)
        for day in range(9):
            rows = rows_of(day)[0]
            stage.outcomes(stage.predict(day + 0.25, rows), (rows @ np.array([1.0, 2.0])).tolist(), day + 0.5)
        stage.clock(12)
        stage.registry.trainings.ask("m", "1", "person", "it is time", by=ME, at=at(12))
        with stage.training() as watch:
            until(lambda: not watch.step() and stage.registry.trainings.one("m", 1).is_over, "it is not over")
        training = stage.registry.trainings.one("m", 1)
        assert (training.state, training.sentence) == ("registered", "training 1, of 540 rows: it is time")
        assert stage.registry.version("m", 2).signature.output_names == ("variable",)
