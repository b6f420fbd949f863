"""`ExecutionReader`: the half of the facade that only looks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from execution.domain.execution import Execution
from execution.domain.history import HistoryItem, StateHistoryItem
from execution.errors import ExecutionNotYetCreatedError, InvalidFilterError, VersionConflict
from execution.repository.listing import DEFAULT_PAGE_SIZE, checked_moment
from execution.repository.repository import MAX_HISTORY, ExecutionRepository
from execution.state_manager import ExecutionStateManager
from execution.stored_reader import StoredReader


class ExecutionReader:
    """Reads the executions of one tenant, as they are and as they were. Every method may raise `DatabaseError`."""

    def __init__(self, repository: ExecutionRepository, state_manager: ExecutionStateManager, tenant_id: str) -> None:
        self.repository = repository
        self.state_manager = state_manager
        self._tenant_id = tenant_id

    @property
    def stored(self) -> StoredReader:
        """The same executions for whoever only passes them on."""
        return StoredReader(self.repository.db, self._tenant_id)

    async def get_execution(self, execution_id: UUID) -> Execution:
        """The execution as it is now.

        Raises:
            ExecutionNotFoundError: no such execution.
        """
        return await self.state_manager.get(execution_id, self._tenant_id)

    async def list_executions(
        self, filters: Mapping[str, Any] | None = None, pagination: Mapping[str, int] | None = None
    ) -> tuple[list[Execution], int]:
        """A numbered page (`page`, `page_size`), newest first, and the total; without parameters and results.

        Raises:
            InvalidFilterError: an unknown filter, state or page.
        """
        return await self.repository.list_executions(filters or {}, pagination or {}, tenant_id=self._tenant_id)

    async def list_older(
        self, filters: Mapping[str, Any] | None = None, *, before_id: UUID | None = None, limit: int = DEFAULT_PAGE_SIZE
    ) -> list[Execution]:
        """The newest executions older than one (None: from the newest on): as fast deep in the list as at its head.

        Raises:
            InvalidFilterError: an unknown filter or state, a limit out of range.
        """
        tenant_id = self._tenant_id
        return await self.repository.list_after(filters or {}, before_id=before_id, limit=limit, tenant_id=tenant_id)

    async def get_state_history(self, execution_id: UUID, limit: int = 10) -> list[StateHistoryItem]:
        """Its latest changes of state, newest first.

        Raises:
            ExecutionNotFoundError: no such execution.
        """
        _check_count("limit", limit)
        await self.get_execution(execution_id)
        return await self.repository.get_state_history(execution_id, limit)

    async def history(
        self, execution_id: UUID, *, after_version: int = 0, limit: int = MAX_HISTORY
    ) -> list[HistoryItem]:
        """Its log after a version, in order.

        Raises:
            ExecutionNotFoundError: no such execution.
        """
        _check_count("limit", limit)
        await self.get_execution(execution_id)
        return await self.repository.get_history(execution_id, after_version=after_version, limit=limit)

    async def get_execution_at(self, execution_id: UUID, version: int) -> Execution:
        """The execution as it was at a version: the fold of its log up to there.

        Raises:
            ExecutionNotFoundError: no such execution.
            VersionConflict: it has not reached that version.
            InvalidFilterError: versions count from 1.
        """
        _check_count("version", version)
        await self.get_execution(execution_id)
        execution = await self.repository.get_at(execution_id, version)
        if execution is None:
            raise VersionConflict(execution_id, version)
        return execution

    async def get_execution_as_of(self, execution_id: UUID, moment: datetime) -> Execution:
        """The execution as it was at a time: the fold of its log up to there. Of a time to come it is as it is now.

        Raises:
            ExecutionNotFoundError: no such execution; as ExecutionNotYetCreatedError, not at that time.
            InvalidFilterError: the time has no time zone.
        """
        moment = checked_moment("moment", moment)
        created_at = (await self.get_execution(execution_id)).created_at
        execution = await self.repository.get_as_of(execution_id, moment)
        if execution is None:
            raise ExecutionNotYetCreatedError(execution_id, moment, created_at)
        return execution


def _check_count(name: str, value: int) -> None:
    if value < 1:
        raise InvalidFilterError(name, value, "a number from 1")
