"""Eager starts: what a worker of the same process runs without a claim, and what it leaves to claims."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from execution.domain.execution import JsonObject
from execution.domain.state import ExecutionState
from execution.errors import DuplicateExecutionError
from execution.handlers import HandlerRegistry, TaskContext
from execution.ids import new_id
from execution.service import ExecutionService
from execution.wiring import open_service
from execution.worker import Worker
from tests.support.checker import check_all_ended, check_database
from tests.support.service import PATIENCE, Counted, ended, running_worker, short_settings, states_of
from tests.support.waiting import eventually

S = ExecutionState
LIFE = ["CREATED", "PENDING", "RUNNING", "COMPLETED"]
ONE_LOG = """
    SELECT version, type, occurred_at = lag(occurred_at) OVER (ORDER BY version) AS same_time, tenant_id,
        regexp_replace(actor, '[0-9a-f-]{36}', 'ID') AS actor,
        data - 'submission' - 'worker_id' - 'deadline' - 'started_at' - 'completed_at' - 'duration_seconds' AS data,
        data ? 'worker_id' AS names_worker, data ? 'deadline' AS names_deadline
    FROM execution_events WHERE execution_id = $1 ORDER BY version
"""


class Held:
    """Handlers that stand at a gate, one of them idempotent."""

    def __init__(self) -> None:
        self.registry = HandlerRegistry()
        self.gate = Counted.new()
        self.registry.register("held", self.held)
        self.registry.register("harmless", self.held, idempotent=True)

    async def held(self, context: TaskContext, parameters: JsonObject) -> JsonObject:
        await self.gate.stand()
        return {"attempt": context.attempt}


@pytest.fixture
def held() -> Held:
    return Held()


@asynccontextmanager
async def idle(url: str, held: Held, **changes: Any) -> AsyncIterator[tuple[ExecutionService, Worker]]:
    """A service, and its worker once that has found nothing to claim."""
    async with open_service(short_settings(url, **changes), registry=held.registry) as service:
        worker = service.create_worker()
        async with running_worker(service, worker):
            await eventually(lambda: worker.claims > 0, within=PATIENCE, what="the first claim")
            yield service, worker


async def test_the_answer_to_a_submission_is_a_running_execution(database_url: str, held: Held) -> None:
    async with idle(database_url, held) as (service, worker):
        execution = await service.create_execution("held", start_to_close=60.0)
        assert (execution.state, execution.version, execution.worker_id) == (S.RUNNING, 3, worker.id)
        assert execution == await service.get_execution(execution.id)
        held.gate.let_go.set()
        assert (await ended(service, execution.id)).result == {"attempt": 1}
        assert await states_of(service, execution.id) == LIFE
    assert (worker.eager.taken, worker.claimed, held.gate.runs) == (1, 0, 1)
    await check_all_ended(database_url)


@pytest.mark.parametrize("kind", ["held", "harmless"])
async def test_its_log_and_row_are_those_of_a_claim(
    database_url: str, sql: asyncpg.Connection[asyncpg.Record], held: Held, kind: str
) -> None:
    held.gate.let_go.set()
    found = []
    for eager_start in (True, False):
        async with idle(database_url, held, eager_start=eager_start) as (service, worker):
            execution = await service.create_execution(kind, {"some": "thing"}, start_to_close=60.0, priority=3)
            await ended(service, execution.id)
        assert worker.eager.taken == eager_start
        row = dict(await sql.fetchrow("SELECT * FROM executions WHERE id = $1", execution.id) or {})
        log = [tuple(event) for event in await sql.fetch(ONE_LOG, execution.id)]
        assert len(log) == 5
        same = {name: value for name, value in row.items() if name != "id" and not name.endswith("_at")}
        # A claim is made later than the submission, an eager start with it.
        found.append((same, [event[:2] + event[3:] for event in log], [event[2] for event in log[:2]]))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    "fields",
    [
        {"start": False},
        {"run_at": datetime.now(UTC) + timedelta(days=1)},
    ],
)
async def test_what_may_not_run_yet_waits(database_url: str, held: Held, fields: dict[str, Any]) -> None:
    async with idle(database_url, held) as (service, worker):
        execution = await service.create_execution("held", **fields)
        assert execution.state in {S.CREATED, S.PENDING}
        assert not execution.is_held
    assert worker.eager.taken == 0


async def test_with_every_slot_taken_it_waits_and_the_most_urgent_goes_first(database_url: str, held: Held) -> None:
    async with idle(database_url, held, worker_concurrency=2) as (service, worker):
        running = [await service.create_execution("held") for _ in range(2)]
        assert [one.state for one in running] == [S.RUNNING] * 2
        later = await service.create_execution("held")
        urgent = await service.create_execution("held", priority=5)
        assert [later.state, urgent.state] == [S.PENDING] * 2
        held.gate.let_go.set()
        waited = [await ended(service, one.id) for one in (urgent, later)]
        assert waited[0].started_at is not None
        assert waited[1].started_at is not None
        assert waited[0].started_at <= waited[1].started_at
    assert worker.claimed == 2
    await check_all_ended(database_url)


async def test_it_passes_nobody_who_waits(database_url: str, held: Held) -> None:
    """What another process has submitted is claimed first, also while this one submits without a pause."""
    async with (
        open_service(short_settings(database_url), registry=held.registry) as other,
        idle(database_url, held, worker_concurrency=1) as (service, worker),
    ):
        first = await service.create_execution("held")
        await held.gate.has_started()
        waiting = await other.create_execution("held")
        await eventually(lambda: not worker.eager.nothing_waits, within=PATIENCE, what="it has no room")
        held.gate.let_go.set()
        behind = [await service.create_execution("held") for _ in range(20)]
        ends = [await ended(service, one.id) for one in (first, waiting, *behind)]
    started = [one.started_at for one in ends if one.started_at is not None]
    assert started[1] == sorted(started)[1]


async def test_a_worker_that_was_declared_dead_starts_nothing(
    database_url: str, sql: asyncpg.Connection[asyncpg.Record], held: Held
) -> None:
    held.gate.let_go.set()
    quiet = {"heartbeat_interval_seconds": 1.5, "worker_timeout_seconds": 60.0}
    async with idle(database_url, held, **quiet) as (service, worker):
        await sql.execute("UPDATE workers SET dead_at = clock_timestamp() WHERE id = $1", worker.id)
        execution = await service.create_execution("held")
        assert (execution.state, execution.version) == (S.PENDING, 2)
        assert held.gate.runs == 0
        assert (await ended(service, execution.id)).result == {"attempt": 1}
        assert await states_of(service, execution.id) == LIFE
    await check_database(database_url)


async def test_a_repeated_id_is_refused_and_its_slot_is_free_again(database_url: str, held: Held) -> None:
    async with idle(database_url, held, worker_concurrency=3) as (service, worker):
        execution = await service.create_execution("held")
        for _ in range(5):
            with pytest.raises(DuplicateExecutionError):
                await service.create_execution("held", id=execution.id)
        assert worker.eager.free_slots == 2
        held.gate.let_go.set()
        await ended(service, execution.id)
    assert held.gate.runs == 1


async def test_a_repeated_command_is_answered_with_the_first_outcome(database_url: str, held: Held) -> None:
    async with idle(database_url, held) as (service, _):
        command_id = new_id()
        first = await service.create_execution("held", command_id=command_id)
        held.gate.let_go.set()
        await ended(service, first.id)
        again = await service.create_execution("held", command_id=command_id)
        assert (again.id, again.version, again.state) == (first.id, 3, S.RUNNING)
    assert held.gate.runs == 1


async def test_it_runs_also_when_nobody_waits_for_the_answer(database_url: str, held: Held) -> None:
    async with idle(database_url, held) as (service, worker):
        execution_id = new_id()
        submitting = asyncio.create_task(service.create_execution("held", id=execution_id))
        await asyncio.sleep(0)  # it has handed its creation to the lane
        submitting.cancel()
        await asyncio.wait([submitting])
        assert submitting.cancelled()
        await held.gate.has_started()
        held.gate.let_go.set()
        await ended(service, execution_id)
    assert worker.eager.taken == 1
    await check_all_ended(database_url)
