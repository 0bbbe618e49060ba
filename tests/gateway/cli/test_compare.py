"""`understudy compare`: the rule on files of logged pairs, the same as in Python, and every fault by row and column."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner, Result
from pyarrow import parquet

from gateway.cli.commands import main
from retrain.evidence import Evidence, Pairs, Rule, compare, metrics_of

START = datetime(2026, 1, 1, tzinfo=UTC)
RNG = np.random.default_rng(12)
N = 3000
RISK = RNG.beta(1, 5, N)
OUTCOME = (RNG.random(N) < RISK).astype(int)
CHAMPION = np.round(np.clip(RISK + RNG.normal(0, 0.12, N), 0.01, 0.9), 6)
CHALLENGER = np.round(np.clip(RISK + RNG.normal(0, 0.02, N), 0.01, 0.9), 6)
DAY = np.arange(N) // 60
PAIRS = Pairs(OUTCOME, CHAMPION, CHALLENGER, DAY + (START - datetime(1970, 1, 1, tzinfo=UTC)).days)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["compare", *map(str, arguments)], prog_name="understudy")


def said(*arguments: str | Path) -> Any:
    ran = run(*arguments, "--json")
    assert ran.exit_code == 0, ran.output
    return json.loads(ran.stdout)


def refused(*arguments: str | Path, code: int = 1) -> str:
    ran = run(*arguments)
    assert ran.exit_code == code, ran.output
    assert isinstance(ran.exception, SystemExit)
    assert ran.stdout == ""
    return " ".join(ran.stderr.replace("│", " ").split())


def csv_text() -> str:
    """A row every 24 minutes, with a column that nobody asked for."""
    rows = zip(OUTCOME, CHAMPION, CHALLENGER, strict=True)
    lines = [f"{(START + timedelta(minutes=24 * i)).isoformat()},x,{y},{a},{b}" for i, (y, a, b) in enumerate(rows)]
    return "\n".join(["at,branch,outcome,champion,challenger", *lines]) + "\n"


def write(folder: Path, text: str, name: str = "pairs.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_file_is_judged_as_its_arrays_are(tmp_path: Path) -> None:
    document = said(write(tmp_path, csv_text()), "--base-rate", "0.17", "--alpha", "0.1", "--slots", "2")
    rule = Rule(base_rate=0.17, alpha=0.1, n_slots=2)
    evidence, metrics = compare(PAIRS, rule), metrics_of(PAIRS, rule)
    assert msgspec.convert(document, Evidence) == evidence
    assert document["metrics"] == msgspec.to_builtins({"champion": metrics[0], "challenger": metrics[1]})
    assert msgspec.convert(document["rule"], Rule) == rule
    assert document["rule_digest"] == rule.digest


def test_compressed_and_parquet_files_say_the_same(tmp_path: Path) -> None:
    plain = said(write(tmp_path, csv_text()))
    (tmp_path / "pairs.csv.gz").write_bytes(gzip.compress(csv_text().encode()))
    at = [START + timedelta(minutes=24 * i) for i in range(N)]
    columns = {"at": at, "outcome": OUTCOME, "champion": CHAMPION, "challenger": CHALLENGER, "branch": ["x"] * N}
    parquet.write_table(pa.table(columns), tmp_path / "pairs.parquet")
    assert said(tmp_path / "pairs.csv.gz") == plain
    assert said(tmp_path / "pairs.parquet") == plain


def test_a_bucket_goes_before_the_moment_and_days_are_those_of_utc(tmp_path: Path) -> None:
    late = "at,outcome,champion,challenger\n2026-03-01T23:30:00-02:00,1,0.5,0.6\n2026-03-02,0,0.5,0.6\n"
    assert said(write(tmp_path, late))["n_days"] == 1
    numbered = "bucket,at,outcome,champion,challenger\n7,not read,1,0.5,0.6\n8,not read,0,0.5,0.6\n"
    assert said(write(tmp_path, numbered))["n_days"] == 2


def test_what_is_empty_has_not_arrived_or_gave_no_answer(tmp_path: Path) -> None:
    rows = "bucket,outcome,champion,challenger\n1,,0.5,0.6\n1,1,0.5,\n1,NA,0.5,0.6\n1,true,0.5,NaN\n"
    document = said(write(tmp_path, rows))
    assert (document["n_due"], document["n"], document["n_failed"]) == (4, 2, 2)


def test_classes_have_names_and_columns(tmp_path: Path) -> None:
    rows = (
        "bucket,outcome,champion_0,champion_1,champion_2,challenger_0,challenger_1,challenger_2\n"
        "1,low,0.2,0.3,0.5,0.5,0.3,0.2\n1,high,0.2,0.3,0.5,0.1,0.1,0.8\n1,,0.2,0.3,0.5,0.1,0.1,0.8\n"
    )
    document = said(write(tmp_path, rows), "--task", "multiclass", "--classes", "low, middle,high")
    two = np.array([[0.2, 0.3, 0.5]] * 3), np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8], [0.1, 0.1, 0.8]])
    expected = compare(Pairs(np.array([0, 2, np.nan]), *two, np.array([1, 1, 1])), Rule(task="multiclass"))
    assert msgspec.convert(document, Evidence) == expected


def test_every_optional_column_reaches_the_rule(tmp_path: Path) -> None:
    rows = (
        "bucket,outcome,champion,challenger,amount,weight,segment,source,entity\n"
        "1,1,0.2,0.9,100,1,north,bank,a\n1,1,0.2,0.9,100,1,north,bank,a\n1,0,0.7,0.1,40,2,south,shop,b\n"
        "1,,0.7,0.1,40,,south,,c\n"
    )
    document = said(
        write(tmp_path, rows), "--loss", "cost", "--set", "costs=[[0,5],[1,0]]", "--set", "thresholds=[0.5,0.4]",
        "--set", "scale=50",
    )  # fmt: skip
    names = [condition["name"] for condition in document["conditions"]]
    assert {"effective_sample", "segments", "sources"} <= set(names)
    assert (document["n_due"], document["n"]) == (3, 2)
    # one entity saved 5 · 100, the other, standing for two, 1 · 40, in units of 5 and of 50, over three
    assert document["mean"] == pytest.approx((100 / 50 + 2 * 40 / 5 / 50) / 3)


def test_people_are_told_the_verdict_first(tmp_path: Path) -> None:
    ran = run(write(tmp_path, csv_text()), "--base-rate", "0.17")
    assert ran.exit_code == 0
    first, *rest = ran.stdout.splitlines()
    assert first.startswith("better. the challenger loses ")
    assert "  [x] evidence: ln E over single outcomes is" in ran.stdout
    assert any(line.startswith("    auc: champion 0.") for line in rest)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "at,outcome,champion\n2026-01-01,1,0.5\n",
            "column 'challenger' is missing, the columns are: at, outcome, champion",
        ),
        ("outcome,champion,challenger\n1,0.5,0.5\n", "column 'at' is missing"),
        ("", "expected a first line of column names, got an empty one"),
        (
            "at,outcome,champion,challenger\n2026-01-01,1,0.5,0.5\n2026-01-02,1,0.5,maybe\n",
            "column 'challenger', row 2: expected a number, got 'maybe'",
        ),
        (
            "at,outcome,champion,challenger\n2026-01-01,1,0.5,0.5\nyesterday,1,0.5,0.5\n",
            "column 'at': expected a time, such as ",
        ),
        ("at,outcome,champion,challenger\n,1,0.5,0.5\n", "column 'at', row 1: expected a time, got none"),
        (
            "bucket,outcome,champion,challenger\n1.5,1,0.5,0.5\n",
            "column 'bucket', row 1: expected a whole number, got 1.5",
        ),
        (
            "bucket,outcome,champion,challenger\n1,1,0.5,0.5\n1,3,0.5,0.5\n",
            "column 'outcome', row 2: expected a class from 0 to 1, or NaN, got 3.0",
        ),
        (
            "bucket,outcome,champion,challenger\n1,1,,0.5\n",
            "column 'champion', row 1: expected probabilities",
        ),
        (
            "bucket,outcome,champion,challenger,amount\n1,1,0.5,0.5,3\n",
            "column 'amount': log_loss does not use it; name it otherwise",
        ),
        (
            "bucket,outcome,champion,challenger,weight\n1,1,0.5,0.5,0.2\n",
            "column 'weight', row 1: expected 1 or more, got 0.2",
        ),
        ("bucket,outcome,champion,challenger\n1,1,0.5\n", "row 2: expected 4 values, got 3"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    path = write(tmp_path, text)
    assert refused(path).startswith(f"understudy: {path}: {sentence}")


def test_other_faults_of_files_are_sentences_too(tmp_path: Path) -> None:
    path = write(tmp_path, "no parquet at all", "pairs.parquet")
    assert "pairs.parquet: " in refused(path)
    names = "bucket,outcome,champion,challenger\n1,perhaps,0.5,0.5\n"
    message = refused(write(tmp_path, names), "--classes", "no,yes")
    assert message.endswith("pairs.csv: column 'outcome', row 1: expected one of no, yes, got 'perhaps'")
    wide = "bucket,outcome,champion_0,champion_1,challenger_0\n1,0,0.5,0.5,1\n"
    assert "column 'challenger_1' is missing" in refused(write(tmp_path, wide), "--task", "multiclass")
    nested = pa.table({"bucket": [1], "outcome": [[1]], "champion": [0.5], "challenger": [0.5]})
    parquet.write_table(nested, tmp_path / "nested.parquet")
    assert "column 'outcome': expected numbers or texts, got list<" in refused(tmp_path / "nested.parquet")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--loss", "pinball"], "rule.loss: expected 'log_loss' or 'brier' or 'cost' for binary, got 'pinball'"),
        (["--alpha", "2"], "rule.alpha: expected a number between 0 and 0.5, got 2.0"),
        (["--set", "patience=3"], "--set patience=3: expected NAME=VALUE with one of task, loss, alpha"),
        (["--set", "bets=often"], "--set bets=often: expected a value in JSON, got 'often'"),
        (["--set", 'min_outcomes="few"'], "Expected `int`, got `str` - at `$.min_outcomes`"),
    ],
)
def test_a_rule_that_is_none_is_a_fault_of_usage(tmp_path: Path, arguments: list[str], message: str) -> None:
    assert message in refused(write(tmp_path, csv_text()), *arguments, code=2)
