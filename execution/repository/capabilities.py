"""Capabilities of tenants: which are enabled, and every change of one with the job and the contract behind it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, insert, select
from sqlalchemy.dialects.postgresql import insert as upsert

from execution.repository.database import Database
from execution.repository.reading import translating
from execution.repository.tables import capabilities, capability_changes


@dataclass(frozen=True, kw_only=True)
class Capability:
    """A capability as one change left it. `version` counts its changes from 1."""

    tenant_id: str
    name: str
    enabled: bool
    version: int
    changed_by: str
    changed_at: datetime
    job_id: UUID
    contract_id: UUID


@dataclass(frozen=True, kw_only=True)
class CapabilityChange:
    """What a capability is to be from now on, and on whose behalf."""

    tenant_id: str
    name: str
    enabled: bool
    changed_by: str
    job_id: UUID
    contract_id: UUID


class CapabilityStore:
    """The `capabilities` table and its `capability_changes`.

    Every method may raise `DatabaseUnavailableError` or `DatabaseError`.
    """

    def __init__(self, db: Database) -> None:
        self._db = db

    async def apply(self, change: CapabilityChange) -> Capability | None:
        """Make the change and record it, both or neither; None: it was so already, and nothing is recorded.

        So whoever does not know what became of a change may make it again.
        """
        values = vars(change) | {"version": 1, "changed_at": func.clock_timestamp()}
        statement = upsert(capabilities).values(**values)
        # The row is locked before the condition is looked at, so of several who want the same only one changes it.
        statement = statement.on_conflict_do_update(
            index_elements=["tenant_id", "name"],
            set_={
                **{name: statement.excluded[name] for name in ("enabled", "changed_by", "job_id", "contract_id")},
                "version": capabilities.c.version + 1,
                "changed_at": func.clock_timestamp(),
            },
            where=capabilities.c.enabled != statement.excluded.enabled,
        )
        with translating("Changing a capability"):
            async with self._db.engine.begin() as connection:
                row = (await connection.execute(statement.returning(capabilities))).mappings().one_or_none()
                if row is None:
                    return None
                await connection.execute(insert(capability_changes).values(**row))
                return _capability(row)

    async def read(self, tenant_id: str, name: str) -> Capability | None:
        """A tenant's capability; None if nobody has ever enabled or disabled it."""
        table = capabilities.c
        query = select(capabilities).where(table.tenant_id == tenant_id, table.name == name)
        with translating("Reading a capability"):
            async with self._db.engine.connect() as connection:
                row = (await connection.execute(query)).mappings().one_or_none()
        return None if row is None else _capability(row)

    async def changes(self, tenant_id: str, name: str, *, limit: int = 100) -> list[Capability]:
        """What it was after each change, the latest first."""
        table = capability_changes.c
        query = select(capability_changes).where(table.tenant_id == tenant_id, table.name == name)
        with translating("Reading the changes of a capability"):
            async with self._db.engine.connect() as connection:
                rows = (await connection.execute(query.order_by(table.version.desc()).limit(limit))).mappings().all()
        return [_capability(row) for row in rows]


def _capability(row: Any) -> Capability:
    return Capability(**row)
