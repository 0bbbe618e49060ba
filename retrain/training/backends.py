"""Where candidates of a search are trained: processes here (loky), or a cluster of Dask or Ray, through joblib.

Dask and Ray join the cluster that their own settings name (`DASK_SCHEDULER_ADDRESS`, `RAY_ADDRESS`) and start one on
this machine where there is none. The machines of a cluster need this package; a recipe's function is sent to them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Literal

import joblib
from joblib.externals.loky import get_reusable_executor
from msgspec import Struct

from retrain import errors
from retrain.training.orphans import end_with

Backend = Literal["loky", "dask", "ray"]


class Jobs(Struct, frozen=True):
    """How many candidates are trained at once, and by what."""

    backend: Backend = "loky"
    n_jobs: int = 1


@contextmanager
def running(jobs: Jobs) -> Iterator[None]:
    """Within it, `joblib.Parallel` runs there; whatever was started for it is gone afterwards.

    Raises:
        ExtraMissing: the library is not installed.
    """
    match jobs.backend:
        case "loky":
            ends = {"initializer": end_with, "initargs": (os.getpid(),)}
            try:
                with joblib.parallel_config("loky", n_jobs=jobs.n_jobs, **ends):
                    yield
            finally:
                if jobs.n_jobs > 1:
                    get_reusable_executor().shutdown(wait=True)
        case "dask":
            distributed = _library("distributed", "dask")
            settings = {"n_workers": jobs.n_jobs, "threads_per_worker": 1, "dashboard_address": None}
            with distributed.Client(**settings), joblib.parallel_config("dask", n_jobs=jobs.n_jobs):
                yield
        case "ray":
            ray = _library("ray", "ray")
            _library("ray.util.joblib", "ray").register_ray()
            try:
                ray.init("auto", log_to_driver=False)
            except ConnectionError:
                ray.init(num_cpus=jobs.n_jobs, include_dashboard=False, log_to_driver=False)
            try:
                with joblib.parallel_config("ray", n_jobs=jobs.n_jobs):
                    yield
            finally:
                ray.shutdown()


def _library(name: str, extra: Backend) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError:
        raise errors.ExtraMissing(f"search backend {extra}", extra) from None
