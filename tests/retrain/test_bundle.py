"""The evidence bundle: what a decision rests on, judged again from one folder alone, and every change of it told."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from gateway.cli.commands import main
from gateway.client import Client
from gateway.errors import ProblemError
from registry.types import Decision, Feature, InputSchema, Metric, Policy, Principal, TrainingReport
from retrain.bundle import Bundled, Wanted, bundled, unpacked, verified
from retrain.errors import BundleRefused
from tests.actors import SCHEMA, linear, logistic, signature
from tests.seasons import N_ROWS, QUICK, TRUTH, WEAK, answers, ends, lives, probability, rows_of
from tests.stage import ME, Stage, staged

SEASON = 36
DECISION, PAIRS, REPORT, SUMS = "decision.json", "pairs.parquet", "report.html", "SHA256SUMS"
Told = dict[str, Any]


def made(stage: Stage, folder: Path, **wanted: Any) -> Bundled:
    return bundled(stage.settings, stage.registry, Wanted("m", **wanted), folder, datetime(2026, 1, 1, tzinfo=UTC))


def decision_of(stage: Stage, kind: str) -> Decision:
    (found,) = [each for each in stage.registry.decisions("m") if each.kind == kind]
    return found


def document(folder: Path) -> Told:
    read: Told = json.loads((folder / DECISION).read_text())
    return read


def season(stage: Stage, policy: Policy = QUICK) -> int:
    """A better challenger after a season."""
    stage.declare(policy)
    stage.champion(logistic(WEAK))
    better = stage.challenger(logistic(TRUTH))
    lives(stage, range(SEASON), {better: TRUTH})
    ends(stage, SEASON)
    stage.close_all()
    return better


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of a promotion by the rule; not to be changed."""
    root = tmp_path_factory.mktemp("bundle")
    with staged(root / "store") as stage:
        season(stage)
        promotion = decision_of(stage, "promote")
        assert promotion.evidence is not None
        assert promotion.hashes is not None
        found = made(stage, root / "made", generation=promotion.to_generation).found
        assert found.faults == []
        assert found.data == promotion.hashes["data"]
        assert found.again is not None
        assert found.again["log_e"] == pytest.approx(promotion.evidence["log_e"], rel=1e-9)
        assert found.again["verdict"] == "better"
    return root / "made"


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    into = tmp_path / "copy"
    into.mkdir()
    for file in folder.iterdir():
        (into / file.name).write_bytes(file.read_bytes())
    return into


def seal_again(folder: Path) -> None:
    """As somebody would who changes a bundle and knows how its files are summed."""
    names = (DECISION, PAIRS, REPORT)
    lines = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (folder / SUMS).write_text("".join(lines))


def cli(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["bundle", *arguments])


# --- what is in it


def test_a_bundle_holds_the_decision_its_terms_its_lineups_and_its_audit(folder: Path) -> None:
    told = document(folder)
    assert (told["decision"]["kind"], told["decision"]["by"]) == ("promote", "rule")
    assert (told["lineup_before"]["champion"], told["lineup_after"]["champion"]) == (1, 2)
    assert told["reign"]["policy"]["min_outcomes"] == QUICK.min_outcomes
    assert told["judged"]["rule"]["min_outcomes"] == QUICK.min_outcomes
    assert told["mirror"]["eligible"] == told["mirror"]["scored"] == SEASON * N_ROWS
    assert told["audit"][0]["action"] == "promote"
    assert told["audit"][-1]["hash"] == told["audit_head"]
    assert [each["number"] for each in told["versions"]] == [1, 2]
    assert told["metrics"]["challenger"]["auc"] > told["metrics"]["champion"]["auc"]


def test_every_pair_is_there_once_with_its_address_and_nothing_of_its_inputs(folder: Path) -> None:
    table = pq.read_table(folder / PAIRS)
    told = document(folder)
    assert table.num_rows == sum(each["n_pairs"] for each in told["judged"]["buckets"])
    addresses = set(zip(*(table.column(name).to_pylist() for name in ("writer", "seq", "row")), strict=True))
    assert len(addresses) == table.num_rows
    assert table.column_names == [
        "bucket", "writer", "seq", "row", "outcome", "champion", "challenger", "source", "entity",
    ]  # fmt: skip


