"""What an export holds: the rows that were predicted, as they were then, with what was known at a stated time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from gateway.chunk import Requests
from gateway.cli.commands import main
from gateway.clock import JournalClock
from gateway.errors import InvalidInput, Unreachable
from gateway.export import Wanted, exported, written
from gateway.journal import Draft
from registry.errors import NoChampion
from registry.types import Feature, InputSchema, Policy
from tests.actors import SCHEMA, logistic
from tests.models import Made, loan
from tests.servers import Running, publish
from tests.stage import DAY, ME, Stage, at, staged


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with staged(tmp_path / "store") as made:
        made.declare(Policy(maturity_s=float(DAY)))
        made.champion(logistic((1.0, 0.0)))
        yield made


def rows(day: int, n: int = 6) -> Any:
    return np.random.default_rng(day).normal(size=(n, 2))


def read(stage: Stage, tmp_path: Path, wanted: Wanted) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """The account, and the columns."""
    clock = JournalClock(stage.settings.clock, DAY)
    clock.refresh(stage.registry)
    file = tmp_path / "rows.parquet"
    account = written(exported(stage.settings, stage.registry, clock, "m", wanted), file)
    return account, pq.read_table(file).to_pydict()


def test_rows_are_as_they_were_predicted_with_the_outcomes_known_by_then(stage: Stage, tmp_path: Path) -> None:
    first = stage.predict(0.25, rows(0), associations=[f"loan-{i}" for i in range(6)])
    second = stage.predict(1.25, rows(1))
    stage.predict(1.5, rows(2), purpose="test")
    stage.outcomes(first, [1, 0, 1, 0, 1, 0], 0.5)
    stage.outcomes(first[:1], [0], 2.5)  # a correction
    stage.outcomes(second[:2], [1, 1], 1.75)
    stage.clock(9)

    account, table = read(stage, tmp_path, Wanted())
    assert (account["n_rows"], account["n_with_outcome"], account["n_waiting"]) == (12, 8, 0)
    sent = np.array([table["inputs.a"], table["inputs.b"]]).T
    np.testing.assert_array_equal(sent, np.concatenate([rows(0), rows(1)]))
    assert table["predicted_at"] == [at(0.25)] * 6 + [at(1.25)] * 6
    assert table["association_id"] == [f"loan-{i}" for i in range(6)] + [None] * 6
    assert table["outcome"] == [0, 0, 1, 0, 1, 0, 1, 1, None, None, None, None]
    assert table["observed_at"][:2] == [at(2.5), at(0.5)]
    np.testing.assert_allclose(table["score"][:6], 1 / (1 + np.exp(-rows(0)[:, 0])), rtol=1e-6)
    assert [p[1] for p in table["outputs.probabilities"]] == pytest.approx(table["score"])
    assert (set(table["version"]), set(table["generation"]), set(table["weight"])) == ({1}, {1}, {1.0})
    assert all(table["matured"])

    account, table = read(stage, tmp_path, Wanted(as_of=at(2)))  # the second day's outcomes have a day more
    assert (account["n_rows"], account["n_waiting"]) == (6, 6)
    assert table["outcome"] == [1, 0, 1, 0, 1, 0]
    account, table = read(stage, tmp_path, Wanted(as_of=at(2), with_waiting=True))
    assert table["matured"] == [True] * 6 + [False] * 6
    account, table = read(stage, tmp_path, Wanted(as_of=at(1.3), with_waiting=True))
    assert table["outcome"] == [1, 0, 1, 0, 1, 0] + [None] * 6
    assert read(stage, tmp_path, Wanted(as_of=at(1.2), with_waiting=True))[0]["n_rows"] == 6
    assert read(stage, tmp_path, Wanted(since=at(1)))[1]["predicted_at"] == [at(1.25)] * 6
    assert read(stage, tmp_path, Wanted(until=at(1.25)))[1]["predicted_at"] == [at(0.25)] * 6


def test_the_declared_default_is_an_outcome_that_nobody_observed(tmp_path: Path) -> None:
    with staged(tmp_path / "store") as stage:
        stage.declare(Policy(maturity_s=float(DAY), default_outcome=0))
        stage.champion(logistic((1.0, 0.0)))
        stage.outcomes(stage.predict(0.25, rows(0))[:1], [1], 0.5)
        stage.clock(1.5)
        _, table = read(stage, tmp_path, Wanted(with_waiting=True))
        assert table["outcome"] == [1] + [None] * 5
        stage.clock(3)
        _, table = read(stage, tmp_path, Wanted())
        assert table["outcome"] == [1] + [0] * 5
        assert table["observed_at"] == [at(0.5)] + [None] * 5


def test_a_challengers_scores_stand_beside_and_are_null_where_it_failed(stage: Stage, tmp_path: Path) -> None:
    stage.predict(0.25, rows(0))
    challenger = stage.challenger(logistic((0.0, 1.0)))
    stage.predict(0.5, rows(1))
    stage.shadow(challenger, lambda x: np.where(x[:, 0] > 0, np.nan, 0.25))
    stage.clock(9)
    _, table = read(stage, tmp_path, Wanted(with_shadow_scores=True))
    failed = rows(1)[:, 0] > 0
    assert table[f"shadow.{challenger}"] == [None] * 6 + [None if f else 0.25 for f in failed]
    assert f"shadow.{challenger}" not in read(stage, tmp_path, Wanted())[1]


def test_what_was_erased_or_is_damaged_is_left_out_and_counted(stage: Stage, tmp_path: Path) -> None:
    stage.predict(0.25, rows(0))
    (head, chunk), *_ = stage.chunks()
    layout = stage.reader.layout(head.writer, chunk.layout)
    gone = replace(chunk, inputs=None, erased=True, requests=Requests(chunk.requests.starts, chunk.requests.latency_us))
    stage.writer.append([Draft(replace(gone, at_us=head.at_us), layout)])
    stage.predict(0.5, rows(1))
    (file,) = (stage.folder / "predictions").glob("*.db")
    with closing(apsw.Connection(str(file))) as db:
        body = bytearray(db.execute("SELECT body FROM chunk WHERE seq = 3").get)
        body[len(body) // 2] ^= 1
        db.execute("UPDATE chunk SET body = ? WHERE seq = 3", (bytes(body),))
    stage.clock(9)
    account, table = read(stage, tmp_path, Wanted())
    assert (account["n_rows"], account["n_erased"], account["n_damaged_chunks"]) == (6, 6, 1)
    assert table["seq"] == [1] * 6


def test_a_feature_that_came_later_is_null_before(stage: Stage, tmp_path: Path) -> None:
    stage.predict(0.25, rows(0))
    wider = InputSchema((*SCHEMA.features, Feature("city", "string", required=False)))
    stage.registry.extend_schema("m", wider, by=ME)
    stage.clock(9)
    _, table = read(stage, tmp_path, Wanted())
    assert table["inputs.city"] == [None] * 6


def test_without_a_time_or_a_champion_it_says_so(tmp_path: Path) -> None:
    with staged(tmp_path / "store") as stage:
        stage.declare()
        with pytest.raises(NoChampion):
            read(stage, tmp_path, Wanted())
        stage.champion(logistic((1.0, 0.0)))
        with pytest.raises(InvalidInput, match="as_of: expected a time"):
            read(stage, tmp_path, Wanted())


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"PAR1"
        raise Unreachable("the server ended the export")

    with pytest.raises(Unreachable, match="ended the export"):
        written(broken(), tmp_path / "rows.parquet")
    with pytest.raises(Unreachable, match="no whole export"):
        written([b"PAR1", b"something else"], tmp_path / "rows.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_server_sends_what_the_store_holds(server: Running, models: Mapping[str, Made], tmp_path: Path) -> None:
    made = replace(loan(), name="exported")
    publish(server.http, made)
    for k in range(5):
        said = {"association_id": [f"e-{k}-{i}" for i in range(3)], "decision": "yes", "propensity": 0.5}
        server.predict("exported", made.rows[:3], **said)
    file, by_url = tmp_path / "a.parquet", ("--url", server.url)
    options = ("export", "exported", "--with-waiting", "--json", "-o")
    ran = CliRunner().invoke(main, [*options, str(file), *by_url])
    assert ran.exit_code == 0, ran.output
    assert json.loads(ran.stdout)["n_rows"] == 15
    again = CliRunner().invoke(main, [*options, str(tmp_path / "b.parquet"), "--data-dir", str(server.store)])
    assert again.exit_code == 0, again.output
    table = pq.read_table(file)
    assert table.equals(pq.read_table(tmp_path / "b.parquet"))
    for name in made.rows[0].keys() & set(made.schema.names):
        assert table.column(f"inputs.{name}").to_pylist()[:3] == [row[name] for row in made.rows[:3]]
    assert table.column("decision").to_pylist() == ["yes"] * 15
    assert table.column("weight").to_pylist() == [2.0] * 15
    unknown = CliRunner().invoke(main, ["export", "nobody", "-o", str(tmp_path / "c.parquet"), *by_url])
    assert unknown.exit_code == 1
    assert "nobody" in unknown.stderr
    future = server.http.get("/admin/models/exported/export", params={"as_of": "2999-01-01T00:00:00Z"})
    assert (future.status_code, "a time that has come" in future.json()["error"]) == (422, True)
    wrong = server.http.get("/admin/models/exported/export", params={"since": "yesterday"})
    assert (wrong.status_code, "since: expected a time" in wrong.json()["error"]) == (422, True)
