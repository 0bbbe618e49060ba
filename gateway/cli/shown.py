"""Metrics of both versions as lines: shown beside the evidence, and never decided by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

OF_BOTH = ("base_rate", "commonest_class")
"""The same of both versions: each stands beside what says nothing without it."""
BESIDE = {
    "accuracy": ("commonest_class", "always saying the commonest class would be right on"),
    "mean_probability": ("base_rate", "what happened is"),
}


def metric_lines(champion: Mapping[str, float | None], challenger: Mapping[str, float | None]) -> Iterator[str]:
    """`auc: champion 0.71, challenger 0.74`: one line a metric that both have."""
    for name, mine in challenger.items():
        theirs = champion.get(name)
        if mine is None or theirs is None or name in OF_BOTH:
            continue
        line = f"{name.replace('_', ' ')}: champion {theirs:.6g}, challenger {mine:.6g}"
        other, words = BESIDE.get(name, ("", ""))
        if (beside := challenger.get(other)) is not None:
            line += f" ({words} {beside:.6g})"
        yield line
