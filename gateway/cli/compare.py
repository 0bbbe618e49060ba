"""`understudy compare PAIRS.csv`: the rule on anyone's logged pairs, without a server or a store."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import msgspec
import rich_click as click

from gateway.cli.options import Failed, json_option, show
from gateway.cli.pairs_file import pairs_in
from gateway.cli.shown import metric_lines
from gateway.cli.typed import TableRefused
from retrain.evidence import Evidence, EvidenceError, Loss, Metrics, Rule, Task, metrics_of
from retrain.evidence import compare as judged
from retrain.evidence.errors import ImpossibleValue, InvalidRule, MismatchedPairs, TooManyNames, UnusedColumn


@click.command()
@click.argument("pairs", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--task", type=click.Choice(get_args(Task)), default="binary", show_default=True)
@click.option("--loss", type=click.Choice(get_args(Loss)), help="What a row loses.  [default: that of the task]")
@click.option("--alpha", type=float, help="Chance of promoting a no-better challenger.  [default: 0.05]")
@click.option("--slots", "n_slots", type=int, help="Challengers that share it.  [default: 1]")
@click.option("--base-rate", type=float, help="Share of positives, as of training.  [default: 0.5]")
@click.option("--reference-loss", type=float, help="The champion's mean loss, as of training.")
@click.option(
    "--margin", type=float, help="Better means by more than this.  [default: 0.5 % of the reference loss, or 0]"
)
@click.option(
    "--set", "constants", multiple=True, metavar="NAME=VALUE", help="Any other constant, as JSON: min_outcomes=500."
)
@click.option("--classes", help="Names of the outcomes in the order of their scores: no,yes.")
@json_option
def compare(pairs: Path, constants: tuple[str, ...], classes: str | None, as_json: bool, **options: Any) -> None:
    """Judge logged PAIRS of champion and challenger: a .csv, .csv.gz or .parquet file.

    Columns: at (or bucket), outcome, champion, challenger; for multiclass champion_0, champion_1 … and challenger_0 …;
    and, where there are any, weight, amount, scale, segment, source, entity. Others are not read. Days are those of
    `at` in UTC. An empty outcome has not arrived; an empty challenger gave no answer.
    """
    rule = _rule(constants, options)
    names = None if classes is None else [name.strip() for name in classes.split(",")]
    try:
        read = pairs_in(pairs, rule.task, names)
        evidence, metrics = judged(read, rule), metrics_of(read, rule)
    except TableRefused as error:
        raise Failed(str(error) if str(error).startswith(str(pairs)) else f"{pairs}: {error}") from None
    except InvalidRule as error:
        raise click.UsageError(str(error)) from None
    except EvidenceError as error:
        raise Failed(f"{pairs}: {_in_words(error)}") from None
    document = msgspec.to_builtins(evidence) | {
        "metrics": {"champion": metrics[0], "challenger": metrics[1]},
        "rule": rule,
        "rule_digest": rule.digest,
    }
    show(document, lambda: _text(evidence, metrics), as_json=as_json)


def _rule(constants: tuple[str, ...], options: dict[str, Any]) -> Rule:
    given = {name: value for name, value in options.items() if value is not None}
    for constant in constants:
        name, equals, value = constant.partition("=")
        if not equals or name not in Rule.__struct_fields__:
            raise click.UsageError(
                f"--set {constant}: expected NAME=VALUE with one of {', '.join(Rule.__struct_fields__)}"
            )
        try:
            given[name] = msgspec.json.decode(value)
        except msgspec.DecodeError:
            raise click.UsageError(f"--set {constant}: expected a value in JSON, got {value!r}") from None
    try:
        return msgspec.convert(given, Rule)
    except (msgspec.ValidationError, InvalidRule) as error:
        raise click.UsageError(str(error)) from None


def _in_words(error: EvidenceError) -> str:
    """The fact as somebody sees it who has a file before them: rows count from 1, columns are the file's."""
    match error:
        case ImpossibleValue():
            return f"column '{error.column}', row {error.row + 1}: expected {error.expected}, got {error.got}"
        case UnusedColumn():
            return (
                f"column '{error.column}': {error.loss} does not use it; name it otherwise, or choose a loss that does"
            )
        case MismatchedPairs() | TooManyNames():
            return f"column '{error.column}': expected {error.expected}, got {error.got}"
        case _:
            return str(error)


def _text(evidence: Evidence, metrics: tuple[Metrics, Metrics]) -> str:
    lines = [f"{evidence.verdict}. {evidence.sentence}"]
    lines.extend(f"  [{'x' if c.holds else ' '}] {c.name}: {c.detail}" for c in evidence.conditions)
    lines.append("  shown, never decided by:")
    champion, challenger = (msgspec.to_builtins(each) for each in metrics)
    lines.extend(f"    {line}" for line in metric_lines(champion, challenger))
    return "\n".join(lines)
