"""What `bench.loop` found, as README shows it: losses over whole files, and where each way does worst."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

WAYS = ("frozen", "blind", "latest", "the loop", "in hindsight")
WITHOUT_HINDSIGHT = ("frozen", "blind", "latest", "the loop")


class Played(Struct, frozen=True):
    """One file: mean losses a row by way, and what the loop did."""

    n_rows: int
    n_months: int
    losses: dict[str, float]
    tenths: dict[str, list[float | None]]
    """The same in each tenth of the file; None where all of it was what the first champion learned from."""
    n_trainings: dict[str, int]
    decisions: list[str]
    took_s: float


def told(found: dict[str, Played]) -> str:
    """Both tables, each with what it says."""
    return (
        "Mean loss a row (log loss; absolute error over its scale in training for `bike_demand`) of the frozen first "
        "champion, and how much more or less the others lose. Bold: the least of those that need no hindsight.\n\n"
        + "\n".join(table(found))
        + "\n\nWhere replacing is a trap: each way in the tenth of a file (D1 to D10) where it loses most "
        "beside the frozen champion, and the others there.\n\n" + "\n".join(worst_tenths(found)) + "\n"
    )


def table(found: dict[str, Played]) -> Iterator[str]:
    """The lines of the table: losses in percent of the frozen champion's."""
    yield f"| data | rows, months | {' | '.join(WAYS)} | trainings | the loop's decisions |"
    yield "|---|---:|---:|---:|---:|---:|---:|---|---|"
    for name, each in found.items():
        unit = each.losses["frozen"]
        cells = [f"{each.losses['frozen']:.4f}"]
        best = min(each.losses[way] for way in WITHOUT_HINDSIGHT)
        for way in WAYS[1:]:
            cell = percent(each.losses[way], unit)
            cells.append(f"**{cell}**" if each.losses[way] == best else cell)
        told = ", ".join(f"{n} {state}" for state, n in each.n_trainings.items()) or "none"
        decided = "; ".join(each.decisions) or "none"
        yield f"| {name} | {each.n_rows:,}, {each.n_months} | " + " | ".join(cells) + f" | {told} | {decided} |"


def worst_tenths(found: dict[str, Played]) -> Iterator[str]:
    """The lines of the table of traps: each way in the tenth of a file where it does worst beside doing nothing."""
    replacing = WITHOUT_HINDSIGHT[1:]
    yield "| data | " + " | ".join(f"{way} at its worst" for way in replacing) + " |"
    yield "|---|" + "---:|" * len(replacing)
    for name, each in found.items():
        cells = []
        for way in replacing:
            known = [k for k, unit in enumerate(each.tenths["frozen"]) if unit is not None]
            worst = max(known, key=lambda k: _over(each, way, k))
            others = ", ".join(
                f"{other} {100 * _over(each, other, worst):+.0f} %" for other in replacing if other != way
            )
            cells.append(f"**{100 * _over(each, way, worst):+.0f} %** in D{worst + 1} ({others})")
        yield f"| {name} | " + " | ".join(cells) + " |"


def _over(each: Played, way: str, k: int) -> float:
    """How much more than the frozen champion a way loses in a tenth, as a share."""
    mine, unit = each.tenths[way][k], each.tenths["frozen"][k]
    assert mine is not None
    assert unit is not None
    return mine / unit - 1


def percent(loss: float, unit: float) -> str:
    """How much more than `unit`."""
    return f"{100 * (loss / unit - 1):+.1f} %"
