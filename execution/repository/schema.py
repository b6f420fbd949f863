"""The schema: bring it up to this release's revision, and check that it is there."""

from __future__ import annotations

import asyncio
import threading
from importlib.resources import as_file, files

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from execution.errors import DatabaseError, SchemaMismatchError
from execution.repository.connections import is_connection_lost, unreachable

_MIGRATE = "Run `execution migrate`"

_alembic = threading.Lock()
"""Alembic keeps the migration that runs in module globals: two threads at once would mix theirs up."""


async def migrate(url: str, revision: str = "head") -> str:
    """Bring the database's schema to `revision`; returns the revision it is at. Concurrent calls wait for each other.

    Raises:
        DatabaseUnavailableError: PostgreSQL does not answer.
        DatabaseError: a migration failed; it was rolled back.
    """
    try:
        await asyncio.to_thread(_upgrade, url, revision)
    except Exception as error:
        cause = getattr(error, "orig", None) or error
        if is_connection_lost(cause) or is_connection_lost(cause.__cause__ or cause):
            raise unreachable(cause) from error
        raise DatabaseError("Migrating the schema", f"{type(error).__name__}: {error}") from error
    return expected_revision()


async def check_schema(pool: asyncpg.Pool) -> None:
    """Is the schema at the revision this release needs?

    Raises:
        SchemaMismatchError: missing, older or newer; it says what to do.
    """
    expected = expected_revision()
    try:
        found = await pool.fetchval("SELECT version_num FROM alembic_version")
    except asyncpg.UndefinedTableError:
        raise SchemaMismatchError(None, expected, _MIGRATE) from None
    if found != expected:
        known = {script.revision for script in _scripts().walk_revisions()}
        advice = _MIGRATE if found is None or found in known else "It was made by a newer release: upgrade this program"
        raise SchemaMismatchError(found, expected, advice)


def expected_revision() -> str:
    """The newest revision this release knows."""
    return _scripts().get_current_head() or ""


def _scripts() -> ScriptDirectory:
    with as_file(files("migrations")) as location:
        return ScriptDirectory(str(location))


def _upgrade(url: str, revision: str) -> None:
    with _alembic, as_file(files("migrations")) as location:
        config = Config()
        config.set_main_option("script_location", str(location))
        config.attributes["url"] = url
        command.upgrade(config, revision)
