"""What stands between bytes that somebody sent and a process that answers callers: a file is tried in a limited child.

    size ▶ parsed and walked ▶ loaded ▶ its signature ▶ tried on rows ▶ admitted

Everything about the file happens in the child, which is thrown away: this process imports neither onnx nor onnxruntime
for it. A hang, a bomb or a crash is a refusal like any other.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import msgspec
from msgspec import Struct

from registry import trial
from registry.errors import ArtifactRefused, ChildFailed, ChildOutOfMemory, ChildTimedOut
from registry.frames import Array, InspectionRules
from registry.limited_child import LimitedChild
from registry.limits import ChildLimits
from registry.signature import signature_of
from registry.types import Feature, InputSchema, Signature, Task


class AdmissionLimits(Struct, frozen=True):
    """What a file may contain and use up while it is tried; `wall_s` and `cpu_s` are of the whole trial."""

    max_bytes: int = 128 * 2**20
    memory_bytes: int = 2**30
    cpu_s: int = 10
    wall_s: float = 30.0
    max_nodes: int = 50_000
    max_depth: int = 16
    control_flow: bool = False


class Admitted(Struct, frozen=True):
    """What was learned of a file that may be loaded; `limits_held` names those that this system could set."""

    signature: Signature
    n_nodes: int
    seconds: float
    limits_held: tuple[str, ...]


def admit(
    model_bytes: bytes,
    schema: InputSchema,
    task: Task,
    *,
    score: str | None = None,
    classes: tuple[int | str, ...] | None = None,
    features: tuple[str, ...] | None = None,
    limits: AdmissionLimits | None = None,
) -> Admitted:
    """Tries a file as a version of a model with that schema and task. Takes about a second.

    Args:
        model_bytes: one ONNX file, whole.
        schema: the model's.
        task: the model's.
        score: `OUTPUT` or `OUTPUT:COLUMN`; None takes the default of `signature_of`.
        classes: the classes in the order of the scores; None takes those that the file names.
        features: those that the version takes, in its order; None means all.
        limits: None takes the defaults.

    Raises:
        ArtifactRefused: one sentence that says why, and where it can be mended, how.
    """
    limits = limits or AdmissionLimits()
    began = time.monotonic()
    if not model_bytes:
        raise ArtifactRefused("the file is empty")
    if len(model_bytes) > limits.max_bytes:
        raise ArtifactRefused(f"the file has {len(model_bytes)} bytes, and {limits.max_bytes} are allowed")
    child_limits = ChildLimits(memory_bytes=limits.memory_bytes, cpu_s=limits.cpu_s, nice=0)
    rules = InspectionRules(limits.max_nodes, limits.max_depth, limits.control_flow)
    try:
        with LimitedChild(child_limits, inspects=True) as child:
            facts = child.load(model_bytes, rules=rules, timeout_s=limits.wall_s)
            signature = signature_of(facts, schema, task, score=score, classes=classes, features=features)
            signature = _try_rows(child, signature, schema, began + limits.wall_s)
            return Admitted(signature, facts.n_nodes, time.monotonic() - began, child.held)
    except ChildFailed as failed:
        raise ArtifactRefused(_sentence(failed, limits)) from None


def _sentence(failed: ChildFailed, limits: AdmissionLimits) -> str:
    match failed:
        case ChildTimedOut(limit="wall clock"):
            return f"the file could not be loaded and tried within {limits.wall_s:g} s"
        case ChildTimedOut():
            return f"the file could not be loaded and tried within {limits.cpu_s} s of processor time"
        case ChildOutOfMemory():
            return f"the file could not be loaded and tried within {limits.memory_bytes / 2**20:g} MiB of memory"
        case _:
            return f"the file was tried in a process of its own, and ended it: {failed}"


def _try_rows(child: LimitedChild, signature: Signature, schema: InputSchema, deadline: float) -> Signature:
    def run(columns: Mapping[str, Array]) -> dict[str, Array]:
        return child.run(columns, timeout_s=deadline - time.monotonic())

    taken = {name for binding in signature.inputs for name in binding.features}
    features: list[Feature] = [feature for feature in schema.features if feature.name in taken]
    child.bind(signature)
    trial.try_single(run, features, signature)
    if signature.batchable and not trial.takes_several(run, features):
        signature = msgspec.structs.replace(signature, batchable=False)
        child.bind(signature)
    trial.try_many(run, features, signature)
    return signature
