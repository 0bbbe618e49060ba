"""What traffic is compared with: for each feature bins, and how many rows of the reference fall into each.

Numbers have at most ten bins, cut at deciles of the reference; a value on a cut belongs to the lower bin. Strings have
a bin for each of their commonest values, one for the other values of the reference and one for values that it did not
have. The last bin of all is "missing". A value is what the version saw: a default counts as itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from gateway.columns import LARGEST
from registry.types import Dtype, Feature, Task

N_BINS = 10
N_VALUES = 20
"""Commonest values of a string that have a bin of their own."""
N_KNOWN = 1_000
"""Values of a string that are remembered; of one that has more nothing can be called new."""
N_PARTNERS = 1_000
"""Rows of the reference that are kept, as bins, to bet against."""
N_SCORE_BINS = 100

Array = NDArray[Any]


class Bins(Struct, frozen=True):
    """The bins of one feature, and the reference's rows in them. `mean` and `sd` are of numbers that are there."""

    name: str
    dtype: Dtype
    cuts: tuple[float, ...] = ()
    values: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    all_known: bool = True
    counts: tuple[int, ...] = ()
    centres: tuple[float, ...] = ()
    """The mean of the reference's numbers in each bin: where it is taken to lie."""
    mean: float = 0.0
    sd: float = 0.0

    @property
    def n_bins(self) -> int:
        """With the one of what is missing, the last."""
        return len(self.values) + 3 if self.dtype == "string" else len(self.cuts) + 2


class Scores(Struct, frozen=True):
    """What is known of a version's answers and of outcomes in the reference; empty where nothing is.

    `cuts` are those of a regression's answers and outcomes; classes need none.
    """

    cuts: tuple[float, ...] = ()
    score_counts: tuple[int, ...] = ()
    outcome_counts: tuple[int, ...] = ()


class Reference(Struct, frozen=True):
    """A reference: its bins in the order of the schema, and some of its rows. `through`: its last bucket of traffic."""

    source: Literal["training", "traffic"]
    n_rows: int
    bins: tuple[Bins, ...]
    partners: bytes
    """uint8, `(n, n_features)`: evenly spread rows of the reference, by the number of their bins."""
    scores: Scores = Scores()
    first: int | None = None
    through: int | None = None

    def partner_codes(self) -> Array:
        """The kept rows, `(n, n_features)`."""
        return np.frombuffer(self.partners, np.uint8).reshape(-1, len(self.bins))


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Reference).decode


def reference_of(
    columns: Mapping[str, Array],
    features: Sequence[Feature],
    source: Literal["training", "traffic"],
    *,
    scores: Scores | None = None,
    buckets: tuple[int, int] | None = None,
) -> Reference:
    """The reference that these rows make: `(n,)` a feature, NaN or the empty string where missing."""
    n_rows = len(next(iter(columns.values())))
    made, codes = [], []
    kept = np.unique(np.linspace(0, n_rows - 1, min(N_PARTNERS, n_rows // 2)).astype(np.intp))
    for feature in features:
        values = columns[feature.name]
        bins = _of_strings(feature, values) if feature.dtype == "string" else _of_numbers(feature, values)
        of_all = codes_of(bins, values)
        made.append(msgspec.structs.replace(bins, counts=tuple(np.bincount(of_all, minlength=bins.n_bins).tolist())))
        codes.append(of_all[kept])
    partners = np.stack(codes, axis=1).astype(np.uint8).tobytes()
    first, through = buckets or (None, None)
    return Reference(source, n_rows, tuple(made), partners, scores or Scores(), first, through)


def codes_of(bins: Bins, values: Array) -> Array:
    """The number of the bin of each value, `(n,)`. The plain loop that `sketch` equals."""
    missing = bins.n_bins - 1
    if bins.dtype == "string":
        number = {value: code for code, value in enumerate(bins.values)}
        number |= dict.fromkeys(bins.others, len(bins.values)) | {"": missing}
        unknown = len(bins.values) + (1 if bins.all_known else 0)
        return np.array([number.get(value, unknown) for value in values.tolist()], np.int64)
    numbers = values.astype(np.float64)
    codes = np.searchsorted(np.array(bins.cuts), numbers, side="left")
    return np.where(np.isnan(numbers), missing, codes)


def cuts_of(values: Array) -> tuple[float, ...]:
    """Where to cut: at deciles that are values of the data, so that both precisions of floats agree on the sides."""
    there = values[~np.isnan(values)]
    if len(there) == 0:
        return ()
    inner = np.quantile(there, np.linspace(0, 1, N_BINS + 1)[1:-1], method="inverted_cdf")
    few = np.unique(there[:: max(1, len(there) // 10_000)])
    cuts = few[:-1] if len(few) <= N_BINS else np.unique(inner)
    return tuple(cut for cut in cuts.tolist() if cut < float(there.max()))


def _of_numbers(feature: Feature, values: Array) -> Bins:
    numbers = values.astype(np.float64)
    there = numbers[~np.isnan(numbers)]
    if len(there) == 0:
        return Bins(feature.name, feature.dtype)
    cuts = cuts_of(numbers)
    codes = np.searchsorted(np.array(cuts), there)
    counts = np.bincount(codes, minlength=len(cuts) + 1)  # every cut is a value, and the largest value is above all
    there = np.clip(there, -LARGEST, LARGEST)  # of absurd numbers not even their sum is one
    centres = np.bincount(codes, there, len(cuts) + 1) / counts
    return Bins(
        feature.name, feature.dtype, cuts,
        centres=tuple(centres.tolist()), mean=float(there.mean()), sd=float(there.std()),
    )  # fmt: skip


def _of_strings(feature: Feature, values: Array) -> Bins:
    counted = Counter(value for value in values.tolist() if value)
    ranked = sorted(counted, key=lambda value: (-counted[value], value))
    all_known = len(ranked) <= N_KNOWN
    return Bins(
        feature.name, feature.dtype, values=tuple(ranked[:N_VALUES]),
        others=tuple(ranked[N_VALUES:]) if all_known else (), all_known=all_known,
    )  # fmt: skip


def score_counts_of(task: Task, scores: Array, cuts: Sequence[float]) -> Array:
    """Counts of scores `(n,)` or `(n, n_classes)`: a hundredth of probability a bin, for regression between the cuts.

    Of several classes it is the most probable one's that is counted, and the class itself behind.
    """
    match task:
        case "binary":
            return np.bincount(_hundredths(scores), minlength=N_SCORE_BINS)
        case "multiclass":
            highest = np.bincount(_hundredths(scores.max(axis=1)), minlength=N_SCORE_BINS)
            return np.concatenate([highest, np.bincount(scores.argmax(axis=1), minlength=scores.shape[1])])
        case "regression":
            return np.bincount(np.searchsorted(np.array(cuts), scores), minlength=len(cuts) + 1)


def _hundredths(p: Array) -> Array:
    return np.clip((p * N_SCORE_BINS).astype(np.int64), 0, N_SCORE_BINS - 1)
