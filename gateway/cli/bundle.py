"""`understudy bundle`: all that a decision rests on, in one folder; and whether such a folder is what it says."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import rich_click as click

from gateway.cli.options import Failed, Target, failing_in_one_line, on_target, settings_of

if TYPE_CHECKING:
    from gateway.config import Settings
    from retrain.bundle import Bundled, Verified, Wanted


@click.command()
@click.argument("model", required=False)
@click.option("--generation", type=int, help="Of the decision that began it.  [default: the evidence of now]")
@click.option("--version", type=int, help="Of now: of which challenger, or of the previous champion.")
@click.option("-o", "--output", "folder", type=click.Path(path_type=Path), help="The folder, which must not be there.")
@click.option(
    "--verify", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Check a folder instead, by itself."
)
@click.option("--head", help="With --verify: a hash of the audit that was kept elsewhere.")
@on_target
def bundle(
    model: str | None,
    generation: int | None,
    version: int | None,
    folder: Path | None,
    verify: Path | None,
    head: str | None,
    target: Target,
) -> None:
    """Write what a decision about MODEL rests on: decision.json, pairs.parquet, and a page to print, report.html.

    With --verify nothing else is needed, neither store nor server: the pairs are judged again by the rule that is with
    them, and what does not come to the same is told.
    """
    if verify is not None:
        if model is not None or folder is not None:
            raise click.UsageError("expected either --verify FOLDER, or MODEL and -o FOLDER, got both")
        _verify(verify, head, target)
        return
    if model is None or folder is None:
        raise click.UsageError("expected MODEL and -o FOLDER, or --verify FOLDER")
    if generation is not None and version is not None:
        raise click.UsageError("expected either --generation or --version, got both")
    made = _made(model, generation, version, folder, target)
    document = {"folder": made.folder, "seal": made.seal} | _told(made.found)
    target.show(
        document, lambda: "\n".join([_text(made.found), f"{made.folder}: keep its seal elsewhere: {made.seal}"])
    )
    _fail_for(made.found)


def _made(model: str, generation: int | None, version: int | None, folder: Path, target: Target) -> Bundled:
    from retrain.bundle import Wanted, unpacked
    from retrain.errors import BundleRefused

    try:
        if target.url is None:
            target.check()
            wanted = Wanted(model, generation, version)
            return _of_store(wanted, settings_of(target.config, target.data_dir), folder)
        with target.client() as client, tempfile.NamedTemporaryFile(suffix=".zip") as archive:
            for piece in client.bundle(model, generation=generation, version=version):
                archive.write(piece)
            archive.flush()
            return unpacked(Path(archive.name), folder)
    except BundleRefused as refused:
        raise Failed(str(refused)) from None


def _of_store(wanted: Wanted, settings: Settings, folder: Path) -> Bundled:
    """Read the store's files here: nothing has to be sent anywhere."""
    from gateway.clock import JournalClock
    from registry.store import Registry
    from retrain.bundle import bundled
    from retrain.evidence import EvidenceError

    clock = JournalClock(settings.clock, settings.cohorts.bucket_s)
    with failing_in_one_line(), Registry.open(settings.folder, now=clock.now) as registry:
        try:
            return bundled(settings, registry, wanted, folder, datetime.now(UTC))
        except EvidenceError as error:
            raise Failed(f"what was judged cannot be read any more: {error}") from None


def _verify(folder: Path, head: str | None, target: Target) -> None:
    from retrain.bundle import verified
    from retrain.errors import BundleRefused

    try:
        found = verified(folder, head)
    except BundleRefused as refused:
        raise Failed(str(refused)) from None
    target.show(_told(found), lambda: _text(found))
    _fail_for(found)


def _told(found: Verified) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(found)
    return told


def _text(found: Verified) -> str:
    if found.faults:
        return "\n".join(found.faults)
    if found.again is None:
        return f"{found.model}: whole; a person decided without evidence, so there are no pairs"
    again = found.again.get("probation") or found.again
    verdict = again.get("verdict") or again["course"].replace("_", " ")
    lines = [
        f"{found.model}: whole; judged again by its {found.n_pairs:,} pairs: {verdict}, ln E {again['log_e']:.9g}",
        again["sentence"],
        f"data {found.data}",
    ]
    if not found.is_chain_whole:
        lines.append("lines of the audit about other models are withheld: the chain cannot be followed to its head")
    return "\n".join(lines)


def _fail_for(found: Verified) -> None:
    if found.faults:
        raise Failed(f"{len(found.faults)} fault{'s' if len(found.faults) > 1 else ''} in the bundle of {found.model}")
