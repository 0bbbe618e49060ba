"""The revisions make the tables that the code declares, once, and a registry from the future is left alone."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, create_mock_engine, inspect
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import StatementError

from registry import migrations, tables
from registry.errors import StoreBusy, StoreNewer, StoreUnreachable
from registry.store import Registry
from registry.types import Feature, InputSchema, Policy, Principal


def at() -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC)


def test_the_revisions_make_the_declared_tables(registry: Registry) -> None:
    with registry._database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []
        declared = {name: len(table.foreign_keys) for name, table in tables.metadata.tables.items()}
        found = inspect(connection)
        assert {
            name: sum(len(key["constrained_columns"]) for key in found.get_foreign_keys(name)) for name in declared
        } == declared


def test_head_is_the_newest_revision() -> None:
    assert migrations.__file__ is not None
    folder = ScriptDirectory(str(Path(migrations.__file__).parent))
    assert folder.get_current_head() == migrations.HEAD


def test_a_store_of_every_earlier_revision_is_brought_to_the_newest_and_keeps_what_it_holds(tmp_path: Path) -> None:
    folder = ScriptDirectory(str(Path(migrations.__file__).parent))
    earlier = [script.revision for script in folder.walk_revisions() if script.revision != migrations.HEAD]
    assert earlier
    for revision in earlier:
        store = tmp_path / revision
        store.mkdir()
        with closing(sqlite3.connect(store / "registry.db")) as connection, connection:
            connection.executescript(_written_by(revision))
        with Registry.open(store, now=at) as registry:
            with registry._database.read() as migrated:
                assert compare_metadata(MigrationContext.configure(migrated), tables.metadata) == []
            assert [(model.name, model.task, model.schema.names) for model in registry.models()] == [
                ("loans", "binary", ("age",))
            ]
            assert registry.model("loans").policy == Policy(promotion="one")
            assert [(bar.version, bar.generation) for bar in registry.bars("loans")] == [(2, 4)]
            assert registry.decisions("loans")[-1].hashes is None
            stamp = registry.change_stamp()
            assert stamp == 7
            assert not registry.keys.any_issued()
            registry.keys.issue("ops", ["admin"], by=Principal.local_operator(), models=["loans"])
            assert registry.change_stamp() > stamp


def _written_by(revision: str) -> str:
    """The SQL of a store at that revision, made by the frozen revisions themselves, with a model in it."""
    said: list[str] = []
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        connection.exec_driver_sql("UPDATE state SET change_stamp = 7")
        connection.exec_driver_sql(
            "INSERT INTO model VALUES "
            """('loans', 'binary', 1, '{"promotion":"manual"}', '2026-01-01 00:00:00.000000')"""
        )
        connection.exec_driver_sql(
            "INSERT INTO model_schema VALUES "
            """('loans', 1, 'sha256:x', '[{"name":"age","dtype":"float64"}]', '2026-01-01 00:00:00.000000')"""
        )
        moment = "'2026-01-01 00:00:00.000000'"
        for number in (1, 2):
            connection.exec_driver_sql(
                f"INSERT INTO version VALUES ('loans', {number}, 'sha256:{number}', 1, '{{}}', NULL, {moment}, 'me')"
            )
        # version 2 was promoted, rolled back, and nothing since
        for generation, champion, kind, version in (
            (1, 1, "register", 1), (2, 1, "enlist", 2), (3, 2, "promote", 2), (4, 1, "rollback", 1),
        ):  # fmt: skip
            connection.exec_driver_sql(
                f"INSERT INTO lineup VALUES ('loans', {generation}, {champion}, '[]', NULL, {moment})"
            )
            connection.exec_driver_sql(
                "INSERT INTO decision (model, to_generation, kind, version, from_generation, principal, reason, at) "
                f"VALUES ('loans', {generation}, '{kind}', {version}, {generation - 1}, 'me', '', "
                f"{moment})"
            )
        if revision >= "0003":  # before it there were no bars: the revision makes them of the rollbacks
            connection.exec_driver_sql(
                f"INSERT INTO bar (model, version, generation, at) VALUES ('loans', 2, 4, {moment})"
            )
        raw = connection.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        raw.commit()
        said.extend(raw.iterdump())
    engine.dispose()
    return "\n".join(said)


def test_the_tables_suit_postgresql() -> None:
    """Compiled only: what the dialect cannot say raises here."""
    said: list[str] = []
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves this one bare
    engine = create_mock_engine(
        "postgresql+asyncpg://", lambda statement, *_: said.append(str(statement.compile(dialect=dialect)))
    )
    tables.metadata.create_all(engine, checkfirst=False)
    assert len(said) == len(tables.metadata.tables)
    assert "TIMESTAMP WITH TIME ZONE" in "".join(said)
    assert "BIGSERIAL" not in "".join(said)


def test_a_registry_of_a_newer_understudy_is_refused_and_not_touched(tmp_path: Path) -> None:
    Registry.open(tmp_path, now=at).close()
    file = tmp_path / "registry.db"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    before = file.read_bytes()
    with pytest.raises(StoreNewer, match="schema 9999"):
        Registry.open(tmp_path, now=at)
    assert file.read_bytes() == before


def test_the_database_has_a_rollback_journal_and_waits_for_the_disk(registry: Registry, tmp_path: Path) -> None:
    with registry._database.read() as connection:
        said = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert said == {"journal_mode": "truncate", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5_000}
    assert not list(tmp_path.rglob("*-wal"))


def test_a_store_that_another_process_holds_is_told_after_the_busy_timeout(tmp_path: Path) -> None:
    with Registry.open(tmp_path, now=at, busy_timeout_s=0.05) as registry:
        with closing(sqlite3.connect(tmp_path / "registry.db", isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreBusy, match=r"was not free within 0\.05 s"):
                registry.record("create_key", by=Principal.local_operator(), detail={})
            assert registry.audit() == []
        registry.record("create_key", by=Principal.local_operator(), detail={})
        assert len(registry.audit()) == 1


def test_a_moment_without_a_time_zone_is_not_stored(registry: Registry) -> None:
    with pytest.raises(StatementError, match="must say its time zone"), registry._database.write() as connection:
        connection.execute(tables.state.update().values(clock=datetime(2026, 1, 1)))  # noqa: DTZ001  # that is the point


def test_a_folder_with_any_name_can_hold_a_store(tmp_path: Path) -> None:
    folder = tmp_path / "100 % ünïcode?mode=memory#x"
    with Registry.open(folder, now=at) as registry:
        assert registry.models() == []
    assert (folder / "registry.db").exists()


def test_a_document_with_a_flipped_byte_is_told_in_one_sentence(tmp_path: Path) -> None:
    with Registry.open(tmp_path, now=at) as registry:
        registry.create_model("m", InputSchema((Feature("x", "float64"),)), "binary", by=Principal.local_operator())
        with closing(sqlite3.connect(tmp_path / "registry.db")) as connection, connection:
            connection.execute("UPDATE model SET policy = replace(policy, '\"maturity_s\"', 'Xmaturity_s\"')")
        with pytest.raises(StoreUnreachable, match="a stored document is damaged"):
            registry.models()


def test_a_database_that_was_cut_off_is_told_by_every_read(tmp_path: Path) -> None:
    with Registry.open(tmp_path, now=at) as registry:
        with (tmp_path / "registry.db").open("r+b") as file:
            file.truncate(3_000)
        with pytest.raises(StoreUnreachable, match="malformed"):
            registry.models()
        with pytest.raises(StoreUnreachable, match="malformed"):
            registry.change_stamp()
