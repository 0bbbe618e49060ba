"""How drift is said: dates, shares, and where a feature has moved."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrain.drift.reference import Bins

MOST = 0.6
"""The share of the rows that moved that is meant by "mostly"."""


def day_of(at: datetime) -> str:
    """3 June, with the hour where it does not begin a day."""
    return f"{at.day} {at:%B %Y}" if (at.hour, at.minute) == (0, 0) else f"{at.day} {at:%B %Y %H:%M}"


def percent(share: float) -> str:
    """4 %, 0.4 %."""
    return f"{100 * share:.0f} %" if share >= 0.095 or share == 0 else f"{100 * share:.1f} %"


def where(bins: Bins, p: NDArray[np.float64], q: NDArray[np.float64]) -> str:
    """The values that most of the rows that moved have moved to, with their share now and before.

    By shares, not by terms of PSI: those are largest where next to nothing is left.
    """
    grown = np.maximum(q - p, 0)
    ranked = np.argsort(-grown, kind="stable")
    n = int(np.searchsorted(np.cumsum(grown[ranked]), MOST * grown.sum())) + 1
    places = sorted(ranked[:n].tolist())
    ordered = bins.dtype != "string" and places[-1] < bins.n_bins - 1
    if not (ordered and places[-1] - places[0] == len(places) - 1):
        places = [int(ranked[0])]
    now, before = percent(float(q[places].sum())), percent(float(p[places].sum()))
    return f"mostly more {_named(bins, places[0], places[-1])} ({now} of rows, {before} before)"


def _named(bins: Bins, first: int, last: int) -> str:
    """Some neighbouring bins in words."""
    if first == bins.n_bins - 1:
        return "missing values"
    if bins.dtype == "string":
        if first < len(bins.values):
            return f"of `{bins.values[first]}`"
        return "other values" if first == len(bins.values) else "values never seen before"
    if bins.dtype == "bool":
        return "of `false`" if first == 0 and bins.cuts else "of `true`"
    if not bins.cuts:
        return "of its values"
    if first == 0:
        return f"values up to {bins.cuts[last]:g}" if last < len(bins.cuts) else "of its values"
    if last == len(bins.cuts):
        return f"values above {bins.cuts[first - 1]:g}"
    return f"values above {bins.cuts[first - 1]:g} up to {bins.cuts[last]:g}"


def feature_sentence(told: dict[str, Any], place: str) -> str:
    """What there is to say of a feature."""
    if told["since"] is None:
        said = f"feature `{told['name']}`: PSI {told['psi']:.2f}"
    else:
        since = day_of(datetime.fromisoformat(told["since"]))
        said = f"feature `{told['name']}`: PSI {told['psi']:.2f} since {since}, {place}"
    gone, before = told["missing_share"], told["reference_missing_share"]
    if abs(gone - before) >= 0.01:
        said += f"; {percent(gone)} missing, {percent(before)} before"
    if told["new_share"]:
        said += f"; {percent(told['new_share'])} are values never seen before"
    return said
