"""Somebody leaves a REPEATABLE READ transaction open: PostgreSQL can clean nothing up, and claims must not mind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from execution.embedded import EmbeddedPostgres
from execution.repository.schema import migrate
from execution.repository.statements import statement
from execution.service import ExecutionService
from execution.wiring import open_service
from tests.support.checker import check_database
from tests.support.server_log import LOG_EVERY_DURATION, durations_of, percentile
from tests.support.service import short_settings
from tests.support.stored import AnyConnection
from tests.support.worker_process import worker_process

CLIENTS = 100
PRIORITIES = 3
CLAIM_P99_MS = 50.0
BUSY_CLAIM_P99_MS = 100.0
"""The same in the short form, which shares two processors with other tests."""


@pytest.fixture
async def own_server(cluster_folder: Path) -> AsyncIterator[EmbeddedPostgres]:
    """Of this test alone; its log says how long each statement took."""
    async with EmbeddedPostgres(cluster_folder, overrides=LOG_EVERY_DURATION) as server:
        await migrate(server.url)
        yield server


async def submit_without_pause(service: ExecutionService, until: float) -> int:
    submitted = 0
    while time.monotonic() < until:
        await service.create_execution("noop", priority=submitted % PRIORITIES)
        submitted += 1
    return submitted


async def full_load(service: ExecutionService, seconds: float) -> int:
    """More than the worker can do, so that every claim finds a backlog; how many were submitted."""
    until = time.monotonic() + seconds
    return sum(await asyncio.gather(*(submit_without_pause(service, until) for _ in range(CLIENTS))))


async def claimed_so_far(sql: AnyConnection) -> int:
    """So many dead entries lie before the head of the claims' index."""
    claimed: int = await sql.fetchval("SELECT count(*) FROM executions WHERE lease_epoch > 0")
    return claimed


async def entries_walked(sql: AnyConnection) -> int:
    """Entries of the claims' index that scans have come upon, dead ones among them."""
    walked: int = await sql.fetchval(
        "SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'executions_claim'"
    )
    return walked


@pytest.mark.parametrize(
    ("seconds", "claim_p99_ms"),
    [
        (6.0, BUSY_CLAIM_P99_MS),
        pytest.param(60.0, CLAIM_P99_MS, marks=[pytest.mark.slow, pytest.mark.timeout(600)]),
    ],
)
async def test_claims_stay_fast(own_server: EmbeddedPostgres, seconds: float, claim_p99_ms: float) -> None:
    sql = await asyncpg.connect(own_server.url)
    # The embedded server ends such sessions after a while; others do not.
    reader = await asyncpg.connect(own_server.url, server_settings={"idle_in_transaction_session_timeout": "0"})
    async with worker_process(own_server.url), open_service(short_settings(own_server.url)) as service:
        async with reader.transaction(isolation="repeatable_read"):
            assert await reader.fetchval("SELECT count(*) FROM executions") == 0
            assert await full_load(service, seconds) > 0
            assert await reader.fetchval("SELECT count(*) FROM executions") == 0, "the snapshot was not kept"
            claimed, walked = await claimed_so_far(sql), await entries_walked(sql)
            durations = durations_of(own_server.log, statement("claim_executions"))
        await check_database(own_server.url)  # while the worker lives: most of the load still waits for it
    await reader.close()
    await sql.close()
    per_second = claimed / seconds
    assert per_second > 200, "the load was too low to leave anything behind"
    assert percentile(durations, 0.99) <= claim_p99_ms
    assert walked / len(durations) < 3 * per_second, "a claim walks over what was claimed seconds ago"
