"""`python -m bench`: measure, print the report, and write results/figures.{json,md,svg}."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from bench import elsewhere
from bench.figures import named, summaries
from bench.gates import judged
from bench.ground import Ground
from bench.load_wrk import WrkFailed
from bench.models import N_ROWS
from bench.picture import svg
from bench.report import markdown
from bench.rounds import measured
from bench.stores import NotPrepared
from bench.systems import REFERENCE, SYSTEMS, Unavailable

RESULTS = Path(__file__).with_name("results")
ELSEWHERE = "elsewhere"
QUICK = (REFERENCE, "fastapi_mirror", "process", "shadowed", ELSEWHERE)
"""What shows within about a minute that everything works; its figures mean little."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0; 1 if a gate was missed in a whole run; 2 if nothing could be measured."""
    options = _options(arguments)
    with tempfile.TemporaryDirectory(prefix="understudy-bench-", dir=options.folder) as folder:
        ground = Ground(Path(folder))
        os.sched_setaffinity(0, {ground.load_core})
        try:
            return _run(ground, options)
        except (WrkFailed, NotPrepared, Unavailable) as reason:
            print(f"bench: {reason}", file=sys.stderr)
            return 2


def _run(ground: Ground, options: argparse.Namespace) -> int:
    systems = [system for system in SYSTEMS if system.name in options.only]
    plan: dict[str, Any] = {"rounds": options.rounds, "seconds": options.seconds, "say": _say}
    visits, skipped = measured(systems, ground, **plan)
    by_name = {system.name: system for system in SYSTEMS}
    blocks = elsewhere.blocks(by_name, ground, **plan) if ELSEWHERE in options.only else []
    costs = elsewhere.costs(blocks)
    figures = named(visits, costs)
    gates = judged(figures)
    facts = {
        "measured": datetime.now(UTC).strftime("%Y-%m-%d"),
        "rows": f"{N_ROWS:,}",
        "rounds": str(options.rounds),
        "seconds": f"{options.seconds:g}",
        **ground.described(),
    }
    report = markdown(visits, costs, skipped, gates, facts)
    print(report)
    document = {
        "facts": facts,
        "figures": figures,
        "gates": gates,
        "visits": visits,
        "blocks": blocks,
        "skipped": skipped,
    }
    encoded = msgspec.json.format(msgspec.json.encode(document), indent=1)
    if options.json is not None:
        options.json.write_bytes(encoded + b"\n")
    if options.quick:
        return 0
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "figures.json").write_bytes(encoded + b"\n")
    (RESULTS / "figures.md").write_text(report)
    (RESULTS / "figures.svg").write_text(svg(summaries(visits)))
    return int(any(each.judgement == "missed" for each in gates))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    names = [*(system.name for system in SYSTEMS), ELSEWHERE]
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about a minute, to see that it works; writes no results")
    parser.add_argument("--rounds", type=int, help="how often each system is measured [5; quick: 1]")
    parser.add_argument("--seconds", type=float, help="of each measurement [5; quick: 1]")
    parser.add_argument("--only", type=lambda text: text.split(","), help=f"some of {','.join(names)}")
    parser.add_argument("--folder", type=Path, help="where stores are written; with `power` its disk is measured too")
    parser.add_argument("--json", type=Path, help="also write everything that was measured here")
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (1 if options.quick else 5)
    options.seconds = options.seconds or (1.0 if options.quick else 5.0)
    options.only = options.only or (list(QUICK) if options.quick else names)
    unknown = [name for name in options.only if name not in names]
    if unknown:
        parser.error(f"--only: expected some of {', '.join(names)}, got {', '.join(unknown)}")
    return options


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
