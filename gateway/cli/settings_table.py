"""`python -m gateway.cli.settings_table README.md` writes the table of settings into it, between its two markers."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from gateway.config import described

BEGIN, END = "<!-- settings: begin -->", "<!-- settings: end -->"


def table() -> str:
    """The table in Markdown."""
    rows = [f"| `{each.key}` | {each.type} | `{_json(each.default)}` | {each.description} |" for each in described()]
    return "\n".join(["| setting | type | default | meaning |", "|---|---|---|---|", *rows])


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def with_table(readme: str) -> str:
    """The same text with the table as it is now."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def main() -> None:
    """Rewrite the named file."""
    path = Path(sys.argv[1])
    path.write_text(with_table(path.read_text()))


if __name__ == "__main__":
    main()