def test_sha256sum_knows_its_files(folder: Path) -> None:
    tool = shutil.which("sha256sum") or "sha256sum"
    ran = subprocess.run([tool, "-c", SUMS], cwd=folder, capture_output=True, text=True, check=True)
    assert ran.stdout.count("OK") == 3


def test_the_page_needs_nothing_from_anywhere_and_holds_what_a_reader_asks_for(folder: Path) -> None:
    page = (folder / REPORT).read_text()
    assert not re.search(r"https?:|src=|href=|<script|@import|url\((?!#)", page)
    told = document(folder)
    for text in (
        told["decision"]["reason"].partition(" loses")[2], "ln E over windows of days", told["audit_head"],
        told["judged"]["known"]["hashes"]["data"], "by rule", "promotion automatic", "<svg",
    ):  # fmt: skip
        assert text in page
    for condition in told["judged"]["known"]["evidence"]["conditions"]:
        assert condition["name"].replace("_", " ") in page


def test_what_people_wrote_is_text_on_the_page(tmp_path: Path) -> None:
    with staged(tmp_path / "store") as stage:
        stage.declare(QUICK)
        stage.champion(logistic(WEAK))
        stage.challenger(logistic(TRUTH))
        stage.registry.promote("m", 2, reason="<img src=x onerror=alert(1)> & Co", by=ME)
        made(stage, tmp_path / "made", generation=3)
    page = (tmp_path / "made" / REPORT).read_text()
    assert "<img" not in page
    assert "&lt;img src=x onerror=alert(1)&gt; &amp; Co" in page


def test_anybody_can_judge_the_pairs_with_the_offline_rule(folder: Path) -> None:
    told = document(folder)
    constants = [f"{name}={json.dumps(value)}" for name, value in told["judged"]["rule"].items() if value is not None]
    options = [each for constant in constants if not constant.startswith("task=") for each in ("--set", constant)]
    ran = CliRunner().invoke(main, ["compare", str(folder / PAIRS), "--json", *options])
    assert ran.exit_code == 0, ran.output
    assert json.loads(ran.stdout)["log_e"] == pytest.approx(told["judged"]["known"]["evidence"]["log_e"], rel=1e-9)


# --- what was changed is told


def test_the_command_says_that_it_is_whole(folder: Path) -> None:
    ran = cli("--verify", str(folder))
    assert ran.exit_code == 0, ran.output
    assert "whole; judged again by its 1,680 pairs: better" in ran.stdout
    head = document(folder)["audit_head"]
    assert cli("--verify", str(folder), "--head", head).exit_code == 0
    other = cli("--verify", str(folder), "--head", "0" * 64)
    assert (other.exit_code, "kept elsewhere" in other.stdout) == (1, True)


@pytest.mark.parametrize("name", [DECISION, PAIRS, REPORT])
def test_a_changed_byte_is_told_in_one_sentence(copy: Path, name: str) -> None:
    content = bytearray((copy / name).read_bytes())
    at = content.index(b'"rule"') + 1 if name == DECISION else len(content) // 2
    content[at] ^= 1
    (copy / name).write_bytes(bytes(content))
    try:
        faults = verified(copy).faults
    except BundleRefused as refused:
        faults = [str(refused)]
    assert name in faults[0]
    ran = cli("--verify", str(copy))
    assert ran.exit_code == 1


@pytest.mark.parametrize("column", ["outcome", "champion", "challenger", "row", "bucket"])
def test_a_changed_row_is_told_even_where_the_files_were_summed_again(copy: Path, column: str) -> None:
    table = pq.read_table(copy / PAIRS)
    values = table.column(column).to_pylist()
    values[700] = values[700] + 1 if column in ("row", "bucket") else 1 - values[700]
    place = table.column_names.index(column)
    pq.write_table(
        table.set_column(place, table.field(column), pa.array(values, table.field(column).type)), copy / PAIRS
    )
    seal_again(copy)
    faults = verified(copy).faults
    assert faults
    assert "bucket 20,0" in faults[0]


