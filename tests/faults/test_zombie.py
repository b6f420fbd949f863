"""A worker that is stopped past its timeout, declared dead, and wakes up again."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest

from execution.domain.execution import Execution
from execution.domain.state import ExecutionState
from execution.service import ExecutionService
from tests.faults.conftest import Ledger
from tests.support.checker import check_all_ended
from tests.support.service import PATIENCE, SHORT, ended
from tests.support.stopping_worker import Place, stopped, stopping_worker
from tests.support.stored import AnyConnection
from tests.support.waiting import eventually
from tests.support.worker_process import WorkerProcess, worker_process

S = ExecutionState

NOTICES_WITHIN = 1.0
SELDOM = {"heartbeat_interval_seconds": 2.0, "worker_timeout_seconds": 6.0}
"""The heartbeat of the default settings: by itself it would come too late to notice anything in time."""
DEFAULT = {"heartbeat_interval_seconds": 2.0, "worker_timeout_seconds": 10.0, "poll_interval_seconds": 5.0}


def url_of(client: ExecutionService) -> str:
    assert client.settings.database_url is not None
    return client.settings.database_url.get_secret_value()


async def living_id(sql: AnyConnection, pid: int) -> UUID | None:
    living: UUID | None = await sql.fetchval("SELECT id FROM workers WHERE pid = $1 AND dead_at IS NULL", pid)
    return living


async def held_by(sql: AnyConnection, worker_id: UUID) -> set[UUID]:
    rows = await sql.fetch("SELECT id FROM executions WHERE worker_id = $1", worker_id)
    return {row["id"] for row in rows}


async def written_by(sql: AnyConnection, worker_id: UUID) -> int:
    written: int = await sql.fetchval("SELECT count(*) FROM execution_events WHERE actor = $1", f"worker:{worker_id}")
    return written


async def connections_cut(sql: AnyConnection, worker: WorkerProcess) -> int:
    """Terminate the backends of a worker; how many there were."""
    cut: int = await sql.fetchval(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = $1",
        f"execution {worker.pid}",
    )
    return cut


async def brought_to(place: Place, zombie: WorkerProcess, ledger: Ledger, runs: int) -> None:
    """Once the zombie stands there."""
    if place is not Place.BETWEEN_CLAIM_AND_START and place is not Place.INSIDE_A_HANDLER:
        await ledger.holds(runs)
    if place in {Place.BEFORE_A_WRITE, Place.IN_A_BATCH}:
        ledger.open_gate()
    if place is Place.WHILE_DRAINING:
        zombie.signal(signal.SIGTERM)
    await stopped(zombie)


async def taken_over(
    client: ExecutionService, ledger: Ledger, submitted: Sequence[Execution], held: set[UUID]
) -> list[Execution]:
    """Once another worker has settled what the zombie held; what may be run again, which it is running."""
    ledger.open_gate()
    again = [one for one in submitted if one.id in held and one.kind == "fault.again"]
    for one in submitted:
        if one in again:
            await ledger.tells_of(one.id, attempt=2)
        else:
            await ended(client, one.id)
    return again


async def notices(sql: AnyConnection, zombie: WorkerProcess, old_id: UUID) -> float:
    """Wake the zombie up; the seconds until it has another id, or has ended."""
    woken_at = time.monotonic()
    zombie.signal(signal.SIGCONT)

    async def has_noticed() -> bool:
        return zombie.process.returncode is not None or await living_id(sql, zombie.pid) not in {old_id, None}

    await eventually(has_noticed, within=PATIENCE, what="it registers under a new id, or ends")
    return time.monotonic() - woken_at


def assert_settled(execution: Execution, *, was_held: bool) -> None:
    assert execution.rescues == was_held
    if was_held and execution.kind == "fault.once":
        assert execution.error is not None
        assert (execution.state, execution.error["type"]) == (S.FAILED, "outcome_unknown")
    else:
        assert (execution.state, execution.result) == (S.COMPLETED, {"attempt": 1 + was_held})


@pytest.mark.parametrize(
    ("place", "pace"),
    [
        *((place, SHORT) for place in Place),
        (Place.INSIDE_A_HANDLER, SELDOM),
        pytest.param(Place.INSIDE_A_HANDLER, DEFAULT, marks=pytest.mark.slow),
    ],
)
async def test_it_notices_at_once_and_none_of_its_writes_is_accepted(
    client: ExecutionService, sql: AnyConnection, ledger: Ledger, place: Place, pace: dict[str, Any]
) -> None:
    async with stopping_worker(url_of(client), place, **pace) as zombie:
        old_id = await living_id(sql, zombie.pid)
        assert old_id is not None
        kinds = ["fault.once", "fault.again"] * 5
        submitted = await asyncio.gather(*(client.create_execution(kind, ledger.gated_again) for kind in kinds))
        await brought_to(place, zombie, ledger, len(submitted))
        held = await held_by(sql, old_id)
        assert {one.kind for one in submitted if one.id in held} == {"fault.once", "fault.again"}
        async with worker_process(url_of(client), **pace):
            again = await taken_over(client, ledger, submitted, held)
            written, runs = await written_by(sql, old_id), ledger.runs()
            assert await notices(sql, zombie, old_id) < NOTICES_WITHIN
            # The others still run elsewhere, so that nothing but the epoch stands against what it writes of them.
            assert all([(await client.get_execution(one.id)).state is S.RUNNING for one in again])
            zombie.signal(signal.SIGTERM)
            assert await zombie.ended() == 0
            assert await written_by(sql, old_id) == written
            assert ledger.runs() == runs, "it started what it no longer held"
            ledger.open_later_gate()
            for one in submitted:
                assert_settled(await ended(client, one.id), was_held=one.id in held)
    await check_all_ended(url_of(client))


async def test_it_notices_though_its_connections_were_cut_meanwhile(
    client: ExecutionService, database_url: str, sql: AnyConnection, ledger: Ledger
) -> None:
    async with stopping_worker(database_url, Place.INSIDE_A_HANDLER, **SELDOM) as zombie:
        old_id = await living_id(sql, zombie.pid)
        assert old_id is not None
        execution = await client.create_execution("fault.again", ledger.gated)
        await stopped(zombie)
        assert await connections_cut(sql, zombie) > 0
        async with worker_process(database_url):
            await taken_over(client, ledger, [execution], {execution.id})
            assert await notices(sql, zombie, old_id) < NOTICES_WITHIN
            await ended(client, execution.id)
    await check_all_ended(database_url)


async def test_it_works_on_under_its_new_id(
    client: ExecutionService, database_url: str, sql: AnyConnection, ledger: Ledger
) -> None:
    async with stopping_worker(database_url, Place.INSIDE_A_HANDLER) as zombie:
        old_id = await living_id(sql, zombie.pid)
        assert old_id is not None
        execution = await client.create_execution("fault.again", ledger.gated)
        await stopped(zombie)
        async with worker_process(database_url) as rescuer:
            await taken_over(client, ledger, [execution], {execution.id})
            rescuer.signal(signal.SIGTERM)
            assert await rescuer.ended() == 0
        assert await notices(sql, zombie, old_id) < NOTICES_WITHIN
        fresh = await client.create_execution("fault.once", ledger.at_once)
        assert (await ended(client, fresh.id)).result == {"attempt": 1}
    assert ledger.runs() == {str(execution.id): 2, str(fresh.id): 1}


async def test_one_that_wakes_in_time_runs_what_it_had_claimed(
    client: ExecutionService, database_url: str, sql: AnyConnection, ledger: Ledger
) -> None:
    async with stopping_worker(database_url, Place.BETWEEN_CLAIM_AND_START, worker_timeout_seconds=60) as sleeper:
        its_id = await living_id(sql, sleeper.pid)
        submitted = await asyncio.gather(*(client.create_execution("fault.once", ledger.at_once) for _ in range(3)))
        await stopped(sleeper)
        await asyncio.sleep(2 * SHORT["heartbeat_interval_seconds"])
        sleeper.signal(signal.SIGCONT)
        for one in submitted:
            assert_settled(await ended(client, one.id), was_held=False)
        assert await living_id(sql, sleeper.pid) == its_id
    assert ledger.runs() == {str(one.id): 1 for one in submitted}
