"""A process that is told to stop while PostgreSQL is away, or stands still: it ends in its time all the same."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any

import asyncpg
import httpx
import psutil
import pytest

from execution.cli.stopping import CLOSE_SECONDS, HURRY_SECONDS
from execution.domain.execution import Execution
from execution.durable_relay import DRAIN_SECONDS, LATE_SECONDS
from execution.embedded import EmbeddedPostgres
from execution.relay_cursor import RELEASE_SECONDS
from execution.repository.connections import ANSWER_SECONDS, CLOSE_TIMEOUT
from execution.waiting import LOOK_SECONDS
from execution.wiring import open_service
from tests.faults.conftest import Ledger, ended_at_last
from tests.support.checker import check_all_ended
from tests.support.cli_process import cli_process
from tests.support.http_server import server_process
from tests.support.nursery import NursedProcess
from tests.support.over_http import check_problem
from tests.support.relay_process import relay_process
from tests.support.service import PATIENCE, running_worker, short_settings
from tests.support.stored import AnyConnection, waiting_sessions
from tests.support.waiting import eventually
from tests.support.worker_process import FAULT_HANDLERS, environment

pytestmark = pytest.mark.xdist_group("kafka")

SLACK = 3.0
"""On a busy machine."""
DRAIN = 1.0
WITH_APPENDS = DRAIN + 2 * LOOK_SECONDS + SLACK
"""The server, or the worker, looks whether PostgreSQL is there; everybody else is told."""
FROZEN_WITH_APPENDS = WITH_APPENDS + ANSWER_SECONDS
HURRIED = HURRY_SECONDS + CLOSE_SECONDS + SLACK
"""After a second signal, whatever PostgreSQL does."""
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
        with suppress(psutil.NoSuchProcess):  # that of a connection just closed
            one.suspend()
    try:
        yield
    finally:
        for one in processes:
            with suppress(psutil.NoSuchProcess):
                one.resume()


Absence = Callable[[EmbeddedPostgres], AbstractAsyncContextManager[None]]


async def seconds_to_end(process: NursedProcess, *, within: float, told_by: signal.Signals = signal.SIGTERM) -> float:
    began = time.monotonic()
    process.send_signal(told_by)
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


@pytest.mark.parametrize(
    ("command", "second", "absence"),
    [
        ("worker", signal.SIGTERM, crashed),
        ("serve", signal.SIGINT, frozen),
        pytest.param("worker", signal.SIGINT, frozen, marks=pytest.mark.slow),
        pytest.param("serve", signal.SIGTERM, crashed, marks=pytest.mark.slow),
    ],
)
async def test_a_second_signal(
    own_server: EmbeddedPostgres, ledger: Ledger, command: str, second: signal.Signals, absence: Absence
) -> None:
    """It ends in a moment, though its handler would run on and its drain time is long; others settle what it held."""
    settings = environment(own_server.url, drain_timeout_seconds=10 * HURRIED, port=0)
    async with cli_process(command, settings, log=ledger.file.with_name("log")) as process:
        await process.ready()
        held = await submitted_elsewhere(own_server, ledger)
        async with absence(own_server):
            process.process.terminate()
            await process.says("worker.draining")
            await seconds_to_end(process.process, within=HURRIED, told_by=second)
        assert process.process.returncode == 128 + second
    if own_server.pid is None:
        await own_server.start()
    async with (
        open_service(short_settings(own_server.url, handlers=FAULT_HANDLERS)) as service,
        running_worker(service),
    ):
        ended = await ended_at_last(service, held.id)
    assert (ended.state, (ended.error or {}).get("type")) == ("FAILED", "outcome_unknown")
    assert ledger.runs() == {str(held.id): 1}
    await check_all_ended(own_server.url)


async def submitted_elsewhere(server: EmbeddedPostgres, ledger: Ledger) -> Execution:
    """An execution that the process under test runs and whose handler stands at the gate."""
    async with open_service(short_settings(server.url, handlers=FAULT_HANDLERS)) as client:
        execution = await client.create_execution("fault.once", ledger.gated)
        await ledger.holds(1)
    return execution


async def both_wait(locking: AnyConnection) -> bool:
    return await waiting_sessions(locking) == 2
