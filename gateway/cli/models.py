"""Models, versions and decisions: `register`, `status`, `evidence`, `drift`, `promote`, `rollback`, `retire`."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import rich_click as click

from gateway.cli.options import Target, moment_option, on_target
from gateway.cli.shown import metric_lines
from gateway.errors import ProblemError
from registry.types import Feature

if TYPE_CHECKING:
    from gateway.client import Client

MODEL = click.argument("model")
REASON = click.option("--reason", required=True, help="Why; it stays in the audit.")
FIRST_ROLES = ["champion", "challenger", "retired"]
FIRST_ROLE = "Its first role; retired: it plays nowhere yet, and can be replayed before it is enlisted."
GENERATION = click.option("--if-generation", type=int, help="Only if the lineup is still at this generation.")


class SchemaFile(msgspec.Struct, forbid_unknown_fields=True):
    """`--schema FILE.json`."""

    features: list[Feature]


@click.command()
@MODEL
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--as", "role", type=click.Choice(FIRST_ROLES), required=True, help=FIRST_ROLE)
@click.option("--task", type=click.Choice(["binary", "multiclass", "regression"]), help="Needed for a new model.")
@click.option("--features", help="Names in the order of the model's tensor, for a new model of 32-bit floats: a,b,c.")
@click.option("--schema", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Or a file with dtypes.")
@click.option("--score", help="What is compared with the outcome: OUTPUT[:COLUMN].")
@click.option("--classes", help="The class labels in order: 0,1 or no,yes.")
@click.option(
    "--training",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="What training knew of it, a JSON file: n_rows, base_rate, reference_loss, threshold, …",
)
@click.option("--reason", default="", help="Why; it stays in the audit.")
@on_target
def register(
    model: str,
    file: Path,
    role: Literal["champion", "challenger"],
    task: str | None,
    features: str | None,
    schema: Path | None,
    score: str | None,
    classes: str | None,
    training: Path | None,
    reason: str,
    target: Target,
) -> None:
    """Register an ONNX FILE as a version of MODEL.

    It is loaded in a limited process first, and refused with one sentence if it should not be loaded.
    """
    declared, is_new = _declared(features, schema), False
    with target.client() as client:
        if declared is not None:
            if task is None:
                raise click.UsageError("a new model needs --task binary, multiclass or regression")
            is_new = _is_unknown(client, model)
            client.create_model(model, task, declared)
        try:
            version = client.register(
                model,
                file.read_bytes(),
                role,
                score=score,
                classes=classes,
                reason=reason or None,
                training=None if training is None else training.read_text(errors="replace"),
            )
        except ProblemError:
            if is_new:  # a name that was made for a file that was refused is free again
                client.delete_model(model, f"its first version, {file.name}, was refused")
            raise
    target.show(version, lambda: f"version {version['number']} of {model} is its {role}")


def _is_unknown(client: Client, model: str) -> bool:
    """Whether there certainly is no such model; a key that may not read cannot tell."""
    try:
        client.model(model)
    except ProblemError as error:
        return error.status == 404
    return False


def _declared(features: str | None, schema: Path | None) -> list[dict[str, Any]] | None:
    """The features that the command line declares; None where it declares none."""
    if features is not None and schema is not None:
        raise click.UsageError("expected either --features or --schema, got both")
    if features is not None:
        return [{"name": name.strip(), "dtype": "float32"} for name in features.split(",")]
    if schema is None:
        return None
    try:
        read = msgspec.json.decode(schema.read_bytes(), type=SchemaFile)
    except msgspec.DecodeError as error:
        raise click.UsageError(f"--schema {schema}: {error}") from None
    builtins: list[dict[str, Any]] = msgspec.to_builtins(read.features)
    return builtins


@click.command()
@click.argument("model", required=False)
@click.option("--at", callback=moment_option, help="Who played then: 2026-11-26T12:00:00Z.  [default: now]")
@on_target
def status(
    model: str | None,
    at: datetime | None,
    target: Target,
) -> None:
    """Who plays, since when, and how the mirror stands; or, with --at, who played at that moment."""
    if at is not None and model is None:
        raise click.UsageError("expected a MODEL beside --at")
    with target.client() as client:
        if at is not None and model is not None:
            lineup = client.lineup(model, at=at)
            target.show(lineup, lambda: f"{_lineup_text(lineup)} at {at.isoformat()}, since {lineup['since']}")
            return
        documents = client.models() if model is None else [client.model(model)]
    result = documents if model is None else documents[0]
    target.show(result, lambda: "\n".join(map(_status, documents)) or "no models yet")


def _status(document: dict[str, Any]) -> str:
    lineup = document["lineup"]
    if lineup is None:
        return f"{document['name']}: no champion yet"
    unreadable = [f"  unreadable: {problem}; see understudy doctor" for problem in document["unreadable"]]
    champion = f"champion is version {lineup['champion']} since {lineup['since']}"
    lines = [f"{document['name']}: {champion} (generation {lineup['generation']}, reign {document['reign']['number']})"]
    for entry in document["mirror"]:
        account = entry["mirror"]
        reasons = "".join(f", {n:,} {reason}" for reason, n in account["reasons"].items())
        parts = f"{account['scored']:,} scored + {account['failed']:,} failed + {account['skipped']:,} skipped{reasons}"
        who = f"{entry['role']} version {entry['version']}"
        lines.append(f"  {who}: {account['eligible']:,} eligible = {parts}; {entry['lag_s']:.1f} s behind")
    return "\n".join(lines + unreadable)


@click.command()
@MODEL
@on_target
def evidence(
    model: str,
    target: Target,
) -> None:
    """What is known of the challengers, and what is missing."""
    with target.client() as client:
        document = client.evidence(model)
    target.show(document, lambda: evidence_text(document))


def evidence_text(document: dict[str, Any]) -> str:
    """The evidence for people: a verdict and a sentence a challenger, what it waits for, and every condition."""
    through = document["closed_through"] or "none yet"
    champion = f"champion is version {document['champion']}, reign {document['reign']}"
    lines = [f"{document['model']}: {champion}, cohorts closed through {through}"]
    if probation := document.get("probation"):
        lines.extend(_probation_text(probation))
    for entry in document["challengers"]:
        lines.append(f"  version {entry['version']}: {entry['verdict']}. {entry['sentence']}")
        lines.extend(f"    {line}" for line in _beside(entry))
        lines.extend(f"    [{'x' if c['holds'] else ' '}] {c['name']}: {c['detail']}" for c in entry["conditions"])
    return "\n".join(lines)


def _probation_text(probation: dict[str, Any]) -> list[str]:
    """How the champion does against the one that it deposed."""
    lines = [f"  against version {probation['previous']}, the previous champion: {probation['sentence']}"]
    if detector := probation["detector"]:
        state = "alarms, confirmed" if detector["confirmed"] else "alarms" if detector["alarm"] else "is quiet"
        lines.append(f"    the detector {state} after {detector['n_buckets']:,} cohorts since probation")
    if probation["incident"] and probation["course"] != "roll_back":
        lines.append(f"    incident: {probation['incident']}")
    return lines


def _beside(entry: dict[str, Any]) -> list[str]:
    """Figures that decide nothing: metrics, whose outcomes were seen, and what was corrected since."""
    lines = []
    metrics = entry.get("metrics") or {"champion": {}, "challenger": {}}
    if told := [*metric_lines(metrics["champion"], metrics["challenger"])]:
        lines += ["shown, never decided by:", *(f"  {line}" for line in told)]
    population = entry.get("population") or {}
    if population.get("n_due") != population.get("n_rows"):
        lines.append(f"outcomes can exist for {population['n_due']:,} of {population['n_rows']:,} rows")
    if population.get("n_learned"):
        lines.append(
            f"left out: {population['n_learned']:,} rows until {entry['learned_until']}, when its training ends"
        )
    corrections = entry.get("corrections") or {}
    if corrections.get("n_corrected") or corrections.get("n_arrived_late"):
        lines.append(
            f"since closed: {corrections['n_corrected']:,} outcomes corrected, "
            f"{corrections['n_arrived_late']:,} arrived late{', more than the terms allow' * corrections['alarm']}"
        )
        if now := corrections["as_known_now"]:
            lines.append(f"as known now: {now['verdict']}, ln E {now['log_e']:.2f}; as decided: {entry['log_e']:.2f}")
    return lines


@click.command()
@MODEL
@on_target
def drift(
    model: str,
    target: Target,
) -> None:
    """How far traffic, scores and outcomes have moved from what the champion was trained on.

    It informs, and decides nothing.
    """
    with target.client() as client:
        document = client.drift(model)
    target.show(document, lambda: "\n".join(f"{model}: {sentence}" for sentence in document["sentences"]))


def _lineup_text(lineup: dict[str, Any]) -> str:
    return f"champion of {lineup['model']} is version {lineup['champion']} (generation {lineup['generation']})"


@click.command()
@MODEL
@click.argument("version", type=int)
@REASON
@GENERATION
@on_target
def promote(
    model: str,
    version: int,
    reason: str,
    if_generation: int | None,
    target: Target,
) -> None:
    """Make a challenger the champion."""
    with target.client() as client:
        lineup = client.promote(model, version, reason, generation=if_generation)
    target.show(lineup, lambda: _lineup_text(lineup))


@click.command()
@MODEL
@REASON
@GENERATION
@on_target
def rollback(
    model: str,
    reason: str,
    if_generation: int | None,
    target: Target,
) -> None:
    """Give the previous champion its place back."""
    with target.client() as client:
        lineup = client.rollback(model, reason, generation=if_generation)
    target.show(lineup, lambda: _lineup_text(lineup))


@click.command()
@MODEL
@click.argument("version", type=int)
@REASON
@GENERATION
@on_target
def retire(
    model: str,
    version: int,
    reason: str,
    if_generation: int | None,
    target: Target,
) -> None:
    """Take a challenger, or the previous champion, out of play."""
    with target.client() as client:
        lineup = client.retire(model, version, reason, generation=if_generation)
    target.show(lineup, lambda: f"version {version} is retired; {_lineup_text(lineup)}")


@click.command()
@MODEL
@click.argument("version", type=int)
@REASON
@GENERATION
@on_target
def enlist(model: str, version: int, reason: str, if_generation: int | None, target: Target) -> None:
    """Make a retired version a challenger."""
    with target.client() as client:
        lineup = client.enlist(model, version, reason, generation=if_generation)
    target.show(lineup, lambda: f"version {version} is a challenger; {_lineup_text(lineup)}")