def test_a_missing_row_and_a_row_twice_are_told(copy: Path) -> None:
    table = pq.read_table(copy / PAIRS)
    for changed, said in (
        (table.slice(1), "59 pairs, 60 were judged"),
        (pa.concat_tables([table, table.slice(0, 1)]), "61 pairs, 60 were judged"),
        (table.slice(60), "the 60 pairs of bucket"),
    ):
        pq.write_table(changed, copy / PAIRS)
        seal_again(copy)
        assert any(said in fault for fault in verified(copy).faults)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda told: told["decision"]["evidence"].update(log_e=99.0), "line 7 of the audit froze another"),
        (lambda told: told["judged"]["known"]["evidence"].update(log_e=99.0), "not what the decision froze"),
        (lambda told: told["decision"].update(reason="because"), "tells of another"),
        (lambda told: told["audit"][0].update(principal="somebody"), "line 7 of the audit was changed"),
        (lambda told: told["judged"]["rule"].update(alpha=0.01), "judged again"),
        (lambda told: told["judged"]["buckets"][0]["serving"][0].__setitem__(2, 30), "judged again"),
    ],
)
def test_whatever_is_changed_in_the_document_is_told_even_where_it_was_summed_again(
    copy: Path, change: Callable[[Told], object], said: str
) -> None:
    told = document(copy)
    change(told)
    (copy / DECISION).write_text(json.dumps(told))
    seal_again(copy)
    assert any(said in fault for fault in verified(copy).faults), verified(copy).faults


def test_what_is_no_bundle_is_refused_in_one_line(tmp_path: Path) -> None:
    ran = cli("--verify", str(tmp_path))
    assert (ran.exit_code, "is no bundle" in ran.stderr) == (1, True)
    (tmp_path / "zip").write_bytes(b"PK not")
    with pytest.raises(BundleRefused, match="no whole bundle"):
        unpacked(tmp_path / "zip", tmp_path / "made")
    assert not (tmp_path / "made").exists()


# --- of which moment


def test_what_comes_later_changes_no_bundle_of_a_decision(tmp_path: Path) -> None:
    """Later outcomes of closed buckets, later buckets: the journal is read as of the cursors of the decision."""
    with staged(tmp_path / "store") as stage:
        season(stage)
        generation = decision_of(stage, "promote").to_generation
        first = made(stage, tmp_path / "first", generation=generation)
        addresses = stage.predict(SEASON + 3.5, rows_of(99)[0])
        stage.outcomes(addresses, rows_of(99)[1], SEASON + 4)
        chunks = [head for head, _ in stage.chunks() if head.bucket == 20_001]
        late = replace(addresses[0], writer=chunks[0].writer, seq=chunks[0].seq, row=0)
        stage.outcomes([late], [1], SEASON + 5)
        stage.outcomes([late], [0], SEASON + 6)
        again = made(stage, tmp_path / "again", generation=generation)
    assert (first.found.faults, again.found.faults) == ([], [])
    assert first.found.data == again.found.data
    assert (tmp_path / "first" / PAIRS).read_bytes() == (tmp_path / "again" / PAIRS).read_bytes()


def test_the_evidence_of_now_is_bundled_before_anything_is_decided(tmp_path: Path) -> None:
    with staged(tmp_path / "store") as stage:
        stage.declare(QUICK)
        stage.champion(logistic(WEAK))
        with pytest.raises(BundleRefused, match="expected a version"):
            made(stage, tmp_path / "made")
        better, other = stage.challenger(logistic(TRUTH)), stage.challenger(logistic((0.3, 0.0)))
        with pytest.raises(BundleRefused, match="no closed cohort"):
            made(stage, tmp_path / "made", version=better)
        lives(stage, range(5), {better: TRUTH, other: (0.3, 0.0)})
        ends(stage, 5)
        stage.close_all()
        with pytest.raises(BundleRefused, match="2, 3"):
            made(stage, tmp_path / "made")
        with pytest.raises(BundleRefused, match="is champion"):
            made(stage, tmp_path / "made", version=1)
        with pytest.raises(BundleRefused, match="no decision began generation 9"):
            made(stage, tmp_path / "made", generation=9)
        found = made(stage, tmp_path / "made", version=better).found
        assert found.faults == []
        assert found.again is not None
        assert found.again["log_e"] == stage.entry(better)["log_e"]
        with pytest.raises(BundleRefused, match="is there already"):
            made(stage, tmp_path / "made", version=better)


