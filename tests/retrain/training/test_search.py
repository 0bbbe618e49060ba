"""Choosing among settings: in order of time, the same choice everywhere, and never the same work twice."""

from __future__ import annotations

import importlib.util
import signal as signals
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from registry.recipe import Recipe, Search
from registry.types import Metric
from retrain import errors
from retrain.evidence import Pairs
from retrain.evidence.losses import paired_losses
from retrain.training.backends import Backend, Jobs
from retrain.training.fit import fit
from retrain.training.rows import Rows
from retrain.training.search import candidates_of
from tests.retrain.training.tables import ALL_DTYPES, ONE_FLOAT, function, table

SEARCH = Search({"trees": (1, 4, 30)})
LOGGED = """from pathlib import Path
from sklearn.ensemble import HistGradientBoostingClassifier as Trees
x, trees = dataset.columns["x"], dataset.parameters["trees"]
with Path({log!r}).open("a") as log:
    log.write(f"{{trees}} {{len(x)}} {{x.min():g}} {{x.max():g}}\\n")
{then}
return Trees(max_iter=trees, random_state=0).fit(dataset.matrix, dataset.target)"""


def logged(folder: Path, search: Search = SEARCH, then: str = "pass") -> dict[str, Any]:
    """A function that writes a line a fit: its setting, how many rows, and the first and last of them."""
    return function(folder / "functions", LOGGED.format(log=str(folder / "log"), then=then), search=search)


def in_order() -> tuple[dict[str, Any], Any]:
    """A thousand and two hundred rows: x is their number, the outcome depends on its last digit."""
    x = np.arange(1_200, dtype=np.float32)
    return {"x": x}, (x % 10 > 4) ^ (np.random.default_rng(0).random(1_200) < 0.1)


def lines(folder: Path) -> list[list[int]]:
    return [[int(word) for word in line.split()] for line in (folder / "log").read_text().splitlines()]


def test_no_candidate_is_scored_on_rows_before_those_that_it_learned_from_or_on_the_held_out_ones(
    tmp_path: Path,
) -> None:
    columns, target = in_order()
    said: list[str] = []
    report = fit(columns, target, ONE_FLOAT, "binary", progress=said.append, **logged(tmp_path)).report
    fits = lines(tmp_path)
    for trees in (1, 4, 30):  # of 960 rows before the held-out ones: a quarter more each time
        assert [line[1:] for line in fits if line[0] == trees][:3] == [[240, 0, 239], [480, 0, 479], [720, 0, 719]]
    best = report.parameters["trees"]
    assert fits[9:] == [[best, 960, 0, 959], [best, 1_200, 0, 1_199]]
    losses = {candidate.parameters["trees"]: candidate.loss for candidate in report.candidates}
    assert losses.keys() == {1, 4, 30}
    assert losses[best] == min(loss for loss in losses.values() if loss is not None)
    assert said[0] == "checked 1,200 rows"
    assert [line.partition(":")[0] for line in said[1:4]] == [f"candidate {number} of 3" for number in (1, 2, 3)]
    assert said[4:] == [
        "fitting on the first 960 rows, to measure on the latest 240",
        "fitting on all 1,200 rows",
        "converting, and proving that it answers alike",
    ]


def test_a_candidates_loss_is_that_of_the_evidence_on_each_later_stretch(tmp_path: Path) -> None:
    """The plain loop, with the estimator by hand."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    columns, target = in_order()
    report = fit(columns, target, ONE_FLOAT, "binary", **logged(tmp_path)).report
    terms = Rows.checked({"x": columns["x"][:960]}, target[:960], ONE_FLOAT, "binary", None).terms(Metric())
    x, y, losses = columns["x"].reshape(-1, 1), target.astype(int), []
    for start in (240, 480, 720):
        trees = HistGradientBoostingClassifier(max_iter=30, random_state=0).fit(x[:start], y[:start])
        later = slice(start, start + 240)
        scores = trees.predict_proba(x[later])[:, 1]
        losses.append(paired_losses(Pairs(y[later], scores, scores, np.zeros(240, int)), terms).champion.mean())
    of_30 = next(candidate for candidate in report.candidates if candidate.parameters == {"trees": 30})
    assert of_30.loss == pytest.approx(np.mean(losses), rel=1e-12)


def test_a_search_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    columns, target = in_order()
    dies = f"""if trees == 30 and not Path({str(tmp_path / "again")!r}).exists():
    import os, signal
    os.kill(os.getpid(), signal.SIGKILL)"""
    told = logged(tmp_path, then=dies)
    program = f"""
