"""A worker whose wall clock is wrong by ten minutes, beside one whose clock is right: neither wrongs the other."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from uuid import UUID

import pytest

from execution.domain.state import ExecutionState
from execution.service import ExecutionService
from execution.wiring import open_service
from tests.faults.conftest import Ledger
from tests.support.checker import check_all_ended
from tests.support.service import SHORT, ended, reached, short_settings
from tests.support.stored import AnyConnection
from tests.support.worker_process import FAULT_HANDLERS, worker_process

S = ExecutionState
TIMEOUT = SHORT["worker_timeout_seconds"]
HELD_SECONDS = 3 * TIMEOUT
"""Long enough for each to have buried the other twice, if it took its own time for the other's."""

ESTIMATE = 0.25
"""Seconds by which a process may be behind the database's time: the way of an answer, on a busy machine."""
LATE = 5.0
"""Seconds that are late on no machine, and far from ten minutes."""

ten_minutes_wrong = pytest.mark.parametrize("wrong_by", [-600.0, 600.0], ids=["behind", "ahead"])


async def oldest_heartbeat(sql: AnyConnection) -> float:
    """Seconds since the heartbeat of the worker that was silent longest, by the database's clock."""
    age: float = await sql.fetchval(
        "SELECT extract(epoch FROM clock_timestamp() - min(heartbeat_at))::float8 FROM workers"
    )
    return age


async def watch_heartbeats(sql: AnyConnection, seconds: float) -> float:
    """The longest silence of any worker within so many seconds."""
    until = time.monotonic() + seconds
    longest = 0.0
    while time.monotonic() < until:
        longest = max(longest, await oldest_heartbeat(sql))
        await asyncio.sleep(0.05)
    return longest


async def pid_of_holder(sql: AnyConnection, execution_id: UUID) -> int:
    pid: int = await sql.fetchval(
        "SELECT pid FROM workers WHERE id = (SELECT worker_id FROM executions WHERE id = $1)", execution_id
    )
    return pid


async def assert_a_clock_is_wrong(sql: AnyConnection, by: float) -> None:
    """The fault is there: the worker made its id by a clock that is so far from the database's."""
    differences = await sql.fetch(
        "SELECT extract(epoch FROM uuid_extract_timestamp(id) - started_at)::float8 AS seconds FROM workers"
    )
    assert min(abs(row["seconds"] - by) for row in differences) < 60


async def assert_times_are_in_order(sql: AnyConnection, since: datetime) -> None:
    """Every event lies between the beginning of the test and now, by the database's clock, and after the one before."""
    rows = await sql.fetch("SELECT execution_id, occurred_at FROM execution_events ORDER BY execution_id, version")
    assert rows
    until = await sql.fetchval("SELECT clock_timestamp()")
    assert all(since - timedelta(seconds=ESTIMATE) <= row["occurred_at"] <= until for row in rows)
    for before, after in pairwise(rows):
        assert before["execution_id"] != after["execution_id"] or before["occurred_at"] <= after["occurred_at"]


@ten_minutes_wrong
async def test_neither_steals_from_the_other_nor_buries_it(
    client: ExecutionService, database_url: str, sql: AnyConnection, ledger: Ledger, wrong_by: float
) -> None:
    since = await sql.fetchval("SELECT clock_timestamp()")
    async with worker_process(database_url, wrong_by=wrong_by, worker_concurrency=1) as wrong:
        held_by_wrong = await client.create_execution("fault.once", ledger.gated)
        await ledger.holds(1)
        async with worker_process(database_url) as right:
            await assert_a_clock_is_wrong(sql, wrong_by)
            held_by_right = await client.create_execution("fault.once", ledger.gated)
            await ledger.holds(2)
            assert await watch_heartbeats(sql, HELD_SECONDS) < TIMEOUT
            assert await pid_of_holder(sql, held_by_wrong.id) == wrong.pid
            assert await pid_of_holder(sql, held_by_right.id) == right.pid
            assert await sql.fetchval("SELECT count(*) FROM workers WHERE dead_at IS NULL") == 2
            ledger.open_gate()
            for held in (held_by_wrong, held_by_right):
                after = await ended(client, held.id)
                assert (after.state, after.lease_epoch) == (S.COMPLETED, 1)
    assert ledger.runs() == {str(held_by_wrong.id): 1, str(held_by_right.id): 1}
    await assert_times_are_in_order(sql, since)
    await check_all_ended(database_url)


@ten_minutes_wrong
async def test_it_keeps_every_time_limit(
    database_url: str, sql: AnyConnection, ledger: Ledger, tmp_path: Path, wrong_by: float
) -> None:
    settings = short_settings(database_url, handlers=FAULT_HANDLERS, cancel_grace_seconds=1.0)
    async with worker_process(database_url, wrong_by=wrong_by), open_service(settings) as client:
        await assert_a_clock_is_wrong(sql, wrong_by)
        await asyncio.gather(
            check_start_to_close(client, ledger),
            check_grace(client, ledger),
            check_retry_delay(client, sql, tmp_path),
        )
        ledger.open_gate()
    await check_all_ended(database_url)


async def check_start_to_close(client: ExecutionService, ledger: Ledger) -> None:
    limited = await client.create_execution("fault.once", ledger.gated, start_to_close=1.5)
    after = await ended(client, limited.id)
    assert (after.state, after.error and after.error["type"]) == (S.FAILED, "start_to_close_timeout")
    assert after.started_at is not None
    assert after.completed_at is not None
    assert_is_about(1.5, after.completed_at - after.started_at)


async def check_grace(client: ExecutionService, ledger: Ledger) -> None:
    deaf = await client.create_execution("fault.deaf", ledger.gated)
    await reached(client, deaf.id, S.RUNNING)
    cancelled = await client.cancel_execution(deaf.id)
    after = await ended(client, deaf.id)
    assert (after.state, after.error and after.error["type"]) == (S.CANCELLED, "abandoned")
    assert after.completed_at is not None
    assert_is_about(client.settings.cancel_grace_seconds, after.completed_at - cancelled.updated_at)


async def check_retry_delay(client: ExecutionService, sql: AnyConnection, folder: Path) -> None:
    unwritable = {"ledger": str(folder / "no such folder" / "ledger")}
    policy = {"max_attempts": 2, "initial_delay": 1.2, "jitter": 0.0}
    execution = await client.create_execution("fault.once", unwritable, retry=policy)
    await ended(client, execution.id)
    starts = await sql.fetch(
        "SELECT occurred_at FROM execution_events WHERE execution_id = $1 AND data ->> 'new_state' = 'RUNNING'"
        " ORDER BY version",
        execution.id,
    )
    first, second = (row["occurred_at"] for row in starts)
    assert_is_about(1.2, second - first)


def assert_is_about(seconds: float, took: timedelta) -> None:
    """Not earlier, as far as two estimates of the database's time can tell, and not by ten minutes later."""
    assert timedelta(seconds=seconds - ESTIMATE) <= took < timedelta(seconds=seconds + LATE)
