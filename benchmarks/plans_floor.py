"""The floor of durable plans: the same rows and events, written by hand in batches, one commit per step of a batch."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
import orjson

from execution.bench.floor import BATCH, CLAIM, CONSUMERS, connected
from execution.domain.execution import JsonObject
from execution.ids import new_id

PENDING_VERSION, CLAIMED_VERSION = 2, 3

_CREATE = """
WITH row AS (
    INSERT INTO executions (
        id, tenant_id, kind, state, version, lease_epoch, attempt, rescues, priority, idempotent, pause_requested,
        parameters, progress_percentage, run_at, created_at, updated_at
    )
    SELECT id, 'default', 'steps', 'PENDING', 2, 0, 1, 0, 0, false, false, $2::jsonb, 0, $3, $3, $3
    FROM unnest($1::uuid[]) AS t (id)
)
INSERT INTO execution_events (execution_id, version, type, occurred_at, tenant_id, actor, command_id, data)
SELECT id, version, 'agent.execution.state_changed', $3, 'default', 'client', command_id, data
FROM unnest($4::uuid[], $5::int[], $6::uuid[], $7::jsonb[]) AS t (id, version, command_id, data)
"""

_CLAIM = CLAIM.replace("'noop'", "'steps'")
"""The same claim, of plans."""

_ADVANCE = """
WITH changed AS (
    UPDATE executions AS e SET version = $3, state = $4, updated_at = $5, progress_percentage = $6,
        progress_message = $7, progress_context = $8::jsonb, result = $9::jsonb, completed_at = $10,
        worker_id = CASE WHEN $10::timestamptz IS NULL THEN e.worker_id END
    FROM unnest($1::uuid[]) AS t (id)
    WHERE e.id = t.id AND e.version = $2 AND e.lease_epoch = 1
)
INSERT INTO execution_events (execution_id, version, type, occurred_at, tenant_id, actor, command_id, data)
SELECT id, version, type, $5, 'default', $11, command_id, data
FROM unnest($12::uuid[], $13::int[], $14::text[], $15::uuid[], $16::jsonb[]) AS t (id, version, type, command_id, data)
"""

Said = list[tuple[str, JsonObject]]
"""Events of one plan: type and data."""


class PlansFloor:
    """Carries out plans of no-op steps by hand. `health` is what each step is said to have observed."""

    def __init__(self, parameters: JsonObject, health: JsonObject) -> None:
        self._parameters = parameters
        self._steps = len(parameters["steps"])
        self._health = health
        self._worker = new_id()
        self._actor = f"worker:{self._worker}"

    async def steps_per_second(self, url: str, plans: int) -> float:
        """From the first submission to the last end."""
        left = [plans]
        async with AsyncExitStack() as stack:
            connections = [await stack.enter_async_context(connected(url)) for _ in range(1 + CONSUMERS)]
            began = time.perf_counter()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._create_all(connections[0], plans))
                for connection in connections[1:]:
                    group.create_task(self._consume(connection, left))
            return plans * self._steps / (time.perf_counter() - began)

    async def _create_all(self, connection: asyncpg.Connection, plans: int) -> None:
        encoded = orjson.dumps(self._parameters).decode()
        for offset in range(0, plans, BATCH):
            ids, now = [new_id() for _ in range(min(BATCH, plans - offset))], datetime.now(UTC)
            pending = {"previous_state": "CREATED", "new_state": "PENDING", "reason": None}
            data = [_text(one) for each in ids for one in (self._submission(each, now), pending)]
            commands = [new_id()] * (2 * len(ids))
            both = [each for each in ids for _ in range(2)]
            await connection.execute(_CREATE, ids, encoded, now, both, [1, 2] * len(ids), commands, data)

    def _submission(self, execution_id: UUID, now: datetime) -> JsonObject:
        submission = {
            "id": str(execution_id),
            "tenant_id": "default",
            "kind": "steps",
            "parameters": self._parameters,
            "run_at": now.isoformat(),
        }
        return {"previous_state": None, "new_state": "CREATED", "reason": None, "submission": submission}

    async def _consume(self, connection: asyncpg.Connection, left: list[int]) -> None:
        while left[0] > 0:
            claimed = await connection.fetch(_CLAIM, BATCH, self._worker, self._actor)
            if not claimed:
                await asyncio.sleep(0.001)
                continue
            left[0] -= len(claimed)
            await self._carry_out(connection, sorted(row["id"] for row in claimed))

    async def _carry_out(self, connection: asyncpg.Connection, ids: Sequence[UUID]) -> None:
        version, began, said = CLAIMED_VERSION, datetime.now(UTC), [self._started(0)]
        version = await self._advance(connection, ids, version, said, done=0)
        for index in range(self._steps):
            said = [self._ended(index, datetime.now(UTC)), self._progress(index + 1)]
            if index + 1 < self._steps:
                said.append(self._started(index + 1))
                version = await self._advance(connection, ids, version, said, done=index + 1)
            else:
                await self._advance(connection, ids, version, said + self._end(began), done=index + 1)

    async def _advance(
        self, connection: asyncpg.Connection, ids: Sequence[UUID], version: int, said: Said, *, done: int
    ) -> int:
        now, after = datetime.now(UTC), version + len(said)
        is_end = any(kind.endswith("completed") for kind, _ in said)
        kinds, data = [kind for kind, _ in said], [_text(one) for _, one in said]
        context = _text({"step_index": done - 1}) if done else "{}"
        await connection.execute(
            _ADVANCE,
            ids,
            version,
            after,
            "COMPLETED" if is_end else "RUNNING",
            now,
            100.0 * done / self._steps,
            f"{done} of {self._steps} steps" if done else None,
            context,
            _text(self._result()) if is_end else None,
            now if is_end else None,
            self._actor,
            [each for each in ids for _ in said],
            list(range(version + 1, after + 1)) * len(ids),
            kinds * len(ids),
            [new_id()] * (len(ids) * len(said)),
            data * len(ids),
        )
        return after

    def _started(self, index: int) -> tuple[str, JsonObject]:
        handler = {"name": "noop", "version": "1.0.0", "idempotent": True}
        data: JsonObject = {"step_index": index, "step_type": "noop", "attempt": 1, "handler": handler}
        if index == 0:
            data["health_before"] = self._health
        return "agent.execution.recorded", {"name": "step.started", "data": data}

    def _ended(self, index: int, now: datetime) -> tuple[str, JsonObject]:
        data = {
            "step_index": index,
            "step_type": "noop",
            "attempt": 1,
            "status": "COMPLETED",
            "started_at": now.isoformat(),
            "completed_at": now.isoformat(),
            "output": {},
        }
        return "agent.execution.recorded", {"name": "step.ended", "data": data}

    def _progress(self, done: int) -> tuple[str, JsonObject]:
        percentage, message = 100.0 * done / self._steps, f"{done} of {self._steps} steps"
        context = {"step_index": done - 1}
        return "agent.execution.progress", {"percentage": percentage, "message": message, "context": context}

    def _end(self, began: datetime) -> Said:
        now = datetime.now(UTC)
        completed = {
            "state": "COMPLETED",
            "result": self._result(),
            "error": None,
            "started_at": began.isoformat(),
            "completed_at": now.isoformat(),
            "duration_seconds": (now - began).total_seconds(),
        }
        changed = {"previous_state": "RUNNING", "new_state": "COMPLETED", "reason": None}
        return [("agent.execution.state_changed", changed), ("agent.execution.completed", completed)]

    def _result(self) -> JsonObject:
        summary = {"steps_executed": self._steps, "steps_succeeded": self._steps, "steps_failed": 0}
        reason = "All steps completed successfully"
        return {"final_status": "COMPLETED", "final_reason": reason, "execution_summary": summary}


def _text(document: JsonObject) -> str:
    return orjson.dumps(document).decode()
