"""The revisions make the tables that the code declares, once, and a registry from the future is left alone."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import StatementError, create_mock_engine, inspect

from registry import migrations, tables
from registry.errors import StoreNewer
from registry.store import Registry


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


def test_the_tables_suit_postgresql() -> None:
    """Compiled only: what the dialect cannot say raises here."""
    said: list[str] = []
    engine = create_mock_engine(
        "postgresql+asyncpg://", lambda statement, *_: said.append(str(statement.compile(dialect=engine.dialect)))
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


def test_a_moment_without_a_time_zone_is_not_stored(registry: Registry) -> None:
    with pytest.raises(StatementError, match="must say its time zone"), registry._database.write() as connection:
        connection.execute(tables.state.update().values(clock=datetime(2026, 1, 1)))  # noqa: DTZ001  # that is the point


def test_a_folder_with_any_name_can_hold_a_store(tmp_path: Path) -> None:
    folder = tmp_path / "100 % ünïcode?mode=memory#x"
    with Registry.open(folder, now=at) as registry:
        assert registry.models() == []
    assert (folder / "registry.db").exists()
