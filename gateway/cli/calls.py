"""The data plane from a terminal: `predict`, `outcome`, `wait`."""

from __future__ import annotations

import sys
from typing import Any

import msgspec
import rich_click as click

from gateway.cli.options import Target, on_target


@click.command()
@click.argument("model")
@click.argument("inputs")
@click.option("--association-id", help="Your own key for this prediction.")
@click.option("--predicted-at", help="Its time, under the caller's clock.")
@on_target
def predict(
    model: str,
    inputs: str,
    association_id: str | None,
    predicted_at: str | None,
    target: Target,
) -> None:
    """Ask MODEL's champion. INPUTS is JSON: an object, or a list of them; `-` reads standard input."""
    rows = _json(sys.stdin.read() if inputs == "-" else inputs)
    facts = {"association_id": association_id, "predicted_at": predicted_at}
    with target.client() as client:
        answer = client.predict(model, rows, **{k: v for k, v in facts.items() if v is not None})
    target.show(answer, lambda: _answer_text(answer))


def _json(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise click.UsageError(f"INPUTS is not JSON: {error}") from None


def _answer_text(answer: dict[str, Any]) -> str:
    rows = answer["outputs"] if isinstance(answer["outputs"], list) else [answer["outputs"]]
    lines = [", ".join(f"{name}: {value}" for name, value in row.items()) for row in rows]
    return "\n".join([f"version {answer['version']}, prediction {answer['prediction_id']}", *lines])


@click.command()
@click.argument("model")
@click.argument("value")
@click.option("--prediction-id", help="Of which prediction.")
@click.option("--association-id", help="Or by your own key.")
@click.option("--row", type=int, help="Which row of it.  [default: 0]")
@click.option("--observed-at", help="When it happened.")
@click.option("--source", help="Who says so.")
@on_target
def outcome(
    model: str,
    value: str,
    prediction_id: str | None,
    association_id: str | None,
    row: int | None,
    observed_at: str | None,
    source: str | None,
    target: Target,
) -> None:
    """Say what really happened. VALUE is a number, true, false, or a class label."""
    try:
        happened = msgspec.json.decode(value)
    except msgspec.DecodeError:
        happened = value
    facts = {
        "prediction_id": prediction_id, "association_id": association_id, "row": row,
        "observed_at": observed_at, "source": source,
    }  # fmt: skip
    with target.client() as client:
        receipt = client.outcome(model, happened, **{k: v for k, v in facts.items() if v is not None})
    target.show(receipt, lambda: ", ".join(k for k, n in receipt.items() if n))


@click.command()
@click.argument("model")
@click.option("--caught-up", is_flag=True, required=True, help="Until every challenger was given every prediction.")
@click.option("--timeout-s", type=float, default=60.0, show_default=True, help="Give up after this.")
@on_target
def wait(
    model: str,
    caught_up: bool,
    timeout_s: float,
    target: Target,
) -> None:
    """Wait for the mirror of MODEL; exits with 1 if it takes too long."""
    with target.client() as client:
        document = client.wait_caught_up(model, timeout_s=timeout_s)
    target.show(document["mirror"], lambda: f"the mirror of {model} has caught up")
