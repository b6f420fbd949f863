"""`execution migrate`."""

from __future__ import annotations

from execution.cli.connection import client_settings
from execution.cli.output import answer
from execution.repository.schema import migrate, read_revision
from execution.wiring import database_address


async def bring_up_to_date(revision: str, *, as_json: bool) -> None:
    """Bring the schema to a revision, and say from which one it came."""
    settings = client_settings()
    async with database_address(settings) as url:
        timeout = settings.connect_timeout_seconds
        before = await read_revision(url, connect_timeout=timeout)
        await migrate(url, revision)
        after = await read_revision(url, connect_timeout=timeout)
    document = {"from": before, "to": after, "changed": before != after}
    answer(document, _sentence(before, after), as_json=as_json)


def _sentence(before: str | None, after: str | None) -> str:
    if before == after:
        return f"The schema is at revision {after} already."
    return f"The schema went from {before or 'nothing'} to revision {after}."
