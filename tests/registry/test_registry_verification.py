"""Whatever is edited, deleted, swapped or forged in a registry's tables is found by telling its audit again."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Table, create_engine, select
from sqlalchemy.exc import IntegrityError

from registry import tables
from registry.recipe import Recipe
from registry.replay import Span
from registry.retelling import Told
from registry.store import Registry
from registry.types import Feature, InputSchema, Policy, Principal, Signature, TrainingReport
from registry.verification import Verified, verified

ANN, BOB, RULE = Principal("ann"), Principal("bob"), Principal.the_rule()
KEPT = (tables.audit, *Told().rows)
"""Every table that the audit speaks of, and the audit."""


@pytest.fixture
def file(tmp_path: Path, now: Callable[[], datetime], schema: InputSchema, signature: Signature) -> Path:
    """A store in which everything has happened that can."""
    with Registry.open(tmp_path, now=now) as registry:
        for name in ("loans", "typo"):
            registry.create_model(name, schema, "binary", Policy(maturity_s=60.0), by=ANN)
        registry.delete_model("typo", reason="a typing error", by=ANN)
        registry.extend_schema("loans", InputSchema((*schema.features, Feature("e", "string", required=False))), by=ANN)
        for number in (1, 2, 3):
            # a whole number among numbers is read back as another text, which is no change
            report = TrainingReport(1_000, base_rate=0.2, threshold=0.1, parity={"n_rows": 900})
            training = report if number < 3 else None
            registry.add_version("loans", bytes([number]), signature, training, by=ANN)
        registry.appoint("loans", 1, reason="first", by=ANN)
        for number in (2, 3):
            registry.enlist("loans", number, reason="try it", by=ANN)
        registry.promote("loans", 2, reason="better", by=RULE, evidence={"log_e": 4.5}, cursors={"1": 2})
        registry.rollback("loans", reason="worse", by=BOB)
        registry.lift_bar("loans", 2, reason="the units", by=ANN)
        registry.set_policy("loans", Policy(promotion="four_eyes", maturity_s=60.0), by=ANN)
        asked = registry.propose("loans", 3, reason="a", by=BOB, evidence={"log_e": 9.5}, hashes={"code": "sha256:1"})
        registry.reject("loans", asked.number, reason="not now", by=ANN)
        registry.enlist("loans", 2, reason="again", by=ANN)
        asked = registry.propose("loans", 2, reason="b", by=ANN, evidence={"log_e": 9.0}, hashes={"code": "sha256:2"})
        terms = registry.propose_policy("loans", Policy(alpha=0.01), reason="stricter", by=BOB)
        registry.approve("loans", terms.number, terms.digest, reason="yes", by=ANN)
        registry.propose("loans", 3, reason="c", by=BOB)
        registry.retire("loans", 3, reason="enough", by=ANN)
        key, _ = registry.keys.issue(
            "app", ["read"], by=ANN, models=["loans"], expires_at=datetime(2030, 1, 1, tzinfo=UTC)
        )
        registry.keys.issue("ops", ["admin"], by=ANN)
        registry.keys.revoke(key.key_id, by=BOB, reason="lost")
        registry.trainings.set_recipe("loans", Recipe(seed=1), by=ANN)
        registry.trainings.ask("loans", "person:1", "person", "because", by=BOB)
        claimed = registry.trainings.claim("worker", now=now(), until=now() + timedelta(seconds=60))
        assert claimed is not None
        registry.trainings.fail(claimed, "too few rows")
        span = Span(now(), now() + timedelta(days=1), now(), {"1": 1}, {"1": 2}, {"1": 3})
        replay = registry.replays.ask("loans", 2, span, trained_until=now(), reason="to see", by=ANN)
        registry.replays.end(replay, "done", {"champions": []})
        registry.replays.ask("loans", 3, span, trained_until=now(), reason="to see", by=ANN)
        registry.record("refuse_version", by=ANN, model="loans", detail={"sentence": "no"})
        assert asked.state == "open"
    return tmp_path / "registry.db"


@pytest.fixture
def damaged(file: Path) -> Iterator[Callable[[Callable[[Connection], object]], Verified]]:
    """What is found where somebody did this to the file by its own means, without the registry; it is undone again."""
    engine = create_engine(f"sqlite:///{file}")

    def found(harm: Callable[[Connection], object]) -> Verified:
        with engine.connect() as connection, connection.begin() as transaction:
            head = verified(connection, None).head
            harm(connection)
            said = verified(connection, head)
            transaction.rollback()
            return said

    yield found
    engine.dispose()


def test_a_registry_that_nobody_touched_is_what_its_audit_says(file: Path, now: Callable[[], datetime]) -> None:
    with Registry.open(file.parent, now=now) as registry:
        said = registry.verified()
        assert said == Verified(len(registry.audit()), registry.audit()[-1].hash, [])
        assert registry.verified(said.head).faults == []
        with registry._database.read() as connection:
            for table in KEPT:  # the control: there is something of everything to be damaged
                assert connection.execute(select(table)).first() is not None, table.name


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        ("UPDATE lineup SET champion = 2 WHERE generation = 3", "lineup loans 3 was changed: its champion is 2, and"),
        ("UPDATE decision SET evidence = '{}' WHERE to_generation = 4", "decision loans 4 was changed: its evidence"),
        ("DELETE FROM decision WHERE to_generation = 4", "decision loans 4 is missing: the audit tells of it"),
        ("UPDATE model SET policy = '{}'", "model loans was changed: its policy"),
        ("UPDATE proposal SET state = 'open' WHERE number = 1", "proposal loans 1 was changed: its state is open"),
        ("UPDATE version SET created_by = 'eve'", "version loans 2 was changed: its created_by is eve"),
        ("UPDATE version SET training = '{}' WHERE number = 1", "version loans 1 was changed: its training_di"),
        ("UPDATE api_key SET scopes = '[\"admin\"]'", "was changed: its scopes"),
        ("UPDATE api_key SET digest = x'00' WHERE principal = 'ops'", "was changed: its token_digest"),
        ("DELETE FROM bar", "bar loans 2 5 is missing"),
        ("INSERT INTO bar SELECT model, 1, generation, at, NULL, NULL, NULL FROM bar", "bar loans 1 5 was never made"),
        ("UPDATE training SET version = 2", "training loans 1 was changed: its version is 2"),
        ("UPDATE replay SET report = '{}' WHERE number = 1", "replay loans 1 was changed: its report_digest"),
        ("UPDATE replay SET ended_generation = 0 WHERE number = 1", "replay loans 1 was changed: its ended_generation"),
        ("UPDATE recipe SET recipe = '{}'", "recipe loans was changed: its recipe_digest"),
        ("UPDATE reign SET first_generation = 2 WHERE number = 2", "reign loans 2 was changed: its first_generation"),
        ("UPDATE decision SET at = 'yesterday'", "a row of decision was changed: it cannot be read any more"),
        ("UPDATE audit SET detail = 'x' WHERE seq = 3", "line 3 was changed after it was written"),
        ("UPDATE audit SET at = 'yesterday' WHERE seq = 3", "was changed after it was written: it cannot be read"),
    ],
)  # fmt: skip
def test_an_edit_behind_the_back_of_the_registry_is_told_in_one_sentence(
    damaged: Callable[..., Verified], statement: str, sentence: str
) -> None:
    said = damaged(lambda connection: connection.exec_driver_sql(statement))
    assert any(sentence in fault for fault in said.faults), said.faults


def test_a_cut_end_with_all_that_it_told_of_is_found_by_a_hash_that_was_kept(file: Path) -> None:
    engine = create_engine(f"sqlite:///{file}")
    with engine.connect() as connection:
        before = verified(connection, None)
        connection.exec_driver_sql("DELETE FROM audit WHERE seq = (SELECT max(seq) FROM audit)")  # told of no row
        assert verified(connection, None).faults == []
        (fault,) = verified(connection, before.head).faults
        assert "the end is missing" in fault
    engine.dispose()


def harm(connection: Connection, chance: random.Random) -> str:
    """One random edit, deletion, swap, forgery or cut; says which, or nothing where it came out as it was."""
    table = chance.choice(KEPT)
    rows = [dict(row._mapping) for row in connection.execute(select(table))]
    keys = [column.name for column in table.primary_key.columns]
    kind = chance.choice(["edit", "edit", "edit", "delete", "swap", "forge", "cut"])
    row = chance.choice(rows)
    match kind:
        case "edit":
            name = chance.choice(list(row))
            _set(connection, table, {key: row[key] for key in keys}, {name: other(row[name], chance)})
            return f"{table.name}.{name}"
        case "delete":
            _where(connection, table.delete(), table, {key: row[key] for key in keys})
        case "forge":
            name = chance.choice(keys)
            connection.execute(table.insert().values(row | {name: _unused(rows, name, chance)}))
        case "swap":
            twin = chance.choice(rows)
            values = {name: value for name, value in twin.items() if name not in keys}
            if all(row[name] == value for name, value in values.items()):
                return ""
            if table in (tables.api_keys, tables.versions):
                del values["digest"]  # one of a kind
            _set(connection, table, {key: row[key] for key in keys}, values)
        case "cut":
            seqs = [line.seq for line in connection.execute(select(tables.audit.c.seq).order_by(tables.audit.c.seq))]
            first = chance.choice(seqs)
            connection.execute(tables.audit.delete().where(tables.audit.c.seq >= first))
    return f"{kind} {table.name}"


def other(value: Any, chance: random.Random) -> Any:
    """Another value of the same kind."""
    match value:
        case None:
            return chance.choice([0, "x"])
        case int():
            return value + chance.choice([-1, 1, 1_000])
        case bytes():
            return bytes([value[0] ^ 1, *value[1:]])
        case datetime():
            return value + chance.choice([-1, 1]) * timedelta(microseconds=10 ** chance.randrange(12))
        case "":
            return "x"
    place = chance.randrange(len(value))
    letter = chance.choice([letter for letter in "abcxyz0189" if letter != value[place]])
    return value[:place] + letter + value[place + 1 :]


def _unused(rows: list[dict[str, Any]], name: str, chance: random.Random) -> Any:
    taken = {row[name] for row in rows}
    value = chance.choice(sorted(taken))
    while value in taken:
        value = other(value, chance)
    return value


def _set(connection: Connection, table: Table, key: dict[str, Any], values: dict[str, Any]) -> None:
    # as text where it is none any more: the column types of the registry would refuse it
    for name, value in values.items():
        if isinstance(value, int | str) and not isinstance(value, bool):
            where = " AND ".join(f"{part} = ?" for part in key)
            statement = f"UPDATE {table.name} SET {name} = ? WHERE {where}"
            connection.exec_driver_sql(statement, (value, *key.values()))
            if name in key:
                key = key | {name: value}
        else:
            _where(connection, table.update().values({name: value}), table, key)


def _where(connection: Connection, statement: Any, table: Table, key: dict[str, Any]) -> None:
    for name, value in key.items():
        statement = statement.where(table.c[name] == value)
    connection.execute(statement)


def test_200_random_harms_are_all_found(damaged: Callable[..., Verified]) -> None:
    _all_found(damaged, 200)


@pytest.mark.slow
def test_10_000_random_harms_are_all_found(damaged: Callable[..., Verified]) -> None:
    _all_found(damaged, 10_000)


def _all_found(damaged: Callable[..., Verified], n: int) -> None:
    kinds: Counter[str] = Counter()
    for seed in range(n):
        did: list[str] = []

        def do(connection: Connection, seed: int = seed, did: list[str] = did) -> None:
            with suppress(IntegrityError):  # the tables themselves refuse a second row of one key
                did.append(harm(connection, random.Random(seed)))

        said = damaged(do)
        if did and did[0]:
            assert said.faults, f"seed {seed}: {did[0]} was not found"
            kinds[did[0]] += 1
    assert kinds.total() > 0.8 * n
    assert len(kinds) > 50
