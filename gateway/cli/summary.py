"""What became of a traffic, as the server tells it: for programs, and for people."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Any

import msgspec
import rich_click as click

from gateway.cli.traffic import IN_FLIGHT, Tally
from gateway.client import Client


def summary_of(client: Client, model: str, tally: Tally, n_sent_before: int = 0) -> dict[str, Any]:
    """What happened. `n_sent_before`: rows that an earlier run had sent."""
    status, evidence = client.model(model), client.evidence(model)
    decisions = [d for d in client.decisions(model) if d["kind"] in ("promote", "rollback")]
    latencies_s = sorted(tally.latencies_s)
    return {
        "n_requests": tally.n_predictions,
        "n_sent_before": n_sent_before,
        "requests_per_s": tally.n_predictions / tally.took_s if tally.took_s else 0.0,
        "took_s": tally.took_s,
        "p50_ms": _percentile_ms(latencies_s, 50),
        "p99_ms": _percentile_ms(latencies_s, 99),
        "outcomes": tally.receipts,
        "lineup": status["lineup"],
        "mirror": status["mirror"],
        "evidence": evidence,
        "decisions": decisions,
        "trainings": client.trainings(model)["trainings"],
    }


def _percentile_ms(sorted_s: list[float], percent: int) -> float | None:
    return 1e3 * sorted_s[len(sorted_s) * percent // 100] if sorted_s else None


def show(summary: dict[str, Any], *, as_json: bool) -> None:
    """Print it."""
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(summary), indent=2).decode() + "\n")
        sys.stdout.flush()
        return
    click.echo(summary_text(summary))


def summary_text(summary: dict[str, Any]) -> str:
    """The summary for people."""
    lines = ["", f"requests   {_requests(summary)}"]
    if summary["p50_ms"] is not None:
        p50_ms, p99_ms = summary["p50_ms"], summary["p99_ms"]
        lines.append(f"latency    p50 {p50_ms:.1f} ms, p99 {p99_ms:.1f} ms with {IN_FLIGHT} in flight")
    told = ", ".join(f"{n:,} {fate}" for fate, n in summary["outcomes"].items())
    lines.append(f"outcomes   {told or 'none were left to tell'}")
    for entry in summary["mirror"]:
        account = entry["mirror"]
        lines.append(
            f"mirrored   version {entry['version']} ({entry['role']}, this reign): {account['eligible']:,} eligible = "
            f"{account['scored']:,} scored + {account['failed']:,} failed + {account['skipped']:,} skipped"
        )
    for decision in summary["decisions"]:
        lines.append(
            f"decision   {_date(decision['at'])}: {decision['kind']} version {decision['version']} by {decision['by']}"
        )
        lines.append(f"           {decision['reason']}")
    for training in summary["trainings"]:
        lines.append(f"training   {_date(training['at'])}: {_became(training)}")
        lines.append(f"           {training['reason']}")
    for entry in summary["evidence"]["challengers"]:
        lines.append(f"evidence   version {entry['version']}: {entry['verdict']}, ln E {entry['log_e']:.1f}")
        lines.append(f"           {entry['sentence']}")
    lines.append(f"champion   version {summary['lineup']['champion']}{_since(summary)}")
    return "\n".join(lines)


def _became(training: dict[str, Any]) -> str:
    match training["state"]:
        case "registered":
            return f"version {training['version']}"
        case "failed" | "declined" as state:
            return f"{state}. {training['sentence']}"
        case state:
            return str(state)


def _requests(summary: dict[str, Any]) -> str:
    n, before = summary["n_requests"], summary["n_sent_before"]
    if n == 0:
        return f"none were left to send: {before:,} had been"
    sent = f"{n:,} in {summary['took_s']:.0f} s, {summary['requests_per_s']:,.0f} a second"
    return f"{sent}; {before:,} had been sent before" if before else sent


def standing(day: datetime, evidence: dict[str, Any]) -> str:
    """One line: the day, who is champion, and how far the challengers are."""
    rivals = "".join(
        f"; version {entry['version']} {entry['verdict']}, ln E {entry['log_e']:.1f}"
        for entry in evidence["challengers"]
    )
    return f"{day:%d %b %Y}: version {evidence['champion']} answers{rivals}"


def _since(summary: dict[str, Any]) -> str:
    """Since when the champion answers, and by whose decision."""
    champion = summary["lineup"]["champion"]
    decided = [d for d in summary["decisions"] if d["version"] == champion]
    if not decided:
        return " from the start: no challenger was shown to be better"
    did = "promoted" if decided[-1]["kind"] == "promote" else "brought back"
    return f" since {_date(decided[-1]['at'])}, {did} by {decided[-1]['by']}"


def _date(text: str) -> str:
    return f"{datetime.fromisoformat(text).astimezone(UTC):%d %B %Y %H:%M} UTC"
