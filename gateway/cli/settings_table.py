"""`python -m gateway.cli.settings_table README.md` writes the tables of settings and of a model's terms into it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args, get_type_hints

import msgspec
from msgspec import Meta, Struct

from gateway.config import described
from registry.types import Policy


def settings_table() -> str:
    """The settings in Markdown."""
    rows = [f"| `{each.key}` | {each.type} | `{_json(each.default)}` | {each.description} |" for each in described()]
    return "\n".join(["| setting | type | default | meaning |", "|---|---|---|---|", *rows])


def terms_table() -> str:
    """The terms of a model, its policy, in Markdown."""
    return "\n".join(["| term | default | meaning |", "|---|---|---|", *_terms(Policy, "")])


def _terms(struct: type[Struct], prefix: str) -> Iterator[str]:
    hints = get_type_hints(struct, include_extras=True)
    for field in msgspec.structs.fields(struct):
        name = f"{prefix}{field.name}"
        if isinstance(field.default, Struct):
            yield from _terms(type(field.default), f"{name}.")
            continue
        (meaning,) = (each.description for each in get_args(hints[field.name]) if _describes(each))
        yield f"| `{name}` | `{_json(field.default)}` | {meaning} |"


def _describes(annotation: object) -> bool:
    return isinstance(annotation, Meta) and annotation.description is not None


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


TABLES = {"settings": settings_table, "terms": terms_table}
"""Between which two markers which table stands."""


def with_tables(readme: str) -> str:
    """The same text with the tables as they are now."""
    for name, table in TABLES.items():
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        before, _, rest = readme.partition(begin)
        _, _, after = rest.partition(end)
        readme = f"{before}{begin}\n{table()}\n{end}{after}"
    return readme


def main() -> None:
    """Rewrite the named file."""
    path = Path(sys.argv[1])
    path.write_text(with_tables(path.read_text()))


if __name__ == "__main__":
    main()
