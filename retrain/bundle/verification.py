"""Whether a bundle is whole, and says what its own pairs say: each fault in one sentence, and nothing else is needed.

SHA256SUMS ▶ audit chain and what it froze ▶ digest of the pairs ▶ judged again ▶ held against what was decided

Nothing else is needed: no store, no server, no journal.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from registry.audit import changed_documents, link
from registry.types import AuditRow, Reign
from retrain.acting import code_digest
from retrain.bucket import kept_from
from retrain.bundle.document import Document, Judged, Withheld, decoded
from retrain.bundle.pairs_file import read_pairs
from retrain.errors import BundleRefused
from retrain.evidence import EvidenceError
from retrain.kept import Kept, pairs_digest

DECISION, PAIRS, REPORT, SUMS = "decision.json", "pairs.parquet", "report.html", "SHA256SUMS"
RELATIVE = 1e-9
"""By how much a figure may differ: sums are rounded otherwise on other machines."""
WORDS = ("sentence", "detail")
"""Not compared: they are made of the figures, which are."""


class Verified(Struct, frozen=True):
    """What was found: no `faults` where all is well. `again`: the evidence as the bundle's pairs say it."""

    model: str
    faults: list[str]
    n_pairs: int = 0
    data: str | None = None
    again: dict[str, Any] | None = None
    head: str | None = None
    is_chain_whole: bool = True
    """Whether every line from the decision to the head could be checked; withheld ones cannot."""


def verified(folder: Path, head: str | None = None) -> Verified:
    """Checks a bundle by itself. `head`: a hash of the audit that was kept elsewhere, which the chain must come to.

    Raises:
        BundleRefused: there is no bundle.
    """
    document = _document(folder)
    faults = [*_sums(folder, document), *_chain(document, head)]
    is_whole = not any(isinstance(line, Withheld) for line in document.lines)
    found = Verified(document.model, faults, head=document.audit_head, is_chain_whole=is_whole)
    judged, reign = document.judged, document.reign
    if judged is None or reign is None:
        return found
    try:
        kept, wrong = _kept(folder / PAIRS, judged)
        again = judged.again(reign, kept)
    except (BundleRefused, EvidenceError) as error:
        return msgspec.structs.replace(found, faults=[*faults, str(error)])
    data = pairs_digest(kept)
    if data != judged.known.hashes.get("data"):
        frozen = judged.known.hashes.get("data")
        wrong = wrong or [f"the pairs are not those that were judged: their digest is {data}, {frozen} was frozen"]
    wrong += _differences(judged, reign, again)
    return msgspec.structs.replace(
        found, faults=faults + wrong, n_pairs=sum(each.n_pairs for each in judged.buckets), data=data, again=again
    )


