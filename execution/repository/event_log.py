"""Reading the log of all executions, without missing an event that became visible late.

The position is a PostgreSQL snapshot: it says exactly which transactions had been seen. What is visible now and was not
then is new, wherever it stands. A reader that remembers only the highest position it has seen misses what committed
behind it.

A read is bounded. Where more is new it ends in the past: at the snapshot of now, but as if no transaction from some id
on had begun. That is a position like any other, because what it leaves out is new to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from msgspec import Struct

from execution.domain.events import Event
from execution.repository.database import Database
from execution.repository.log_position import LogPosition
from execution.repository.reading import fetch
from execution.repository.records import Row, event_from_row

READ_AT_ONCE = 500
"""About how many events one read brings at most: it never stops within a transaction, of which the largest have some
hundreds."""


class LoggedEvent(Struct, frozen=True, kw_only=True, gc=False):
    """An event with what a consumer needs to know of its execution."""

    execution_id: UUID
    tenant_id: str
    kind: str | None
    agent_id: str | None
    task_id: str | None
    event: Event
    trace_context: str | None = None
    """W3C traceparent of the submission."""


@dataclass(frozen=True, kw_only=True)
class LogBatch:
    """What one read has brought."""

    after: LogPosition
    events: list[LoggedEvent]
    """In order of execution and version."""
    position: LogPosition
    """Where to go on."""
    is_last: bool
    """Was that all there was?"""


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
                return LogBatch(after=after, events=events, position=end, is_last=True)
        else:
            bound, end = await self._look_ahead(after, limit), upto
        position = end if bound is None or bound >= end.xmax else end.before(await self._uncut(after, bound) + 1)
        rows = await fetch(self._db, "read_log", str(after), str(position), tenant_id) if position != after else []
        return LogBatch(after=after, events=[_logged(row) for row in rows], position=position, is_last=position == end)

    async def has_more_than(self, count: int, after: LogPosition, upto: LogPosition) -> bool:
        """Are there more than so many events between two positions?"""
        bound = await self._look_ahead(after, count)
        return bound is not None and bound < upto.xmax

    async def _look_ahead(self, after: LogPosition, count: int) -> int | None:
        """The transaction of the event that has `count` new ones before it, if there is one."""
        (row,) = await fetch(self._db, "look_ahead", str(after), count)
        bound: int | None = row["bound"]
        return bound

    async def _uncut(self, after: LogPosition, bound: int) -> int:
        """The first transaction from `bound` on after which no execution's log is cut in the wrong order.

        A claim may write a version whose predecessor was committed while the claim ran, by a later transaction.
        """
        while True:
            (row,) = await fetch(self._db, "find_overtaken", str(after), str(bound))
            if row["xid"] is None:
                return bound
            bound = row["xid"]


def _logged(row: Row) -> LoggedEvent:
    return LoggedEvent(
        execution_id=row["execution_id"],
        tenant_id=row["tenant_id"],
        kind=row["kind"],
        agent_id=row["agent_id"],
        task_id=row["task_id"],
        event=event_from_row(row),
        trace_context=row["trace_context"],
    )
