"""The schema: migrations lead to the tables' metadata, and a start says what is wrong with the schema it finds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from importlib.resources import as_file, files
from pathlib import Path

import asyncpg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.ext.asyncio import create_async_engine

from execution.embedded import EmbeddedPostgres
from execution.errors import DatabaseUnavailableError, SchemaMismatchError
from execution.repository.database import Database
from execution.repository.schema import EXPECTED_REVISION, known_revisions, migrate
from execution.repository.tables import Xid8, metadata
from tests.support.database import own_database
from tests.support.stored import AnyConnection, nobody_else_is_connected, waiting_sessions
from tests.support.waiting import eventually

LOCK_KEY = 0x657865637574
"""What a migration of any release locks while it runs."""
CONSTRAINTS = """
    SELECT conrelid::regclass::text || ': ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace AND conrelid <> 0
    AND conrelid <> coalesce(to_regclass('alembic_version'), 0)
"""
INDEXES = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
COLUMNS = """
    SELECT table_name || '.' || column_name || ' ' || data_type || ' ' || udt_name || ' ' || is_nullable
        || ' ' || coalesce(column_default, '')
    FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'alembic_version'
"""
OPTIONS = "SELECT relname || ' ' || reloptions::text FROM pg_class WHERE reloptions IS NOT NULL AND relkind = 'r'"


@pytest.fixture
async def empty_url(server: EmbeddedPostgres) -> AsyncIterator[str]:
    """A database without any table."""
    async with own_database(server.url, template="template0") as url:
        yield url


async def described(url: str) -> dict[str, list[str]]:
    """What PostgreSQL itself says of a schema."""
    connection = await asyncpg.connect(url)
    try:
        aspects = {"constraints": CONSTRAINTS, "indexes": INDEXES, "columns": COLUMNS, "options": OPTIONS}
        return {name: sorted(row[0] for row in await connection.fetch(query)) for name, query in aspects.items()}
    finally:
        await connection.close()


async def run_sync(url: str, run: Callable[[Connection], object]) -> object:
    engine = create_async_engine("postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(url))
    try:
        async with engine.begin() as connection:
            return await connection.run_sync(run)
    finally:
        await engine.dispose()


def alembic_config(url: str, location: object) -> Config:
    config = Config()
    config.set_main_option("script_location", str(location))
    config.attributes["url"] = url
    return config


async def downgrade(url: str) -> None:
    with as_file(files("migrations")) as location:
        await asyncio.to_thread(command.downgrade, alembic_config(url, location), "base")


async def refusal(url: str) -> SchemaMismatchError:
    """How a start refuses the schema it finds; nothing must stay open."""
    with pytest.raises(SchemaMismatchError) as caught:
        await Database(url).start()
    return caught.value


class TestMigrations:
    async def test_alembic_finds_no_difference(self, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(ischema_names, "xid8", Xid8)

        def compare(connection: Connection) -> object:
            options = {"compare_type": True, "compare_server_default": False}
            return compare_metadata(MigrationContext.configure(connection, opts=options), metadata)

        assert await run_sync(database_url, compare) == []

    async def test_postgresql_finds_none_either(self, database_url: str, empty_url: str) -> None:
        """Alembic does not look at CHECK constraints, predicates of indexes and storage options."""
        await run_sync(empty_url, metadata.create_all)
        migrated, declared = await described(database_url), await described(empty_url)
        assert migrated == declared
        assert all(migrated.values())

    async def test_there_and_back_again(self, database_url: str) -> None:
        before = await described(database_url)
        await downgrade(database_url)
        assert not any((await described(database_url)).values())
        assert await migrate(database_url) == EXPECTED_REVISION
        assert await described(database_url) == before

    def test_the_files_begin_with_their_revisions_in_order(self) -> None:
        """What is read from their names is what Alembic reads from their contents."""
        config = Config()
        config.set_main_option("script_location", str(files("migrations")))
        scripts = ScriptDirectory.from_config(config)
        assert known_revisions() == [script.revision for script in reversed(list(scripts.walk_revisions()))]
        assert scripts.get_current_head() == EXPECTED_REVISION

    async def test_a_newer_schema_is_left_alone(self, database_url: str, sql: AnyConnection) -> None:
        await sql.execute("UPDATE alembic_version SET version_num = '9999'")
        with pytest.raises(SchemaMismatchError, match="upgrade this program"):
            await migrate(database_url)

    async def test_it_does_not_go_back(self, database_url: str) -> None:
        with pytest.raises(SchemaMismatchError, match=f"found {EXPECTED_REVISION}, expected revision 0001"):
            await migrate(database_url, "0001")
        assert await migrate(database_url) == EXPECTED_REVISION

    async def test_again_nothing_happens(self, database_url: str) -> None:
        assert await migrate(database_url) == EXPECTED_REVISION
        async with Database(database_url):
            pass

    async def test_several_in_one_process_wait_for_each_other(self, empty_url: str) -> None:
        revisions = await asyncio.gather(*(migrate(empty_url) for _ in range(4)))
        assert revisions == [EXPECTED_REVISION] * 4
        async with Database(empty_url):
            pass

    async def test_another_process_is_waited_for(self, empty_url: str) -> None:
        other = await asyncpg.connect(empty_url)
        try:
            async with other.transaction():
                await other.execute("SELECT pg_advisory_xact_lock($1)", LOCK_KEY)
                migration = asyncio.create_task(migrate(empty_url))
                await eventually(lambda: waiting_sessions(other), within=5, what="the migration waits for the lock")
                assert await other.fetchval("SELECT to_regclass('executions')") is None
            assert await migration == EXPECTED_REVISION
        finally:
            await other.close()

    async def test_without_a_server(self, tmp_path: Path) -> None:
        with pytest.raises(DatabaseUnavailableError, match="Check EXECUTION_DATABASE_URL"):
            await migrate(f"postgresql:///nowhere?host={tmp_path}&port=5432")


class TestCheck:
    async def test_missing(self, empty_url: str) -> None:
        error = await refusal(empty_url)
        assert (error.found, error.expected) == (None, EXPECTED_REVISION)
        assert str(error).endswith(" Run `execution migrate`.")

    async def test_taken_back(self, database_url: str) -> None:
        await downgrade(database_url)
        assert "Run `execution migrate`." in str(await refusal(database_url))

    async def test_newer(self, database_url: str, sql: AnyConnection) -> None:
        await sql.execute("UPDATE alembic_version SET version_num = '9999'")
        error = await refusal(database_url)
        assert error.found == "9999"
        assert "made by a newer release: upgrade this program" in str(error)

    async def test_a_refused_start_leaves_nothing_open(self, empty_url: str) -> None:
        await refusal(empty_url)
        connection = await asyncpg.connect(empty_url)
        try:
            await eventually(
                lambda: nobody_else_is_connected(connection), within=5, what="only the test's connection is left"
            )
        finally:
            await connection.close()
