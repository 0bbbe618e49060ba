"""How a model is trained, from a terminal: `recipe`, `train`, `trainings`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import rich_click as click

from gateway.cli.models import MODEL
from gateway.cli.options import Failed, Target, on_target, settings_of
from gateway.cli.progress import Progress
from gateway.locks import is_locked
from registry.recipe import Recipe

if TYPE_CHECKING:
    from gateway.client import Client

POLL_S = 0.1


@click.command()
@MODEL
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False), required=False)
@click.option("--remove", "reason", help="Train it no more, and why.")
@on_target
def recipe(model: str, file: Path | None, reason: str | None, target: Target) -> None:
    """Show how MODEL is trained, or have it trained as FILE (TOML) says from now on.

    An empty FILE is a recipe: boosted trees of all that has matured, when somebody asks for it.
    """
    if file is not None and reason is not None:
        raise click.UsageError("expected either a FILE or --remove")
    said = None if file is None else recipe_of(file)
    with target.client() as client:
        if said is not None:
            client.set_recipe(model, msgspec.to_builtins(said))
        elif reason is not None:
            client.remove_recipe(model, reason)
        found = client.recipe(model)
    target.show({"recipe": found}, lambda: _recipe_text(model, found))


def recipe_of(file: Path) -> Recipe:
    """The recipe of a TOML file; what it cannot mean is a usage error that names the place."""
    try:
        return msgspec.toml.decode(file.read_bytes(), type=Recipe)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{file}: {error}") from None
    except OSError as error:
        raise click.UsageError(f"{file}: {(error.strerror or str(error)).lower()}") from None


def _recipe_text(model: str, found: dict[str, Any] | None) -> str:
    if found is None:
        return f"{model} has no recipe: only people bring versions"
    return "\n".join(_lines(found))


def _lines(document: dict[str, Any], within: str = "") -> Iterator[str]:
    """A document as TOML with dotted keys, without what it leaves open: `recipe` takes it back so."""
    for name, value in document.items():
        if isinstance(value, dict):
            yield from _lines(value, f"{within}{name}.")
        elif value is not None:
            yield f"{within}{name} = {msgspec.json.encode(value).decode()}"


@click.command()
@MODEL
@click.option("--reason", required=True, help="Why; it stays in the audit.")
@click.option("--trigger", help="An id of yours: the same one asks once, however often it is said.")
@click.option("--no-wait", is_flag=True, help="Only ask; the retrain worker does it.")
@click.option("--timeout-s", type=float, default=3_600.0, show_default=True, help="How long to wait for it.")
@on_target
def train(model: str, reason: str, trigger: str | None, no_wait: bool, timeout_s: float, target: Target) -> None:
    """Train a new challenger of MODEL from its journal, by its recipe.

    On a store that nobody serves it is done here.
    """
    with target.client() as client:
        training = client.train(model, reason, trigger=trigger)
        if not no_wait:
            with _worker(target) as is_ours:
                then = "it goes on when a retrain worker runs, or with this command" if is_ours else "it goes on"
                training = _waited(client, training, timeout_s, then)
    target.show(training, lambda: _line(training))
    if training["state"] == "failed":
        raise Failed(f"training {training['number']} of {model} failed: {training['sentence']}")


@contextmanager
def _worker(target: Target) -> Iterator[bool]:
    """Somebody who trains: the store's own retrain worker, else one in this process (True), which ends with it."""
    if target.url is not None:
        yield False
        return
    settings = settings_of(target.config, target.data_dir)
    if is_locked(settings.folder / "retrain.lock"):
        yield False
        return
    import threading

    from retrain.cycle import run_retrain

    stop = threading.Event()
    worker = threading.Thread(target=run_retrain, args=(settings, stop), name="retrain")
    worker.start()
    try:
        yield True
    finally:
        stop.set()
        worker.join()


def _waited(client: Client, training: dict[str, Any], timeout_s: float, then: str) -> dict[str, Any]:
    """The training when it is over, showing meanwhile how far it is; `then`: what comes of it when time is up."""
    progress, shown, deadline_s = Progress(), "", time.monotonic() + timeout_s
    while training["state"] in ("asked", "running"):
        if time.monotonic() > deadline_s:
            raise Failed(f"training {training['number']} is not over after {timeout_s:g} s; {then}")
        if training["progress"] not in ("", shown):
            shown = training["progress"]
            progress.say(shown)
        time.sleep(POLL_S)
        training = client.training(training["model"], training["number"])
    return training


@click.command()
@MODEL
@on_target
def trainings(model: str, target: Target) -> None:
    """When the next training of MODEL is due, and what came of those so far, oldest first."""
    with target.client() as client:
        document = client.trainings(model)

    def text() -> str:
        outlook = document["outlook"]
        lines = [_line(training) for training in document["trainings"]] or [f"{model} was never trained here"]
        return "\n".join([*lines, *([] if outlook is None else [outlook["sentence"]])])

    target.show(document, text)


def _line(training: dict[str, Any]) -> str:
    asked = f"training {training['number']} of {training['model']} ({training['kind']}: {training['reason']})"
    match training["state"]:
        case "registered":
            return f"{asked}: version {training['version']}"
        case "failed" | "declined" as state:
            return f"{asked}: {state}. {training['sentence']}"
        case state:
            return f"{asked}: {state}" + (f", {training['progress']}" if training["progress"] else "")
