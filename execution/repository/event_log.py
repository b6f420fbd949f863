"""Reading the log of all executions, without missing an event that became visible late.

The position is a PostgreSQL snapshot: it says exactly which transactions had been seen. What is visible now and was not
then is new, wherever it stands. A reader that remembers only the highest position it has seen misses what committed
behind it.

A read is bounded. Where more is new it ends in the past: at the snapshot of now, but as if no transaction from some id
on had begun. That is a position like any other, because what it leaves out is new to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg
from msgspec import Struct

from execution.domain.events import Event
from execution.repository.database import Database
from execution.repository.log_position import LogPosition
from execution.repository.reading import fetch
from execution.repository.records import event_of

READ_AT_ONCE = 500
"""About how many events one read brings at most: it never stops within a transaction, of which the largest have some
hundreds."""


class LoggedEvent(Struct, frozen=True, gc=False):
    """An event with what a consumer needs to know of its execution: the columns of `read_log`, in their order."""

    execution_id: UUID
    version: int
    type: str
    occurred_at: datetime
    tenant_id: str
    actor: str | None
    data: str
    """As JSON. Who passes most of it on need not read it."""
    kind: str | None
    agent_id: str | None
    task_id: str | None
    trace_context: str | None = None
    """W3C traceparent of the submission."""

    @property
    def event(self) -> Event:
        """The event itself, read anew each time."""
        return event_of(self.type, self.version, self.occurred_at, self.data, self.actor)


_COLUMNS = len(LoggedEvent.__struct_fields__)


@dataclass(frozen=True, kw_only=True)
class LogBatch:
    """What one read has brought."""

    after: LogPosition
    events: list[LoggedEvent]
    """In order of execution and version."""
    position: LogPosition
    """Where to go on."""
    head: LogPosition
    """The end of the log, or of what was asked for, when it was read."""

    @property
    def is_last(self) -> bool:
        """Was that all there was?"""
        return self.position == self.head


class EventLog:
    """The log across executions."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def head(self) -> LogPosition:
        """The position after everything that is visible now."""
        rows = await fetch(self._db, "current_snapshot")
        return LogPosition.parse(rows[0]["snapshot"])

    async def read(
        self,
        after: LogPosition,
        upto: LogPosition | None = None,
        *,
        tenant_id: str | None = None,
        limit: int = READ_AT_ONCE,
    ) -> LogBatch:
        """What became visible after a position, in order within each execution, and the position to go on from.

        Args:
            upto: a later position to end at; None: what is visible now.
            tenant_id: read this tenant's events only; the limit counts the others' as well.
        """
        if upto is None:
            rows = await fetch(self._db, "read_news", str(after), limit, tenant_id)
            bound, end = rows[0]["bound"], LogPosition.parse(rows[0]["snapshot"])
            if bound is None:
                events = [_logged(row) for row in rows if row["execution_id"] is not None]
                return LogBatch(after=after, events=events, position=end, head=end)
        else:
            bound, end = await self._look_ahead(after, limit), upto
        return await self._read_to_bound(after, bound, end, tenant_id)

    async def _read_to_bound(
        self, after: LogPosition, bound: int | None, end: LogPosition, tenant_id: str | None
    ) -> LogBatch:
        """Up to the transaction `bound`, or the first one from there on after which no execution's log is cut in the
        wrong order: a claim may write a version whose predecessor was committed while the claim ran, by a later
        transaction.
        """
        while True:
            position = end if bound is None else end.before(bound + 1)
            rows = await fetch(self._db, "read_log", str(after), str(position), tenant_id) if position != after else []
            events = [_logged(row) for row in rows]
            if position != end:
                bound = await self._overtaken(events, position)
            if position == end or bound is None:
                return LogBatch(after=after, events=events, position=position, head=end)

    async def has_more_than(self, count: int, after: LogPosition, upto: LogPosition) -> bool:
        """Are there more than so many events between two positions?"""
        bound = await self._look_ahead(after, count)
        return bound is not None and bound < upto.xmax

    async def _look_ahead(self, after: LogPosition, count: int) -> int | None:
        """The transaction of the event that has `count` new ones before it, if there is one."""
        (row,) = await fetch(self._db, "look_ahead", str(after), count)
        bound: int | None = row["bound"]
        return bound

    async def _overtaken(self, events: Sequence[LoggedEvent], position: LogPosition) -> int | None:
        """The latest transaction beyond the position that wrote the predecessor of one of these, if there is one."""
        first = [one for before, one in zip((None, *events), events, strict=False) if _may_be_overtaken(one, before)]
        ids, versions = [one.execution_id for one in first], [one.version for one in first]
        (row,) = await fetch(self._db, "find_overtaken", ids, versions, str(position.xmax - 1))
        xid: int | None = row["xid"]
        return xid


def _may_be_overtaken(one: LoggedEvent, before: LoggedEvent | None) -> bool:
    """Is its predecessor somewhere else than right before it?"""
    if before is None or before.execution_id != one.execution_id:
        return one.version > 1
    return before.version != one.version - 1


def _logged(row: asyncpg.Record) -> LoggedEvent:
    """By place: looking up each column by its name takes longer than all the rest."""
    return LoggedEvent(*row[:_COLUMNS])
