"""The rows that a version learns from: columns of the model's schema and what happened, checked, in order of time."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from gateway.columns import LARGEST
from registry.types import Dtype, Feature, InputSchema, Metric, Task
from retrain import errors
from retrain.evidence import Rule
from retrain.terms import costs_of

Columns = Mapping[str, NDArray[Any]]

MIN_ROWS, MIN_CLASS_ROWS = 200, 10
NUMPY_KINDS: dict[Dtype, tuple[str, str]] = {  # kinds of arrays that are taken, and what to say otherwise
    "float32": ("fiu", "numbers within float32"),
    "float64": ("fiu", "numbers within float32"),
    "int64": ("iu", "whole numbers"),
    "bool": ("b", "booleans"),
    "string": ("OU", "strings"),
}


class Rows(Struct, frozen=True, eq=False):
    """What is learned from, checked and in order of time. `target` as given; `classes` sorted, none in regression.

    `known_after`: how long after a row its outcome is known. The arrays cannot be written to: somebody's function is
    given them, and what it is measured on are the same.
    """

    features: tuple[Feature, ...]
    columns: dict[str, NDArray[Any]]
    target: NDArray[Any]
    task: Task
    classes: tuple[int | str, ...]
    at: NDArray[np.datetime64] | None
    weight: NDArray[np.float64] | None = None
    known_after: timedelta = timedelta(0)

    @classmethod
    def checked(
        cls,
        columns: Columns,
        target: NDArray[Any],
        schema: InputSchema,
        task: Task,
        at: NDArray[np.datetime64] | None,
        weight: NDArray[Any] | None = None,
        known_after: timedelta = timedelta(0),
    ) -> Self:
        """The rows in order of `at`; raises as `fit` does for all that is wrong with them before any estimator."""
        target = np.asarray(target)
        if target.ndim != 1:
            raise errors.TargetRefused("one dimension", f"shape {target.shape}")
        if len(target) < MIN_ROWS:
            raise errors.TooFewRows("rows", MIN_ROWS, len(target))
        for name in columns.keys() - set(schema.names):
            raise errors.ColumnRefused(name, f"one of the schema's features {', '.join(schema.names)}", "another name")
        taken = {feature.name: _column(feature, columns, len(target)) for feature in schema.features}
        target, weight = _outcomes(target, task), _weights(weight, len(target))
        if at is not None:
            at = np.asarray(at)
            if at.dtype.kind != "M" or at.shape != target.shape or np.isnat(at).any():
                raise errors.ColumnRefused("at", f"{len(target)} datetime64, none missing", f"{at.dtype} {at.shape}")
            order = np.argsort(at, kind="stable")
            taken, target, at = {name: values[order] for name, values in taken.items()}, target[order], at[order]
            weight = None if weight is None else weight[order]
        classes = () if task == "regression" else tuple(np.unique(target).tolist())
        taken = {name: _read_only(values) for name, values in taken.items()}
        at, weight = None if at is None else _read_only(at), None if weight is None else _read_only(weight)
        return cls(schema.features, taken, _read_only(target), task, classes, at, weight, known_after)

    def __len__(self) -> int:
        return len(self.target)

    def part(self, start: int, end: int) -> Self:
        """The rows from one place to another, all of the classes kept in mind."""
        which = slice(start, end)
        return msgspec.structs.replace(
            self,
            columns={name: values[which] for name, values in self.columns.items()},
            target=self.target[which],
            at=None if self.at is None else self.at[which],
            weight=None if self.weight is None else self.weight[which],
        )

    def split(self, share: float, end: float = 1.0) -> tuple[Self, Self]:
        """The rows that could be learned from at a share of the way, and those after it until `end`.

        As in service, no outcome is among the former that was not known when the latter began. Where hardly anything
        would be left so, as in the first weeks of a model whose outcomes take months, all before are taken: `is_apart`
        tells them from each other.

        Raises:
            TargetRefused: a class is not among the former.
        """
        first, last = round(share * len(self)), round(end * len(self))
        before, later = self.part(0, first), self.part(first, last)
        if self.at is not None and len(later):
            n_known = int(np.searchsorted(self.at[:first], self.at[first] - self._gap, side="right"))
            known = self.part(0, n_known)
            if n_known >= MIN_ROWS and not known.unseen_classes:
                return known, later
        if before.unseen_classes:
            raise errors.TargetRefused(
                f"every class in the first {len(before)} rows of time", f"none of {before.unseen_classes[0]!r}"
            )
        return before, later

    def is_apart(self, later: Self) -> bool:
        """Whether all outcomes of these rows were known when the later ones began."""
        return self.at is None or later.at is None or bool(self.at[-1] + self._gap <= later.at[0])

    @property
    def unseen_classes(self) -> list[int | str]:
        """Classes that none of these rows has."""
        return sorted(set(self.classes) - set(np.unique(self.target).tolist()), key=repr) if self.classes else []

    @property
    def _gap(self) -> np.timedelta64:
        return np.timedelta64(self.known_after // timedelta(microseconds=1), "us")

    @property
    def outcome(self) -> NDArray[Any]:
        """`(n,)` as evidence takes it: the index of the class, or the number itself."""
        return self.target if self.task == "regression" else np.searchsorted(np.array(self.classes), self.target)

    def terms(self, metric: Metric) -> Rule:
        """What losses are measured by: share of positives, or the best constant answer and what it loses.

        A typical amount of costs is 1, and so is a typical outcome where each row tells its own scale.
        """
        match self.task:
            case "binary":
                amounts = self.measured(metric).get("amount")
                return Rule(
                    task="binary",
                    loss=metric.loss,
                    base_rate=float(self.outcome.mean()),
                    clip=metric.clip,
                    costs=costs_of(metric),
                    scale=None if amounts is None else float(amounts.mean()),
                )
            case "multiclass":
                return Rule(task="multiclass", loss=metric.loss, clip=metric.clip)
            case "regression":
                quantile = metric.quantile if metric.quantile is not None else 0.5
                prior = float(np.quantile(self.target, quantile))
                scale = float(np.abs(self.target - prior).mean())
                return Rule(task="regression", loss=metric.loss, quantile=quantile, prior=prior, scale=scale)

    def measured(self, metric: Metric) -> dict[str, NDArray[np.float64]]:
        """What losses are measured by, as pairs take it: `amount` or `scale`, where the metric has one."""
        found = {}
        for name, feature in (("amount", metric.amount_feature), ("scale", metric.scale_feature)):
            if feature is not None:
                values = self.columns[feature].astype(np.float64)
                found[name] = np.where(values > 0.0, values, 1.0 if name == "scale" else 1e-30)
        return found

    def moment(self, index: int) -> datetime | None:
        """When that row was; None where it was not said."""
        return None if self.at is None else self.at[index].astype("datetime64[us]").item().replace(tzinfo=UTC)

    def digest(self) -> str:
        """Names these rows in this order."""
        digest = hashlib.sha256(msgspec.json.encode(list(self.columns)))
        weights = () if self.weight is None else (self.weight,)
        for values in (*self.columns.values(), self.target, *weights):
            plain = values.astype(values.dtype.newbyteorder("<")).tobytes() if values.dtype.kind != "O" else None
            digest.update(plain if plain is not None else msgspec.json.encode(values.tolist()))
        return "sha256:" + digest.hexdigest()


def _read_only(values: NDArray[Any]) -> NDArray[Any]:
    """The same values: the caller's array is none of ours to freeze."""
    view = values.view()
    view.setflags(write=False)
    return view


