"""Every execution that has not ended moves on, or there is a reason why it stands still."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from uuid import UUID

from execution.domain.execution import Execution
from execution.domain.state import ExecutionState
from execution.repository.records import execution_from_row
from tests.support.stored import AnyConnection
from tests.support.waiting import eventually

OVERDUE_SLACK = timedelta(seconds=8)
"""How far past its deadline nothing may be: the worker's own time for a RUNNING one, and a rescuer's round."""

_AT_ONCE = 200
"""So many executions are read together: those that are open may be more than fit into memory."""
_NAMED = 10
"""So many of those that stand still are told of."""


@dataclass(frozen=True, kw_only=True)
class LiveWorker:
    """A worker whose heartbeats arrive, and how many executions it holds."""

    id: UUID
    kinds: Collection[str]
    concurrency: int
    holds: int


async def check_progress_or_reason(connection: AnyConnection, *, within: float) -> None:
    """Whatever stands still without a reason must have moved, or have got one, after `within` seconds."""
    stuck = {one: wrong async for one, wrong in _standing_still(connection)}

    async def all_moved() -> bool:
        if moved := set(stuck):
            async for one, _ in _standing_still(connection):
                moved.discard(one)
        for one in moved:
            del stuck[one]
        return not stuck

    try:
        await eventually(all_moved, within=within, what="every open execution moves on")
    except AssertionError:
        some = "; ".join(f"{one} {wrong}" for (one, _), wrong in islice(stuck.items(), _NAMED))
        raise AssertionError(f"{len(stuck)} with neither progress nor a reason: {some}") from None


def what_is_wrong(execution: Execution, workers: Collection[LiveWorker], now: datetime) -> str | None:
    """Why it should not stand where it stands; None if it has ended, or has a reason to stand there.

    What is open and held by nobody is somebody else's to drive: paused, or brought to RUNNING from outside.
    """
    if workers and execution.deadline is not None and now > execution.deadline + OVERDUE_SLACK:
        return f"its deadline passed at {execution.deadline.isoformat()}"
    if execution.is_held and not any(worker.id == execution.worker_id for worker in workers):
        return f"its worker {execution.worker_id} is dead"
    if execution.state is ExecutionState.PENDING and execution.run_at <= now:
        idle = [str(one.id) for one in workers if execution.kind in one.kinds and one.holds < one.concurrency]
        return f"it is due, and idle: worker {', '.join(idle)}" if idle else None
    return None


async def _standing_still(connection: AnyConnection) -> AsyncIterator[tuple[tuple[UUID, int], str]]:
    """What has no reason to stand where it stands: id and version, and what is wrong with it."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        now: datetime = await connection.fetchval("SELECT clock_timestamp()")
        workers = await _live_workers(connection)
        async for row in connection.cursor("SELECT * FROM executions WHERE completed_at IS NULL", prefetch=_AT_ONCE):
            execution = execution_from_row(row)
            if wrong := what_is_wrong(execution, workers, now):
                # A whole backlog may stand still for the same reason: one text for all.
                yield (execution.id, execution.version), sys.intern(f"is {execution.state}: {wrong}")


async def _live_workers(connection: AnyConnection) -> list[LiveWorker]:
    rows = await connection.fetch(
        "SELECT id, kinds, concurrency,"
        " (SELECT count(*) FROM executions WHERE worker_id = workers.id AND completed_at IS NULL) AS holds"
        " FROM workers WHERE dead_at IS NULL"
        " AND heartbeat_at >= clock_timestamp() - make_interval(secs => timeout_seconds)"
    )
    return [LiveWorker(**dict(row.items())) for row in rows]
