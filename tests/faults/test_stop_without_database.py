"""A process that is told to stop while PostgreSQL is away, or stands still: it ends in its time all the same."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx
import psutil
import pytest

from execution.durable_relay import DRAIN_SECONDS, LATE_SECONDS
from execution.embedded import EmbeddedPostgres
from execution.relay_cursor import RELEASE_SECONDS
from execution.repository.connections import CLOSE_TIMEOUT
from tests.support.http_server import server_process
from tests.support.relay_process import relay_process

pytestmark = pytest.mark.xdist_group("kafka")

SLACK = 3.0
"""On a busy machine."""
IN_ANY_CASE = DRAIN_SECONDS + LATE_SECONDS + RELEASE_SECONDS + 2 * CLOSE_TIMEOUT + SLACK


@asynccontextmanager
async def away(server: EmbeddedPostgres) -> AsyncIterator[None]:
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
