"""Databases of the measurements' own, each migrated and empty, beside the server's first one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from execution.repository.schema import migrate

Result = TypeVar("Result")


@asynccontextmanager
async def fresh_database(server_url: str, name: str = "bench") -> AsyncIterator[str]:
    """An empty, migrated database, so that no run finds another one's rows and dead rows; dropped at the end."""
    url = urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))
    administration = await asyncpg.connect(server_url)
    try:
        await administration.execute(f"CREATE DATABASE {name}")
        await migrate(url)
        await administration.execute("CHECKPOINT")
        yield url
    finally:
        await administration.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await administration.close()


async def on_fresh_database(server_url: str, measure_it: Callable[[str], Awaitable[Result]]) -> Result:
    """What is measured on a database that is made for it."""
    async with fresh_database(server_url) as url:
        return await measure_it(url)
