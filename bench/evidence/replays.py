"""T6: the same rows in another order, in shards, and delivered three times; and why deliveries must be told apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec
import numpy as np

from bench.evidence import paths, pools, table
from bench.evidence.effort import Effort, generator
from bench.evidence.table import Line
from retrain.evidence import BucketSums, Evidence, Pairs, Rule, compare, judge, sums_of

N_ROWS, N_BUCKETS, N_SHARDS, N_TIMES = 40_000, 40, 64, 3
SAME = 1e-9

Rebuilt = Callable[[Pairs, Rule, np.random.Generator], list[BucketSums]]


def shuffled(pairs: Pairs, rule: Rule, rng: np.random.Generator) -> list[BucketSums]:
    """Rows in any order, buckets in any order."""
    sums = [sums_of(bucket, rule) for bucket in pairs.rows(rng.permutation(len(pairs))).by_bucket()]
    return [sums[number] for number in rng.permutation(len(sums))]


def sharded(pairs: Pairs, rule: Rule, rng: np.random.Generator) -> list[BucketSums]:
    """Every row in one of 64 shards, whose sums are merged as they come."""
    shard = rng.integers(0, N_SHARDS, len(pairs))
    parts = [sums_of(bucket, rule) for n in range(N_SHARDS) for bucket in pairs.rows(shard == n).by_bucket()]
    merged: dict[int, BucketSums] = {}
    for number in rng.permutation(len(parts)):
        part = parts[number]
        merged[part.bucket] = merged[part.bucket].merge(part) if part.bucket in merged else part
    return list(merged.values())


def tripled(pairs: Pairs, rule: Rule, rng: np.random.Generator) -> list[BucketSums]:
    """Every row delivered three times in any order, and the first delivery of each id taken."""
    delivered = rng.permutation(np.repeat(np.arange(len(pairs)), N_TIMES))
    taken = delivered[np.unique(delivered, return_index=True)[1]]
    return [sums_of(bucket, rule) for bucket in pairs.rows(rng.permutation(taken)).by_bucket()]


WAYS: dict[str, Rebuilt] = {
    "rows and buckets in any order": shuffled,
    "64 shards, merged in any order": sharded,
    "three deliveries, told apart by their ids": tripled,
}


def replayed(_: Effort) -> Iterator[Line]:
    """A reign that ends in promotion and one that does not, each rebuilt in three ways.

    Raises:
        AssertionError: a rebuilt reign decides otherwise.
    """
    rng = generator("T6")
    for way, rebuilt in WAYS.items():
        changes = []
        for pool in (pools.better("ll5"), pools.equal("aa_ll")):
            rows = rng.integers(0, len(pool.pairs), N_ROWS)
            pairs = msgspec.structs.replace(pool.pairs.rows(rows), bucket=np.arange(N_ROWS) * N_BUCKETS // N_ROWS)
            whole, again = compare(pairs, pool.rule), judge(rebuilt(pairs, pool.rule, rng), pool.rule)
            assert (again.verdict, again.promote) == (whole.verdict, whole.promote), way
            changes.append(_change(whole, again))
        yield Line(
            target="T6",
            process=f"log loss 5 % lower, and equal: {way}",
            claim="same decision; largest change of ln E and ln E'",
            unit="relative",
            measured=max(changes),
            limit=SAME,
            n_streams=len(changes),
        )


def counted_again(effort: Effort) -> Iterator[Line]:
    """The control: what follows where deliveries are not told apart."""
    rng = generator("T6 control")
    made = paths.table(pools.equal("aa_ll"))
    n_passed = 0
    for _ in range(effort.n_alone):
        seen = paths.looks(made, paths.drawn(made, rng, 30_000), 100)
        seen = msgspec.structs.replace(seen, growth=N_TIMES * seen.growth)
        n_passed += paths.first_promotion(seen, made.rule) is not None
    yield table.share(
        n_passed,
        effort.n_alone,
        target="T6",
        process="equal, log loss: every outcome counted three times",
        claim="control: false promotion by 30,000 outcomes, condition one",
    )


def _change(one: Evidence, other: Evidence) -> float:
    pairs = ((one.log_e, other.log_e), (one.log_e_inferior, other.log_e_inferior))
    return max(abs(a - b) / abs(a) for a, b in pairs)
