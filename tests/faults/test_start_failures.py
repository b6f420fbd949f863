"""A start that fails leaves nothing open; stops may come at any time, and more than once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from events.bus import InProcessEventBus
from execution.embedded import EmbeddedPostgres
from execution.errors import (
    DatabaseUnavailableError,
    EmbeddedPostgresError,
    SchemaMismatchError,
    ServiceClosedError,
    SettingsError,
)
from execution.ids import new_id
from execution.model_service import embedded_command_bus
from execution.repository.database import Database
from execution.repository.repository import ExecutionRepository
from execution.service import ExecutionService
from execution.settings import Settings
from execution.wiring import open_service
from tests.support.database import own_database
from tests.support.leaks import nothing_stays_open
from tests.support.service import PATIENCE, running_worker, short_settings
from tests.support.stored import AnyConnection, assert_row_is_fold, submit
from tests.support.waiting import no_leaked_tasks


async def opens(settings: Settings) -> None:
    async with open_service(settings):
        raise AssertionError("the service has started")


class TestDatabaseUnreachable:
    async def test_nobody_listens(self, tmp_path: Path) -> None:
        async with no_leaked_tasks():
            with pytest.raises(
                DatabaseUnavailableError, match="Check EXECUTION_DATABASE_URL and that the server is running"
            ):
                await opens(short_settings(f"postgresql://postgres@/x?host={tmp_path}&port=5432"))

    async def test_a_database_that_does_not_exist(self, database_url: str) -> None:
        wrong = urlunsplit(urlsplit(database_url)._replace(path="/no_such_database"))
        async with no_leaked_tasks():
            with pytest.raises(DatabaseUnavailableError, match="no_such_database"):
                await opens(short_settings(wrong))

    async def test_the_message_holds_no_password(self) -> None:
        with pytest.raises(DatabaseUnavailableError) as raised:
            await opens(short_settings("postgresql://me:hunter2@127.0.0.1:1/x"))
        assert "hunter2" not in str(raised.value)

    async def test_a_server_that_accepts_and_never_answers(self, tmp_path: Path) -> None:
        silence = asyncio.Event()

        async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await silence.wait()
            writer.close()

        server = await asyncio.start_unix_server(accept, str(tmp_path / ".s.PGSQL.5432"))
        url = f"postgresql://postgres@/x?host={tmp_path}&port=5432"
        try:
            with pytest.raises(DatabaseUnavailableError, match="TimeoutError"):
                await opens(short_settings(url, connect_timeout_seconds=0.3))
        finally:
            silence.set()
            server.close()

    async def test_a_start_that_fails_half_way(self, database_url: str, sql: AnyConnection) -> None:
        """The pool is open, and listens; then there is no connection left for the lanes."""
        role = f"limited_{new_id().hex}"
        await sql.execute(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 2")
        await sql.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
        try:
            url = database_url.replace("//postgres@", f"//{role}@")
            async with nothing_stays_open(sql):
                with pytest.raises(DatabaseUnavailableError, match="too many connections"):
                    await opens(short_settings(url))
        finally:
            await sql.execute(f"DROP OWNED BY {role}")
            await sql.execute(f"DROP ROLE {role}")


class TestSchema:
    async def test_missing(self, server: EmbeddedPostgres) -> None:
        async with own_database(server.url, template="template0") as url, no_leaked_tasks():
            with pytest.raises(SchemaMismatchError, match=r"found no schema.*Run `execution migrate`"):
                await opens(short_settings(url))

    async def test_newer(self, database_url: str, sql: AnyConnection) -> None:
        await sql.execute("UPDATE alembic_version SET version_num = '9999'")
        async with nothing_stays_open(sql):
            with pytest.raises(SchemaMismatchError, match=r"found 9999.*newer release: upgrade this program"):
                await opens(short_settings(database_url))

    async def test_half_migrated(self, database_url: str, sql: AnyConnection) -> None:
        await sql.execute("DELETE FROM alembic_version")
        async with nothing_stays_open(sql):
            with pytest.raises(SchemaMismatchError, match="found no schema"):
                await opens(short_settings(database_url))


class TestSettings:
    @pytest.mark.parametrize(
        ("changes", "named"),
        [
            ({"worker_timeout_seconds": 0.1}, "EXECUTION_WORKER_TIMEOUT_SECONDS"),
            ({"database_url": "mysql://x"}, "EXECUTION_DATABASE_URL"),
            ({"worker_concurency": 3}, "did you mean worker_concurrency"),
        ],
    )
    def test_what_cannot_be_used(self, changes: dict[str, object], named: str) -> None:
        with pytest.raises(SettingsError, match=named):
            Settings.load(**changes)

    async def test_handlers_that_cannot_be_loaded_fail_before_anything_is_opened(
        self, database_url: str, sql: AnyConnection
    ) -> None:
        async with nothing_stays_open(sql):
            with pytest.raises(SettingsError, match="no_such_module"):
                await opens(short_settings(database_url, handlers="no_such_module"))

    async def test_a_data_folder_that_cannot_be_one(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        async with no_leaked_tasks():
            with pytest.raises(EmbeddedPostgresError):
                await opens(Settings(data_dir=tmp_path / "file"))


class TestStops:
    async def test_a_database_before_its_start_and_twice(self, database_url: str, sql: AnyConnection) -> None:
        async with nothing_stays_open(sql):
            database = Database(database_url)
            await database.stop()
            await database.start()
            await database.stop()
            await database.stop()
            with pytest.raises(ServiceClosedError):
                _ = database.pool

    async def test_a_database_that_was_stopped_starts_again(self, database_url: str, sql: AnyConnection) -> None:
        async with nothing_stays_open(sql):
            database = Database(database_url)
            for _ in range(2):
                async with database:
                    repository = ExecutionRepository(database)
                    await assert_row_is_fold(repository, (await submit(repository)).id)

    async def test_a_service_before_its_start_and_twice(self, database_url: str, sql: AnyConnection) -> None:
        async with nothing_stays_open(sql), Database(database_url) as database:
            service = ExecutionService(
                database, InProcessEventBus(), embedded_command_bus(), short_settings(database_url)
            )
            await service.stop()
            await service.start()
            await service.stop()
            await service.stop()

    async def test_a_worker_before_its_start(self, database_url: str, sql: AnyConnection) -> None:
        async with nothing_stays_open(sql), open_service(short_settings(database_url)) as service:
            worker = service.create_worker()
            worker.stop()
            async with asyncio.timeout(PATIENCE):
                await worker.run()
            worker.stop()
        assert await sql.fetchval("SELECT count(*) FROM workers WHERE dead_at IS NULL") == 0

    async def test_a_service_that_worked_leaves_nothing_open(self, database_url: str, sql: AnyConnection) -> None:
        async with nothing_stays_open(sql):
            async with open_service(short_settings(database_url)) as service, running_worker(service):
                await service.wait((await service.create_execution("noop")).id, PATIENCE)
            with pytest.raises(ServiceClosedError, match="async with open_service"):
                await service.create_execution("noop")

    async def test_start_and_stop_again_and_again(self, database_url: str, sql: AnyConnection) -> None:
        async with nothing_stays_open(sql):
            for _ in range(5):
                async with open_service(short_settings(database_url)) as service, running_worker(service):
                    assert (await service.create_execution("noop")).version == 2

    async def test_a_caller_that_is_cancelled_while_it_starts(self, database_url: str, sql: AnyConnection) -> None:
        async with nothing_stays_open(sql):
            for turns in range(0, 60, 4):
                opening = asyncio.create_task(_open_for_ever(short_settings(database_url)))
                for _ in range(turns):
                    await asyncio.sleep(0)
                opening.cancel()
                await asyncio.wait([opening])
                assert opening.cancelled()


async def _open_for_ever(settings: Settings) -> None:
    async with open_service(settings):
        await asyncio.Event().wait()
