"""One table of what may import what, ours and third parties. A line that breaks it is named."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("gateway", "registry", "retrain")

OURS = [
    # what                        may stand on
    ("registry/*", ["registry"]),
    ("retrain/evidence/*", ["retrain.evidence"]),
    (
        "retrain/*",
        [
            "retrain",
            "registry",
            # the gateway's contract, and nothing that serves
            "gateway.config",
            "gateway.errors",
            "gateway.records",
            "gateway.chunk",
            "gateway.columns",
            "gateway.clock",
            "gateway.journal",
        ],
    ),
    ("gateway/cli/*", ["gateway", "registry", "retrain"]),
    (
        "gateway/journal/*",
        [
            "gateway.journal",
            "gateway.config",
            "gateway.errors",
            "gateway.records",
            "gateway.chunk",
            "gateway.columns",
            "gateway.locks",
            "registry.types",
        ],
    ),
    ("gateway/wire/*", ["gateway.wire", "gateway.errors", "gateway.records", "gateway.columns", "registry.types"]),
    ("gateway/*", ["gateway", "registry"]),
]
"""The first row that fits a file counts."""

THEIRS = {
    "alembic": ["registry/database.py", "registry/migrations/*"],
    "apsw": [
        "gateway/journal/sqlite.py",
        "gateway/journal/writer.py",
        "gateway/journal/reader.py",
        "gateway/journal/ledger.py",
        "gateway/journal/survey.py",
        "gateway/journal/said.py",
        "gateway/journal/scan.py",
        "gateway/journal/replayed.py",
        "gateway/journal/compaction.py",
        "gateway/journal/erasure.py",
    ],
    "click": ["gateway/cli/options.py", "gateway/cli/serve.py"],
    "google": ["registry/inspection.py"],
    "httpx": ["gateway/http_calls.py", "gateway/in_process.py"],
    "httptools": ["gateway/connection.py"],
    "litestar": ["gateway/app.py", "gateway/routes/*"],
    "msgspec": ["*"],
    "numpy": ["*"],
    "obstore": ["registry/artifacts.py"],
    "joblib": ["retrain/training/search.py", "retrain/training/backends.py"],
    "onnx": ["registry/inspection.py", "retrain/training/graph.py", "retrain/training/convert.py"],
    "onnxruntime": ["registry/onnx_model.py"],
    "pandas": ["gateway/cli/flights.py", "gateway/cli/demo.py"],
    "prometheus_client": ["gateway/metrics/exposition.py"],
    "pyarrow": [
        "gateway/cli/table.py",
        "gateway/journal/arrow.py",
        "gateway/journal/table.py",
        "gateway/journal/cold_table.py",
        "gateway/journal/cold_group.py",
        "gateway/journal/cold_file.py",
        "gateway/journal/compaction.py",
        "gateway/export.py",
        "gateway/archive.py",
        "retrain/bundle/pairs_file.py",
        "retrain/drift/*",
        "retrain/training/journal.py",
    ],
    "rich": ["gateway/cli/progress.py"],
    "rich_click": ["gateway/cli/*"],
    "skl2onnx": ["retrain/training/*"],
    "sklearn": ["retrain/training/*"],
    "sqlalchemy": ["registry/*"],
    "structlog": [
        "gateway/*",
        "retrain/training/*",
        *(f"retrain/{name}.py" for name in ("cycle", "acting", "drift/watch", "replays")),
    ],
    "threadpoolctl": ["retrain/training/*"],
    "uvicorn": [f"gateway/{name}.py" for name in ("worker", "connection", "flow", "lane", "refusals")],
}

RESTRICTED = {
    "sqlite3": ["registry/*"],  # and never a journal file: two SQLite libraries in a process break each other's locks
    "pickle": [],
    "marshal": [],
    "shelve": [],
}
"""Of the standard library."""


def sources() -> Iterator[tuple[str, ast.Module]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text())


def imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, module) of every import, also those inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            module = node.module or ""
            if module in PACKAGES:
                yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, module


def within(module: str, allowed: list[str]) -> bool:
    return any(module == prefix or module.startswith(prefix + ".") for prefix in allowed)


def broken(file: str, tree: ast.Module) -> Iterator[str]:
    allowed = next(prefixes for pattern, prefixes in OURS if fnmatch(file, pattern))
    for line, module in imports(tree):
        top = module.partition(".")[0]
        if top in PACKAGES:
            if not within(module, allowed):
                yield f"{file}:{line} imports {module}; it may stand on {', '.join(allowed)}"
            continue
        places = RESTRICTED.get(top, ["*"]) if top in sys.stdlib_module_names else THEIRS.get(top, [])
        if not any(fnmatch(file, place) for place in places):
            yield f"{file}:{line} imports {module}, which only {', '.join(places) or 'nobody'} may"


def test_every_import_is_in_the_table() -> None:
    faults = [fault for file, tree in sources() for fault in broken(file, tree)]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("gateway/predictor.py", "import retrain.cycle"),
        ("gateway/predictor.py", "from retrain import cycle"),
        ("gateway/predictor.py", "import onnxruntime"),
        ("gateway/wire/own.py", "from litestar import get"),
        ("registry/store.py", "from gateway.chunk import Chunk"),
        ("retrain/cycle.py", "from gateway.predictor import Predictor"),
        ("retrain/evidence/rule.py", "import gateway.config"),
        ("gateway/journal/reader.py", "import sqlite3"),
        ("gateway/client.py", "def f():\n    import pickle"),
    ],
)
def test_the_table_finds_what_breaks_it(file: str, line: str) -> None:
    assert list(broken(file, ast.parse(line)))


def test_only_the_settings_read_the_environment() -> None:
    readers = {
        file
        for file, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
    }
    assert readers == {"gateway/config.py"}


def test_exceptions_are_swallowed_nowhere() -> None:
    """`except Exception` (or all) is for the edges of a process; inside, an error has a name."""
    places = [
        f"{file}:{node.lineno}"
        for file, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or (isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException")))
        and not any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
    ]
    edges = ("gateway/journal/appenders.py", "gateway/lane.py", "retrain/replays.py")
    assert [place for place in places if not place.startswith(edges)] == []
    # the thread of the group commit; where a request enters the fast lane, and a replay the worker that decides
    assert {place.partition(":")[0] for place in places} == set(edges)


def test_a_gateway_worker_loads_nothing_that_trains_or_unpickles() -> None:
    script = "import gateway.worker, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    modules = {name.partition(".")[0] for name in loaded.split()}
    assert not modules & {
        "sklearn",
        "skl2onnx",
        "onnx",
        "scipy",
        "pandas",
        "joblib",
        "cloudpickle",
        "pyarrow",
        "retrain",
    }


def test_the_command_line_answers_without_loading_a_server() -> None:
    script = "import gateway.cli, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert not {"litestar", "onnxruntime", "sqlalchemy", "numpy"} & set(loaded.split())


def test_no_source_file_is_long() -> None:
    """Think again at 300 lines: does it still hold one thing?"""
    lengths = {file: len((ROOT / file).read_text().splitlines()) for file, _ in sources()}
    assert not {file: n for file, n in lengths.items() if n > 300}
