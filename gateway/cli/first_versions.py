"""The first versions of a model: trained here, then declared and uploaded where the model is to be served.

Everything is trained before anything is declared, so that what cannot be trained leaves nothing half made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import Struct

from gateway.cli.progress import Progress
from gateway.client import Client
from registry.types import InputSchema, Policy, Task

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from retrain.training.fit import Trained
    from retrain.training.rows import Columns

FirstRole = Literal["champion", "challenger"]


class Lesson(Struct, frozen=True, eq=False):
    """What one version is to learn from; `reason` says so in the audit."""

    role: FirstRole
    reason: str
    columns: Columns
    target: NDArray[Any]
    at: NDArray[np.datetime64]


class Learned(Struct, frozen=True):
    """A version that is trained and not registered yet."""

    role: FirstRole
    reason: str
    trained: Trained


def learned(lesson: Lesson, schema: InputSchema, task: Task, progress: Progress) -> Learned:
    """Train one version.

    Raises:
        TrainingRefused: nothing came of it.
    """
    from retrain.training.fit import fit  # as slow as scikit-learn

    with progress.task(f"training the {lesson.role} of {len(lesson.target):,} rows: {lesson.reason}"):
        trained = fit(lesson.columns, lesson.target, schema, task, at=lesson.at)
    return Learned(lesson.role, lesson.reason, trained)


def declare(client: Client, model: str, schema: InputSchema, task: Task, policy: Policy) -> None:
    """Declare the model; the same declaration again changes nothing."""
    features: list[dict[str, Any]] = msgspec.to_builtins(schema.features)
    client.create_model(model, task, features, msgspec.to_builtins(policy))


def upload(client: Client, model: str, learned: Learned) -> None:
    """Give a version its role, with what its training knew of it."""
    trained = learned.trained
    client.register(
        model,
        trained.model_bytes,
        learned.role,
        score=trained.score,  # the classes are in the file
        reason=learned.reason,
        training=msgspec.json.encode(trained.report).decode(),
    )
