"""Scopes as rows: who may do which action of which risk, how often, and until when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql import Executable

from execution.repository.database import Database
from execution.repository.reading import translating
from execution.repository.tables import execution_scopes

_table = execution_scopes.c
_is_expired = (_table.expires_at <= func.clock_timestamp()).label("is_expired")
_COLUMNS = (*execution_scopes.columns, _is_expired)


@dataclass(frozen=True, kw_only=True)
class Scope:
    """Permission for one action on one incident of one tenant."""

    id: UUID
    tenant_id: str
    incident_id: str
    action: str
    risk: str
    """The risk class up to which it holds."""
    allowed_uses: int
    uses: int
    granted_by: str
    created_at: datetime
    expires_at: datetime
    is_expired: bool
    """Was it, by the database's clock, when it was read?"""

    @property
    def uses_left(self) -> int:
        """How often it can still be used, unless it expires before."""
        return self.allowed_uses - self.uses


class ScopeStore:
    """The `execution_scopes` table. Every method may raise `DatabaseUnavailableError` or `DatabaseError`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def add(
        self,
        scope_id: UUID,
        *,
        tenant_id: str,
        incident_id: str,
        action: str,
        risk: str,
        allowed_uses: int,
        expires_in_seconds: float,
        granted_by: str,
    ) -> Scope:
        """Keep a new scope, which ends so many seconds from now by the database's clock."""
        values = {
            "id": scope_id,
            "tenant_id": tenant_id,
            "incident_id": incident_id,
            "action": action,
            "risk": risk,
            "allowed_uses": allowed_uses,
            "granted_by": granted_by,
            "expires_at": func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, expires_in_seconds),
        }
        scope = await self._one("Keeping a scope", insert(execution_scopes).values(**values).returning(*_COLUMNS))
        assert scope is not None  # an INSERT without conditions returns its row
        return scope

    async def find(self, scope_id: UUID) -> Scope | None:
        """The scope of that id, whatever has become of it."""
        return await self._one("Reading a scope", select(*_COLUMNS).where(_table.id == scope_id))

    async def find_latest(self, tenant_id: str, incident_id: str, action: str) -> Scope | None:
        """The scope for that action that ends last, whatever has become of it."""
        this = _table.tenant_id == tenant_id, _table.incident_id == incident_id, _table.action == action
        query = select(*_COLUMNS).where(*this).order_by(_table.expires_at.desc()).limit(1)
        return await self._one("Looking for a scope", query)

    async def find_usable(self, tenant_id: str, incident_id: str, action: str, risks: list[str]) -> UUID | None:
        """A scope that could be used for that action now: the one that ends first."""
        usable = _usable(tenant_id, incident_id, action, risks)
        query = select(*_COLUMNS).where(*usable).order_by(_table.expires_at, _table.id).limit(1)
        scope = await self._one("Looking for a scope", query)
        return None if scope is None else scope.id

    async def use(
        self, scope_id: UUID, tenant_id: str, incident_id: str, action: str, risks: list[str]
    ) -> Scope | None:
        """Use the scope once, if it holds for exactly this and can still be used; None: it does not, or cannot.

        One statement: of any number at once, no more pass than uses are left, because each that has waited for the row
        looks at it again.
        """
        usable = _usable(tenant_id, incident_id, action, risks)
        statement = (
            update(execution_scopes)
            .where(_table.id == scope_id, *usable)
            .values(uses=_table.uses + 1)
            .returning(*_COLUMNS)
        )
        return await self._one("Using a scope", statement)

    async def _one(self, what: str, statement: Executable) -> Scope | None:
        with translating(what):
            async with self._db.engine.begin() as connection:
                return await _scope(connection, statement)


def _usable(tenant_id: str, incident_id: str, action: str, risks: list[str]) -> tuple[ColumnElement[bool], ...]:
    return (
        _table.tenant_id == tenant_id,
        _table.incident_id == incident_id,
        _table.action == action,
        _table.risk.in_(risks),
        _table.uses < _table.allowed_uses,
        _table.expires_at > func.clock_timestamp(),
    )


async def _scope(connection: AsyncConnection, statement: Executable) -> Scope | None:
    row: Any = (await connection.execute(statement)).mappings().one_or_none()
    return None if row is None else Scope(**row)