def _column(feature: Feature, columns: Columns, n_rows: int) -> NDArray[Any]:
    if feature.name not in columns:
        raise errors.ColumnMissing(feature.name, tuple(columns))
    values = np.asarray(columns[feature.name])
    kinds, expected = NUMPY_KINDS[feature.dtype]
    if values.shape != (n_rows,):
        raise errors.ColumnRefused(feature.name, f"shape ({n_rows},), as the target", f"shape {values.shape}")
    if values.dtype.kind not in kinds:
        raise errors.ColumnRefused(feature.name, expected, f"dtype {values.dtype}")
    if feature.dtype == "string":
        strange = next((repr(value) for value in values.tolist() if not isinstance(value, str)), None)
        values = values.astype(object)
    else:
        too_large = values[np.abs(values) > LARGEST] if values.dtype.kind == "f" else values[:0]
        strange = repr(float(too_large[0])) if len(too_large) else None
        values = values.astype(feature.dtype)
    if strange is not None:
        raise errors.ColumnRefused(feature.name, expected, strange)
    return values


def _weights(weight: NDArray[Any] | None, n_rows: int) -> NDArray[np.float64] | None:
    if weight is None:
        return None
    weight = np.asarray(weight)
    if weight.shape != (n_rows,) or weight.dtype.kind not in "biuf":
        raise errors.ColumnRefused("weight", f"{n_rows} numbers", f"{weight.dtype} {weight.shape}")
    weight = weight.astype(np.float64)
    wrong = ~(np.isfinite(weight) & (weight > 0.0))
    if wrong.any():
        raise errors.ColumnRefused("weight", "finite numbers above 0", f"{weight[wrong][0]:g} among them")
    return weight


def _outcomes(target: NDArray[Any], task: Task) -> NDArray[Any]:
    is_number = target.dtype.kind in "biuf"
    if task == "regression" and not is_number:
        raise errors.TargetRefused("numbers", f"dtype {target.dtype}")
    if is_number:
        target = target.astype(np.float64)
        if not np.isfinite(target).all():
            row = int(np.flatnonzero(~np.isfinite(target))[0])
            raise errors.TargetRefused("finite numbers", f"{target[row]} in row {row}")
    else:
        strange = [value for value in target.tolist() if not isinstance(value, str)]
        if strange:
            raise errors.TargetRefused("classes, as whole numbers or strings", f"{strange[0]!r} among them")
    found, counts = np.unique(target, return_counts=True)
    if len(found) == 1:
        raise errors.OneClass(found.tolist()[0], len(target))
    if task == "regression":
        return target
    if is_number and (found != np.floor(found)).any():
        raise errors.TargetRefused("classes, as whole numbers or strings", f"{found[found != np.floor(found)][0]}")
    if task == "binary" and len(found) > 2:
        raise errors.TargetRefused("two classes", f"{len(found)}")
    if counts.min() < MIN_CLASS_ROWS:
        rarest = found[counts.argmin()]
        named = f"{rarest:g}" if is_number else repr(str(rarest))
        raise errors.TooFewRows(f"rows of class {named}", MIN_CLASS_ROWS, int(counts.min()))
    return target.astype(np.int64) if is_number else target
