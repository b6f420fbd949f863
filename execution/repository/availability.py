"""Is the database there, and as this release needs it? Asked again and again, by whoever looks after the process."""

from __future__ import annotations

from execution.repository.connections import DRIVER_ERRORS
from execution.repository.database import Database
from execution.repository.reading import translated
from execution.repository.schema import check_schema


async def check_database(db: Database) -> None:
    """Does PostgreSQL answer?

    Raises:
        DatabaseError: no, or not as it should.
    """
    try:
        await db.pool.fetchval("SELECT 1")
    except DRIVER_ERRORS as error:
        raise translated("Asking the database for a sign of life", error) from error


async def check_current_schema(db: Database) -> None:
    """Is the schema still at this release's revision?

    Raises:
        SchemaMismatchError: another program has changed it since the start.
        DatabaseError: nobody can say.
    """
    try:
        await check_schema(db.pool)
    except DRIVER_ERRORS as error:
        raise translated("Reading the schema's revision", error) from error
