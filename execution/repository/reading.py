"""Running a named statement on the pool, with the driver's errors translated once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg
from sqlalchemy.exc import DBAPIError

from execution.errors import DatabaseError, DatabaseUnavailableError
from execution.repository.connections import DRIVER_ERRORS, is_connection_lost
from execution.repository.database import Database
from execution.repository.statements import statement


async def fetch(db: Database, name: str, *arguments: Any) -> list[asyncpg.Record]:
    """The rows of a named statement.

    Raises:
        DatabaseUnavailableError: PostgreSQL does not answer.
        DatabaseError: PostgreSQL refused the statement.
    """
    try:
        rows: list[asyncpg.Record] = await db.pool.fetch(statement(name), *arguments)
    except DRIVER_ERRORS as error:
        raise translated(f"Statement {name!r}", error) from error
    return rows


async def fetch_as_woken(db: Database, name: str, *arguments: Any) -> list[asyncpg.Record]:
    """The rows of a named statement that a wake-up leads to: over the connection that brought it, unless that has
    something else to do. Errors as `fetch`.
    """
    connection = db.wakeups.connection
    if not connection.is_free:
        return await fetch(db, name, *arguments)
    try:
        return await connection.fetch(statement(name), *arguments)
    except DRIVER_ERRORS as error:
        raise translated(f"Statement {name!r}", error) from error


async def fetch_row(db: Database, name: str, *arguments: Any) -> asyncpg.Record | None:
    """The first row of a named statement, or None; errors as `fetch`."""
    rows = await fetch(db, name, *arguments)
    return rows[0] if rows else None


@contextmanager
def translating(what: str) -> Iterator[None]:
    """Our errors for those of the driver that SQLAlchemy has wrapped."""
    try:
        yield
    except DBAPIError as error:
        driver_error = error.orig and error.orig.__cause__
        raise translated(what, driver_error if isinstance(driver_error, Exception) else error) from error


def translated(what: str, error: Exception) -> DatabaseError:
    """Our error for a driver's error."""
    problem = f"{type(error).__name__}: {error}".rstrip(": .")
    kind = DatabaseUnavailableError if is_connection_lost(error) else DatabaseError
    return kind(what, problem)
