"""One training, in a process of its own: read what is learned from ▶ fit ▶ convert ▶ prove ▶ leave the result.

It changes nothing but its own folder and the one above, so that it may be killed at any moment. It says how far it is
in lines on stdout, ends when its parent does, and is held to its memory by the kernel; to its time by the parent.

    python -m retrain.training.run TRAINING/ATTEMPT/assignment.json
        TRAINING/ATTEMPT/result.msgpack     is what it leaves
        TRAINING/candidates/                of a search, with which another attempt goes on
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path

import msgspec
from msgspec import Struct

from gateway.clock import MICROSECONDS, JournalClock
from gateway.config import Settings
from gateway.errors import GatewayError
from gateway.journal import open_ledger, open_reader
from gateway.records import micros
from registry.errors import RegistryError
from registry.store import Registry
from registry.trainings import Training
from registry.types import TrainingReport
from retrain import errors
from retrain.drift.reference import encode
from retrain.training.orphans import end_group_with_parent

_NO_ROOM = "failed to map segment"
"""What the loader says of a library for which there is not enough address space."""

ASSIGNMENT, RESULT, CANDIDATES = "assignment.json", "result.msgpack", "candidates"


class Assignment(Struct, frozen=True):
    """What is to be trained, and where."""

    settings: Settings
    training: Training


class Made(Struct, frozen=True, tag=True):
    """A version that nothing but its registration lacks. `reference`: what drift is measured against, encoded."""

    model_bytes: bytes
    report: TrainingReport
    score: str
    classes: tuple[int | str, ...]
    reference: bytes
    n_rows: int


class Refused(Struct, frozen=True, tag=True):
    """Nothing came of it."""

    sentence: str


Result = Made | Refused
_RESULT: msgspec.msgpack.Decoder[Result] = msgspec.msgpack.Decoder(Result)


def trained(settings: Settings, training: Training, candidates: Path, say: Callable[[str], None]) -> Made:
    """The version that this training gives. `candidates`: where those of a search are kept while it is under way.

    Raises:
        TrainingRefused: nothing comes of it.
        GatewayError, RegistryError: the store cannot be read now.
    """
    from retrain.training.backends import Jobs
    from retrain.training.backtest import opponent_of
    from retrain.training.fit import fit
    from retrain.training.journal import learnable

    recipe, store = training.recipe, settings.folder
    say("reading what has matured")
    with (
        Registry.open(store, now=JournalClock(settings.clock, settings.cohorts.bucket_s).now) as registry,
        closing(open_reader(store)) as reader,
        closing(open_ledger(store, settings.journal)) as ledger,
    ):
        model = registry.model(training.model)
        signatures = {version.number: version.signature for version in registry.versions(model.name)}
        lesson = learnable(
            reader, ledger, model, signatures, as_of_us=micros(training.at), window=recipe.window,
            bucket_us=settings.cohorts.bucket_s * MICROSECONDS,
        )  # fmt: skip
        if len(lesson) < recipe.triggers.min_outcomes:
            raise errors.TooFewRows("rows with an outcome", recipe.triggers.min_outcomes, len(lesson))
        opponent = opponent_of(registry, model.name)
    found = fit(
        lesson.columns, lesson.target, model.schema, model.task, metric=model.policy.metric, opponent=opponent,
        like=signatures[max(signatures)],
        at=lesson.at, weight=lesson.weight, recipe=recipe,
        known_after=timedelta(seconds=model.policy.maturity_s + settings.cohorts.bucket_s),
        functions=Path(settings.retrain.functions) if settings.retrain.functions else None,
        jobs=Jobs(settings.retrain.search_backend, settings.retrain.search_jobs), kept=candidates, progress=say,
    )  # fmt: skip
    return Made(found.model_bytes, found.report, found.score, found.classes, encode(found.reference), len(lesson))


def progress_alone() -> Callable[[str], None]:
    """What says how far it is, for whoever waits, on what was stdout: all else that is written there goes to stderr."""
    pipe = os.dup(1)
    os.dup2(2, 1)

    def say(progress: str) -> None:
        os.write(pipe, (progress.replace("\n", " ") + "\n").encode(errors="replace"))

    return say


def main() -> None:
    """Entry of the process; what it prints on stderr are its last words."""
    folder = Path(sys.argv[1]).parent
    end_group_with_parent()
    say = progress_alone()
    assignment = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Assignment)
    if assignment.settings.retrain.search_backend != "ray":  # Ray maps more than that before it does anything
        limit_memory(assignment.settings.retrain.training_memory_bytes)
    candidates = folder.parent / CANDIDATES
    candidates.mkdir(exist_ok=True)
    result: Result
    try:
        result = trained(assignment.settings, assignment.training, candidates, say)
    except errors.TrainingRefused as refused:
        result = Refused(str(refused))
    except (MemoryError, ImportError) as error:
        if isinstance(error, ImportError) and _NO_ROOM not in str(error):
            raise
        limit = assignment.settings.retrain.training_memory_bytes
        result = Refused(f"it needed more memory than {limit / 2**20:,.0f} MiB (retrain.training_memory_bytes)")
    except (GatewayError, RegistryError) as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(1)
    leave(folder, result)


def leave(folder: Path, result: Result) -> None:
    """The result, whole or not at all."""
    draft = folder / f"{RESULT}.draft"
    draft.write_bytes(msgspec.msgpack.encode(result))
    draft.replace(folder / RESULT)


def left_in(folder: Path) -> Result | None:
    """What a process has left in its folder; None while there is nothing. It is another's word, and may be anything."""
    try:
        return _RESULT.decode((folder / RESULT).read_bytes())
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        return Refused(f"what its process has left cannot be read: {error}")


def limit_memory(n_bytes: int) -> None:
    """No more address space than this for this process, nor for any of a search, where the system can do that."""
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (n_bytes, n_bytes))


if __name__ == "__main__":
    main()
