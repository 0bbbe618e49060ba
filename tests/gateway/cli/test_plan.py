"""What a stream makes of a file and of what is there already, on real stores: trained once, and gone on with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cli.file_rows import Told
from gateway.cli.first_versions import declare, upload
from gateway.cli.local import callers_time
from gateway.cli.place import Options, found_on
from gateway.cli.plan import Found, Plan, Shares, plan
from gateway.cli.progress import Progress
from gateway.cli.table import Table, read
from gateway.client import Client
from gateway.config import load
from gateway.errors import Conflict
from tests.streams import N_ROWS, loans

pytestmark = pytest.mark.slow
TOLD = Told("late", time="asked", outcome_time="defaulted_at", outcome_delay_us=4 * 86_400_000_000)
SHARES = Shares("20%", ("0%-40%",), None)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return read(loans(tmp_path_factory.mktemp("files") / "loans.csv"))


@pytest.fixture(scope="module")
def first(table: Table) -> Plan:
    return planned(table, Found())


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    settings = load(None, {"store": str(tmp_path / "store"), **callers_time(0)}, {})
    with Client.on_store(settings) as opened:
        yield opened


def planned(table: Table, found: Found, shares: Shares = SHARES) -> Plan:
    return plan("loans.csv", table, TOLD, shares, "loans", found, Progress())


def found(client: Client) -> Found:
    return found_on(client, Options("loans", None, None, None, 0, None, ends=True, as_json=True))


def test_versions_are_trained_once_and_known_again_by_what_they_learned_from(
    table: Table, first: Plan, client: Client
) -> None:
    assert first.live == range(600, N_ROWS)
    assert [version.role for version in first.versions] == ["champion", "challenger"]
    # 99 of 100 outcomes are known after four days at most
    assert first.policy.maturity_s == 4 * 86_400
    first.carry_out(client)
    document = client.model("loans")
    reports = [version["training"] for version in document["versions"]]
    assert [report["n_rows"] for report in reports] == [version.trained.report.n_rows for version in first.versions]
    assert all(0 < report["base_rate"] < 1 and report["reference_loss"] > 0 for report in reports)

    again = planned(table, found(client))
    assert (again.versions, again.declares, again.live) == ([], False, first.live)
    again.carry_out(client)
    assert client.model("loans") == document
    with pytest.raises(Conflict, match="was trained on other rows of this file, or with other options"):
        planned(table, found(client), Shares("30%", (), None))


def test_what_was_left_half_made_is_finished(table: Table, first: Plan, client: Client) -> None:
    client.set_clock(first.start)
    assert planned(table, found(client)).declares
    declare(client, "loans", first.rows.inputs.schema, first.task, first.policy)
    nobody_yet = planned(table, found(client))
    assert [version.role for version in nobody_yet.versions] == ["champion", "challenger"]
    upload(client, "loans", first.versions[0])
    no_challenger = planned(table, found(client))
    assert [version.role for version in no_challenger.versions] == ["challenger"]
    no_challenger.carry_out(client)
    assert client.model("loans")["lineup"]["challengers"] == [2]


def test_to_a_champion_that_came_from_elsewhere_every_row_is_sent(table: Table, first: Plan, client: Client) -> None:
    client.set_clock(first.start)
    declare(client, "loans", first.rows.inputs.schema, first.task, first.policy)
    elsewhere = first.versions[0]
    client.register("loans", elsewhere.trained.model_bytes, "champion", score=elsewhere.trained.score, reason="ours")
    plain = planned(table, found(client), Shares(None, (), None))
    assert (plain.live, plain.versions) == (range(N_ROWS), [])
    rivalled = planned(table, found(client), Shares(None, ("40%",), None))
    rivalled.carry_out(client)
    assert planned(table, found(client), Shares(None, ("40%",), None)).versions == []
    with pytest.raises(Conflict, match="has a champion that did not come from this file"):
        planned(table, found(client))
