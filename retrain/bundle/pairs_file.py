"""`pairs.parquet`: every pair with its address, a row group a bucket; what `understudy compare` can read too."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Struct

from gateway.columns import Array
from registry.types import Policy
from retrain.errors import BundleRefused
from retrain.evidence import Pairs, Rule, Serving
from retrain.pairing import Answered
from retrain.population import Population

ADDRESS = ("writer", "seq", "row")
NAMES = ("source", "entity")
NUMBERS = ("weight", "amount", "scale")


class BucketPairs(Struct, frozen=True, eq=False):
    """The pairs of one bucket as they were read back."""

    bucket: int
    pairs: Pairs
    addresses: Array
    further_segments: tuple[Array, ...]

    def answered(self, serving: Serving, population: Population, at_stake_undue: float) -> Answered:
        """As the cycle made them of the journal, with what pairs do not tell."""
        return Answered(self.pairs, self.addresses, self.further_segments, serving, population, at_stake_undue)


class PairsWriter:
    """Writes the pairs of one contender, bucket by bucket. Columns that the terms do not use are not there."""

    def __init__(self, path: Path, n_classes: int, policy: Policy, rule: Rule) -> None:
        """`n_classes`: columns of a score; 1 where it is a number."""
        self._scores = [
            (who, [who] if n_classes == 1 else [f"{who}_{k}" for k in range(n_classes)])
            for who in ("champion", "challenger")
        ]
        metric = policy.metric
        self._segments = [_segment(k) for k in range(len(metric.segments))]
        self._numbers = [
            name
            for name, used in (
                ("weight", rule.measured_by == "reward" or policy.observed != "always"),
                ("amount", metric.amount_feature is not None),
                ("scale", metric.scale_feature is not None),
            )
            if used
        ]
        fields = [pa.field(name, pa.int64(), nullable=False) for name in ("bucket", *ADDRESS)]
        floats = ["outcome", *(column for _, columns in self._scores for column in columns), *self._numbers]
        fields += [pa.field(name, pa.float64()) for name in floats]
        fields += [pa.field(name, pa.string()) for name in (*NAMES, *self._segments)]
        self._schema = pa.schema(fields)
        self._parquet = pq.ParquetWriter(path, self._schema, compression="zstd")

    def __enter__(self) -> PairsWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._parquet.close()

    def write(self, said: Answered) -> None:
        """The pairs of one bucket, in the order of addresses."""
        order = np.lexsort((said.addresses[:, 2], said.addresses[:, 1], said.addresses[:, 0]))
        pairs = said.pairs
        columns: dict[str, Array | None] = {"bucket": pairs.bucket[order], "outcome": pairs.outcome[order]}
        columns |= {name: said.addresses[order, place] for place, name in enumerate(ADDRESS)}
        for who, names in self._scores:
            values = getattr(pairs, who)[order].reshape(len(order), len(names))
            columns |= {name: values[:, place] for place, name in enumerate(names)}
        for name in (*self._numbers, *NAMES):
            values = getattr(pairs, name)
            columns[name] = None if values is None else values[order]
        segments = [pairs.segment, *said.further_segments]
        columns |= {name: None if values is None else values[order] for name, values in zip(
            self._segments, segments, strict=False)}  # fmt: skip
        arrays = [_array(field.name, columns[field.name], field.type, len(order)) for field in self._schema]
        self._parquet.write_table(pa.Table.from_arrays(arrays, schema=self._schema))


def read_pairs(path: Path) -> Iterator[BucketPairs]:
    """Bucket by bucket, in the order of the bucket numbers.

    Raises:
        BundleRefused: it is no file of pairs.
    """
    try:
        table = pq.read_table(path)
        scores = {who: _score_columns(table.column_names, who) for who in ("champion", "challenger")}
        table = table.sort_by([(name, "ascending") for name in ("bucket", *ADDRESS)])
        bucket = table.column("bucket").to_numpy()
        starts = [*np.flatnonzero(np.diff(bucket, prepend=bucket[:1] - 1)).tolist(), len(bucket)]
        for start, end in pairwise(starts):
            yield _of_bucket(table.slice(start, end - start), scores)
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
        raise BundleRefused(f"{path.name} cannot be read: {str(error).splitlines()[0]}") from None


def _of_bucket(rows: Any, scores: dict[str, list[str]]) -> BucketPairs:
    def numbers(name: str) -> Array:
        return np.asarray(rows.column(name).cast(pa.float64()).to_numpy(), np.float64)

    def matrix(columns: list[str]) -> Array:
        read = [numbers(column) for column in columns]
        return read[0] if len(read) == 1 else np.stack(read, axis=1)

    def given(name: str) -> bool:
        return name in rows.column_names and rows.column(name).null_count < rows.num_rows

    def names(name: str) -> Array | None:
        return np.array(rows.column(name).to_pylist(), np.str_) if given(name) else None

    segments = [values for k in range(len(rows.column_names)) if (values := names(_segment(k))) is not None]
    bucket = rows.column("bucket").to_numpy()
    pairs = Pairs(
        numbers("outcome"),
        matrix(scores["champion"]),
        matrix(scores["challenger"]),
        bucket,
        segment=segments[0] if segments else None,
        **{name: names(name) for name in NAMES},
        **{name: numbers(name) if given(name) else None for name in NUMBERS},
    )
    addresses = np.stack([rows.column(name).to_numpy() for name in ADDRESS], axis=1)
    return BucketPairs(int(bucket[0]), pairs, addresses, tuple(segments[1:]))


def _score_columns(names: list[str], who: str) -> list[str]:
    if who in names:
        return [who]
    columns = [f"{who}_{k}" for k in range(sum(name.startswith(f"{who}_") for name in names))]
    if not columns:
        raise KeyError(f"no column '{who}'")
    return columns


def _segment(k: int) -> str:
    return "segment" if k == 0 else f"segment_{k + 1}"


def _array(name: str, values: Array | None, kind: Any, n_rows: int) -> Any:
    """A column of one bucket: null where the bucket has none, or where no outcome came and no answer was given.

    A weight of NaN stays what it is: a row that was not seen, and whose chance of that nobody logged.
    """
    if values is None:
        return pa.nulls(n_rows, kind)
    plain = np.ascontiguousarray(values)
    missing = np.isnan(plain) if plain.dtype.kind == "f" and name not in NUMBERS else None
    return pa.array(plain, kind, mask=missing)
