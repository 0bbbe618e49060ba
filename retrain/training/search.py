"""Choosing among settings, by validation in order of time.

Each candidate is scored on later stretches of time, each predicted by what was fitted to all rows before it:

    for k in 1 … n_folds:
        model = fit(rows[: k / (n_folds + 1)], those of which the outcomes were known by then)
        losses += loss(model, rows[k / (n_folds + 1) : (k + 1) / (n_folds + 1)])

Finished candidates are kept as files, so a search that was killed goes on where it was.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import joblib
import msgspec
import numpy as np
from msgspec import Struct

from registry.recipe import Parameter, Search
from registry.training import Candidate
from retrain import errors
from retrain.evidence import EvidenceError
from retrain.training.backends import Jobs, running
from retrain.training.estimators import Aim, estimator_of
from retrain.training.learned import Course, learn, mean_loss
from retrain.training.libraries import versions
from retrain.training.rows import MIN_ROWS, Rows

Parameters = Mapping[str, Parameter]
Progress = Callable[[str], None]


class Found(Struct, frozen=True):
    """The settings to use, and all that were tried."""

    parameters: dict[str, Parameter]
    candidates: tuple[Candidate, ...] = ()


def chosen(rows: Rows, course: Course, jobs: Jobs, kept: Path | None, progress: Progress) -> Found:
    """The candidate that lost least on later rows; those of the recipe, where it has no search.

    Args:
        rows: none of those that what is chosen will be tried on.
        course: the recipe and what it is measured by.
        jobs: where candidates are trained.
        kept: a folder for what is finished; made when it is not there.
        progress: told of each finished candidate.

    Raises:
        SearchRefused: no candidate could be fitted and scored.
        TrainingRefused: there is nothing to choose among, or nothing to choose by.
    """
    recipe, search = course.recipe, course.recipe.search
    tried = [dict(recipe.parameters)] if search is None else candidates_of(search, recipe.parameters, recipe.seed)
    if recipe.estimator != "function":
        aim = Aim(rows.task, course.n_rows, course.metric.quantile if rows.task == "regression" else None)
        for parameters in tried:  # what cannot be is said before anything is computed
            estimator_of(recipe.estimator, aim, parameters, recipe.seed)
    if search is None:
        return Found(tried[0])
    _check(rows, search.n_folds)
    files = [None if kept is None else kept / f"{key}.json" for key in _keys(rows, course, tried)]
    done = {index: found for index, file in enumerate(files) if (found := _read(file)) is not None}
    if done:
        progress(f"{len(done)} of {len(tried)} candidates were tried before")
    waiting = [index for index in range(len(tried)) if index not in done]
    if waiting:
        with running(jobs):
            for start in range(0, len(waiting), jobs.n_jobs):  # a round at a time, so that what is finished is kept
                some = waiting[start : start + jobs.n_jobs]
                work = (joblib.delayed(_scored)(rows, course, tried[index], search.n_folds) for index in some)
                for index, candidate in zip(some, joblib.Parallel()(work), strict=True):
                    done[index] = candidate
                    _keep(files[index], candidate)
                    progress(f"candidate {len(done)} of {len(tried)}: {_said(candidate)}")
    candidates = tuple(done[index] for index in range(len(tried)))
    losses = [np.inf if candidate.loss is None else candidate.loss for candidate in candidates]
    if not np.isfinite(losses).any():
        raise errors.SearchRefused(len(candidates), candidates[0].refused)
    return Found(candidates[int(np.argmin(losses))].parameters, candidates)


def candidates_of(search: Search, fixed: Parameters, seed: int) -> list[dict[str, Parameter]]:
    """Every combination, over what is fixed; so many of them, chosen by the seed, where there are more."""
    names = sorted(name for name, values in search.parameters.items() if values)
    sizes = [len(search.parameters[name]) for name in names]
    n_all = math.prod(sizes)
    numbers: Sequence[int] = range(n_all)
    if n_all > search.n_candidates:
        # a product of many values may be too large to be listed, so that it is drawn from by number
        rng, drawn = np.random.default_rng(seed), set[int]()
        while len(drawn) < search.n_candidates:
            drawn.add(sum(int(rng.integers(size)) * math.prod(sizes[:i]) for i, size in enumerate(sizes)))
        numbers = sorted(drawn)
    made = []
    for number in numbers:
        of_each = [number // math.prod(sizes[:i]) % size for i, size in enumerate(sizes)]
        made.append(
            dict(fixed) | {name: search.parameters[name][which] for name, which in zip(names, of_each, strict=True)}
        )
    return made


def _check(rows: Rows, n_folds: int) -> None:
    if len(rows) < MIN_ROWS * (n_folds + 1):
        raise errors.TooFewRows(f"rows to search by in {n_folds} folds", MIN_ROWS * (n_folds + 1), len(rows))
    rows.split(1 / (n_folds + 1))


def _scored(rows: Rows, course: Course, parameters: Parameters, n_folds: int) -> Candidate:
    """One candidate, wherever this runs."""
    losses = []
    try:
        terms = rows.terms(course.metric)
        for fold in range(1, n_folds + 1):
            earlier, later = rows.split(fold / (n_folds + 1), (fold + 1) / (n_folds + 1))
            losses.append(mean_loss(learn(earlier, course, parameters).scores(later), later, course.metric, terms))
    except (errors.TrainingRefused, EvidenceError) as refused:
        return Candidate(dict(parameters), refused=str(refused))
    return Candidate(dict(parameters), float(np.mean(losses)))


def _keys(rows: Rows, course: Course, tried: list[dict[str, Parameter]]) -> list[str]:
    """Names a candidate on these rows, with everything that its loss depends on."""
    recipe = course.recipe
    source = "" if course.source is None else course.source.digest
    assert recipe.search is not None  # noqa: S101  # of a search only
    of_all = [
        rows.digest(), rows.known_after, recipe.estimator, recipe.function, source, recipe.seed, recipe.search.n_folds,
        course.metric, course.n_rows, versions(recipe.estimator),
    ]  # fmt: skip
    return [
        hashlib.sha256(msgspec.json.encode([of_all, parameters], order="sorted")).hexdigest() for parameters in tried
    ]


def _read(file: Path | None) -> Candidate | None:
    try:
        return None if file is None else msgspec.json.decode(file.read_bytes(), type=Candidate)
    except (FileNotFoundError, msgspec.DecodeError):  # what is damaged is tried again
        return None


def _keep(file: Path | None, candidate: Candidate) -> None:
    if file is None:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(".new")
    fresh.write_bytes(msgspec.json.encode(candidate))
    fresh.replace(file)  # whole, or not there


def _said(candidate: Candidate) -> str:
    settings = ", ".join(f"{name}={value}" for name, value in candidate.parameters.items()) or "as it is"
    return f"{settings}: " + (candidate.refused if candidate.loss is None else f"loss {candidate.loss:.5g}")
