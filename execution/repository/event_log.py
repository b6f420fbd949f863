"""Reading the log of all executions, without missing an event that became visible late.

The position is a PostgreSQL snapshot: it says exactly which transactions had been seen. What is visible now and was not
then is new, wherever it stands. A reader that remembers only the highest position it has seen misses what committed
behind it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NewType
from uuid import UUID

from execution.domain.events import Event
from execution.repository.database import Database
from execution.repository.reading import fetch
from execution.repository.records import event_from_row

LogPosition = NewType("LogPosition", str)
"""A position in the log, as text of PostgreSQL's `pg_snapshot`. Opaque to everybody else."""


@dataclass(frozen=True, kw_only=True)
class LoggedEvent:
    """An event with what a consumer needs to know of its execution."""

    execution_id: UUID
    tenant_id: str
    agent_id: str | None
    task_id: str | None
    event: Event


class EventLog:
    """The log across executions."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def head(self) -> LogPosition:
        """The position after everything that is visible now."""
        rows = await fetch(self._db, "current_snapshot")
        return LogPosition(rows[0]["snapshot"])

    async def read(self, after: LogPosition) -> tuple[list[LoggedEvent], LogPosition]:
        """What became visible after a position, in order within each execution, and the position to go on from."""
        head = await self.head()
        if head == after:
            return [], after
        rows = await fetch(self._db, "read_log", after, head)
        return [
            LoggedEvent(
                execution_id=row["execution_id"],
                tenant_id=row["tenant_id"],
                agent_id=row["agent_id"],
                task_id=row["task_id"],
                event=event_from_row(row),
            )
            for row in rows
        ], head
