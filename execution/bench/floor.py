"""The floor: the same rows and events, written by hand with plain asyncpg in batches, without any service code.

It is what the tables cost on this machine. A service cannot be faster than that, and how near it comes is the measure.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
import orjson

from execution.ids import new_id

BATCH = 200
CONSUMERS = 2

_PLANNING = {"plan_cache_mode": "force_generic_plan", "enable_seqscan": "off", "jit": "off", "timezone": "UTC"}

_CREATE = """
WITH row AS (
    INSERT INTO executions (
        id, tenant_id, kind, state, version, lease_epoch, attempt, rescues, priority, idempotent, pause_requested,
        parameters, progress_percentage, run_at, created_at, updated_at
    )
    SELECT id, 'default', 'noop', 'PENDING', 2, 0, 1, 0, 0, false, false, parameters, 0, $3, $3, $3
    FROM unnest($1::uuid[], $2::jsonb[]) AS t (id, parameters)
)
INSERT INTO execution_events (execution_id, version, type, occurred_at, tenant_id, actor, command_id, data)
SELECT id, version, 'agent.execution.state_changed', $3, 'default', 'client', command_id, data
FROM unnest($4::uuid[], $5::int[], $6::uuid[], $7::jsonb[]) AS t (id, version, command_id, data)
"""

CLAIM = """
WITH due AS (
    SELECT id FROM executions WHERE kind = 'noop' AND state = 'PENDING' AND priority = 0
    AND run_at <= statement_timestamp() ORDER BY run_at, id LIMIT $1 FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE executions AS e SET state = 'RUNNING', version = 3, lease_epoch = 1, worker_id = $2, idempotent = true,
        started_at = statement_timestamp(), updated_at = statement_timestamp()
    WHERE e.id = ANY (ARRAY(SELECT id FROM due)) RETURNING e.id, e.started_at, e.parameters
), logged AS (
    INSERT INTO execution_events (execution_id, version, type, occurred_at, tenant_id, actor, data)
    SELECT id, 3, 'agent.execution.state_changed', started_at, 'default', $3, jsonb_build_object(
        'previous_state', 'PENDING', 'new_state', 'RUNNING', 'reason', NULL, 'worker_id', $2, 'lease_epoch', 1,
        'idempotent', true) FROM claimed
)
SELECT * FROM claimed
"""

_FINISH = """
WITH done AS (
    UPDATE executions AS e SET state = 'COMPLETED', version = $2, worker_id = NULL, result = t.result,
        progress_percentage = $3, progress_message = $4, updated_at = $5, completed_at = $5
    FROM unnest($1::uuid[], $6::jsonb[]) AS t (id, result)
    WHERE e.id = t.id AND e.version = 3 AND e.lease_epoch = 1
)
INSERT INTO execution_events (execution_id, version, type, occurred_at, tenant_id, actor, command_id, data)
SELECT id, version, type, $5, 'default', $7, command_id, data
FROM unnest($8::uuid[], $9::int[], $10::text[], $11::uuid[], $12::jsonb[]) AS t (id, version, type, command_id, data)
"""


@dataclass(frozen=True, kw_only=True)
class FloorRun:
    """One run of the floor: how many executions of which shape."""

    executions: int
    progress_reports: int = 0


async def per_second(url: str, run: FloorRun) -> float:
    """Executions written from creation to completion per second, by one creator and two consumers."""
    worker_id = new_id()
    left = [run.executions]
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(connected(url)) for _ in range(1 + CONSUMERS)]
        started = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            group.create_task(_create_all(connections[0], run))
            for connection in connections[1:]:
                group.create_task(_consume(connection, worker_id, run, left))
        return run.executions / (time.perf_counter() - started)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection that plans as the service's do."""
    connection = await asyncpg.connect(url, server_settings=_PLANNING)
    try:
        yield connection
    finally:
        await connection.close()


