"""API keys as rows: what is known of each, and never the key itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, func, insert, select, update

from execution.principal import Principal, Scope
from execution.repository.database import Database
from execution.repository.reading import fetch, fetch_row, translating
from execution.repository.tables import api_keys


@dataclass(frozen=True, kw_only=True)
class ApiKey:
    """A key as those see it who hand it out."""

    id: UUID
    tenant_id: str
    name: str
    prefix: str
    """The public part, by which people know a key."""
    hash: bytes = field(repr=False)
    scopes: tuple[Scope, ...]
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None
    """To the minute or so."""

    @property
    def principal(self) -> Principal:
        """Who calls with it."""
        return Principal(tenant_id=self.tenant_id, scopes=frozenset(self.scopes), name=self.name, key_id=self.id)

    def is_expired(self, now: datetime) -> bool:
        """Is it past its time?"""
        return self.expires_at is not None and self.expires_at <= now


class ApiKeyStore:
    """The `api_keys` table. Every method may raise `DatabaseUnavailableError` or `DatabaseError`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def add(self, key: ApiKey) -> None:
        """Keep a new key."""
        with translating("Keeping an API key"):
            async with self._db.engine.begin() as connection:
                await connection.execute(insert(api_keys).values(**asdict(key)))

    async def list_keys(self, tenant_id: str | None = None) -> list[ApiKey]:
        """The keys of a tenant, or of all of them, oldest first; also those that are accepted no more."""
        query = select(api_keys).order_by(api_keys.c.id)
        if tenant_id is not None:
            query = query.where(api_keys.c.tenant_id == tenant_id)
        with translating("Listing API keys"):
            async with self._db.engine.connect() as connection:
                rows = (await connection.execute(query)).mappings().all()
        return [_key(dict(row)) for row in rows]

    async def revoke(self, which: UUID | str) -> ApiKey | None:
        """Accept the key of that id or prefix no more; None if there is none. Once revoked, it keeps its time."""
        this: ColumnElement[bool] = api_keys.c.id == which if isinstance(which, UUID) else api_keys.c.prefix == which
        revoked_at = func.coalesce(api_keys.c.revoked_at, func.clock_timestamp())
        statement = update(api_keys).where(this).values(revoked_at=revoked_at).returning(api_keys)
        with translating("Revoking an API key"):
            async with self._db.engine.begin() as connection:
                row = (await connection.execute(statement)).mappings().one_or_none()
        return None if row is None else _key(dict(row))

    async def find(self, prefix: str) -> ApiKey | None:
        """The key with that public part, accepted or not."""
        row = await fetch_row(self._db, "find_api_key", prefix)
        return None if row is None else _key(dict(row.items()))

    async def any_exists(self) -> bool:
        """Has a key ever been created?"""
        row = await fetch_row(self._db, "any_api_key")
        return row is not None and bool(row["found"])

    async def note_uses(self, key_ids: Iterable[UUID]) -> None:
        """Remember that these keys were used just now."""
        await fetch(self._db, "note_api_key_uses", list(key_ids))


def _key(row: dict[str, Any]) -> ApiKey:
    return ApiKey(**row | {"scopes": tuple(Scope(scope) for scope in row["scopes"])})
