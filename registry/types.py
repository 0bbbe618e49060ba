"""The nouns of the registry: frozen, comparable, and the same on disk, on the wire and in memory.

A *model* is a public name with an input schema. A *version* is an immutable artifact of it with a signature.
The *lineup* says who is champion, challenger or previous now; it is replaced whole and numbered by *generation*.
A *reign* is the run of generations with one champion under one set of terms: evidence belongs to it.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from functools import cached_property
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta, Struct

from registry.policy import FeatureName as FeatureName
from registry.policy import Metric as Metric  # the terms are nouns too: everybody finds them here
from registry.policy import Policy as Policy
from registry.replay import Replay as Replay
from registry.training import Backtest as Backtest
from registry.training import TrainingReport as TrainingReport

Dtype = Literal["float32", "float64", "int64", "string", "bool"]
Task = Literal["binary", "multiclass", "regression"]
Role = Literal["champion", "challenger", "previous", "retired"]
FirstRole = Literal["champion", "challenger", "retired"]
Scalar = float | int | str | bool
Scope = Literal["predict", "outcome", "read", "operate", "approve", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
LOCAL_OPERATOR, RULE = "local-operator", "rule"
"""Who acts without a key: nobody else may be taken for them in the audit."""

ModelName = Annotated[
    str,
    Meta(
        pattern=r"^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$(?!\n)",
        description="lower case letters, digits and dashes; at most 63",
    ),
]


class Principal(Struct, frozen=True):
    """Who acts, and for what: without scopes, nothing. On loopback without keys everybody is `local-operator`.

    `models` None: every model, and what concerns no single one.
    """

    name: str
    scopes: frozenset[Scope] = frozenset()
    models: frozenset[str] | None = None

    @property
    def is_the_rule(self) -> bool:
        """Whether it is the rule, and no person."""
        return self.name == RULE

    def may(self, scope: Scope, model: str | None) -> bool:
        """Whether it may do this to that model (None: to what concerns no single one); `admin` is every scope."""
        return (scope in self.scopes or "admin" in self.scopes) and (self.models is None or model in self.models)

    @classmethod
    def local_operator(cls) -> Principal:
        """Whoever reaches the machine itself."""
        return cls(LOCAL_OPERATOR, frozenset({"admin"}))

    @classmethod
    def the_rule(cls) -> Principal:
        """The promotion rule acting by itself, under the model's policy."""
        return cls(RULE)


class ApiKey(Struct, frozen=True):
    """A key as it is told about, without its secret. `models` None: every model. `expires_at` None: never."""

    key_id: str
    principal: str
    scopes: tuple[Scope, ...]
    models: tuple[str, ...] | None
    created_at: datetime
    created_by: str
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    @property
    def holder(self) -> Principal:
        """As whom the key acts."""
        models = None if self.models is None else frozenset(self.models)
        return Principal(self.principal, frozenset(self.scopes), models)


class Feature(Struct, frozen=True, forbid_unknown_fields=True):
    """One named input of a model.

    A required feature must be present and not null. An optional one that is missing becomes its default; without
    a default a missing float is NaN and a missing string is empty, as scikit-learn's imputers expect them.
    (An optional integer or boolean needs a default, as no value of theirs means "missing".)
    """

    name: FeatureName
    dtype: Dtype
    required: bool = True
    default: Scalar | None = None


class InputSchema(Struct, frozen=True, dict=True):
    """The features that a model's callers send, in the order of the journal's columns."""

    features: tuple[Feature, ...]
    version: int = 1

    @cached_property
    def digest(self) -> str:
        """Names this schema in every chunk written under it."""
        return "sha256:" + hashlib.sha256(msgspec.json.encode(self.features)).hexdigest()

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The feature names, in column order."""
        return tuple(feature.name for feature in self.features)


class InputBinding(Struct, frozen=True):
    """One ONNX input: the named features, stacked as columns in this order.

    The tensor is `(n, len(features))`, or `(n,)` if `flat`, which one feature alone can be.
    """

    name: str
    dtype: Dtype
    features: tuple[str, ...]
    flat: bool = False


class OutputTensor(Struct, frozen=True):
    """One ONNX output a row: a single value (`width` None) or a vector of `width`."""

    name: str
    dtype: Dtype
    width: int | None = None


class ScoreColumn(Struct, frozen=True):
    """Which output is compared with the outcome; `column` picks one of a vector, None takes it whole."""

    output: str
    column: int | None = None


class Signature(Struct, frozen=True):
    """What a version takes and answers."""

    task: Task
    inputs: tuple[InputBinding, ...]
    outputs: tuple[OutputTensor, ...]
    score: ScoreColumn
    classes: tuple[int | str, ...] = ()
    batchable: bool = True

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names callers see."""
        return tuple(output.name for output in self.outputs)


class Version(Struct, frozen=True):
    """An immutable artifact of a model."""

    model: str
    number: int
    digest: str
    n_bytes: int
    signature: Signature
    created_at: datetime
    created_by: str
    training: TrainingReport | None = None


class Model(Struct, frozen=True):
    """A public name and what belongs to it rather than to a version."""

    name: str
    task: Task
    schema: InputSchema
    policy: Policy
    created_at: datetime


class Lineup(Struct, frozen=True):
    """Who plays for a model from `since` on. Replaced whole; every generation is kept for ever."""

    model: str
    generation: int
    champion: int
    challengers: tuple[int, ...] = ()
    previous: int | None = None
    since: datetime | None = None

    def role(self, version: int) -> Role:
        """The role of any version of the model: whoever is not in play is retired."""
        if version == self.champion:
            return "champion"
        if version in self.challengers:
            return "challenger"
        return "previous" if version == self.previous else "retired"


class Reign(Struct, frozen=True):
    """A run of generations with one champion under one policy: what evidence is measured in."""

    model: str
    number: int
    champion: int
    first_generation: int
    since: datetime
    policy: Policy
    training: TrainingReport | None = None


class Decision(Struct, frozen=True):
    """One change of a lineup, with what was known then.

    `evidence`, `cursors` and `hashes` are None where a person decided without; `hashes` names what the evidence was
    computed by and from (`config`, `code`, `data`). `proposal` is the number of the one that was approved.
    """

    model: str
    kind: Literal["register", "enlist", "promote", "rollback", "retire"]
    version: int
    from_generation: int
    to_generation: int
    by: str
    reason: str
    at: datetime
    evidence: dict[str, Any] | None = None
    cursors: dict[str, Any] | None = None
    hashes: dict[str, str] | None = None
    proposal: int | None = None


class AuditRow(Struct, frozen=True):
    """One line of the audit: who did what, chained to the line before by its hash."""

    seq: int
    at: datetime
    principal: str
    action: str
    model: str
    detail: dict[str, Any]
    previous_hash: str
    hash: str


class ClosedBucket(Struct, frozen=True):
    """One cohort whose outcomes are in, reduced to sums: what evidence is a function of.

    The cursors (writer → seq) say up to where the journal was read; `sums` holds, for each challenger's version
    number, bytes that only the evidence reads.
    """

    model: str
    reign: int
    bucket: int
    closed_at: datetime
    prediction_cursor: dict[str, int]
    outcome_cursor: dict[str, int]
    sums: dict[int, bytes]
