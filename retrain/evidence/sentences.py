"""One sentence for the person who has to decide, with the figures that it rests on."""

from collections.abc import Sequence
from typing import assert_never

import msgspec

from retrain.evidence.forecast import Forecast
from retrain.evidence.rule import Verdict


class Figures(msgspec.Struct, frozen=True):
    """What a sentence quotes; differences in units of loss, above 0 where the challenger loses less."""

    n: int
    n_failed: int
    mean: float
    low: float | None
    high: float | None
    champion_loss: float
    least_gain: float
    alpha: float
    population: str = ""
    n_stood_for: int | None = None
    """Due rows that weighted outcomes stand for; None where they stand for themselves."""
    is_reward: bool = False
    """Then losses are rewards not earned, and it is said what was earned."""


def sentence_of(
    verdict: Verdict,
    figures: Figures,
    missing: Sequence[str],
    awaited: Forecast | None,
    *,
    champion: str,
    challenger: str,
) -> str:
    """The comparison, its interval, and what the verdict rests on or still waits for.

    For example: version 8 loses 2.1 % less than version 7 on 18,204 matured outcomes, between 0.9 % and 3.3 %
    at any-time 95 %; every condition holds. Percentages are of the champion's mean loss.
    """
    if figures.n == 0:
        return f"no outcome has matured yet to compare {challenger} with {champion}"
    clauses = [comparison(figures, champion, challenger)]
    if figures.n_failed:
        clauses.append(
            f"{challenger} gave no usable answer on {figures.n_failed:,} of them and was scored as the prior"
        )
    match verdict:
        case "better":
            clauses.append("every condition holds")
        case "no_difference":
            clauses.append(f"a gain of {_size(figures.least_gain, figures)}, the least worth having, is out of reach")
        case "leading" | "collecting":
            clauses.append("still missing: " + "; ".join(missing))
            if awaited is not None:
                clauses.append(_awaited(awaited))
        case "worse":
            pass
        case _:
            assert_never(verdict)
    return "; ".join(clauses)


def comparison(figures: Figures, champion: str, challenger: str) -> str:
    """The first clause alone: who loses how much less, on how many outcomes, and between which bounds."""
    outcomes = "1 matured outcome" if figures.n == 1 else f"{figures.n:,} matured outcomes"
    if figures.n_stood_for is not None:
        outcomes += f" that stand for {figures.n_stood_for:,} rows"
    verb = "earns" if figures.is_reward else "loses"
    if figures.mean == 0.0:
        compared = f"{challenger} {verb} as much as {champion}"
    else:
        compared = f"{challenger} {verb} {_size(figures.mean, figures)} {_side(figures.mean, figures)} than {champion}"
    return f"{compared} on {outcomes}{figures.population}{_interval(figures)}"


def _interval(figures: Figures) -> str:
    """Nearer bound first; `less` and `more` are said only where the bounds disagree with the mean."""
    if figures.low is None or figures.high is None:
        return ""
    near, far = (figures.high, figures.low) if figures.mean < 0.0 else (figures.low, figures.high)
    near_words, far_words = _size(near, figures), _size(far, figures)
    if _side(near, figures) != _side(far, figures):
        near_words, far_words = f"{near_words} {_side(near, figures)}", f"{far_words} {_side(far, figures)}"
    return f", between {near_words} and {far_words} at any-time {100 * (1 - figures.alpha):g} %"


def _awaited(awaited: Forecast) -> str:
    if awaited.high is None:
        return f"if it goes on like this, more than {_about(awaited.low)} more outcomes, and perhaps never enough"
    if awaited.low == 0:
        return f"if it goes on like this, up to about {_about(awaited.high)} more outcomes"
    return f"if it goes on like this, about {_about(awaited.low)} to {_about(awaited.high)} more outcomes"


def _about(n: int) -> str:
    """Two digits, because no more is known."""
    digits = max(0, len(str(n)) - 2)
    return f"{round(n, -digits):,}"


def _side(difference: float, figures: Figures) -> str:
    return "less" if (difference >= 0.0) != figures.is_reward else "more"


def _size(difference: float, figures: Figures) -> str:
    """In percent of the champion's mean loss, or reward; as it is where that is zero."""
    if figures.champion_loss == 0.0:
        return f"{abs(difference):.2g}"
    percent = 100.0 * abs(difference / figures.champion_loss)
    return f"{percent:,.1f} %" if percent >= 0.1 else f"{percent:.1g} %"
