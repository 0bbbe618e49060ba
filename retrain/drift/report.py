"""What `understudy drift` shows: one document, and the sentences that are worth reading first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from registry.types import Lineup, Model, TrainingReport
from retrain.drift.bets import ALARM_DAYS
from retrain.drift.days import Stretch
from retrain.drift.figures import ACT, WATCH, Figures
from retrain.drift.reference import Scores
from retrain.drift.series import WINDOW_DAYS, Series


def document_of(
    model: Model,
    lineup: Lineup,
    series: Series,
    *,
    training: TrainingReport | None,
    learned: Mapping[int, Scores],
    bucket_s: int,
    n_late_rows: int,
    collecting: Sequence[Stretch],
) -> dict[str, Any]:
    """The document, without the time as of which it holds; `learned`: challengers' scores in their trainings."""
    document: dict[str, Any] = {
        "model": model.name,
        "champion": lineup.champion,
        "thresholds": {"watch": WATCH, "act": ACT, "alarm_days": ALARM_DAYS, "window_days": WINDOW_DAYS},
        "reference": None,
        "through": None,
        "n_days": len(series.days),
        "n_late_rows": n_late_rows,
        "alarm": None,
        "features": [],
        "scores": [],
        "outcomes": None,
        "performance": None,
        "estimate": None,
    }
    if series.reference is None:
        n_rows = sum(stretch.n_rows for stretch in collecting)
        said = f"version {lineup.champion} has no reference yet: its first days of traffic are taken for it"
        return document | {"sentences": [f"{said} ({len(collecting)} days, {n_rows:,} rows so far)"]}
    told = Figures(model, series, training, bucket_s)
    document |= {"reference": told.reference()}
    if series.days:
        features = told.features()
        document |= {
            "through": told.at(max(series.days) + 1).isoformat(),
            "alarm": told.alarm(),
            "features": features,
            "scores": told.scores([lineup.champion, *lineup.challengers], learned),
            "outcomes": told.outcomes(),
            "performance": told.performance(),
            "estimate": told.estimate(),
        }
    return document | {"sentences": _sentences(document)}


def _sentences(document: dict[str, Any]) -> list[str]:
    """What there is to say, the most important first."""
    parts = [document["reference"], document["alarm"], document["performance"], document["estimate"]]
    said = [part["sentence"] for part in parts if part is not None]
    moved = [each for each in (*document["features"], *document["scores"]) if each["verdict"] != "stable"]
    said += [each["sentence"] for each in sorted(moved, key=lambda each: -each["psi"])]
    if document["outcomes"] is not None and document["outcomes"]["verdict"] != "stable":
        said.append(document["outcomes"]["sentence"])
    if document["features"] and not moved:
        said.append(f"none of {len(document['features'])} features has moved (PSI below {WATCH} less chance)")
    return said
