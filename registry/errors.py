"""Everything that the registry refuses, one class a fact.

    RegistryError
    ├── UnknownModel            no model of that name
    ├── UnknownNumber           the model has had none of that number: UnknownVersion, UnknownGeneration, UnknownReign,
    │                           UnknownProposal, UnknownTraining, UnknownReplay
    ├── NoChampion              the model exists, but nothing was ever registered as its champion
    ├── NoChampionYet           the model had no champion at the moment that was asked about
    ├── ModelExists             the name is taken, by a model with another schema or task
    ├── ModelInUse              it has versions, and cannot be deleted
    ├── SchemaRefused           the input schema contradicts itself
    ├── ArtifactRefused         the bytes are not a model that may be loaded here; says why in one sentence
    ├── ArtifactDamaged         the stored bytes no longer match their digest
    ├── ArtifactMissing         no stored bytes have that digest
    ├── AnswerRefused           a version answered with another shape or dtype than it declared, or not finite
    ├── InputsRefused           the columns given to a version are not those that it takes
    ├── ModelRaised             the runtime raised while a version answered
    ├── ChildFailed             the limited process that held a version is gone
    │   ├── ChildCrashed            it ended by a signal, or by itself
    │   ├── ChildTimedOut           it was stopped at its limit of time
    │   └── ChildOutOfMemory        it needed more memory than it may have
    ├── TransitionRefused       the roles do not allow it (promote a retired version, retire the champion)
    ├── VersionBarred           a rollback deposed it, and nobody has lifted the bar
    ├── RuleRests               the rule may not promote by itself so soon after a rollback
    ├── ApprovalNeeded, ApproverRefused    the terms want somebody else to agree
    ├── ProposalClosed          it was approved or rejected already
    ├── ProposalDiffers         it is not what whoever agrees has seen
    ├── ProposalRefused         it was proposed or rejected already, and nothing is new
    ├── GenerationMoved         somebody else changed the lineup first: read it again, decide again
    ├── ReplayRefused           the past says nothing of that version: it has learned from it, or may have
    ├── LeaseLost               another worker trains by now, or the training is over
    ├── UnknownKey              no key of that id was ever issued
    ├── KeyRefused              a key that cannot be meant: nobody, nothing, an unknown model, or over already
    ├── ClockRefused            the clock is not the caller's to move, or would go back
    ├── StoreUnreachable        the database cannot be read or written: the disk is full, gone or damaged
    │   ├── StoreBusy               another process held it for longer than a write may wait
    │   └── BucketDamaged           the sums of a closed bucket do not match their checksum
    └── StoreNewer              the database was written by a newer Understudy

Facts are attributes: a route chooses a status by them, and a person reads the sentence.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

AGAIN = "read it again and decide again"


class RegistryError(Exception):
    """Something that the registry refuses; nothing was changed."""


class UnknownModel(RegistryError):
    """No model of that name is registered."""

    def __init__(self, model: str) -> None:
        self.model = model
        super().__init__(f"Request for unknown model: '{model}' is not found")


class UnknownNumber(RegistryError):
    """The model has had nothing of that kind with that number; each kind has a class, named for it."""

    def __init__(self, model: str, number: int) -> None:
        self.model, self.number = model, number
        super().__init__(f"model '{model}' has no {type(self).__name__.removeprefix('Unknown').lower()} {number}")


class UnknownVersion(UnknownNumber):
    """The model has no version of that number."""


class UnknownGeneration(UnknownNumber):
    """The model has had no generation of that number."""


class UnknownReign(UnknownNumber):
    """The model has had no reign of that number."""


class UnknownProposal(UnknownNumber):
    """The model has had no proposal of that number."""


class UnknownTraining(UnknownNumber):
    """The model has had no training of that number."""


class UnknownReplay(UnknownNumber):
    """The model has had no replay of that number."""


class NoChampionYet(RegistryError):
    """At that moment nothing answered for the model."""

    def __init__(self, model: str, moment: datetime) -> None:
        self.model, self.moment = model, moment
        super().__init__(f"model '{model}' had no champion yet at {moment.isoformat()}")


class NoChampion(RegistryError):
    """Nothing answers for the model yet."""

    def __init__(self, model: str) -> None:
        self.model = model
        super().__init__(f"model '{model}' has no champion yet: register one with --as champion")


class ModelExists(RegistryError):
    """The name is taken by a model that was declared differently."""

    def __init__(self, model: str, what: str) -> None:
        self.model, self.what = model, what
        super().__init__(f"model '{model}' exists already with another {what}")


class ModelInUse(RegistryError):
    """A model that has versions is kept for ever."""


class SchemaRefused(RegistryError):
    """An input schema that cannot be meant."""


class ArtifactRefused(RegistryError):
    """These bytes may not be loaded here."""


class ArtifactDamaged(RegistryError):
    """The stored bytes do not hash to their name."""

    def __init__(self, expected: str, got: str) -> None:
        self.expected, self.got = expected, got
        super().__init__(f"artifact {expected} is damaged on disk: its bytes hash to {got}")


class ArtifactMissing(RegistryError):
    """Nothing is stored under that digest."""

    def __init__(self, digest: str) -> None:
        self.digest = digest
        super().__init__(f"no artifact has the digest {digest!r}")


class AnswerRefused(RegistryError):
    """What a version answered is not what its signature says."""

    def __init__(self, output: str, expected: str, got: str) -> None:
        self.output, self.expected, self.got = output, expected, got
        super().__init__(f"output '{output}' must be {expected}, and is {got}")


class InputsRefused(RegistryError):
    """The columns given are not what the version takes."""


class ModelRaised(RegistryError):
    """The runtime raised while the version answered; the message is at most 300 characters and names no path."""


class ChildFailed(RegistryError):
    """The limited process is gone, and with it the version that it held: start another."""


class ChildCrashed(ChildFailed):
    """The process ended by itself; `signal` is the name of what killed it (`SIGSEGV`), or None."""

    def __init__(self, signal: str | None, exit_code: int | None = None) -> None:
        self.signal, self.exit_code = signal, exit_code
        how = f"was killed by {signal}" if signal else f"ended with code {exit_code}"
        super().__init__(f"the process that ran the model {how}")


class ChildTimedOut(ChildFailed):
    """The process was stopped at a limit of time; `limit` says which clock."""

    def __init__(self, timeout_s: float, limit: Literal["wall clock", "processor"] = "wall clock") -> None:
        self.timeout_s, self.limit = timeout_s, limit
        super().__init__(f"the model needed more than {timeout_s:g} s ({limit})")


class ChildOutOfMemory(ChildFailed):
    """The process could not get the memory that it asked for."""

    def __init__(self, limit_bytes: int | None) -> None:
        self.limit_bytes = limit_bytes
        allowed = "the machine has" if limit_bytes is None else f"the {limit_bytes / 2**20:g} MiB that it may use"
        super().__init__(f"the model needed more memory than {allowed}")


class TransitionRefused(RegistryError):
    """The role that a version has does not allow what was asked."""


class VersionBarred(RegistryError):
    """A rollback deposed the version: it plays no more unless a person lifts the bar."""

    def __init__(self, model: str, version: int, generation: int) -> None:
        self.model, self.version, self.generation = model, version, generation
        super().__init__(
            f"version {version} of '{model}' is barred, as it was rolled back in generation {generation}: "
            f"a person can lift the bar with a reason (understudy lift-bar {model} {version} --reason …)"
        )


class RuleRests(RegistryError):
    """The rule promotes nothing by itself so soon after a rollback; people may."""

    def __init__(self, model: str, until: datetime) -> None:
        self.model, self.until = model, until
        super().__init__(f"'{model}' was rolled back: the rule promotes nothing by itself until {until.isoformat()}")


class ApprovalNeeded(RegistryError):
    """The model's terms want somebody else to agree first."""


