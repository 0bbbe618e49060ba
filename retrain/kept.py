"""What is kept of a closed bucket for one version: sums, what they rest on, and the format in which they are told.

It is derived, so whatever cannot be read (an older format, sums of another rule) is derived again from the journal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec
import numpy as np
from msgspec import Struct

from gateway.columns import Array
from registry.types import ClosedBucket
from retrain.evidence import BucketSums, Pairs
from retrain.population import Population

FORMAT = 4
"""1 were bare sums, 2 had no tallies, 3 counted what a version had learned from.

Another one whenever sums, or how rows become pairs, change their meaning.
"""
VOID = b""
"""What is kept of a bucket that says nothing of a challenger."""
PREVIOUS = 0
"""Where the sums of the previous champion stand among those of the challengers: a reign has at most one."""


class Kept(Struct, frozen=True, array_like=True):
    """The rows of one bucket for one version. `rule`: the digest of what they were summed under."""

    format: int
    rule: str
    pairs: str
    """`sha256:…` over address, scores and outcome of every pair, in the order of addresses; never inputs."""
    sums: BucketSums
    population: Population


class _Head(Struct, array_like=True):
    format: int
    rule: str


def encoded(kept: Kept) -> bytes:
    """As it is stored."""
    return msgspec.msgpack.encode(kept)


def decoded(stored: bytes) -> Kept | None:
    """What was stored; None for a void bucket. Undefined for what `is_readable` refuses."""
    return None if stored == VOID else msgspec.msgpack.decode(stored, type=Kept)


def is_readable(stored: bytes, rule: str) -> bool:
    """Whether this is of the present format, and was summed under the rule of that digest."""
    if stored == VOID:
        return True
    try:
        head = msgspec.msgpack.decode(stored, type=_Head)
    except msgspec.DecodeError:
        return False
    return (head.format, head.rule) == (FORMAT, rule)


def kept_of(buckets: Sequence[ClosedBucket], key: int) -> list[Kept]:
    """What is kept of every closed bucket that counts for a version (or for PREVIOUS), in order."""
    found = (decoded(bucket.sums.get(key, VOID)) for bucket in buckets)
    return [kept for kept in found if kept is not None]


def stored_sums(buckets: Sequence[ClosedBucket], key: int) -> list[BucketSums]:
    """A version's sums of every closed bucket that counts for it, in order."""
    return [kept.sums for kept in kept_of(buckets, key)]


def n_void(buckets: Sequence[ClosedBucket], key: int) -> int:
    """How many closed buckets had rows of a version and do not count for it."""
    return sum(bucket.sums.get(key) == VOID for bucket in buckets)


def digest_of_pairs(addresses: Array, pairs: Pairs) -> str:
    """Over address `(n, 3)`, scores and outcome of every pair of a bucket, in the order of addresses; never inputs."""
    order = np.lexsort((addresses[:, 2], addresses[:, 1], addresses[:, 0]))
    digest = hashlib.sha256(np.ascontiguousarray(addresses[order], "<i8").tobytes())
    for values in (pairs.champion, pairs.challenger, pairs.outcome):
        plain = np.where(np.isnan(values), np.nan, values).astype("<f8")  # one NaN for all kinds of it
        digest.update(np.ascontiguousarray(plain[order]).tobytes())
    return "sha256:" + digest.hexdigest()


def pairs_digest(kept: Sequence[Kept]) -> str:
    """Names every pair that evidence rests on: over the buckets, in calendar order."""
    digest = hashlib.sha256()
    for each in sorted(kept, key=lambda one: one.sums.bucket):
        digest.update(f"{each.sums.bucket} {each.pairs}\n".encode())
    return "sha256:" + digest.hexdigest()
