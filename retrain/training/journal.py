"""From the journal to what a version learns from: matured predictions with their outcomes, in order of time.

A row holds what was logged when it was predicted, and what had become known of it by a stated time: never an answer of
a challenger, nor an outcome that came later. The order does not depend on which writer was read first, so two readings
as of one time give the same arrays and the same digest, whatever was written in between.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct
from numpy.typing import NDArray

from gateway.clock import MICROSECONDS
from gateway.columns import LARGEST
from gateway.journal import Ledger, PredictionReader
from gateway.journal.table import Account, PredictionTable, Span
from registry.recipe import Window
from registry.types import Feature, Model, Policy, Signature, Task
from retrain.cohorts import due_bucket

DAY_US = 86_400 * MICROSECONDS
LARGEST_OUTCOME = 1e30
"""Of a regression: what losses are divided by may be no larger (`retrain.evidence.Rule.scale`)."""
_ORDER = ("predicted_at", "writer", "seq", "row")


class Counts(Struct, frozen=True):
    """Rows that are learned from, and rows that are not, by why."""

    n_rows: int
    n_older: int
    """With an outcome, and before the latest so many that the window takes."""
    n_without_outcome: int
    n_unseen: int
    """Decided otherwise, so that nobody can have seen an outcome of theirs."""
    n_absurd: int
    """With a number that no estimator, or no measure, takes: whoever sends one keeps no model from learning."""
    n_waiting: int
    n_erased: int
    n_damaged_chunks: int


class Lesson(Struct, frozen=True, eq=False):
    """What is learned from: arrays of one length, in order of time.

    `columns`: one a feature of the schema, as a version would have been given it. `target`: the class labels, or
    floats. `weight`: 1 / the logged chance of the decision that let the outcome be seen; None where all are 1.
    """

    columns: dict[str, NDArray[Any]]
    target: NDArray[Any]
    at: NDArray[np.datetime64]
    weight: NDArray[np.float64] | None
    counts: Counts
    digest: str
    """Names these values in this order."""

    def __len__(self) -> int:
        return len(self.target)


def learnable(
    reader: PredictionReader,
    ledger: Ledger,
    model: Model,
    signatures: Mapping[int, Signature],
    *,
    as_of_us: int,
    window: Window,
    bucket_us: int,
) -> Lesson:
    """The rows of matured cohorts that had an outcome by `as_of_us`, within the window; it may be none.

    `signatures`: of every version. The window's days count back from the end of the last cohort that had matured.

    Raises:
        JournalUnavailable, JournalDamaged: it cannot be read.
    """
    end_us = (due_bucket(as_of_us, bucket_us, model.policy) + 1) * bucket_us
    since_us = 0 if window.days is None else max(0, end_us - round(window.days * DAY_US))
    table = PredictionTable(reader, ledger, model, signatures, Span(as_of_us, since_us), bucket_us=bucket_us)
    names = [*_ORDER, "weight", "outcome", *(f"inputs.{feature.name}" for feature in model.schema.features)]
    held, n_unseen, n_absurd = _Held(pa.schema([table.schema.field(name) for name in names])), 0, 0
    for batch in table.batches():
        seen = _seen(batch, model.policy)
        n_unseen += batch.num_rows - int(seen.sum())
        learned = seen & batch.column("outcome").is_valid().to_numpy(zero_copy_only=False)
        absurd = learned & _absurd(batch, model.schema.features, model.task)
        n_absurd += int(absurd.sum())
        held.add(_filled(batch.select(names).filter(pa.array(learned & ~absurd)), model.schema.features))
        if window.n_rows is not None and held.n_rows > 2 * window.n_rows:  # what is older is not kept in memory
            held.keep_latest(window.n_rows)
    held.keep_latest(window.n_rows)
    return _lesson(held, model, _counts(table.account, held, n_unseen, n_absurd))


class _Held:
    """Columns under way: pieces of each. Strings are numbers of words, which all pieces of a column share."""

    def __init__(self, schema: pa.Schema) -> None:
        empty = {field.name: pa.array([], field.type) for field in schema}
        self._words: dict[str, dict[str, int]] = {name: {} for name, none in empty.items() if none.type == pa.string()}
        self._pieces = {name: [self._numbers(name, none)] for name, none in empty.items()}
        self.n_rows = self.n_let_go = 0

    def add(self, rows: pa.RecordBatch) -> None:
        """Take in some rows without nulls."""
        for name, pieces in self._pieces.items():
            pieces.append(self._numbers(name, rows.column(name)))
        self.n_rows += rows.num_rows

    def keep_latest(self, n_rows: int | None) -> None:
        """Put what is held in order, in one piece a column, and let go of all but the latest so many."""
        order = np.lexsort([np.concatenate(self._pieces[name]) for name in reversed(_ORDER)])
        if n_rows is not None and len(order) > n_rows:
            order = order[len(order) - n_rows :]
        for name, pieces in self._pieces.items():
            self._pieces[name] = [np.concatenate(pieces)[order]]
        self.n_let_go += self.n_rows - len(order)
        self.n_rows = len(order)

    def column(self, name: str) -> tuple[NDArray[Any], NDArray[np.object_] | None]:
        """The values of a column, which is in one piece; of strings the places of their words, and the words in order.

        A word that no row has any more is not among them.
        """
        (values,) = self._pieces[name]
        if name not in self._words:
            return values, None
        numbers, places = np.unique(values, return_inverse=True)
        words = np.array(list(self._words[name]), object)[numbers]
        order = np.argsort(words)
        return np.argsort(order).astype(np.int32)[places], words[order]

    def _numbers(self, name: str, column: pa.Array) -> NDArray[Any]:
        if name in self._words:
            encoded, words = column.dictionary_encode(), self._words[name]
            numbers = [words.setdefault(word, len(words)) for word in encoded.dictionary.to_pylist()]
            return np.asarray(np.array(numbers, np.int32)[encoded.indices.to_numpy()])
        plain = column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column
        return np.asarray(plain.to_numpy(zero_copy_only=False))


def _seen(batch: pa.RecordBatch, policy: Policy) -> NDArray[np.bool_]:
    """Of each row whether an outcome of it could be seen, as `population.observed` has it.

    In the table a decision is text, so a number and the text of that number are one here.
    """
    if policy.observed == "always" or not policy.approved_decisions:
        return np.ones(batch.num_rows, bool)
    approved = sorted({text for told in policy.approved_decisions for text in _texts(told)})
    found = pc.is_in(batch.column("decision"), pa.array(approved, pa.string()))
    seen: NDArray[np.bool_] = found.to_numpy(zero_copy_only=False)
    return seen


def _texts(told: float | str) -> set[str]:
    """How a decision may stand in the table: 1 and 1.0 are one decision."""
    if isinstance(told, str):
        return {told}
    same = [told, int(told), float(told)] if float(told).is_integer() else [told]
    return {msgspec.json.encode(value).decode() for value in same}


def _absurd(batch: pa.RecordBatch, features: tuple[Feature, ...], task: Task) -> NDArray[np.bool_]:
    """Of each row whether it has an input beyond float32, or an outcome by which nothing could be measured."""
    limits = {f"inputs.{feature.name}": LARGEST for feature in features if feature.dtype == "float64"}
    limits |= {"outcome": LARGEST_OUTCOME} if task == "regression" else {}
    found = np.zeros(batch.num_rows, bool)
    for name, most in limits.items():
        found |= np.abs(batch.column(name).fill_null(0.0).to_numpy(zero_copy_only=False)) > most
    return found


def _filled(rows: pa.RecordBatch, features: tuple[Feature, ...]) -> pa.RecordBatch:
    """The rows with what a version is given for a value that was not sent: the default, NaN or the empty string."""
    for feature in features:
        name = f"inputs.{feature.name}"
        column = rows.column(name)
        if column.null_count:
            value = feature.default if feature.default is not None else "" if feature.dtype == "string" else np.nan
            filled = column.fill_null(pa.scalar(value, column.type))
            rows = rows.set_column(rows.schema.get_field_index(name), rows.schema.field(name), filled)
    return rows


def _counts(account: Account, held: _Held, n_unseen: int, n_absurd: int) -> Counts:
    return Counts(
        n_rows=held.n_rows,
        n_older=held.n_let_go,
        n_without_outcome=account.n_rows - n_unseen - n_absurd - held.n_rows - held.n_let_go,
        n_unseen=n_unseen,
        n_absurd=n_absurd,
        n_waiting=account.n_waiting,
        n_erased=account.n_erased,
        n_damaged_chunks=account.n_damaged_chunks,
    )


def _lesson(held: _Held, model: Model, counts: Counts) -> Lesson:
    digest = hashlib.sha256(msgspec.json.encode([model.schema.features, model.task]))

    def taken(name: str) -> NDArray[Any]:
        values, words = held.column(name)
        digest.update(values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes())
        if words is None:
            return values
        digest.update(msgspec.json.encode(words.tolist()))
        return words[values] if len(words) else np.empty(0, object)

    at = taken("predicted_at").astype("datetime64[us]")
    columns = {feature.name: taken(f"inputs.{feature.name}") for feature in model.schema.features}
    target = taken("outcome")
    weight = None
    if model.policy.observed != "always":
        weight = taken("weight")
        weight = weight if (weight != 1.0).any() else None
    return Lesson(columns, target, at, weight, counts, "sha256:" + digest.hexdigest())