from pathlib import Path
from retrain.training.fit import fit
from tests.retrain.training.test_search import *
columns, target = in_order()
folder = Path({str(tmp_path)!r})
told = logged(folder, then={dies!r})
fit(columns, target, ONE_FLOAT, "binary", kept=folder / "kept", **told)
"""
    killed = subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[3], capture_output=True)
    assert killed.returncode == -signals.SIGKILL, killed.stderr.decode()
    assert [line[0] for line in lines(tmp_path)] == [1, 1, 1, 4, 4, 4, 30]
    assert len(list((tmp_path / "kept").glob("*.json"))) == 2

    (tmp_path / "again").touch()
    (tmp_path / "log").unlink()
    said: list[str] = []
    resumed = fit(columns, target, ONE_FLOAT, "binary", kept=tmp_path / "kept", progress=said.append, **told)
    best = resumed.report.parameters["trees"]
    assert [line[0] for line in lines(tmp_path)] == [30, 30, 30, best, best]
    assert said[1] == "2 of 3 candidates were tried before"

    # the control: the same search, which was not killed
    assert fit(columns, target, ONE_FLOAT, "binary", **told).report == resumed.report

    # nothing of it is used for other rows, for another function, or where its file is damaged
    for file in (tmp_path / "kept").glob("*.json"):
        file.write_bytes(b'{"parameters')
    for change in ("damaged", "rows", "function"):
        (tmp_path / "log").unlink()
        if change == "rows":
            target = ~target
        if change == "function":
            told = logged(tmp_path, then="'another one'")
        fit(columns, target, ONE_FLOAT, "binary", kept=tmp_path / "kept", **told)
        assert len(lines(tmp_path)) == 11, change


def test_candidates_are_every_combination_or_so_many_chosen_by_the_seed() -> None:
    search = Search({"b": (True, None), "a": (1, 2, 3)})
    made = candidates_of(search, {"c": "x", "a": 9}, seed=0)
    assert len(made) == 6
    assert {(row["a"], row["b"], row["c"]) for row in made} == {(a, b, "x") for a in (1, 2, 3) for b in (True, None)}

    assert candidates_of(Search({"a": ()}), {"c": 1}, seed=0) == [{"c": 1}]

    many = msgspec.structs.replace(search, parameters={f"p{i}": tuple(range(9)) for i in range(40)}, n_candidates=12)
    some = candidates_of(many, {}, seed=1)
    assert len({msgspec.json.encode(row) for row in some}) == 12
    assert candidates_of(many, {}, seed=1) == some != candidates_of(many, {}, seed=2)
    nearly = candidates_of(msgspec.structs.replace(search, n_candidates=5), {}, seed=3)
    assert len({msgspec.json.encode(row) for row in nearly}) == 5


def test_a_candidate_that_cannot_be_fitted_is_told_and_not_chosen() -> None:
    columns, signal = table(1_200)
    search = Search({"max_iter": (0, 20)})
    report = fit(columns, signal > 1.5, ALL_DTYPES, "binary", recipe=Recipe(search=search)).report
    assert report.parameters == {"max_iter": 20}
    refused = report.candidates[0]
    assert (refused.parameters, refused.loss) == ({"max_iter": 0}, None)
    assert "cannot be fitted to these rows" in refused.refused
    hopeless = Recipe(search=Search({"max_iter": (0, -1)}))
    with pytest.raises(errors.SearchRefused, match=r"^none of 2 candidates could be tried, the first for this: Hist"):
        fit(columns, signal > 1.5, ALL_DTYPES, "binary", recipe=hopeless)


@pytest.mark.parametrize(
    ("search", "late", "sentence"),
    [
        (Search({"depth": (1, 2)}), False, "boosted_trees has no parameter 'depth' to set: it has "),
        (
            Search({"max_iter": (1, 2)}, n_folds=6),
            False,
            "too few rows to search by in 6 folds: expected at least 1400, got 960",
        ),
        (
            Search({"max_iter": (1, 2)}),
            True,
            "target: expected every class in the first 240 rows of time, got none of 1",
        ),
    ],
)
def test_a_search_that_cannot_be_made_is_refused_before_anything_is_computed(
    search: Search, late: bool, sentence: str
) -> None:
    columns, signal = table(1_200)
    target = np.arange(1_200) % 800 > 300 if late else signal > 1.5
    said: list[str] = []
    with pytest.raises(errors.TrainingRefused) as refused:
        fit(columns, target, ALL_DTYPES, "binary", recipe=Recipe(search=search), progress=said.append)
    assert str(refused.value).startswith(sentence)
    assert said == ["checked 1,200 rows"]


def chosen_by(jobs: Jobs) -> tuple[bytes, Any]:
    columns, signal = table(1_200)
    recipe = Recipe(search=Search({"max_iter": (5, 20, 50), "learning_rate": (0.05, 0.2)}, n_candidates=5), seed=4)
    trained = fit(columns, signal > 1.5, ALL_DTYPES, "binary", recipe=recipe, jobs=jobs)
    return trained.model_bytes, trained.report.candidates


def test_several_processes_choose_what_one_does() -> None:
    assert chosen_by(Jobs("loky", 2)) == chosen_by(Jobs())


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "library"), [("dask", "distributed"), ("ray", "ray")])
def test_a_cluster_chooses_what_one_process_does(backend: Backend, library: str) -> None:
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"understudy[{backend}] is not installed here")
    assert chosen_by(Jobs(backend, 2)) == chosen_by(Jobs())
