"""A database of its own for each test, copied from one migrated template on the session's embedded server."""

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


@asynccontextmanager
async def own_database(url: str, *, template: str = TEMPLATE) -> AsyncIterator[str]:
    """The URL of a fresh copy of the template, dropped at the end whoever is still connected."""
    name = f"test_{uuid4().hex}"
    maintenance = with_database(url, "postgres")
    async with _connected(maintenance) as connection:
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    try:
        yield with_database(url, name)
    finally:
        async with _connected(maintenance) as connection:
            await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()
