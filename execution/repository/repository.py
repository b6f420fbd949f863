"""`ExecutionRepository`: reads executions and their log, and writes both over the one append path."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from execution.domain.commands import ChangeState, Command, Finish
from execution.domain.decide import allowed_commands, decide
from execution.domain.documents import to_document
from execution.domain.events import Event, EventType
from execution.domain.evolve import fold
from execution.domain.execution import Execution, JsonObject
from execution.domain.history import HistoryItem, StateHistoryItem
from execution.domain.outcome import Failed, Succeeded
from execution.domain.progress import checked_report
from execution.domain.state import ExecutionState
from execution.errors import (
    EventsNotPublishedError,
    ExecutionNotFoundError,
    InvalidExecutionStateError,
    VersionConflict,
)
from execution.keyed_answer import AnswerTo
from execution.repository.append import Audience, Claimant
from execution.repository.database import Database
from execution.repository.listing import (
    ExecutionFilters,
    Page,
    What,
    light_execution,
    list_after,
    list_cancellable,
    list_page,
)
from execution.repository.reading import fetch, fetch_as_woken, fetch_row
from execution.repository.records import execution_from_row, history_item_from_row

MAX_HISTORY = 1000
"""Entries one read of a history returns at most."""


class ExecutionRepository:
    """All database operations on executions. Every write appends events and moves the row in one statement.

    The methods named `update_...` read, decide and append; a concurrent change makes them raise `VersionConflict`.
    Every method may raise `DatabaseError` or one of its subclasses.
    """

    def __init__(self, db: Database) -> None:
        self.db = db

    async def get_by_id(self, execution_id: UUID) -> Execution | None:
        """The execution as it is now, or None."""
        row = await fetch_row(self.db, "get_execution", execution_id)
        return execution_from_row(row) if row else None

    async def get_many(self, execution_ids: Sequence[UUID]) -> list[Execution]:
        """Those of the executions that exist, in no particular order."""
        return [execution_from_row(row) for row in await fetch(self.db, "get_executions", execution_ids)]

    async def get_ended(self, execution_ids: Sequence[UUID]) -> list[Execution]:
        """Those of the executions that have ended, in no particular order."""
        return [execution_from_row(row) for row in await fetch_as_woken(self.db, "get_ended", execution_ids)]

    async def list_executions(
        self, filters: Mapping[str, Any], pagination: Mapping[str, int], *, tenant_id: str = "default"
    ) -> tuple[list[Execution], int]:
        """A numbered page, newest first, and the total. Parameters, results and contexts are left out of lists.

        Raises:
            InvalidFilterError: an unknown filter or state, a page out of range.
        """
        wanted, page = ExecutionFilters.from_mapping(filters), Page.from_mapping(pagination)
        rows, total = await list_page(self.db.list_pool, What.WITHOUT_DOCUMENTS, tenant_id, wanted, page)
        return [light_execution(row) for row in rows], total

    async def list_after(
        self, filters: Mapping[str, Any], *, before_id: UUID | None, limit: int, tenant_id: str = "default"
    ) -> list[Execution]:
        """The next `limit` executions older than `before_id`, newest first: as fast on page 1,000 as on page 1."""
        wanted = ExecutionFilters.from_mapping(filters)
        rows = await list_after(
            self.db.list_pool, What.WITHOUT_DOCUMENTS, tenant_id, wanted, before_id=before_id, limit=limit
        )
        return [light_execution(row) for row in rows]

    async def list_cancellable(
        self, filters: Mapping[str, Any], *, limit: int, tenant_id: str = "default"
    ) -> list[UUID]:
        """Which executions match and can be cancelled, newest first: up to `limit`, and one more if there are more.

        Raises:
            InvalidFilterError: no filter, an unknown one, a limit out of range.
        """
        wanted = ExecutionFilters.from_mapping(filters)
        return await list_cancellable(self.db.list_pool, tenant_id, wanted, limit=limit)

    def append(
        self,
        before: Execution | None,
        events: Sequence[Event],
        after: Execution | None = None,
        *,
        lease_epoch: int | None = None,
        command_id: UUID | None = None,
        claimant: Claimant | None = None,
        answer: AnswerTo | None = None,
        audience: Audience | None = None,
        patience: float | None = None,
    ) -> asyncio.Future[Execution]:
        """Append events to what they were decided on; awaited, it gives the execution after them.

        `after` is the fold of the events, where the caller has it already. `command_id` is kept with each event, and
        what `answer` makes of the execution after them is kept under its key, in the same transaction.
        `claimant`: who runs a new execution at once, if its events say so. `audience`: who hears of it.

        Raises:
            VersionConflict: it has changed since, or (for a worker's write) its lease epoch is another one.
            DuplicateExecutionError: `before` is None and the id exists.
        """
        after = after or fold(events, before)
        return self.db.lanes.append(
            before,
            after,
            events,
            lease_epoch=lease_epoch,
            command_id=command_id,
            claimant=claimant,
            answer=answer(after) if answer else None,
            audience=audience,
            patience=patience,
        )

    async def update_state(
        self, execution_id: UUID, state: ExecutionState, timestamps: Mapping[str, datetime] | None = None
    ) -> Execution | None:
        """Bring it into a state the machine allows; None if it does not exist.

        A time in `timestamps` (`started_at`, `completed_at`) is when the change is recorded to have happened; it is not
        taken to be earlier than the change before.

        Raises:
            InvalidExecutionStateError: the transition is not allowed.
        """
        happened = max(timestamps.values()) if timestamps else None
        return await self._update(execution_id, ChangeState(target=state), happened)

    async def update_progress(
        self, execution_id: UUID, percentage: float, message: str | None, context_update: JsonObject | None = None
    ) -> Execution | None:
        """Record progress, 0 to 100; None if it does not exist."""
        context = to_document(context_update, "the progress context") if context_update else None
        return await self._update(execution_id, checked_report(percentage, message, context))

    async def update_result(
        self, execution_id: UUID, result: JsonObject, error_message: str | None = None
    ) -> Execution | None:
        """End a running execution with a result, or with an error if there is a message; None if it does not exist."""
        outcome = (
            Failed(error={"type": "failed", "message": error_message})
            if error_message
            else Succeeded(result=to_document(result, "the result"))
        )
        return await self._update(execution_id, Finish(outcome=outcome, by_holder=False))

    async def create_state_history(self, history_item: StateHistoryItem) -> StateHistoryItem:
        """Record a change of state. The log is the history, so recording the change is making it.

        Raises:
            ExecutionNotFoundError: no such execution.
            VersionConflict: it is not in `previous_state`, or not at `version - 1` where a version is given.
            InvalidExecutionStateError: the transition is not allowed, or cannot be made at once.
        """
        before = await self.get_by_id(history_item.execution_id)
        if before is None:
            raise ExecutionNotFoundError(history_item.execution_id)
        expected = before.version + 1 if history_item.version is None else history_item.version
        if before.state is not history_item.previous_state or expected != before.version + 1:
            raise VersionConflict(before.id, expected - 1)
        command = ChangeState(target=history_item.new_state, reason=history_item.reason)
        events = decide(before, command, self.db.clock.now(), history_item.actor)
        changes = [event for event in events if event.type is EventType.STATE_CHANGED]
        if not changes or changes[-1].data["new_state"] != history_item.new_state:
            # A pause that is only requested, a resume that leads elsewhere: not the change to be recorded.
            raise InvalidExecutionStateError(
                before.id,
                command.name,
                state=before.state,
                version=before.version,
                allowed=allowed_commands(before),
                why=f"it would not be {history_item.new_state} at once",
            )
        await self.append(before, events)
        return StateHistoryItem.from_event(before.id, changes[-1])

    async def get_state_history(self, execution_id: UUID, limit: int = 10) -> list[StateHistoryItem]:
        """The latest changes of state, newest first; empty if it does not exist."""
        rows = await fetch(self.db, "read_state_history", execution_id, min(limit, MAX_HISTORY))
        return [StateHistoryItem.from_history(history_item_from_row(row)) for row in rows]

    async def get_history(
        self, execution_id: UUID, *, after_version: int = 0, limit: int = MAX_HISTORY
    ) -> list[HistoryItem]:
        """Its events after a version, in order; empty if there are none."""
        rows = await fetch(self.db, "read_history", execution_id, after_version, min(limit, MAX_HISTORY))
        return [history_item_from_row(row) for row in rows]

    async def get_at(self, execution_id: UUID, version: int) -> Execution | None:
        """The execution as it was at a version: the fold of its log up to there. None if it has not got that far."""
        execution: Execution | None = None
        reached = 0
        while reached < version:
            items = await self.get_history(execution_id, after_version=reached, limit=version - reached)
            if not items:
                return None
            execution = fold((item.to_event() for item in items), execution)
            reached = execution.version
        return execution

    async def get_as_of(self, execution_id: UUID, moment: datetime) -> Execution | None:
        """The execution as it was at a time. None if it was not created by then."""
        row = await fetch_row(self.db, "read_version_at", execution_id, moment)
        return await self.get_at(execution_id, row["version"]) if row else None

    async def versions_of_command(self, execution_id: UUID, command_id: UUID) -> list[int]:
        """The versions a command wrote in an execution, in order; empty if its id is not in the log."""
        return [row["version"] for row in await fetch(self.db, "read_command", execution_id, command_id)]

    async def last_versions_of_command(self, execution_ids: Sequence[UUID], command_id: UUID) -> dict[UUID, int]:
        """Of those executions whose log has the command's id, the last version that it wrote."""
        rows = await fetch(self.db, "read_command_in_many", execution_ids, command_id)
        return {row["execution_id"]: row["version"] for row in rows}

    async def get_histories(self, after_versions: Mapping[UUID, int], limit_each: int = 100) -> list[HistoryItem]:
        """What is new in several executions, in order within each."""
        ids, versions = list(after_versions), list(after_versions.values())
        return [history_item_from_row(row) for row in await fetch(self.db, "read_histories", ids, versions, limit_each)]

    async def delete_execution(self, execution_id: UUID, version: int | None = None) -> bool:
        """Delete a terminal execution and its history; False if it does not exist, has not ended, or was changed since
        that version (None: since it was read here).

        Raises:
            EventsNotPublishedError: a relay has not published all of its events.
        """
        if version is None:
            execution = await self.get_by_id(execution_id)
            if execution is None:
                return False
            version = execution.version
        (row,) = await fetch(self.db, "delete_execution", execution_id, version)
        if row["behind"]:
            raise EventsNotPublishedError(execution_id, row["behind"])
        return bool(row["is_gone"])

    async def _update(self, execution_id: UUID, command: Command, happened: datetime | None = None) -> Execution | None:
        before = await self.get_by_id(execution_id)
        if before is None:
            return None
        events = decide(before, command, happened or self.db.clock.now())
        return await self.append(before, events) if events else before
