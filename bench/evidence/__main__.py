"""`python -m bench.evidence [--quick|--long] [PART ...]`: measure, and write results/evidence.{json,md}.

Every part is written when it is done, so that an interrupted run goes on where it was; a part that is named is measured
again.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import msgspec

from bench.evidence import day_streams, delays, equal_streams, gain_streams, replays, rewards, rollbacks
from bench.evidence.effort import LONG, QUICK, SEED, Effort
from bench.evidence.table import Line, markdown

RESULTS = Path(__file__).parents[1] / "results"
PARTS: dict[str, Callable[[Effort], Iterator[Line]]] = {
    **{
        f"false-promotion-{name}": partial(equal_streams.false_promotions, name=name)
        for name in equal_streams.PROCESSES
    },
    "surely-wrong": equal_streams.surely_wrong,
    "to-a-million": equal_streams.long_streams,
    "days": day_streams.false_promotions,
    "days-control": day_streams.outcomes_alone,
    "days-waits": day_streams.waits,
    "detection": gain_streams.detections,
    "detection-brier": gain_streams.brier_detections,
    "false-rollback": rollbacks.false_rollbacks,
    "rollback-delay": rollbacks.delays,
    "detector": rollbacks.detector,
    "replay": replays.replayed,
    "replay-control": replays.counted_again,
    "delays": delays.label_delays,
    "rewards": rewards.rewards,
    "rewards-coverage": rewards.coverage,
}

USING_DAYS = {"days", "false-rollback", "rollback-delay", "detector"}


class Measured(msgspec.Struct, frozen=True):
    """A part that is done."""

    lines: list[Line]
    seconds: float
    at: str
    effort: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0; 1 if a limit was exceeded."""
    options = _options(arguments)
    effort = msgspec.structs.replace(LONG if options.long else QUICK, folder=options.data)
    stored = RESULTS / "evidence.json"
    done = _stored(stored) if options.long else {}
    names = options.parts or [part for part in PARTS if part not in done]
    if USING_DAYS.intersection(names):
        for sentence in day_streams.processes(effort)[1]:
            print(sentence, file=sys.stderr)
    for name in names:
        start = time.monotonic()
        lines = []
        for line in PARTS[name](effort):
            print(markdown([line]).splitlines()[-1], flush=True)
            lines.append(line)
        today = datetime.now(UTC).strftime("%Y-%m-%d")
        done[name] = Measured(lines, round(time.monotonic() - start, 1), today, effort.name)
        if options.long:
            stored.write_bytes(msgspec.json.format(msgspec.json.encode(done), indent=1) + b"\n")
            write_reports(done)
    return int(any(line.holds is False for part in done.values() for line in part.lines))


def write_reports(done: dict[str, Measured]) -> None:
    """The table that README includes, and the one with every line."""
    (RESULTS / "evidence.md").write_text(report(done, details=False))
    (RESULTS / "evidence_all.md").write_text(report(done, details=True))


def report(done: dict[str, Measured], *, details: bool) -> str:
    """Lines of all parts as one table, without or with their details."""
    ordered = [done[name] for name in PARTS if name in done]
    intro = (
        f"Measured {max(part.at for part in ordered)}, seed {SEED}; condition one is about single outcomes, two "
        "about windows of days. Standard errors in brackets."
    )
    return f"{intro}\n\n{markdown([line for part in ordered for line in part.lines if details or not line.is_detail])}"


def _stored(path: Path) -> dict[str, Measured]:
    return msgspec.json.decode(path.read_bytes(), type=dict[str, Measured]) if path.is_file() else {}


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.evidence", description=__doc__)
    effort = parser.add_mutually_exclusive_group()
    effort.add_argument(
        "--quick", action="store_true", help="a minute or two, to see that it works; writes nothing [default]"
    )
    effort.add_argument("--long", action="store_true", help="what is published")
    parser.add_argument("--data", type=Path, help="folder with elec2.csv.gz, for the days that are drawn from it")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(PARTS)}")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.parts if name not in PARTS]
    if unknown:
        parser.error(f"expected some of {', '.join(PARTS)}, got {', '.join(unknown)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
