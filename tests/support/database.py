"""A database of its own for each test, copied from one migrated template on the session's embedded server.

Copying and dropping takes PostgreSQL longer than most tests take, so a copy is lent to one test after the other, and
emptied in between; one that a test has left different in anything but rows is dropped.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg

from execution.embedded.sharing import exclusive
from execution.repository.schema import migrate

TEMPLATE = "execution_template"
_BUILDING_SECONDS = 60.0

SERVER_OVERRIDES = {
    # The suite checks what is committed, never what survives a power cut.
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "128MB",
    "max_wal_size": "1GB",
}


def with_database(url: str, name: str) -> str:
    """The same server, another database."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


async def ensure_template(url: str, lock: Path) -> None:
    """Build the template once, however many test processes ask; renamed when complete, so never seen half-built."""
    with exclusive(lock, within=_BUILDING_SECONDS):
        async with _connected(with_database(url, "postgres")) as connection:
            if await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", TEMPLATE):
                return
            building = f"{TEMPLATE}_building"
            await connection.execute(f"DROP DATABASE IF EXISTS {building} WITH (FORCE)")
            await connection.execute(f"CREATE DATABASE {building}")
            await migrate(with_database(url, building))
            await connection.execute(f"ALTER DATABASE {building} RENAME TO {TEMPLATE}")


async def renew(url: str, lock: Path) -> None:
    """Put a copy of the template in the place of the database that the URL leads to."""
    await ensure_template(url, lock)
    name = urlsplit(url).path.removeprefix("/")
    async with _connected(with_database(url, "postgres")) as connection:
        await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")


class LentDatabases:
    """Copies of the template, each lent to one test at a time; those of one test process."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._maintenance = with_database(url, "postgres")
        self._clean: list[str] = []
        self._fingerprint = ""

    @asynccontextmanager
    async def lend(self) -> AsyncIterator[str]:
        """The URL of a database that is as the template; nobody else knows of it."""
        name = self._clean.pop() if self._clean else await self._copy()
        try:
            yield with_database(self._url, name)
        finally:
            if await self._is_emptied(name):
                self._clean.append(name)
            else:
                await _drop(self._maintenance, name)

    async def _copy(self) -> str:
        name = await _copy(self._maintenance, TEMPLATE)
        if not self._fingerprint:
            async with _connected(with_database(self._url, name)) as connection:
                self._fingerprint = await connection.fetchval(f"SELECT {_FINGERPRINT}")
        return name

    async def _is_emptied(self, name: str) -> bool:
        """End whoever is still connected, and empty every table; False where that does not make it a copy again."""
        try:
            async with _connected(with_database(self._url, name)) as connection:
                await connection.execute(_EMPTY.replace("THE_TEMPLATE", self._fingerprint))
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        return True


_CATALOGS = ("attribute", "attrdef", "constraint", "trigger", "proc", "type", "namespace", "rewrite", "policy", "index")
"""What every change of the schema leaves a trace in; none of them is written when a table is emptied."""
_FINGERPRINT = f"""
    md5(ROW(
        (SELECT array_agg(version_num) FROM alembic_version),
        (SELECT array_agg((relname, relkind, relchecks, relhastriggers, relpersistence, relacl, reloptions)::text
            ORDER BY relname) FROM pg_class WHERE relnamespace = 'public'::regnamespace),
        (SELECT count(*) FROM pg_statistic JOIN pg_class ON oid = starelid
            WHERE relnamespace = 'public'::regnamespace),
        (SELECT count(*) FROM pg_db_role_setting JOIN pg_database ON oid = setdatabase
            WHERE datname = current_database()),
        {", ".join(f"(SELECT ROW(count(*), max(xmin::text::bigint)) FROM pg_{one})" for one in _CATALOGS)}
    )::text)
"""
_EMPTY = f"""
    DO $$
    DECLARE filled text;
    BEGIN
        ASSERT (
            SELECT coalesce(bool_and(pg_terminate_backend(pid, 5000)), true) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
        ), 'somebody stays connected';
        SELECT string_agg(oid::regclass::text, ', ') INTO filled FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname <> 'alembic_version'
            AND pg_relation_size(oid) > 0;
        IF filled IS NOT NULL THEN
            EXECUTE 'TRUNCATE ' || filled || ' RESTART IDENTITY CASCADE';
        END IF;
        ASSERT {_FINGERPRINT} = 'THE_TEMPLATE', 'it is not as the template any more';
    END $$
"""


@asynccontextmanager
async def own_database(url: str, *, template: str = TEMPLATE) -> AsyncIterator[str]:
    """The URL of a fresh copy of the template, dropped at the end whoever is still connected."""
    maintenance = with_database(url, "postgres")
    name = await _copy(maintenance, template)
    try:
        yield with_database(url, name)
    finally:
        await _drop(maintenance, name)


async def _copy(maintenance: str, template: str) -> str:
    name = f"test_{uuid4().hex}"
    async with _connected(maintenance) as connection:
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    return name


async def _drop(maintenance: str, name: str) -> None:
    async with _connected(maintenance) as connection:
        await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()
