"""`python -m bench.readme README.md` puts the tables of figures into it, each between its two markers."""

from __future__ import annotations

import sys
from pathlib import Path

RESULTS = Path(__file__).with_name("results")
PARTS = (
    "figures", "evidence", "drift", "training", "training_overhead", "overload", "chaos", "soak", "loop", "compaction",
)  # fmt: skip
"""Files of results, and the names in the markers."""
FOLDED = {"evidence": "every process, claim and limit", "chaos": "every fault, with its control"}
"""Long ones, shown on request, and what to show them by."""


def with_part(readme: str, part: str, text: str) -> str:
    """The same text with this between the markers of a part."""
    begin, end = f"<!-- {part}: begin -->", f"<!-- {part}: end -->"
    before, _, rest = readme.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n{text.strip()}\n{end}{after}"


def shown(part: str) -> str:
    """The text of a part as README shows it."""
    text = (RESULTS / f"{part}.md").read_text().strip()
    return f"<details><summary>{FOLDED[part]}</summary>\n\n{text}\n\n</details>" if part in FOLDED else text


def main() -> None:
    """Rewrite the named file."""
    path = Path(sys.argv[1])
    readme = path.read_text()
    for part in PARTS:
        readme = with_part(readme, part, shown(part))
    path.write_text(readme)


if __name__ == "__main__":
    main()