class ApproverRefused(RegistryError):
    """Whoever agrees may not be the one who does, under the model's terms."""


class ProposalClosed(RegistryError):
    """It was approved or rejected already."""

    def __init__(self, model: str, proposal: int, state: str) -> None:
        self.model, self.proposal, self.state = model, proposal, state
        super().__init__(f"proposal {proposal} of '{model}' was {state} already")


class ProposalDiffers(RegistryError):
    """The proposal is not what whoever agrees has seen."""

    def __init__(self, model: str, proposal: int, expected: str, got: str) -> None:
        self.model, self.proposal, self.expected, self.got = model, proposal, expected, got
        super().__init__(f"proposal {proposal} of '{model}' has the digest {got}, not {expected:.80}: {AGAIN}")


class ProposalRefused(RegistryError):
    """Nothing is new: it was proposed or rejected already."""


class GenerationMoved(RegistryError):
    """The lineup changed since it was read."""

    def __init__(self, model: str, expected: int, got: int) -> None:
        self.model, self.expected, self.got = model, expected, got
        super().__init__(f"the lineup of '{model}' is at generation {got}, not {expected}: {AGAIN}")


class ReplayRefused(RegistryError):
    """Nothing of that span can be replayed for that version now; the message says why."""


class LeaseLost(RegistryError):
    """Whoever says something of a training is not, or no longer, the one who does it."""


class UnknownKey(RegistryError):
    """No key of that id was ever issued."""

    def __init__(self, key_id: str) -> None:
        # cut to what an id can be: whoever gives the whole key by mistake must not find it in a log
        self.key_id = key_id[:16]
        super().__init__(f"there is no key '{self.key_id}'")


class KeyRefused(RegistryError):
    """A key that cannot be meant; the message names the place, what was expected and what came."""


class ClockRefused(RegistryError):
    """The clock cannot be set to that."""


class StoreUnreachable(RegistryError):
    """The database cannot be read or written now; what was asked did not happen."""

    retry_after_s = 1


class StoreBusy(StoreUnreachable):
    """Another process held the database for too long: try again."""

    def __init__(self, waited_s: float) -> None:
        self.waited_s = waited_s
        super().__init__(f"the registry is held by another process, and was not free within {waited_s:g} s")


class BucketDamaged(StoreUnreachable):
    """The sums of a closed bucket are not what was written; the message says which."""


class StoreNewer(RegistryError):
    """The database has a schema that this version does not know."""

    def __init__(self, found: str) -> None:
        self.found = found
        super().__init__(f"the registry was written by a newer Understudy (schema {found}): upgrade before opening it")
