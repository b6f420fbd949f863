"""A process that is told to stop while PostgreSQL is away, or stands still: it ends in its time all the same."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import asyncpg
import httpx
import psutil
import pytest

from execution.durable_relay import DRAIN_SECONDS, LATE_SECONDS
from execution.embedded import EmbeddedPostgres
from execution.relay_cursor import RELEASE_SECONDS
from execution.repository.connections import ANSWER_SECONDS, CLOSE_TIMEOUT
from execution.waiting import LOOK_SECONDS
from tests.faults.conftest import Ledger
from tests.support.http_server import server_process
from tests.support.over_http import check_problem
from tests.support.relay_process import relay_process
from tests.support.service import PATIENCE
from tests.support.stored import AnyConnection, waiting_sessions
from tests.support.waiting import eventually

pytestmark = pytest.mark.xdist_group("kafka")

SLACK = 3.0
"""On a busy machine."""
DRAIN = 1.0
WITH_APPENDS = DRAIN + 3 * LOOK_SECONDS + SLACK
"""The server, the worker and the lanes look whether PostgreSQL is there."""
FROZEN_WITH_APPENDS = WITH_APPENDS + 3 * ANSWER_SECONDS + 2 * CLOSE_TIMEOUT
IN_ANY_CASE = DRAIN_SECONDS + LATE_SECONDS + RELEASE_SECONDS + 2 * CLOSE_TIMEOUT + SLACK


@asynccontextmanager
async def away(server: EmbeddedPostgres) -> AsyncIterator[None]:
    await server.stop()
    yield


@asynccontextmanager
async def crashed(server: EmbeddedPostgres) -> AsyncIterator[None]:
    """All of its processes end at once: no session gets the lock that another one held."""
    first = psutil.Process(server.pid)
    first.send_signal(signal.SIGQUIT)
    await asyncio.to_thread(first.wait, PATIENCE)
    await server.stop()
    yield


@asynccontextmanager
async def frozen(server: EmbeddedPostgres) -> AsyncIterator[None]:
    """Connections stay open, and nothing is answered."""
    first = psutil.Process(server.pid)
    processes = [first, *first.children()]
    for one in processes:
        one.suspend()
    try:
        yield
    finally:
        for one in processes:
            one.resume()


Absence = Callable[[EmbeddedPostgres], AbstractAsyncContextManager[None]]


async def seconds_to_end(process: asyncio.subprocess.Process, *, within: float) -> float:
    began = time.monotonic()
    process.terminate()
    async with asyncio.timeout(within):
        await process.wait()
    return time.monotonic() - began


@pytest.mark.parametrize(
    ("absence", "within"), [(away, SLACK), pytest.param(frozen, IN_ANY_CASE, marks=pytest.mark.slow)]
)
async def test_a_relay(own_server: EmbeddedPostgres, kafka: str, topic: str, absence: Absence, within: float) -> None:
    async with relay_process(own_server.url, kafka, topic) as relay:
        assert (await relay.ready())["active"]
        async with absence(own_server):
            await seconds_to_end(relay.process, within=within)
    assert relay.process.returncode == 0


async def test_a_server(own_server: EmbeddedPostgres, kafka: str, topic: str) -> None:
    settings: dict[str, Any] = {"kafka_bootstrap_servers": kafka, "kafka_events_topic": topic}
    async with server_process(own_server.url, **settings) as server, httpx.AsyncClient(base_url=server.url) as client:
        answer = await client.post("/v1/executions", json={"kind": "noop"}, headers={"Prefer": "wait=10"})
        assert answer.json()["state"] == "COMPLETED"
        async with away(own_server):
            await seconds_to_end(server.process, within=SLACK)
    assert server.process.returncode == 0


@pytest.mark.parametrize(
    ("absence", "within"), [(crashed, WITH_APPENDS), pytest.param(frozen, FROZEN_WITH_APPENDS, marks=pytest.mark.slow)]
)
async def test_a_server_with_appends_under_way(
    own_server: EmbeddedPostgres, ledger: Ledger, absence: Absence, within: float
) -> None:
    """Of both kinds: a run that has ended, and a creation that the worker keeps a slot for."""
    async with (
        server_process(own_server.url, drain_timeout_seconds=DRAIN) as server,
        httpx.AsyncClient(base_url=server.url, timeout=within + PATIENCE) as client,
    ):
        answer = await client.post("/v1/executions", json={"kind": "fault.once", "parameters": ledger.gated})
        assert answer.status_code == 202
        await ledger.holds(1)
        locking: AnyConnection = await asyncpg.connect(own_server.url)
        await locking.execute("BEGIN; LOCK execution_events IN SHARE MODE")
        submitting = asyncio.create_task(client.post("/v1/executions", json={"kind": "noop"}))
        ledger.open_gate()
        await eventually(lambda: both_wait(locking), within=PATIENCE, what="both appends wait for the lock")
        async with absence(own_server):
            await seconds_to_end(server.process, within=within)
        locking.terminate()
        await asyncio.wait([submitting])
        check_problem(submitting.result(), 503, "outcome_unknown")
    assert server.process.returncode == 0


async def both_wait(locking: AnyConnection) -> bool:
    return await waiting_sessions(locking) == 2