def test_a_rollback_is_judged_again_with_its_probation(tmp_path: Path) -> None:
    with staged(tmp_path / "store") as stage:
        season(stage)
        for day in range(SEASON + 2, SEASON + 20):
            rows, happened = rows_of(day)
            stage.outcomes(stage.predict(day + 0.5, rows), [1 - y for y in happened], day + 0.9)
        stage.shadow(1, answers(WEAK))
        ends(stage, SEASON + 20)
        stage.close_all()
        back = decision_of(stage, "rollback")
        assert back.evidence is not None
        found = made(stage, tmp_path / "made", generation=back.to_generation).found
        assert found.faults == []
        assert found.again is not None
        assert found.again["probation"]["course"] == "roll_back"
        assert found.again["probation"]["log_e"] == pytest.approx(back.evidence["probation"]["log_e"], rel=1e-9)
        assert "brought back" in (tmp_path / "made" / REPORT).read_text()


def test_who_proposed_and_who_approved_are_in_it(tmp_path: Path) -> None:
    with staged(tmp_path / "store") as stage:
        season(stage, replace(QUICK, promotion="one"))
        (proposal,) = stage.registry.proposals("m")
        lives(stage, range(SEASON + 2, SEASON + 4), {2: TRUTH})  # what was asked for rests on what was known then
        ends(stage, SEASON + 4)
        stage.close_all()
        anna = Principal("anna", frozenset({"approve"}))
        stage.registry.approve("m", proposal.number, proposal.digest, reason="agreed", by=anna)
        promotion = decision_of(stage, "promote")
        assert made(stage, tmp_path / "made", generation=promotion.to_generation).found.faults == []
        page = (tmp_path / "made" / REPORT).read_text()
        assert "by anna: agreed" in page
        assert document(tmp_path / "made")["proposal"]["by"] == "rule"


# --- of which task, by which terms


def shown(stage: Stage) -> int:
    """Approved by a risk, with logged chances, amounts, two kinds of segments, entities and sources."""
    metric = Metric(segments=("city", "plan"))
    schema = InputSchema((*SCHEMA.features, Feature("city", "string"), Feature("plan", "string")))
    policy = replace(QUICK, observed="if_approved", approved_decisions=(1,), metric=metric, max_source_share=0.9)
    stage.declare(policy, schema=schema)
    stage.champion(logistic(WEAK))
    better = stage.challenger(logistic(TRUTH))
    for day in range(6):
        rows, happened = rows_of(day)
        approved = (probability(rows, WEAK) < 0.6) | (np.arange(N_ROWS) % 5 == 0)
        chance = np.where(probability(rows, WEAK) < 0.6, 1.0, np.where(approved, 0.2, 0.8))
        names = [f"loan-{row // 2}" for row in range(N_ROWS)]
        addresses = stage.predict(
            day + 0.5, rows, decisions=approved.astype(int).tolist(), propensities=chance.tolist(), associations=names,
            texts=[(("Porto", "Braga")[row % 2], ("old", "new", "")[row % 3]) for row in range(N_ROWS)],
        )  # fmt: skip
        for source, places in (("bank", range(0, N_ROWS, 2)), ("bureau", range(1, N_ROWS, 2))):
            seen = [row for row in places if approved[row]]
            stage.outcomes([addresses[row] for row in seen], [happened[row] for row in seen], day + 0.9, source=source)
    stage.shadow(better, lambda rows: np.where(rows[:, 0] > 2.0, np.nan, probability(rows, TRUTH)))
    return better


def costs(stage: Stage) -> int:
    metric = Metric(loss="cost", cost=((0.0, 5.0), (1.0, 0.0)), amount_feature="a")
    stage.declare(replace(QUICK, metric=metric))
    report = TrainingReport(n_rows=100, base_rate=0.5, reference_loss=0.4, scale=2.0, metric=metric)
    stage.champion(logistic(WEAK), training=report)
    better = stage.challenger(logistic(TRUTH))
    lives(stage, range(6), {better: TRUTH})
    return better


