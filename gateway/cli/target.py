"""What happened: the target column of a table as outcomes of a task."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from gateway.cli.typed import MISSING, Column, TableRefused, Text
from registry.types import Task

MOST_CLASSES = 50


class Outcomes(Struct, frozen=True, eq=False):
    """What happened to each row: `values` `(n,)` of int, float or str objects; where it is `missing` nobody knows."""

    task: Task
    values: NDArray[Any]
    missing: NDArray[np.bool_]
    sentence: str

    def trainable(self, which: NDArray[np.intp]) -> NDArray[Any]:
        """Those of some rows as training takes them."""
        kept = self.values[which]
        if self.task == "regression":
            return kept.astype(np.float64)
        return kept if isinstance(kept[0], str) else kept.astype(np.int64)


def outcomes_of(column: Text | Column, name: str, task: str | None) -> Outcomes:
    """The outcomes that a column tells. Without a task: two values are binary, texts are classes, numbers are numbers.

    Raises:
        TableRefused: it has fewer than two values, or none of that task.
    """
    typed = column.typed() if isinstance(column, Text) else column
    values, missing = typed.values, typed.missing
    if isinstance(column, Text) and typed.kind in ("text", "moment"):
        values = column.rows()
        missing = np.array([text.lower() in MISSING for text in column.distinct], np.bool_)[column.codes]
    if missing.all():
        raise TableRefused(f"--target {name}: every row is empty")
    present = values[~missing]
    found = sorted(set(present.tolist()))
    if len(found) == 1:
        raise TableRefused(f"--target {name}: expected outcomes that differ, got {found[0]!r:.60} in every row")
    if typed.strange is not None and typed.kind != "text":
        odd, n_odd = typed.strange
        raise TableRefused(f"--target {name}: expected numbers, got {odd!r:.60} among them, in {n_odd:,} rows")
    is_number = present.dtype.kind in "iufb"
    are_whole = is_number and bool((present == np.floor(present.astype(np.float64))).all())
    if task is None:
        if len(found) == 2 and (not is_number or are_whole):
            task = "binary"
        else:
            task = "regression" if is_number else "multiclass"
    _check(name, task, found, is_number=is_number, are_whole=are_whole)
    chosen: Task = next(one for one in get_args(Task) if one == task)
    if chosen == "regression":
        objects = values.astype(np.float64).astype(object)
    elif is_number:
        objects = np.where(missing, 0, values).astype(np.int64).astype(object)
    else:
        objects = values
    shown = " and ".join(map(str, found)) if len(found) == 2 else f"{len(found):,} values"
    return Outcomes(chosen, objects, missing, f"{name} has {shown}: {chosen}")


def _check(name: str, task: str, found: list[Any], *, is_number: bool, are_whole: bool) -> None:
    if task == "regression":
        if not is_number:
            raise TableRefused(f"--target {name}: regression expects numbers, got {found[0]!r:.60}")
        return
    if is_number and not are_whole:
        odd = next(value for value in found if value != np.floor(value))
        raise TableRefused(f"--target {name}: {task} expects classes, as whole numbers or texts; got {odd}")
    if task == "binary" and len(found) != 2:
        raise TableRefused(f"--target {name}: binary expects two classes, got {len(found):,}")
    if len(found) > MOST_CLASSES:
        raise TableRefused(f"--target {name}: expected at most {MOST_CLASSES} classes, got {len(found):,}")
