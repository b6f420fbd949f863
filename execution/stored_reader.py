"""`StoredReader`: the reads of those who only pass on what they read: nothing is decoded that is encoded again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from execution.errors import ExecutionNotFoundError
from execution.repository.database import Database
from execution.repository.listing import ExecutionFilters, Page, What, list_after, list_page
from execution.repository.reading import fetch_row
from execution.repository.stored import StoredExecution, listed_from_row, stored_from_row


class StoredReader:
    """Reads the executions of one tenant as they are stored; otherwise as the methods of `ExecutionReader`."""

    def __init__(self, db: Database, tenant_id: str) -> None:
        self._db = db
        self._tenant_id = tenant_id

    async def get_execution(self, execution_id: UUID) -> StoredExecution:
        """The execution as it is now.

        Raises:
            ExecutionNotFoundError: no such execution.
        """
        row = await fetch_row(self._db, "get_stored_execution", execution_id, self._tenant_id)
        if row is None:
            raise ExecutionNotFoundError(execution_id)
        return stored_from_row(row)

    async def list_executions(
        self, filters: Mapping[str, Any], pagination: Mapping[str, int]
    ) -> tuple[list[StoredExecution], int]:
        """A numbered page, newest first, and the total.

        Raises:
            InvalidFilterError: an unknown filter, state or page.
        """
        wanted, page = ExecutionFilters.from_mapping(filters), Page.from_mapping(pagination)
        rows, total = await list_page(self._db.list_pool, What.SHOWN, self._tenant_id, wanted, page)
        return [listed_from_row(row) for row in rows], total

    async def list_older(
        self, filters: Mapping[str, Any], *, before_id: UUID | None, limit: int
    ) -> list[StoredExecution]:
        """The newest executions older than one (None: from the newest on).

        Raises:
            InvalidFilterError: an unknown filter or state, a limit out of range.
        """
        wanted = ExecutionFilters.from_mapping(filters)
        rows = await list_after(
            self._db.list_pool, What.SHOWN, self._tenant_id, wanted, before_id=before_id, limit=limit
        )
        return [listed_from_row(row) for row in rows]