async def claim_batch(connection: asyncpg.Connection, worker_id: UUID) -> list[asyncpg.Record]:
    """Claim up to 200, in one statement."""
    claimed: list[asyncpg.Record] = await connection.fetch(CLAIM, BATCH, worker_id, f"worker:{worker_id}")
    return claimed


async def _create_all(connection: asyncpg.Connection, run: FloorRun) -> None:
    for offset in range(0, run.executions, BATCH):
        await create_batch(connection, min(BATCH, run.executions - offset), run)


async def create_batch(connection: asyncpg.Connection, size: int, run: FloorRun) -> list[UUID]:
    """Create so many in one statement; their ids."""
    now = datetime.now(UTC)
    ids = [new_id() for _ in range(size)]
    parameters = {"progress_reports": run.progress_reports} if run.progress_reports else {}
    encoded = orjson.dumps(parameters).decode()
    pending = orjson.dumps({"previous_state": "CREATED", "new_state": "PENDING", "reason": None}).decode()
    commands: list[UUID] = []
    data: list[str] = []
    for one in ids:
        command = new_id()
        commands += [command, command]
        data += [_submission(one, parameters, now), pending]
    await connection.execute(
        _CREATE,
        ids,
        [encoded] * size,
        now,
        [one for one in ids for _ in range(2)],
        [1, 2] * size,
        commands,
        data,
    )
    return ids


async def _consume(connection: asyncpg.Connection, worker_id: UUID, run: FloorRun, left: list[int]) -> None:
    while left[0] > 0:
        claimed = await claim_batch(connection, worker_id)
        if not claimed:
            await asyncio.sleep(0.001)
            continue
        left[0] -= len(claimed)
        await finish_batch(connection, claimed, worker_id, run)


async def finish_batch(
    connection: asyncpg.Connection, claimed: list[asyncpg.Record], worker_id: UUID, run: FloorRun
) -> None:
    """Report the progress of what was claimed and end it, in one statement."""
    now = datetime.now(UTC)
    ids = sorted(row["id"] for row in claimed)
    started = {row["id"]: row["started_at"] for row in claimed}
    reports = run.progress_reports
    progress = [_progress(number, reports) for number in range(1, reports + 1)]
    changed = orjson.dumps({"previous_state": "RUNNING", "new_state": "COMPLETED", "reason": None}).decode()
    types = ["agent.execution.progress"] * reports + ["agent.execution.state_changed", "agent.execution.completed"]
    commands: list[UUID] = []
    data: list[str] = []
    for one in ids:
        commands += [new_id()] * len(types)
        data += [*progress, changed, _completed(started[one], now)]
    await connection.execute(
        _FINISH,
        ids,
        3 + len(types),
        100.0 if reports else 0.0,
        f"{reports} of {reports}" if reports else None,
        now,
        ["{}"] * len(ids),
        f"worker:{worker_id}",
        [one for one in ids for _ in types],
        list(range(4, 4 + len(types))) * len(ids),
        types * len(ids),
        commands,
        data,
    )


def _submission(execution_id: UUID, parameters: dict[str, int], now: datetime) -> str:
    submission = {
        "id": str(execution_id),
        "tenant_id": "default",
        "kind": "noop",
        "parameters": parameters,
        "run_at": now.isoformat(),
    }
    data = {"previous_state": None, "new_state": "CREATED", "reason": None, "submission": submission}
    return orjson.dumps(data).decode()


def _progress(number: int, of: int) -> str:
    data: dict[str, object] = {"percentage": 100 * number / of, "message": f"{number} of {of}", "context": {}}
    return orjson.dumps(data).decode()


def _completed(started: datetime, now: datetime) -> str:
    data: dict[str, object] = {
        "state": "COMPLETED",
        "result": {},
        "error": None,
        "started_at": started.isoformat(),
        "completed_at": now.isoformat(),
        "duration_seconds": (now - started).total_seconds(),
    }
    return orjson.dumps(data).decode()