def classes(stage: Stage) -> int:
    names = ("ash", "birch", "cedar")
    truth = np.array([[1.5, 0.0], [0.0, 1.5], [-1.5, -1.5]])
    stage.declare(QUICK, task="multiclass")
    champion = logistic(0.2 * truth, classes=names)
    said = signature(champion, "multiclass", names)
    stage.champion(champion, said=said)
    better = stage.challenger(logistic(truth, classes=names), said=said)
    for day in range(6):
        rows, _ = rows_of(day)
        stage.outcomes(stage.predict(day + 0.5, rows), [names[k] for k in (rows @ truth.T).argmax(1)], day + 0.9)
    stage.mirrored()
    return better


def numbers(stage: Stage) -> int:
    metric = Metric(loss="pinball", quantile=0.8, scale_feature="a")
    stage.declare(replace(QUICK, metric=metric), task="regression")
    report = TrainingReport(n_rows=100, reference_loss=0.2, scale=5.0, prior=0.0, metric=metric)
    stage.champion(linear((1.0, 0.0)), training=report)
    better = stage.challenger(linear((1.0, 0.9)))
    for day in range(6):
        rows, _ = rows_of(day)
        stage.outcomes(stage.predict(day + 0.5, rows), rows.sum(axis=1).tolist(), day + 0.9)
    stage.mirrored()
    return better


@pytest.fixture(params=[shown, costs, classes, numbers])
def told(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Stage, int]]:
    with staged(tmp_path / "store") as stage:
        version = request.param(stage)
        ends(stage, 6)
        stage.close_all()
        yield stage, version


def test_whatever_the_terms_ask_for_is_in_the_pairs(told: tuple[Stage, int], tmp_path: Path) -> None:
    stage, version = told
    found = made(stage, tmp_path / "made", version=version).found
    assert found.faults == []
    assert found.again is not None
    entry = stage.entry(version)
    assert entry["n_matured"] > 0
    assert (found.again["log_e"], found.again["verdict"]) == (entry["log_e"], entry["verdict"])
    assert msgspec.to_builtins(found.again["conditions"]) == tuple(entry["conditions"])


# --- from a server


def test_a_server_sends_the_same_bundle_made_by_a_process_of_its_own(tmp_path: Path) -> None:
    with staged(tmp_path / "store") as stage:
        season(stage)
        generation = decision_of(stage, "promote").to_generation
        here = made(stage, tmp_path / "here", generation=generation)
        with Client.on_store(stage.settings) as client:
            archive = tmp_path / "made.zip"
            archive.write_bytes(b"".join(client.bundle("m", generation=generation)))
            for asked, status in (({"generation": 99}, 404), ({}, 409)):
                with pytest.raises(ProblemError) as refused:
                    b"".join(client.bundle("m", **asked))
                assert refused.value.status == status
        there = unpacked(archive, tmp_path / "there")
    assert (here.found.faults, there.found.faults) == ([], [])
    assert here.found.data == there.found.data
    assert (tmp_path / "here" / PAIRS).read_bytes() == (tmp_path / "there" / PAIRS).read_bytes()
    by_command = cli(
        "m", "--generation", str(generation), "-o", str(tmp_path / "third"), "--data-dir", str(tmp_path / "store")
    )
    assert by_command.exit_code == 0, by_command.output
    assert "keep its seal elsewhere: sha256:" in by_command.stdout


def test_whoever_may_see_one_model_is_not_told_of_others(tmp_path: Path) -> None:
    with staged(tmp_path / "store") as stage:
        season(stage)
        generation = decision_of(stage, "promote").to_generation
        stage.registry.record("secret", by=ME, model="other", detail={"about": "another model"})
        found = made(stage, tmp_path / "part", generation=generation, whole_audit=False).found
        whole = made(stage, tmp_path / "whole", generation=generation).found
    assert (found.faults, found.is_chain_whole) == ([], False)
    assert (whole.faults, whole.is_chain_whole) == ([], True)
    assert "another model" not in (tmp_path / "part" / DECISION).read_text()
    assert document(tmp_path / "part")["audit_head"] == document(tmp_path / "whole")["audit_head"]
