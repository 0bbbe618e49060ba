"""The documents tell the truth: their commands run, their tables are the code's, the tests they name exist."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.cli.commands import COMMANDS
from gateway.cli.settings_table import with_tables
from tests.streams import loans, predictions_of

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
LONGEST_S = 300.0
BIN = Path(sys.executable).parent


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_the_tables_are_the_settings_and_the_terms() -> None:
    """`make docs` writes them."""
    assert with_tables(README) == README


def test_the_tests_that_hold_the_promises_exist() -> None:
    promised = re.findall(r"`(tests/[\w/.]+\.py)::(\w+)`", README)
    assert len(promised) >= 8
    for file, test in promised:
        assert f"def {test}(" in (ROOT / file).read_text(), f"{file} has no {test}"


def ran(script: str, folder: Path) -> tuple[str, str]:
    """What a shell printed, in an empty folder; nothing of it goes on when it takes too long."""
    command = ["/bin/bash", "-euo", "pipefail", "-c", script]
    environment = {"PATH": f"{BIN}:{os.defpath}", "HOME": str(folder)}
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as shell:  # fmt: skip
        try:
            told = shell.communicate(timeout=LONGEST_S)
        except subprocess.TimeoutExpired:
            os.killpg(shell.pid, signal.SIGKILL)  # workers end with the server, which is in the group
            pytest.fail(f"it went on for {LONGEST_S} s: {shell.communicate()}")
    assert shell.returncode == 0, told
    return told


def test_the_blocks_of_readme_run_in_order(tmp_path: Path) -> None:
    """A first day with the product, as README tells it, in an empty folder."""
    make_models, compare, _ = blocks("python")  # the third is a function for a recipe
    first_day, decisions, formats, keys, export, compact, replay = blocks("bash")
    port = str(free_port())
    story = "\n".join(
        [
            "trap 'kill $(jobs -p) && wait' EXIT",  # whatever happens, the server is stopped
            "python make_models.py",
            first_day.replace("8080", port),
            decisions.replace("8080", port),
            "understudy status credit --url http://127.0.0.1:" + port,
            formats.replace("8080", port),
            keys.replace("8080", port),
            export.replace("8080", port),
            compact,
            replay.replace("8080", port),
        ]
    )
    (tmp_path / "make_models.py").write_text(make_models)
    out, _ = ran(story, tmp_path)
    assert '"prediction_id"' in out
    assert '"accepted":1' in out
    assert "1 eligible = 1 scored + 0 failed + 0 skipped" in out
    assert "champion of credit is version 2 (generation 3)" in out
    assert "champion of credit is version 1 (generation 4)" in out
    assert '"accepted":2' in out
    assert '"promotion":"one"' in out
    assert "3 rows, 3 of them with an outcome" in out
    assert "nothing to compact" in out
    assert "replay, not evidence: version 2 was given " in out
    assert 'understudy_requests_total{code="200",model="credit",version="1"}' in out

    said = subprocess.run([sys.executable, "-c", compare], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "loses" in said


def test_the_block_on_your_own_data_runs_and_its_second_half_changes_nothing(tmp_path: Path) -> None:
    (story,) = blocks("sh")
    file = loans(tmp_path / "loans.csv")
    assert f"`{file.read_text().splitlines()[0]}`" in README
    out, errors = ran(story, tmp_path)
    assert "country is left out: it is always 'PT'" in errors
    assert "requests   900 in " in out
    assert "on 900 matured outcomes" in out
    assert "requests   none were left to send: 900 had been" in out
    sent = predictions_of(tmp_path / "understudy-data")
    assert (len(sent), set(sent.values())) == (900, {1})


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_and_speaks_json(command: str) -> None:
    said = subprocess.run([BIN / "understudy", command, "--help"], capture_output=True, text=True, check=True).stdout
    assert "--json" in said
    assert "--help" in said


def test_the_two_commands_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:\$ |`)make (\w+)", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"no target {target}"
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_every_dependency_has_a_reason_and_a_pinned_version() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    named = set(re.findall(r'^\s*"([a-z0-9-]+)[<>=]', project, re.MULTILINE))
    named |= set(re.findall(r'demo = \["([a-z0-9]+)==[\d.]+", "([a-z]+)', project)[0])
    pinned = {line.partition("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert named - {"hatchling"} <= pinned
    for package in named - {"hatchling"}:
        assert package in README, f"README gives no reason for {package}"
