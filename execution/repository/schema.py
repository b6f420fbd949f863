"""The schema: bring it up to this release's revision, and check that it is there.

Alembic is imported by those who migrate only: it would be a third of the start of every short command.
"""

from __future__ import annotations

import asyncio
import threading
from importlib.resources import as_file, files

import asyncpg

from execution.errors import DatabaseError, SchemaMismatchError
from execution.repository.connections import DRIVER_ERRORS, is_connection_lost, unreachable
from execution.shielded import to_its_end

CONNECT_TIMEOUT = 10.0
_MIGRATE = "Run `execution migrate`"
_UPGRADE_PROGRAM = "It was made by a newer release: upgrade this program"

_alembic = threading.Lock()
"""Alembic keeps the migration that runs in module globals: two threads at once would mix theirs up."""


def known_revisions() -> list[str]:
    """The revisions of this release, oldest first: the files of `migrations/versions` begin with them."""
    names = (file.name for file in files("migrations").joinpath("versions").iterdir())
    return sorted(name.partition("_")[0] for name in names if name[0].isdigit() and name.endswith(".py"))


EXPECTED_REVISION = known_revisions()[-1]
"""The newest revision, which this release needs."""


async def migrate(url: str, revision: str = "head") -> str:
    """Bring the database's schema to `revision`; returns the revision it is at. Concurrent calls wait for each other.

    Raises:
        DatabaseUnavailableError: PostgreSQL does not answer.
        SchemaMismatchError: the schema is newer than this release, or than `revision`.
        DatabaseError: a migration failed; it was rolled back.
    """
    found = await read_revision(url)
    wanted = EXPECTED_REVISION if revision == "head" else revision
    if found == wanted:
        return wanted
    if found is not None and found not in known_revisions():
        raise SchemaMismatchError(found, EXPECTED_REVISION, _UPGRADE_PROGRAM)
    if found is not None and wanted in known_revisions() and wanted < found:
        raise SchemaMismatchError(found, wanted, "A schema goes forward only: its older form is in a backup.")
    try:
        await to_its_end(asyncio.to_thread(_upgrade, url, revision))
    except Exception as error:
        cause = getattr(error, "orig", None) or error
        if is_connection_lost(cause) or is_connection_lost(cause.__cause__ or cause):
            raise unreachable(cause) from error
        raise DatabaseError("Migrating the schema", f"{type(error).__name__}: {error}") from error
    return wanted


async def check_schema(pool: asyncpg.Pool) -> None:
    """Is the schema at the revision this release needs?

    Raises:
        SchemaMismatchError: missing, older or newer; it says what to do.
    """
    found = await _read_revision(pool)
    if found != EXPECTED_REVISION:
        advice = _MIGRATE if found is None or found in known_revisions() else _UPGRADE_PROGRAM
        raise SchemaMismatchError(found, EXPECTED_REVISION, advice)


async def read_revision(url: str, *, connect_timeout: float = CONNECT_TIMEOUT) -> str | None:
    """The revision a database's schema is at; None where nothing was migrated yet.

    Raises:
        DatabaseUnavailableError: PostgreSQL does not answer.
    """
    try:
        connection = await asyncpg.connect(url, timeout=connect_timeout, command_timeout=connect_timeout)
    except DRIVER_ERRORS as error:
        raise unreachable(error) from error
    try:
        return await _read_revision(connection)
    except DRIVER_ERRORS as error:
        raise DatabaseError("Reading the schema's revision", f"{type(error).__name__}: {error}") from error
    finally:
        await connection.close(timeout=CONNECT_TIMEOUT)


async def _read_revision(database: asyncpg.Connection | asyncpg.Pool) -> str | None:
    """The revision the database is at; None where nothing was migrated yet."""
    try:
        revision: str | None = await database.fetchval("SELECT version_num FROM alembic_version")
    except asyncpg.UndefinedTableError:
        return None
    return revision


def _upgrade(url: str, revision: str) -> None:
    from alembic import command  # noqa: PLC0415 - see the module's text
    from alembic.config import Config  # noqa: PLC0415

    with _alembic, as_file(files("migrations")) as location:
        config = Config()
        config.set_main_option("script_location", str(location))
        config.attributes["url"] = url
        command.upgrade(config, revision)
