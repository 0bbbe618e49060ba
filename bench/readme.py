"""`python -m bench.readme README.md` puts the table of figures into it, between its two markers."""

from __future__ import annotations

import sys
from pathlib import Path

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
RESULTS = Path(__file__).with_name("results")


def with_figures(readme: str, figures: str) -> str:
    """The same text with these figures."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{figures.strip()}\n{END}{after}"


def main() -> None:
    """Rewrite the named file."""
    path = Path(sys.argv[1])
    path.write_text(with_figures(path.read_text(), (RESULTS / "figures.md").read_text()))


if __name__ == "__main__":
    main()