def sha256_of(path: Path) -> str:
    """64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _document(folder: Path) -> Document:
    try:
        document = decoded((folder / DECISION).read_bytes())
        document.lines  # noqa: B018  # raises where one is none
    except OSError as error:
        raise BundleRefused(f"{folder} is no bundle: {DECISION}: {error.strerror}") from None
    except (msgspec.DecodeError, EvidenceError) as error:
        raise BundleRefused(f"{DECISION} cannot be read: {error}") from None
    return document


def _sums(folder: Path, document: Document) -> Iterator[str]:
    names = [DECISION, REPORT] if document.judged is None else [DECISION, PAIRS, REPORT]
    try:
        lines = (line.split("  ") for line in (folder / SUMS).read_text().splitlines())
        said = {name: digest for digest, name in lines}
    except (OSError, ValueError):
        yield f"{SUMS} cannot be read, so nothing says what the files were"
        return
    for name in names:
        if not (folder / name).is_file():
            yield f"{name} is missing"
        elif (found := sha256_of(folder / name)) != said.get(name):
            yield f"{name} was changed: its SHA-256 is {found}, {SUMS} says {said.get(name)}"


def _chain(document: Document, head: str | None) -> Iterator[str]:
    """The lines of the audit link, the first is of the decision and froze its documents, the last is the head."""
    lines, decision = document.lines, document.decision
    for before, line in zip([None, *lines[:-1]], lines, strict=True):
        if before is not None and (line.seq, line.previous_hash) != (before.seq + 1, before.hash):
            yield f"line {line.seq} of the audit does not follow line {before.seq}"
        if isinstance(line, AuditRow) and line.hash != link(
            line.previous_hash, line.seq, line.at, line.principal, line.action, line.model, line.detail
        ):
            yield f"line {line.seq} of the audit was changed after it was written: its hash is another"
    if head is not None and head not in {line.hash for line in lines}:
        yield f"the audit does not come to the hash that was kept elsewhere: no line has {head}"
    if decision is None:
        return
    first = lines[0] if lines else None
    if not isinstance(first, AuditRow) or first.detail.get("to_generation") != decision.to_generation:
        yield "the audit does not begin with the line of the decision"
        return
    for name in changed_documents(decision, first):
        yield f"the decision's {name} was changed: line {first.seq} of the audit froze another"
    told = (decision.kind, decision.version, decision.reason, decision.by)
    if told != (first.action, first.detail.get("version"), first.detail.get("reason"), first.principal):
        yield f"the decision was changed: line {first.seq} of the audit tells of another"
    known = document.judged.known if document.judged else None
    if known is not None and (known.evidence, known.cursors, known.hashes) != (
        decision.evidence, decision.cursors, decision.hashes
    ):  # fmt: skip
        yield "what was judged is not what the decision froze"


def _kept(path: Path, judged: Judged) -> tuple[list[Kept], list[str]]:
    """What the pairs of the file come to, bucket by bucket; and which buckets are not those that were judged."""
    told = {facts.bucket: facts for facts in judged.buckets}
    kept, faults = [], []
    for bucket in read_pairs(path):
        facts = told.pop(bucket.bucket, None)
        if facts is None:
            faults.append(f"bucket {bucket.bucket:,} has {len(bucket.pairs):,} pairs, and none was judged")
            continue
        one = kept_from(bucket.answered(facts.serving, facts.population, facts.at_stake_undue), judged.rule)
        kept.append(one)
        if len(bucket.pairs) != facts.n_pairs:
            faults.append(f"bucket {bucket.bucket:,} has {len(bucket.pairs):,} pairs, {facts.n_pairs:,} were judged")
        elif one.pairs != facts.pairs:
            faults.append(
                f"a pair of bucket {bucket.bucket:,} is not what was judged: another address, score or outcome"
            )
    faults += [f"the {facts.n_pairs:,} pairs of bucket {facts.bucket:,} are missing" for facts in told.values()]
    return kept, faults


def _differences(judged: Judged, reign: Reign, again: dict[str, Any]) -> list[str]:
    """Where the evidence is not what these pairs, judged again, come to."""
    frozen = judged.known.evidence
    found = [*_different(frozen, again, "")]
    if not found:
        return []
    name, was, now = found[0]
    more = f" (and {len(found) - 1} other figures)" if len(found) > 1 else ""
    if judged.known.hashes.get("code") != code_digest():
        more += "; it was judged by other code than this"
    who = f"version {judged.version} against version {reign.champion}"
    return [f"judged again by these pairs, {name} of {who} is {now}, and {was} was frozen{more}"]


def _different(was: Any, now: Any, name: str) -> Iterator[tuple[str, Any, Any]]:
    """(name, frozen, of now) of whatever differs; what newer code says besides is no difference."""
    match was, now:
        case dict(), dict():
            for key, value in was.items():
                if key not in WORDS:
                    yield from _different(value, now.get(key), f"{name}.{key}" if name else key)
        case [*_], [*_] if len(was) == len(now):
            for place, (before, after) in enumerate(zip(was, now, strict=True)):
                yield from _different(before, after, f"{name}[{place}]")
        case bool(), _:
            if was is not now:
                yield name, was, now
        case ((int() | float()), (int() | float())):
            if not math.isclose(was, now, rel_tol=RELATIVE, abs_tol=1e-12):
                yield name, was, now
        case _:
            if was != now:
                yield name, was, now
